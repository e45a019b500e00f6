//! What a socket's packets were translated to, kept so that answers can be translated back.

use crate::Endpoint;

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
