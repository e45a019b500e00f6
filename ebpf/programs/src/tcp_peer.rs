//! Where TCP sockets are connected to, for `getpeername` alone ([`TcpPeers`] says how it is kept).

use core::ptr::{addr_of, addr_of_mut};

use pintle_ebpf_common::{TcpPeer, TcpPeers, Translation};

use crate::lookup;
use crate::maps::TCP_PEERS;

/// Note a socket's translation. One that has no room for it shows its backend.
#[inline(always)]
pub fn note(socket: u64, translation: Translation) {
    let Some(place) = place(socket) else { return };
    let way = TcpPeers::way_for(sockets(place), socket);
    // SAFETY: the map's memory, and a way is one of the place's. Whose it is says the cookie, which is
    // written last; what another processor writes meanwhile shows in the seal.
    unsafe {
        let peer = addr_of_mut!((*place).peers).cast::<TcpPeer>().add(way & (TcpPeers::WAYS - 1));
        peer.write_volatile(TcpPeer::sealed_for(translation, socket));
    }
    set_socket(place, way, socket);
}

/// A socket's translation, if it has one.
#[inline(always)]
pub fn find(socket: u64) -> Option<Translation> {
    let place = place(socket)?;
    let way = TcpPeers::way_of(sockets(place), socket)?;
    // SAFETY: as in `note`.
    let peer = unsafe {
        let peers = addr_of!((*place).peers).cast::<TcpPeer>();
        peers.add(way & (TcpPeers::WAYS - 1)).read_volatile()
    };
    peer.open(socket)
}

/// A socket is closed.
#[inline(always)]
pub fn forget(socket: u64) {
    let Some(place) = place(socket) else { return };
    if let Some(way) = TcpPeers::way_of(sockets(place), socket) {
        set_socket(place, way, 0);
    }
}

#[inline(always)]
fn place(socket: u64) -> Option<*mut TcpPeers> {
    let places = lookup::settings()?.tcp_places;
    TCP_PEERS.get_ptr_mut(TcpPeers::place(socket, places))
}

#[inline(always)]
fn sockets(place: *mut TcpPeers) -> [u64; TcpPeers::WAYS] {
    // SAFETY: the map's memory; each cookie is read at once.
    unsafe { addr_of!((*place).sockets).read_volatile() }
}

#[inline(always)]
fn set_socket(place: *mut TcpPeers, way: usize, socket: u64) {
    // SAFETY: the map's memory, and a way is one of the place's.
    unsafe {
        let sockets = addr_of_mut!((*place).sockets).cast::<u64>();
        sockets.add(way & (TcpPeers::WAYS - 1)).write_volatile(socket);
    }
}
