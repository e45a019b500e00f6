//! The kernel side of the Service dataplane: programs that translate a Service's address into a
//! backend's where an application names it, in its socket calls.
//!
//! Read [`maps`] first, then [`socket`] and [`lookup`]. User space (`dataplane/src/kernel`) writes the tables and
//! attaches the programs; `docs/dataplane.md` draws both together.
#![no_std]
#![no_main]

mod address;
mod bind;
mod count;
mod express;
mod filter;
mod forward;
mod ip;
mod lookup;
mod maps;
mod packet;
mod quote;
mod refuse;
mod route;
mod socket;
mod tcp_peer;
mod tunnel;
mod view;

use address::{V4, V6};
use aya_ebpf::macros::{cgroup_sock, cgroup_sock_addr, classifier, xdp};
use aya_ebpf::programs::{SockAddrContext, SockContext, TcContext, XdpContext};

/// Runs in `connect(2)`, for IPv4.
#[cgroup_sock_addr(connect4)]
pub fn pintle_connect4(ctx: SockAddrContext) -> i32 {
    socket::connect::<V4>(&ctx)
}

/// Runs in `connect(2)`, for IPv6.
#[cgroup_sock_addr(connect6)]
pub fn pintle_connect6(ctx: SockAddrContext) -> i32 {
    socket::connect::<V6>(&ctx)
}

/// Runs in `sendto(2)` and `sendmsg(2)` of UDP sockets when they name a destination, for IPv4.
#[cgroup_sock_addr(sendmsg4)]
pub fn pintle_sendmsg4(ctx: SockAddrContext) -> i32 {
    socket::sendmsg::<V4>(&ctx)
}

/// Runs in `sendto(2)` and `sendmsg(2)` of UDP sockets when they name a destination, for IPv6.
#[cgroup_sock_addr(sendmsg6)]
pub fn pintle_sendmsg6(ctx: SockAddrContext) -> i32 {
    socket::sendmsg::<V6>(&ctx)
}

/// Runs in `recvfrom(2)` and `recvmsg(2)` of UDP sockets when they ask for the source, for IPv4.
#[cgroup_sock_addr(recvmsg4)]
pub fn pintle_recvmsg4(ctx: SockAddrContext) -> i32 {
    socket::recvmsg::<V4>(&ctx)
}

/// Runs in `recvfrom(2)` and `recvmsg(2)` of UDP sockets when they ask for the source, for IPv6.
#[cgroup_sock_addr(recvmsg6)]
pub fn pintle_recvmsg6(ctx: SockAddrContext) -> i32 {
    socket::recvmsg::<V6>(&ctx)
}

/// Runs in `getpeername(2)`, for IPv4.
#[cgroup_sock_addr(getpeername4)]
pub fn pintle_peer4(ctx: SockAddrContext) -> i32 {
    socket::getpeername::<V4>(&ctx)
}

/// Runs in `getpeername(2)`, for IPv6.
#[cgroup_sock_addr(getpeername6)]
pub fn pintle_peer6(ctx: SockAddrContext) -> i32 {
    socket::getpeername::<V6>(&ctx)
}

/// Runs in `bind(2)` when the socket has its IPv4 address and port.
#[cgroup_sock(post_bind4)]
pub fn pintle_bind4(ctx: SockContext) -> i32 {
    bind::post_bind::<V4>(&ctx)
}

/// Runs in `bind(2)` when the socket has its IPv6 address and port.
#[cgroup_sock(post_bind6)]
pub fn pintle_bind6(ctx: SockContext) -> i32 {
    bind::post_bind::<V6>(&ctx)
}

/// Runs when a socket is closed.
#[cgroup_sock(sock_release)]
pub fn pintle_release(ctx: SockContext) -> i32 {
    bind::release(&ctx)
}

// Of programs that run for each packet the body is to be here: as a function of its own, which the
// compiler makes of a long one, it costs a packet 9 ns.

/// Runs for each packet that comes in by a link of the node.
#[classifier]
#[inline(always)]
pub fn pintle_ingress(ctx: TcContext) -> i32 {
    forward::ingress(&ctx)
}

/// Runs for each packet that goes out by a link of the node.
#[classifier]
#[inline(always)]
pub fn pintle_egress(ctx: TcContext) -> i32 {
    forward::egress(&ctx)
}

/// Goes on with a packet that leaves for another node.
#[classifier]
pub fn pintle_pack(ctx: TcContext) -> i32 {
    tunnel::pack(&ctx)
}

/// Goes on with a packet that comes in for a Service without a backend.
#[classifier]
pub fn pintle_refuse(ctx: TcContext) -> i32 {
    refuse::nobody(&ctx)
}

/// Goes on with a packet that leaves for what may be a Service's address.
#[classifier]
pub fn pintle_stray(ctx: TcContext) -> i32 {
    forward::stray(&ctx)
}

/// Goes on with a packet that comes in and may hold another.
#[classifier]
pub fn pintle_unpack(ctx: TcContext) -> i32 {
    tunnel::unpack(&ctx)
}

/// Runs for each packet that comes in by a link of the node, before the kernel looks at it.
#[xdp]
pub fn pintle_express(ctx: XdpContext) -> u32 {
    express::express(&ctx)
}

/// The programs' licence, as the kernel asks for it: `bpf_fib_lookup` is for code alone that may be
/// used under the GPL.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // Nothing above can panic, and the verifier would refuse this loop if it could be reached.
    loop {}
}
