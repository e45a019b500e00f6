//! All maps. The sizes here are the defaults; user space sets its own when it loads the object.
//!
//! | map | key | value | written by | read by |
//! | --- | --- | --- | --- | --- |
//! | FRONTENDS | address, port, protocol | tables, number, flags | user space | connect, sendmsg, bind |
//! | SLOTS | slot number | backend | user space (mapped memory) | connect, sendmsg |
//! | NODE_ADDRESSES | address | flags | user space | connect, sendmsg, bind |
//! | SETTINGS | 0 | settings | user space | connect, sendmsg, bind |
//! | SOURCE_RANGES | ranges, address | 1 | user space | ingress |
//! | DEVICES | link | its addresses | user space | ingress |
//! | FILTER | 0 | addresses and pairs | user space, ingress | ingress, egress, express |
//! | TRACKED | packets of a direction | what they become | ingress | ingress, egress |
//! | REFUSED | client, backend | when | ingress | ingress |
//! | JUMPS | number | program | user space | ingress, egress |
//! | FRAGMENTS | packet | its ports | ingress, egress | ingress, egress |
//! | AFFINITY | client, number | backend, time | connect, sendmsg | connect, sendmsg |
//! | TCP_PEERS | place of a TCP socket | the translations of some | connect, release | getpeername |
//! | UDP_PEERS | UDP socket | its translations | connect, sendmsg | recvmsg, getpeername |
//! | FLOWS | socket, backend | service | sendmsg | recvmsg |
//! | SERVICES | number | a Service's port | user space | user space |
//! | COUNTERS | number | connections, packets, bytes | all | user space |
//! | DROPS, DROP_CURSOR | number in the ring | what was dropped | all | user space |
//! | EVENTS | kind of event | number | connect, sendmsg | user space |

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::btf_maps::lpm_trie::LpmTrie;
use aya_ebpf::btf_maps::{Array, HashMap, LruHashMap, PerCpuArray, ProgramArray, SkStorage};
use aya_ebpf::macros::btf_map;
use pintle_ebpf_common::{
    Address, AddressPair, Affinity, AffinityKey, Counters, Device, Drop, DropCursor, Endpoint,
    Filter, Flow, FragmentKey, Frontend, FrontendKey, Peer, ServiceLabel, Settings, Slot,
    SourceRange, TcpPeers, Tracked, Translation, Tuple, event, jump,
};

use crate::express::{WAYS_MAX, Way};
use crate::forward::Work;
use crate::route::{ROUTES_MAX, Route};
use crate::view::SegmentBytes;

/// [`FrontendKey`] (24 bytes) -> [`Frontend`] (64 bytes): a Service's address and port to its table.
///
/// A miss is the way of all traffic that is not to a Service. Not preallocated, so that memory grows
/// with the Services and not with the limit. Kernel 4.19.
#[btf_map]
pub static FRONTENDS: HashMap<FrontendKey, Frontend, 65_536, { BPF_F_NO_PREALLOC as usize }> =
    HashMap::new();

/// Slot number (4 bytes) -> [`Slot`] (32 bytes): the backends of all tables, each a run or two.
///
/// User space maps it into its memory, so that writing a backend is a store and not a system call. A
/// run is written before the first frontend names it, and is left alone until a grace time after
/// the last one does. Kernel 5.5 (`BPF_F_MMAPABLE`).
#[btf_map]
pub static SLOTS: Array<Slot, 262_144, { BPF_F_MMAPABLE as usize }> = Array::new();

/// [`Address`] (16 bytes) -> bits of [`pintle_ebpf_common::node_address`] (4 bytes): the node's own
/// addresses that node ports answer at. A node port stands once in [`FRONTENDS`], whatever the
/// node's addresses. Kernel 4.19.
#[btf_map]
pub static NODE_ADDRESSES: HashMap<Address, u32, 4096, { BPF_F_NO_PREALLOC as usize }> =
    HashMap::new();

/// 0 (4 bytes) -> [`Settings`] (16 bytes). Kernel 4.19.
#[btf_map]
pub static SETTINGS: Array<Settings, 1> = Array::new();

/// [`SourceRange`] (24 bytes with the length of its prefix) -> 1 (4 bytes): the clients that
/// `loadBalancerSourceRanges` lets in, and under [`SourceRange::LOCAL`] the cluster's own. Kernel
/// 4.11.
#[btf_map]
pub static SOURCE_RANGES: LpmTrie<SourceRange, u32, 65_536> = LpmTrie::new();

/// A link's index (4 bytes) -> [`Device`] (40 bytes): the node's links that packets are translated on.
/// Kernel 4.19.
#[btf_map]
pub static DEVICES: HashMap<u32, Device, 1024, { BPF_F_NO_PREALLOC as usize }> = HashMap::new();

/// 0 (4 bytes) -> [`Filter`] (264 KiB): which packets can be found in the maps of Services and of
/// connections. User space maps it into its memory. Kernel 5.5.
#[btf_map]
pub static FILTER: Array<Filter, 1, { BPF_F_MMAPABLE as usize }> = Array::new();

/// [`Tuple`] (40 bytes) -> [`Tracked`] (56 bytes): connections from outside, an entry a direction.
///
/// Least recently used goes first. Whichever direction's packet finds its own entry makes the other's
/// anew if that is gone, so a connection in use loses neither. Kernel 4.19.
#[btf_map]
pub static TRACKED: LruHashMap<Tuple, Tracked, 131_072> = LruHashMap::new();

/// 0 (4 bytes) -> [`Work`] (256 bytes a CPU): what the programs for packets have no room for on their
/// stack, and what one tells another of a packet. Kernel 4.18.
#[btf_map]
pub static WORK: PerCpuArray<Work, 1> = PerCpuArray::new();

