//! What a socket's packets were translated to, kept so that answers can be translated back.

use crate::{Endpoint, seal};

/// One translation: the address the program named, and the backend chosen for it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Translation {
    /// Where the packets go. All zero: there is no translation.
    pub backend: Endpoint,
    /// What the application named: the Service's address and port.
    pub service: Endpoint,
}
const _: () = assert!(size_of::<Translation>() == 48);

/// Kept with each socket that has used a Service, as long as the socket lives.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// The socket's connected peer.
    pub connected: Translation,
    /// The latest translated datagram of a socket that names its destination with each send.
    pub latest: Translation,
}
const _: () = assert!(size_of::<Peer>() == 96);

/// A socket and one backend it has sent datagrams to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flow {
    /// The kernel's cookie of the socket.
    pub socket: u64,
    /// The backend.
    pub backend: Endpoint,
}
const _: () = assert!(size_of::<Flow>() == 32);

/// A few TCP sockets that are connected to Services, and where to: those that fall on one place by their
/// cookies.
///
/// Two sockets that take the same way in one moment, on two processors, may leave what neither would
/// have: that is seen by the seal, and such a socket has no translation then.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpPeers {
    /// The kernel's cookie of each socket; 0: the way is free.
    pub sockets: [u64; TcpPeers::WAYS],
    /// Where each is connected to.
    pub peers: [TcpPeer; TcpPeers::WAYS],
}
const _: () = assert!(size_of::<TcpPeers>() == TcpPeers::WAYS * (8 + 56));

/// Where a TCP socket is connected to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpPeer {
    /// Over the socket's cookie and the translation.
    pub seal: u64,
    /// To what, and through what.
    pub translation: Translation,
}
const _: () = assert!(size_of::<TcpPeer>() == 56);

impl TcpPeers {
    /// How many sockets a place has room for.
    pub const WAYS: usize = 4;

    /// The place of a socket among so many, a power of two. Cookies are numbers in a row, so sockets that
    /// are made one after the other are in each other's neighbourhood, which the cache has.
    #[must_use]
    #[inline(always)]
    pub const fn place(socket: u64, places: u32) -> u32 {
        (socket / Self::WAYS as u64) as u32 & places.wrapping_sub(1)
    }

    /// The way that a socket has or, if it has none, is to take: a free one, else that of the socket that
    /// is the oldest by its cookie.
    #[must_use]
    #[inline(always)]
    pub const fn way_for(sockets: [u64; Self::WAYS], socket: u64) -> usize {
        let mut found = 0;
        let mut oldest = u64::MAX;
        let mut way = 0;
        while way < Self::WAYS {
            // Its own before a free one before the oldest.
            let age = if sockets[way] == socket { 0 } else { sockets[way].wrapping_add(1) };
            if age < oldest {
                (found, oldest) = (way, age);
            }
            way += 1;
        }
        found
    }

    /// The way of a socket.
    #[must_use]
    #[inline(always)]
    pub const fn way_of(sockets: [u64; Self::WAYS], socket: u64) -> Option<usize> {
        let mut way = 0;
        while way < Self::WAYS {
            if sockets[way] == socket {
                return Some(way);
            }
            way += 1;
        }
        None
    }

    /// The sockets and their translations, those that are whole.
    pub fn entries(&self) -> impl Iterator<Item = (u64, Translation)> {
        let entries = self.sockets.into_iter().zip(self.peers);
        entries.filter_map(|(socket, peer)| Some((socket, peer.open(socket)?)))
    }
}

impl TcpPeer {
    /// The translation of this socket.
    #[must_use]
    #[inline(always)]
    pub fn sealed_for(translation: Translation, socket: u64) -> Self {
        Self { seal: Self::seal(socket, &translation), translation }
    }

    /// The translation, if it is this socket's and whole.
    #[must_use]
    #[inline(always)]
    pub fn open(self, socket: u64) -> Option<Translation> {
        let whole = self.seal == Self::seal(socket, &self.translation);
        if whole { Some(self.translation) } else { None }
    }

    #[inline(always)]
    fn seal(socket: u64, Translation { backend, service }: &Translation) -> u64 {
        let (one, other) = (backend.address, service.address);
        let ports = (backend.port_be as u64) << 16 | service.port_be as u64;
        seal([socket, one.high_be, one.low_be, other.high_be, other.low_be, ports])
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::Address;

    #[test]
    fn a_socket_takes_its_own_way_else_a_free_one_else_the_oldest() {
        assert_eq!(TcpPeers::way_for([0; 4], 7), 0);
        assert_eq!(TcpPeers::way_for([9, 0, 8, 0], 7), 1);
        assert_eq!(TcpPeers::way_for([9, 0, 7, 0], 7), 2);
        assert_eq!(TcpPeers::way_for([9, 5, 8, 6], 10), 1);
        assert_eq!(TcpPeers::way_of([9, 5, 8, 6], 8), Some(2));
        assert_eq!(TcpPeers::way_of([9, 5, 8, 6], 7), None);
    }

    #[test]
    fn cookies_in_a_row_fill_one_place_after_the_other() {
        for places in [1, 2, 16, 16_384] {
            let mut used = std::vec![0; places as usize];
            for socket in 4096..4096 + 4 * u64::from(places) {
                used[TcpPeers::place(socket, places) as usize] += 1;
            }
            assert!(used.iter().all(|count| *count == 4), "{places}: {used:?}");
        }
    }

    #[test]
    fn what_is_another_sockets_or_was_changed_is_not_whole() {
        let at = |low, port_be| Endpoint::new(Address::from_v4(low), port_be);
        let translation = Translation { backend: at(1, 8080), service: at(2, 80) };
        let mut set = TcpPeers::default();
        assert_eq!(set.entries().count(), 0);
        set.sockets[3] = 7;
        set.peers[3] = TcpPeer::sealed_for(translation, 7);
        assert_eq!(set.entries().next(), Some((7, translation)));
        set.peers[3].translation.service = at(3, 80);
        assert_eq!(set.entries().count(), 0);
        assert_eq!(TcpPeer::sealed_for(translation, 7).open(8), None);
    }
}
