//! Map keys and values shared by the kernel programs and user space, written once.
//!
//! Every type is `#[repr(C)]`, without implicit padding and of a size that is asserted beneath it.
//! Fields in network byte order end in `_be` and hold the bytes as they stand in a packet; all
//! others are in the host's order. With the feature `user` each type is an [`aya::Pod`].
//!
//! # How a reader never sees half a record
//!
//! Neither a hash map nor an array promises that a value is read whole: a hash map may hand a
//! deleted element's memory to the next insert while a program still reads it, and an array is
//! written in place. So every record carries a *seal*, a checksum over its other words and over what
//! it must belong to: a [`Frontend`] over its own key, a [`Slot`] over the table that names it. A
//! program that finds a seal broken looks the frontend up again.
#![no_std]

mod backend;
mod frontend;
mod seal;
mod translation;

pub use backend::{Endpoint, Slot};
pub use frontend::{Frontend, FrontendKey, FrontendWord};
pub use seal::seal;
pub use translation::{Flow, Peer, Translation};

/// Protocol numbers as in an IPv4 header.
pub mod protocol {
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
}

/// What the programs count beside connections.
pub mod event {
    /// A Service without backends turned a caller away.
    pub const REFUSED: u32 = 0;
    /// A record was not whole, or its table's slots had passed on, and was looked up again.
    pub const RETRIED: u32 = 1;
    /// The number of kinds.
    pub const COUNT: u32 = 2;
}

/// Bits of [`Frontend::flags`].
pub mod flag {
    /// Without backends: turn the caller away as kube-proxy's DROP does (the traffic policy left
    /// none), not as its REJECT does (the Service has none at all).
    pub const DROP: u32 = 1;
}

#[cfg(feature = "user")]
mod pod {
    //! The types' promise to aya that any bytes of their size are a value of theirs.

    use crate::{Endpoint, Flow, Frontend, FrontendKey, Peer, Slot, Translation};

    macro_rules! pod {
        ($($name:ident)*) => {$(
            // SAFETY: repr(C), made of integers alone, without implicit padding (the size asserted
            // beneath the type is the sum of its fields), so every byte pattern is a value.
            unsafe impl aya::Pod for $name {}
        )*};
    }
    pod!(Endpoint Flow Frontend FrontendKey Peer Slot Translation);
}
