//! The backend array, mapped into this process's memory: writing a backend is four stores, where a
//! system call each would make ten thousand Services take most of a second.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use aya::maps::MapData;
use pintle_ebpf_common::{Endpoint, Slot, SlotRun};

use super::mapping::Mapping;

/// The mapped array.
pub(super) struct MappedSlots {
    memory: Mapping<Slot>,
}

// SAFETY: the memory belongs to the mapping, not to a thread, and is written through `&mut self`
// alone.
unsafe impl Send for MappedSlots {}

impl MappedSlots {
    /// Map `map`, an array of `len` [`Slot`]s made with `BPF_F_MMAPABLE`.
    pub(super) fn new(map: MapData, len: u32) -> io::Result<Self> {
        Ok(Self { memory: Mapping::new(map, len as usize)? })
    }

    /// Write `table`'s backends from the slot `base` on.
    ///
    /// # Panics
    ///
    /// If the run does not lie within the array. The planner gives out slots that do.
    pub(super) fn write(&mut self, base: u32, table: u64, backends: &[Endpoint]) {
        self.write_slots(base, backends.iter().map(|backend| Slot::new(*backend, table)));
    }

    /// Hold what `other`, a shorter array, holds. No program reads this one yet.
    ///
    /// # Panics
    ///
    /// If the other one is longer.
    pub(super) fn copy_from(&mut self, other: &Self) {
        assert!(other.memory.len <= self.memory.len, "arrays grow");
        // SAFETY: both mappings have at least so many slots, and are two. The other one is written
        // through `&mut` alone, so it does not change meanwhile.
        unsafe { self.memory.start.copy_from_nonoverlapping(other.memory.start, other.memory.len) };
    }

    /// Write the places of a ring of `table` from the slot `base` on.
    ///
    /// # Panics
    ///
    /// As [`MappedSlots::write`].
    pub(super) fn write_ring(&mut self, base: u32, table: u64, places: &[u16]) {
        let slots = places.chunks(Slot::PLACES as usize).map(|some| {
            let mut all = [0; Slot::PLACES as usize];
            all[..some.len()].copy_from_slice(some);
            Slot::of_ring(all, table)
        });
        self.write_slots(base, slots);
    }

    fn write_slots(&mut self, base: u32, slots: impl ExactSizeIterator<Item = Slot>) {
        let base = base as usize;
        let fits = base.checked_add(slots.len()).is_some_and(|end| end <= self.memory.len);
        assert!(fits, "the planner and the maps were made with the same limits");
        for (index, slot) in slots.enumerate() {
            let Slot { address, port_be, seal } = slot;
            let words = [address.high_be, address.low_be, port_be, seal];
            // SAFETY: the slot lies within the mapping, by the check above, is four words long and
            // aligned to 32 bytes from the start of a page. Programs in the kernel read it meanwhile,
            // so it is written by atomic stores; that they are not one store is what the seal is for.
            unsafe {
                let slot = self.memory.start.add(base + index).cast::<u64>();
                for (at, word) in words.into_iter().enumerate() {
                    AtomicU64::from_ptr(slot.add(at).as_ptr()).store(word, Ordering::Relaxed);
                }
            }
        }
    }

    /// Read a run; `None` if it does not lie within the array.
    pub(super) fn read(&self, run: SlotRun) -> Option<Vec<Slot>> {
        let (base, count) = (run.base as usize, run.count as usize);
        if base.checked_add(count)? > self.memory.len {
            return None;
        }
        // SAFETY: the slots lie within the mapping, by the check above. This process alone writes
        // them, by `&mut self`.
        Some((base..base + count).map(|at| unsafe { self.memory.start.add(at).read() }).collect())
    }
}
