//! The kernel side of the Service dataplane: programs that translate a Service's address into a
//! backend's where an application names it, in its socket calls.
//!
//! Read [`maps`] first, then [`socket`]. User space (`dataplane/src/kernel`) writes the tables and
//! attaches the programs; `docs/dataplane.md` draws both together.
#![no_std]
#![no_main]

mod lookup;
mod maps;
mod socket;

use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;

/// Runs in `connect(2)` of an IPv4 socket.
#[cgroup_sock_addr(connect4)]
pub fn pintle_connect4(ctx: SockAddrContext) -> i32 {
    socket::connect(&ctx)
}

/// Runs in `sendto(2)` and `sendmsg(2)` of a UDP socket when they name a destination.
#[cgroup_sock_addr(sendmsg4)]
pub fn pintle_sendmsg4(ctx: SockAddrContext) -> i32 {
    socket::sendmsg(&ctx)
}

/// Runs in `recvfrom(2)` and `recvmsg(2)` of a UDP socket when they ask for the source.
#[cgroup_sock_addr(recvmsg4)]
pub fn pintle_recvmsg4(ctx: SockAddrContext) -> i32 {
    socket::recvmsg(&ctx)
}

/// Runs in `getpeername(2)` of an IPv4 socket.
#[cgroup_sock_addr(getpeername4)]
pub fn pintle_peer4(ctx: SockAddrContext) -> i32 {
    socket::getpeername(&ctx)
}

/// What the kernel shows as the programs' licence; none of the helpers used is for GPL code alone.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 11] = *b"Apache-2.0\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // Nothing above can panic, and the verifier would refuse this loop if it could be reached.
    loop {}
}
