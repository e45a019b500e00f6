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

mod address;
mod affinity;
mod backend;
mod connection;
mod counter;
mod filter;
mod frontend;
mod node;
mod seal;
mod translation;

pub use address::Address;
pub use affinity::{Affinity, AffinityKey};
pub use backend::{Endpoint, Slot};
pub use connection::{AddressPair, Device, FragmentKey, Tracked, Tuple};
pub use counter::{Counters, Drop, DropCursor};
pub use filter::{ADDRESS_WORDS, Filter, FilterBit, PAIRS};
pub use frontend::{Frontend, FrontendKey, Scope, SlotRun};
pub use node::{ServiceLabel, Settings, SourceRange};
pub use seal::seal;
pub use translation::{Flow, Peer, TcpPeer, TcpPeers, Translation};

/// What an answer to a packet quotes of it from behind its IP header, in bytes: a TCP header, and more than
/// a UDP header.
pub const QUOTED: usize = 20;

/// Protocol numbers as in an IP header.
pub mod protocol {
    /// SCTP. The kernel has no hooks in its sockets; packets alone can be translated.
    pub const SCTP: u8 = 132;
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
    /// A packet from outside was dropped: its Service has no backend for it.
    pub const DROPPED_NO_BACKEND: u32 = 2;
    /// A packet from outside was dropped: its source is in none of the Service's ranges.
    pub const DROPPED_SOURCE: u32 = 3;
    /// A packet from outside was dropped: no port was left to masquerade it with.
    pub const DROPPED_NO_PORT: u32 = 4;
    /// A packet from outside was dropped: it is cut short, or it is SCTP's and its port would change.
    pub const DROPPED_UNFIT: u32 = 6;
    /// A drop that is not in the ring of drops: there were too many in that second.
    pub const UNRECORDED: u32 = 5;
    /// Not a drop: a packet was sent back before the kernel saw it.
    pub const TURNED_BACK: u32 = 7;
    /// Not a drop: a packet to a Service left untranslated, which another link's program would have
    /// translated where it came in.
    pub const STRAYED: u32 = 8;
    /// The number of kinds.
    pub const COUNT: u32 = 9;
}

/// Bits of [`Frontend::flags`].
pub mod flag {
    /// Where nobody answers a client of the internal scope, drop and do not reject.
    pub const DROP_INTERNAL: u32 = 1;
    /// Where nobody answers a client of the external scope, drop and do not reject.
    pub const DROP_EXTERNAL: u32 = 2;
    /// Packets from outside get the node's own address for a source, whoever sent them.
    pub const MASQUERADE: u32 = 4;
    /// A cluster IP: packets of a client that is not the cluster's own get the node's address.
    pub const CLUSTER_IP: u32 = 8;
    /// A node port.
    pub const NODE_PORT: u32 = 16;
    /// An address of `status.loadBalancer`.
    pub const LOAD_BALANCER: u32 = 32;
    /// An address of `externalIPs`.
    pub const EXTERNAL_IP: u32 = 64;
}

/// Bits of [`Settings::flags`].
pub mod setting {
    /// There are node ports: addresses that are no frontend's are looked up among the node's own.
    pub const NODE_PORTS: u32 = 1;
    /// All packets to cluster IPs get the node's address for a source.
    pub const MASQUERADE_ALL: u32 = 2;
    /// It can be told which clients are the cluster's own.
    pub const DETECTS_LOCAL: u32 = 4;
    /// Sockets of other network namespaces than the node's own are left alone.
    pub const NODE_SOCKETS_ONLY: u32 = 8;
    /// Clients from outside are answered by their backend's node and not by this one.
    pub const DIRECT_RETURN: u32 = 16;
}

/// Programs that others go on in, with a stack of their own: their places in the map of them.
pub mod jump {
    /// A packet that leaves for another node, inside another.
    pub const PACK: u32 = 0;
    /// A packet that nobody is there for.
    pub const REFUSE: u32 = 1;
    /// A packet that comes in and may hold another, or be an error about such a one.
    pub const UNPACK: u32 = 2;
    /// A packet that leaves for what may be a Service's address.
    pub const STRAY: u32 = 3;
    /// How many.
    pub const COUNT: u32 = 4;
}

/// Bits of [`Tracked::flags`].
pub mod tracked {
    /// These are the packets from the backend.
    pub const REPLY: u32 = 1;
    /// The packets are to be masqueraded, and it is not yet known as what.
    pub const PENDING: u32 = 2;
    /// Only if they leave by the link that they came in by.
    pub const IF_TURNING_BACK: u32 = 4;
    /// The client's packets are sent to the backend's node inside others, which answers the client.
    pub const TUNNEL: u32 = 8;
    /// The client's packets came here inside others.
    pub const TUNNELLED: u32 = 16;
}

/// Where a packet is seen.
pub mod hook {
    /// Where it comes in by a link.
    pub const INGRESS: u8 = 0;
    /// Where it leaves by a link.
    pub const EGRESS: u8 = 1;
    /// A socket's call, of a [`crate::Drop`] alone.
    pub const SOCKET: u8 = 2;
}

/// Where a backend is: [`Endpoint::locality`].
pub mod locality {
    /// On no node that is named.
    pub const UNKNOWN: u16 = 0;
    /// On this node.
    pub const THIS_NODE: u16 = 1;
    /// On another one.
    pub const OTHER_NODE: u16 = 2;
}

/// Bits of [`Device::flags`].
pub mod device {
    /// All that comes in by it is from the cluster's pods.
    pub const LOCAL: u32 = 1;
    /// Packets that turn back need not pass the kernel: its driver sends what a program hands it.
    pub const TURNS_BACK: u32 = 2;
    /// Of these it knows nothing but their bytes, so a checksum that was left to a device has to be made.
    pub const MAKES_SUMS: u32 = 4;
}

/// What the map of the node's addresses says of one.
pub mod node_address {
    /// Node ports answer at it, for everyone.
    pub const NODE_PORTS: u32 = 1;
    /// A loopback address: node ports answer at it in the node's own network namespace.
    pub const LOOPBACK: u32 = 2;
}

#[cfg(feature = "user")]
mod pod {
    //! The types' promise to aya that any bytes of their size are a value of theirs.

    use crate::{
        Address, AddressPair, Affinity, AffinityKey, Counters, Device, Drop, DropCursor, Endpoint,
        Flow, FragmentKey, Frontend, FrontendKey, Peer, ServiceLabel, Settings, Slot, SourceRange,
        TcpPeer, TcpPeers, Tracked, Translation, Tuple,
    };

    macro_rules! pod {
        ($($name:ident)*) => {$(
            // SAFETY: repr(C), made of integers alone, without implicit padding (the size asserted
            // beneath the type is the sum of its fields), so every byte pattern is a value.
            unsafe impl aya::Pod for $name {}
        )*};
    }
    pod!(Address Affinity AffinityKey Endpoint Flow Frontend FrontendKey Peer ServiceLabel);
    pod!(Settings Slot SourceRange TcpPeer TcpPeers Translation);
    pod!(AddressPair Counters Device Drop DropCursor FragmentKey Tracked Tuple);
}
