//! The hooks of a socket's own life: what it may be bound to, and its end.

use core::ptr::addr_of;

use aya_ebpf::helpers::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_set_retval};
use aya_ebpf::programs::SockContext;
use pintle_ebpf_common::{Address, FrontendKey, protocol, setting};

use crate::address::{V4, V6, read_v6};
use crate::lookup;
use crate::maps::{FRONTENDS, NODE_ADDRESSES, UDP_CONNECTED};
use crate::tcp_peer;

/// Where a family's address stands in this context.
pub trait Bound {
    /// The address that the socket was bound to.
    fn address(ctx: &SockContext) -> Address;
}

impl Bound for V4 {
    #[inline(always)]
    fn address(ctx: &SockContext) -> Address {
        // SAFETY: the kernel's context. Volatile, since the verifier takes loads of single fields
        // alone.
        Address::from_v4(unsafe { addr_of!((*ctx.sock).src_ip4).read_volatile() })
    }
}

impl Bound for V6 {
    #[inline(always)]
    fn address(ctx: &SockContext) -> Address {
        // SAFETY: as above.
        unsafe { read_v6(addr_of!((*ctx.sock).src_ip6).cast()) }
    }
}

/// `bind(2)`: a node port is taken, though no process holds it. Of concern in the node's own network
/// namespace alone, and for the addresses that node ports answer at.
#[inline(always)]
pub fn post_bind<F: Bound>(ctx: &SockContext) -> i32 {
    if is_node_port::<F>(ctx) {
        // SAFETY: the helper takes an integer, and this hook may call it.
        unsafe { bpf_set_retval(-EADDRINUSE) };
        return DENY;
    }
    ALLOW
}

#[inline(always)]
fn is_node_port<F: Bound>(ctx: &SockContext) -> bool {
    let Some(settings) = lookup::settings() else { return false };
    // SAFETY: the helper takes this program type's context.
    let namespace = unsafe { bpf_get_netns_cookie(ctx.sock.cast()) };
    if settings.flags & setting::NODE_PORTS == 0 || settings.node_namespace != namespace {
        return false;
    }
    let address = F::address(ctx);
    // SAFETY: the kernel's context, a field each. The port is in the host's order here.
    let (port, protocol) = unsafe {
        let port = addr_of!((*ctx.sock).src_port).read_volatile() as u16;
        (port.to_be(), addr_of!((*ctx.sock).protocol).read_volatile() as u8)
    };
    let any_v6 = address == Address::ANY_V6;
    // SAFETY: the value is not read.
    let of_node =
        address == Address::ANY_V4 || any_v6 || unsafe { NODE_ADDRESSES.get(address) }.is_some();
    let taken = |address| {
        // SAFETY: the value is not read.
        unsafe { FRONTENDS.get(FrontendKey::new(address, port, protocol)) }.is_some()
    };
    // A socket bound to :: takes the IPv4 port too.
    of_node && (taken(address.any_of_family()) || any_v6 && taken(Address::ANY_V4))
}

/// A socket is closed: forget its translation. (Most of a UDP socket's goes with its storage.)
#[inline(always)]
pub fn release(ctx: &SockContext) -> i32 {
    // SAFETY: the helper takes this program type's context.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.sock.cast()) };
    // SAFETY: the kernel's context, one field.
    let number = unsafe { addr_of!((*ctx.sock).protocol).read_volatile() as u8 };
    if number == protocol::UDP {
        // Fails if there was none.
        let _ = UDP_CONNECTED.remove(cookie);
    } else {
        tcp_peer::forget(cookie);
    }
    ALLOW
}

const ALLOW: i32 = 1;
const DENY: i32 = 0;

// asm-generic/errno.h
const EADDRINUSE: i32 = 98;
