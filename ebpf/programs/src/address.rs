//! The address in a socket hook's context, of IPv4 and IPv6 alike.

use core::ptr::{addr_of, addr_of_mut};

use aya_ebpf::helpers::{bpf_get_netns_cookie, bpf_get_socket_cookie};
use aya_ebpf::programs::SockAddrContext;
use pintle_ebpf_common::{Address, AffinityKey, Endpoint, FrontendKey, Scope, Settings};

use crate::lookup::Client;

/// The family of a hook: which of the context's fields it has.
pub trait Family {
    /// The address: a destination, a source or a peer.
    fn address(ctx: &SockAddrContext) -> Address;
    /// Put another in its place.
    fn set_address(ctx: &SockAddrContext, address: Address);
}

/// The hooks whose names end in 4.
pub struct V4;

/// The hooks whose names end in 6. Their address may be an IPv4 one in its mapped form.
pub struct V6;

impl Family for V4 {
    #[inline(always)]
    fn address(ctx: &SockAddrContext) -> Address {
        // SAFETY: the kernel's context. Volatile, since the verifier takes loads of single fields
        // alone.
        Address::from_v4(unsafe { addr_of!((*ctx.sock_addr).user_ip4).read_volatile() })
    }

    #[inline(always)]
    fn set_address(ctx: &SockAddrContext, address: Address) {
        let [.., v4] = address.words();
        // SAFETY: as above; all these hooks may write the field.
        unsafe { addr_of_mut!((*ctx.sock_addr).user_ip4).write_volatile(v4) };
    }
}

impl Family for V6 {
    #[inline(always)]
    fn address(ctx: &SockAddrContext) -> Address {
        // SAFETY: as for IPv4.
        unsafe { read_v6(addr_of!((*ctx.sock_addr).user_ip6).cast()) }
    }

    #[inline(always)]
    fn set_address(ctx: &SockAddrContext, address: Address) {
        let [a, b, c, d] = address.words();
        // SAFETY: as for IPv4.
        unsafe {
            let words = addr_of_mut!((*ctx.sock_addr).user_ip6).cast::<u32>();
            words.write_volatile(a);
            words.add(1).write_volatile(b);
            words.add(2).write_volatile(c);
            words.add(3).write_volatile(d);
        }
    }
}

/// The IPv6 address at `words` of a hook's context.
///
/// # Safety
///
/// Four words of a context that the kernel has given to the program.
#[inline(always)]
pub unsafe fn read_v6(words: *const u32) -> Address {
    // SAFETY: by the caller's promise. Volatile, since the verifier takes loads of single fields alone.
    unsafe {
        Address::from_words([
            words.read_volatile(),
            words.add(1).read_volatile(),
            words.add(2).read_volatile(),
            words.add(3).read_volatile(),
        ])
    }
}

/// The address and port in the context.
#[inline(always)]
pub fn endpoint<F: Family>(ctx: &SockAddrContext) -> Endpoint {
    // SAFETY: as for the address.
    let port_be = unsafe { addr_of!((*ctx.sock_addr).user_port).read_volatile() };
    Endpoint::new(F::address(ctx), port_be as u16)
}

/// Put an address and port into the context.
#[inline(always)]
pub fn set_endpoint<F: Family>(ctx: &SockAddrContext, endpoint: Endpoint) {
    F::set_address(ctx, endpoint.address);
    // SAFETY: as for the address.
    unsafe { addr_of_mut!((*ctx.sock_addr).user_port).write_volatile(endpoint.port_be as u32) };
}

/// The socket's protocol number.
#[inline(always)]
pub fn protocol(ctx: &SockAddrContext) -> u8 {
    // SAFETY: as for the address.
    unsafe { addr_of!((*ctx.sock_addr).protocol).read_volatile() as u8 }
}

/// The kernel's number of the socket, never given to another one.
#[inline(always)]
pub fn cookie(ctx: &SockAddrContext) -> u64 {
    // SAFETY: the helper takes this program type's context.
    unsafe { bpf_get_socket_cookie(ctx.sock_addr.cast()) }
}

/// A socket on this node.
pub struct Socket<'a>(pub &'a SockAddrContext);

impl Socket<'_> {
    #[inline(always)]
    fn namespace(&self) -> u64 {
        // SAFETY: the helper takes this program type's context.
        unsafe { bpf_get_netns_cookie(self.0.sock_addr.cast()) }
    }
}

impl Client for Socket<'_> {
    #[inline(always)]
    fn scope(&self) -> Scope {
        Scope::Internal
    }

    #[inline(always)]
    fn affinity(&self) -> Address {
        AffinityKey::namespace(self.namespace())
    }

    const HAS_FLOWS: bool = false;

    #[inline(always)]
    fn flow(&self, _key: FrontendKey) -> u64 {
        cookie(self.0)
    }

    #[inline(always)]
    fn is_node(&self, settings: &Settings) -> bool {
        settings.node_namespace == self.namespace()
    }
}
