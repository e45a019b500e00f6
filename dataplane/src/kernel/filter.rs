//! The filter that tells the programs which packets are of no Service ([`Filter`] says how).
//!
//! A mark is set before the entry that it is for. Those of connections that are gone go when the filter
//! is made anew, once it has become too full to be of use.

use std::io;
use std::mem::offset_of;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use aya::maps::{MapData, MapError};
use pintle_ebpf_common::{
    Address, Filter, FilterBit, Frontend, FrontendKey, PAIRS, Tracked, Tuple, flag,
};

use super::load::Dataplane;
use super::mapping::Mapping;
use super::syscall;

/// The map, in this process's memory.
pub(super) struct MappedFilter {
    memory: Mapping<Filter>,
    /// How many pairs were marked when it was last made anew.
    after_rebuild: usize,
}

// SAFETY: the memory belongs to the mapping, not to a thread, and is used by atomic operations alone.
unsafe impl Send for MappedFilter {}

impl MappedFilter {
    /// Map `map`, an array of one [`Filter`] made with `BPF_F_MMAPABLE`.
    pub(super) fn new(map: MapData) -> io::Result<Self> {
        Ok(Self { memory: Mapping::new(map, 0..1)?, after_rebuild: 0 })
    }

    /// Packets to this frontend's address are to be looked at. A node port's come to the node's own.
    pub(super) fn add_frontend(&self, key: &FrontendKey, frontend: &Frontend) {
        if key.address == key.address.any_of_family() {
            return;
        }
        self.add(if frontend.flags & flag::CLUSTER_IP != 0 {
            FilterBit::of_network(key.address)
        } else {
            FilterBit::of_address(key.address)
        });
    }

    /// Packets to this address of the node are to be looked at.
    pub(super) fn add_node_address(&self, address: Address) {
        self.add(FilterBit::of_address(address));
    }

    fn add(&self, bit: FilterBit) {
        let word = self.word(offset_of!(Filter, addresses) / 8 + bit.word);
        word.fetch_or(bit.mask, Ordering::Release);
    }

    /// Whether so many pairs are marked that it is worth looking which of them need be.
    fn is_too_full(&self) -> bool {
        let (set, all) = (self.count(self.current()), PAIRS);
        set > all / 8 && set > self.after_rebuild * 5 / 4 + all / 32
    }

    fn current(&self) -> usize {
        (self.word(offset_of!(Filter, current) / 8).load(Ordering::Acquire) & 1) as usize
    }

    fn pairs(&self, half: usize) -> &[AtomicU8] {
        let start = offset_of!(Filter, pairs) + (half & 1) * PAIRS;
        // SAFETY: the half lies within the mapping, which lives as long as `self`. Programs in the kernel
        // use its bytes by single loads and stores too.
        unsafe {
            let start = self.memory.start.cast::<u8>().add(start).cast::<AtomicU8>();
            std::slice::from_raw_parts(start.as_ptr(), PAIRS)
        }
    }

    fn count(&self, half: usize) -> usize {
        self.pairs(half).iter().filter(|place| place.load(Ordering::Relaxed) != 0).count()
    }

    /// Let the programs look into this half.
    fn choose(&mut self, half: usize) {
        self.after_rebuild = self.count(half);
        self.word(offset_of!(Filter, current) / 8).store(half as u64, Ordering::Release);
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < size_of::<Filter>() / 8, "words lie within the filter");
        // SAFETY: the word lies within the mapping, by the check above, and is aligned to its size from
        // the start of a page. Programs in the kernel use it by atomic operations too.
        unsafe { AtomicU64::from_ptr(self.memory.start.cast::<u64>().add(index).as_ptr()) }
    }
}

impl Dataplane {
    /// Make the filter anew if it has become too full.
    pub(super) fn refresh_filter(&mut self) -> Result<(), MapError> {
        if self.filter.is_too_full() { self.rebuild_filter() } else { Ok(()) }
    }

    /// Forget between which clients and backends there were connections: from now on packets between
    /// those that still have some are looked up. Takes a moment of rest, and as long as it takes to read
    /// the connections.
    pub fn rebuild_filter(&mut self) -> Result<(), MapError> {
        let other = self.filter.current() ^ 1;
        self.filter.pairs(other).iter().for_each(|place| place.store(0, Ordering::Relaxed));
        // A program that began before may have set a mark that was cleared, and makes the entry for it
        // only now. What follows has to find it.
        thread::sleep(GRACE);
        each::<Tuple, Tracked>(&self.tracked, |key, entry| {
            self.filter.pairs(other)[Filter::pair_of(key, entry)].store(1, Ordering::Relaxed);
        })?;
        self.filter.choose(other);
        Ok(())
    }
}

/// Every entry that is there all the while.
fn each<K: aya::Pod + Default, V: aya::Pod + Default>(
    map: &MapData,
    mut act: impl FnMut(&K, &V),
) -> Result<(), MapError> {
    let mut token = None;
    loop {
        let batch =
            syscall::lookup_batch::<K, V>(map.fd().as_fd(), token).map_err(MapError::IoError)?;
        batch.entries.iter().for_each(|(key, value)| act(key, value));
        token = batch.next;
        if token.is_none() {
            return Ok(());
        }
    }
}

/// Far longer than a program for a packet runs, which nothing but interrupts keeps from it.
const GRACE: Duration = Duration::from_millis(50);