/// One of [`jump`] (4 bytes) -> a program: where those for packets go on with what is rare. Kernel 4.18.
#[btf_map]
pub static JUMPS: ProgramArray<{ jump::COUNT as usize }> = ProgramArray::new();

/// [`FragmentKey`] (40 bytes) -> the source and the destination port (4 bytes): a packet's first
/// fragment has them, the others are found by it. Kernel 4.19.
#[btf_map]
pub static FRAGMENTS: LruHashMap<FragmentKey, u32, 8192> = LruHashMap::new();

/// [`AddressPair`] (32 bytes) -> when, in the kernel's ticks (8 bytes): a client whose packets did not reach
/// a backend on another node inside others.
///
/// Least recently used goes first: such a client's next connection is tried anew. Kernel 4.19.
#[btf_map]
pub static REFUSED: LruHashMap<AddressPair, u64, 4096> = LruHashMap::new();

/// [`AffinityKey`] (24 bytes) -> [`Affinity`] (32 bytes): the backend a client comes back to.
///
/// Least recently used goes first: such a client gets a new backend. Kernel 4.19.
#[btf_map]
pub static AFFINITY: LruHashMap<AffinityKey, Affinity, 65_536> = LruHashMap::new();

/// [`TcpPeers::place`] (4 bytes) -> [`TcpPeers`] (256 bytes): where four TCP sockets are connected to.
///
/// `getpeername` alone reads it, so a socket may be displaced by newer ones: it shows its backend then. An
/// array and not a hash map, of which connect() waits 0.4 us for an entry, nor the socket's own storage,
/// which is dearer still. Mapped memory begins where a page does, so that the cookies are in one line of
/// the cache. Kernel 5.5.
#[btf_map]
pub static TCP_PEERS: Array<TcpPeers, 16_384, { BPF_F_MMAPABLE as usize }> = Array::new();

/// UDP socket -> [`Peer`] (96 bytes): where its connected peer and its latest datagram went.
///
/// Lives and dies with the socket, so it needs no size and no cleaning, and it cannot be evicted
/// from under a socket in use: answers depend on it. Written and read under the socket's lock.
/// Kernel 5.8 (in these hooks).
#[btf_map]
pub static UDP_PEERS: SkStorage<Peer> = SkStorage::new();

/// Connected UDP socket's cookie (8 bytes) -> [`Translation`] (48 bytes): where the socket is connected
/// to, for user space, which cannot ask [`UDP_PEERS`] by the cookies that the kernel lists sockets with.
///
/// Least recently connected goes first: such a socket is not torn down when its backend is gone. Kernel
/// 4.19.
#[btf_map]
pub static UDP_CONNECTED: LruHashMap<u64, Translation, 16_384> = LruHashMap::new();

/// [`Flow`] (32 bytes) -> the Service's [`Endpoint`] (24 bytes): older translations of datagram
/// sockets that have used more than one backend.
///
/// Least recently used goes first; the latest translation of each socket is in [`UDP_PEERS`]. Kernel
/// 4.19.
#[btf_map]
pub static FLOWS: LruHashMap<Flow, Endpoint, 16_384> = LruHashMap::new();

/// [`Frontend::service`] (4 bytes) -> [`ServiceLabel`] (200 bytes): whose the number is. For people.
/// Kernel 4.19.
#[btf_map]
pub static SERVICES: HashMap<u32, ServiceLabel, 65_536, { BPF_F_NO_PREALLOC as usize }> =
    HashMap::new();

/// [`Frontend::service`] (4 bytes) -> [`Counters`] (40 bytes a CPU). Kernel 4.18.
#[btf_map]
pub static COUNTERS: PerCpuArray<Counters, 65_536> = PerCpuArray::new();

/// One of [`event`] (4 bytes) -> how often it happened (8 bytes a CPU). Kernel 4.18.
#[btf_map]
pub static EVENTS: PerCpuArray<u64, { event::COUNT as usize }> = PerCpuArray::new();

/// Number in the ring (4 bytes) -> [`Drop`] (72 bytes a CPU): what was dropped of late and why.
///
/// Each CPU has a ring of its own, and writes over the oldest. An array and not a ring buffer, whose
/// entries are gone with their first reader and which is full for good without one: here the daemon and
/// a person may read the same, with or without a daemon. Kernel 4.18.
#[btf_map]
pub static DROPS: PerCpuArray<Drop, { Drop::RING as usize }> = PerCpuArray::new();

/// 0 (4 bytes) -> [`DropCursor`] (24 bytes a CPU): where the CPU stands in its ring. Kernel 4.18.
#[btf_map]
pub static DROP_CURSOR: PerCpuArray<DropCursor, 1> = PerCpuArray::new();

/// A number of two addresses (4 bytes) -> [`Route`] (72 bytes a CPU): where packets between the two go
/// that turn back before the kernel sees them. Kernel 4.18.
#[btf_map]
pub static ROUTES: PerCpuArray<Route, { ROUTES_MAX as usize }> = PerCpuArray::new();

/// A number of a packet's addresses and ports (4 bytes) -> [`Way`] (128 bytes a CPU): what becomes of
/// packets that turn back before the kernel sees them, all in one place. Kernel 4.18.
#[btf_map]
pub static WAYS: PerCpuArray<Way, { WAYS_MAX as usize }> = PerCpuArray::new();

/// 0 (4 bytes) -> a copy of a packet's part (2,064 bytes a CPU), of which to make the checksum. Kernel
/// 4.18.
#[btf_map]
pub static SEGMENT: PerCpuArray<SegmentBytes, 1> = PerCpuArray::new();
