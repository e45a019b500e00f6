//! From a Service's address to one of its backends.

use core::ptr;

use aya_ebpf::helpers::{bpf_get_prandom_u32, bpf_get_socket_cookie};
use aya_ebpf::programs::SockAddrContext;
use pintle_ebpf_common::{Endpoint, Frontend, FrontendKey, event, protocol, seal};

use crate::maps::{CONNECTIONS, EVENTS, FRONTENDS, SLOTS};

/// What the tables say about an address.
pub enum Answer {
    /// It is a Service's, and this backend is to serve it.
    Backend { endpoint: Endpoint, counter: u32 },
    /// It is a Service's that has no backend; [`Frontend::flags`] say how to turn the caller away.
    NoBackend { flags: u32 },
    /// It is no Service's.
    NotService,
}

/// Choose a backend for `key`: the old tables' answer or the new ones', never a mixture.
///
/// A record that is not whole, or a slot that has passed to another table, is seen by its seal; the
/// frontend's record has changed by then, so looking it up again finds the new one.
#[inline(always)]
pub fn resolve(ctx: &SockAddrContext, key: FrontendKey) -> Answer {
    for _ in 0..TRIES {
        // SAFETY: the reference may be to memory that is handed to another element meanwhile; it is
        // read once, as plain integers, and used only if its seal is whole and of this key.
        let Some(record) = (unsafe { FRONTENDS.get(key) }) else { return Answer::NotService };
        // SAFETY: the kernel keeps a value's memory readable while the program runs.
        let frontend = unsafe { ptr::read_volatile(record) };
        if frontend.is_sealed_for(key) {
            if frontend.count == 0 {
                return Answer::NoBackend { flags: frontend.flags };
            }
            if let Some(endpoint) = choose(ctx, key, &frontend) {
                return Answer::Backend { endpoint, counter: frontend.counter };
            }
        }
        count_event(event::RETRIED);
    }
    Answer::NoBackend { flags: 0 }
}

/// Every backend with an equal chance, as kube-proxy's rules: a new one for each TCP connection, the
/// same one for all datagrams of a socket (where kube-proxy has its connection tracking).
#[inline(always)]
fn choose(ctx: &SockAddrContext, key: FrontendKey, frontend: &Frontend) -> Option<Endpoint> {
    let random = if key.protocol == protocol::UDP {
        seal([cookie(ctx), key.word()]) as u32
    } else {
        // SAFETY: the helper takes no arguments.
        unsafe { bpf_get_prandom_u32() }
    };
    // The high half of the product is uniform over 0..count, to within count / 2^32.
    let offset = ((random as u64 * frontend.count as u64) >> 32) as u32;
    let slot = SLOTS.get_ptr(frontend.slot_base.wrapping_add(offset))?;
    // SAFETY: the array's memory lives as long as the map; user space may write it meanwhile, which
    // the seal shows.
    unsafe { ptr::read_volatile(slot) }.open(frontend.table)
}

/// The kernel's number of the socket, never given to another one.
#[inline(always)]
pub fn cookie(ctx: &SockAddrContext) -> u64 {
    // SAFETY: the helper takes this program type's context.
    unsafe { bpf_get_socket_cookie(ctx.sock_addr.cast()) }
}

/// Count a translated connection or datagram flow.
#[inline(always)]
pub fn count_connection(counter: u32) {
    if let Some(number) = CONNECTIONS.get_ptr_mut(counter) {
        // SAFETY: this CPU's own slot, which nothing else writes but a program that interrupts this
        // one, and a number lost then does no harm.
        unsafe { *number = (*number).wrapping_add(1) };
    }
}

/// Count one of [`event`].
#[inline(always)]
pub fn count_event(kind: u32) {
    if let Some(number) = EVENTS.get_ptr_mut(kind) {
        // SAFETY: as in `count_connection`.
        unsafe { *number = (*number).wrapping_add(1) };
    }
}

/// One look finds a whole record unless user space has just replaced it; the second then finds the
/// new one. Two more are for a task that is put to sleep in between.
const TRIES: u32 = 4;
