//! The socket hooks: an application names a Service, its packets name a backend, and what the
//! application is told afterwards names the Service again.
//!
//! Every function is for IPv4 and IPv6 alike: a [`Family`] says where in the context the address
//! stands. Mirrors what kube-proxy's DNAT and connection tracking do, without touching packets. Each
//! function returns what its hook returns to the kernel.

use aya_ebpf::helpers::bpf_set_retval;
use aya_ebpf::programs::SockAddrContext;
use pintle_ebpf_common::{
    Endpoint, Flow, FrontendKey, Peer, Translation, Tuple, event, hook, protocol, setting,
};

use crate::address::{Family, Socket, cookie, endpoint, protocol as protocol_of, set_endpoint};
use crate::count;
use crate::lookup::{self, Answer, Client};
use crate::maps::{FLOWS, UDP_CONNECTED, UDP_PEERS};
use crate::tcp_peer;

/// `connect(2)`: a Service's address becomes a backend's for the socket's whole life.
#[inline(always)]
pub fn connect<F: Family>(ctx: &SockAddrContext) -> i32 {
    if is_spared(ctx) {
        return ALLOW;
    }
    let service = endpoint::<F>(ctx);
    let protocol = protocol_of(ctx);
    let key = FrontendKey::new(service.address, service.port_be, protocol);
    match lookup::resolve(&Socket(ctx), key) {
        Answer::Backend { endpoint: backend, service: number, .. } => {
            if !note_connected(ctx, protocol, Translation { backend, service }) {
                return refuse(ENOMEM);
            }
            count::connection(number);
            allow::<F>(ctx, backend)
        }
        Answer::NoBackend { drop, service: number, .. } => refuse_service(drop, key, number),
        Answer::NotService => {
            forget_connected(ctx, protocol);
            ALLOW
        }
    }
}

/// A datagram with a destination: a Service's address becomes a backend's for this one.
#[inline(always)]
pub fn sendmsg<F: Family>(ctx: &SockAddrContext) -> i32 {
    if is_spared(ctx) {
        return ALLOW;
    }
    let service = endpoint::<F>(ctx);
    let key = FrontendKey::new(service.address, service.port_be, protocol::UDP);
    match lookup::resolve(&Socket(ctx), key) {
        Answer::Backend { endpoint: backend, service: number, .. } => {
            match note_latest(ctx, Translation { backend, service }) {
                Noted::Failed => return refuse(ENOMEM),
                Noted::New => count::connection(number),
                Noted::Same => {}
            }
            allow::<F>(ctx, backend)
        }
        Answer::NoBackend { drop, service: number, .. } => refuse_service(drop, key, number),
        Answer::NotService => {
            forget_flow(ctx, service);
            ALLOW
        }
    }
}

/// A datagram with its source: a backend's address becomes the Service's that it answered for.
#[inline(always)]
pub fn recvmsg<F: Family>(ctx: &SockAddrContext) -> i32 {
    let source = endpoint::<F>(ctx);
    // SAFETY: the hook runs under the socket's lock.
    let Some(peer) = (unsafe { UDP_PEERS.get_ptr_mut(ctx).as_ref() }) else { return ALLOW };
    if peer.connected.backend == source {
        return allow::<F>(ctx, peer.connected.service);
    }
    if peer.latest.backend == source {
        return allow::<F>(ctx, peer.latest.service);
    }
    let flow = Flow { socket: cookie(ctx), backend: source };
    // SAFETY: copied at once; an entry that is evicted meanwhile would have to be given to another
    // flow of this very moment to be misread, and then one datagram has a wrong source.
    match lookup::surely(|| unsafe { FLOWS.get(flow) }) {
        Some(service) => allow::<F>(ctx, *service),
        None => ALLOW,
    }
}

/// `getpeername(2)`: the Service that the application connected to, not the backend.
#[inline(always)]
pub fn getpeername<F: Family>(ctx: &SockAddrContext) -> i32 {
    let peer = endpoint::<F>(ctx);
    let connected = if protocol_of(ctx) == protocol::TCP {
        tcp_peer::find(cookie(ctx))
    } else {
        // SAFETY: the hook runs under the socket's lock.
        unsafe { UDP_PEERS.get_ptr_mut(ctx).as_ref() }.map(|peer| peer.connected)
    };
    match connected {
        Some(Translation { backend, service }) if backend == peer => allow::<F>(ctx, service),
        _ => ALLOW,
    }
}

