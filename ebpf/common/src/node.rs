//! What the programs know of their node.

/// The key of a source range in a longest-prefix trie, without the length that stands before it: which
/// ranges, and an address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceRange {
    /// [`crate::Frontend::ranges`], in network byte order since a trie compares bits;
    /// [`SourceRange::LOCAL`] for the addresses of this cluster's pods.
    pub ranges_be: u32,
    /// [`crate::Address::words`].
    pub address_be: [u32; 4],
}
const _: () = assert!(size_of::<SourceRange>() == 20);

impl SourceRange {
    /// The ranges that say which clients are the cluster's own.
    pub const LOCAL: u32 = 0;
    /// The bits of the key before the address.
    pub const BITS: u32 = 32;
}

/// The programs' settings, one for all.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The kernel's cookie of the node's own network namespace; 0 if it is not known.
    pub node_namespace: u64,
    /// Bits of [`crate::setting`].
    pub flags: u32,
    /// How many [`crate::TcpPeers`] there are, a power of two.
    pub tcp_places: u32,
}
const _: () = assert!(size_of::<Settings>() == 16);

/// The name of a Service's port, for people.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceLabel {
    /// The namespace, up to its first zero byte.
    pub namespace: [u8; 64],
    /// The Service's name, likewise.
    pub name: [u8; 64],
    /// The port's name, likewise.
    pub port: [u8; 64],
    /// One of [`crate::protocol`].
    pub protocol: u8,
    /// 4 or 6.
    pub family: u8,
    /// Zero.
    pub padding: [u8; 6],
}
const _: () = assert!(size_of::<ServiceLabel>() == 200);
