//! All maps. The sizes here are the defaults; user space sets its own when it loads the object.
//!
//! | map | key | value | written by | read by |
//! | --- | --- | --- | --- | --- |
//! | FRONTENDS | address, port, protocol | table, counter, flags | user space | connect4, sendmsg4 |
//! | SLOTS | slot number | backend | user space (mapped memory) | connect4, sendmsg4 |
//! | TCP_PEERS | TCP socket | its translation | connect4 | getpeername4 |
//! | UDP_PEERS | UDP socket | its translations | connect4, sendmsg4 | recvmsg4, getpeername4 |
//! | FLOWS | socket, backend | service | sendmsg4 | recvmsg4 |
//! | CONNECTIONS | counter | number | connect4, sendmsg4 | user space |
//! | EVENTS | kind of event | number | connect4, sendmsg4 | user space |

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::btf_maps::{Array, HashMap, LruHashMap, PerCpuArray, SkStorage};
use aya_ebpf::macros::btf_map;
use pintle_ebpf_common::{Endpoint, Flow, Frontend, FrontendKey, Peer, Slot, Translation, event};

/// [`FrontendKey`] (8 bytes) -> [`Frontend`] (32 bytes): a Service's address and port to its table.
///
/// A miss is the way of all traffic that is not to a Service. Not preallocated, so that memory grows
/// with the Services and not with the limit. Kernel 4.19.
#[btf_map]
pub static FRONTENDS: HashMap<FrontendKey, Frontend, 65_536, { BPF_F_NO_PREALLOC as usize }> =
    HashMap::new();

/// Slot number (4 bytes) -> [`Slot`] (16 bytes): the backends of all tables, each table a run.
///
/// User space maps it into its memory, so that writing a backend is a store and not a system call. A
/// run is written before the first frontend names it, and is left alone until a grace time after
/// the last one does. Kernel 5.5 (`BPF_F_MMAPABLE`).
#[btf_map]
pub static SLOTS: Array<Slot, 262_144, { BPF_F_MMAPABLE as usize }> = Array::new();

/// TCP socket's cookie (8 bytes) -> [`Translation`] (16 bytes): where the socket is connected to.
///
/// `getpeername` alone reads it, so the least recently used may go first: such a socket shows its
/// backend. A map and not the socket's own storage, which is dearer to make: connect4 takes 0.85 us
/// with this and 1.2 us with that (0.3 us with neither). Kernel 4.19.
#[btf_map]
pub static TCP_PEERS: LruHashMap<u64, Translation, 65_536> = LruHashMap::new();

/// UDP socket -> [`Peer`] (32 bytes): where its connected peer and its latest datagram went.
///
/// Lives and dies with the socket, so it needs no size and no cleaning, and it cannot be evicted
/// from under a socket in use: answers depend on it. Written and read under the socket's lock.
/// Kernel 5.8 (in these hooks).
#[btf_map]
pub static UDP_PEERS: SkStorage<Peer> = SkStorage::new();

/// [`Flow`] (16 bytes) -> the Service's [`Endpoint`] (8 bytes): older translations of datagram
/// sockets that have used more than one backend.
///
/// Least recently used goes first; the latest translation of each socket is in [`UDP_PEERS`]. Kernel
/// 4.19.
#[btf_map]
pub static FLOWS: LruHashMap<Flow, Endpoint, 16_384> = LruHashMap::new();

/// [`Frontend::counter`] (4 bytes) -> connections and datagram flows translated (8 bytes a CPU).
/// Kernel 4.18.
#[btf_map]
pub static CONNECTIONS: PerCpuArray<u64, 65_536> = PerCpuArray::new();

/// One of [`event`] (4 bytes) -> how often it happened (8 bytes a CPU). Kernel 4.18.
#[btf_map]
pub static EVENTS: PerCpuArray<u64, { event::COUNT as usize }> = PerCpuArray::new();