/// Whether the socket is a pod's and those are left alone: its packets are translated instead.
#[inline(always)]
fn is_spared(ctx: &SockAddrContext) -> bool {
    lookup::settings().is_some_and(|settings| {
        settings.flags & setting::NODE_SOCKETS_ONLY != 0 && !Socket(ctx).is_node(settings)
    })
}

/// Note a connected socket's translation; false if it cannot do without and there is no memory.
#[inline(always)]
fn note_connected(ctx: &SockAddrContext, protocol: u8, translation: Translation) -> bool {
    if protocol == protocol::TCP {
        tcp_peer::note(cookie(ctx), translation);
        return true;
    }
    match peer_or_new(ctx) {
        Some(peer) => {
            peer.connected = translation;
            let _ = UDP_CONNECTED.insert(cookie(ctx), translation, 0);
            true
        }
        None => false,
    }
}

/// A UDP socket that connects past the Services may have been connected to one before, and to the
/// same backend. (A TCP socket can do so after a failed attempt alone, and would then show the
/// Service: not worth a call in every other connection's way.)
#[inline(always)]
fn forget_connected(ctx: &SockAddrContext, protocol: u8) {
    if protocol != protocol::UDP {
        return;
    }
    // SAFETY: the hook runs under the socket's lock.
    if let Some(peer) = unsafe { UDP_PEERS.get_ptr_mut(ctx).as_mut() } {
        peer.connected = Translation::default();
        // Fails if it is not there any more.
        let _ = UDP_CONNECTED.remove(cookie(ctx));
    }
}

enum Noted {
    Failed,
    New,
    Same,
}

/// Note a datagram's translation. The one it displaces goes to [`FLOWS`], so that a socket that
/// speaks to one backend never touches that map.
#[inline(always)]
fn note_latest(ctx: &SockAddrContext, translation: Translation) -> Noted {
    let Some(peer) = peer_or_new(ctx) else { return Noted::Failed };
    let displaced = peer.latest;
    if displaced == translation {
        return Noted::Same;
    }
    if displaced != Translation::default() {
        let flow = Flow { socket: cookie(ctx), backend: displaced.backend };
        // Evicts the least recently used if full; fails only on a lost race with another socket,
        // and then a late answer keeps the backend's address.
        let _ = FLOWS.insert(flow, displaced.service, 0);
    }
    peer.latest = translation;
    Noted::New
}

/// A datagram that goes to a backend's own address: its answers are to keep that address.
#[inline(always)]
fn forget_flow(ctx: &SockAddrContext, destination: Endpoint) {
    // SAFETY: the hook runs under the socket's lock.
    let Some(peer) = (unsafe { UDP_PEERS.get_ptr_mut(ctx).as_mut() }) else { return };
    if peer.latest.backend == destination {
        peer.latest = Translation::default();
    }
    // Fails if there is no such flow.
    let _ = FLOWS.remove(Flow { socket: cookie(ctx), backend: destination });
}

#[inline(always)]
fn peer_or_new(ctx: &SockAddrContext) -> Option<&mut Peer> {
    let mut empty = Peer::default();
    // SAFETY: the hook runs under the socket's lock, so no other program has the value.
    unsafe { UDP_PEERS.get_or_insert_ptr_mut(ctx, Some(&mut empty)).as_mut() }
}

#[inline(always)]
fn refuse_service(drop: bool, key: FrontendKey, service: u32) -> i32 {
    let tuple = Tuple {
        source: key.address.any_of_family(),
        destination: key.address,
        source_port_be: 0,
        destination_port_be: key.port_be,
        protocol: key.protocol,
        hook: hook::SOCKET,
        padding: [0; 2],
    };
    count::drop(event::REFUSED, &tuple, service, 0, 0);
    // A dropped packet would let the caller wait for its own time limit; say at once what it
    // would find out then.
    refuse(if drop { EHOSTUNREACH } else { ECONNREFUSED })
}

/// Fail the system call with `errno`.
#[inline(always)]
fn refuse(errno: i32) -> i32 {
    // SAFETY: the helper takes an integer. The connect and sendmsg hooks may call it.
    unsafe { bpf_set_retval(-errno) };
    DENY
}

/// Put an address into the hook's context, and let the system call go on.
#[inline(always)]
fn allow<F: Family>(ctx: &SockAddrContext, endpoint: Endpoint) -> i32 {
    set_endpoint::<F>(ctx, endpoint);
    ALLOW
}

const ALLOW: i32 = 1;
const DENY: i32 = 0;

// asm-generic/errno.h
const ENOMEM: i32 = 12;
const ECONNREFUSED: i32 = 111;
const EHOSTUNREACH: i32 = 113;
