//! The backend array, mapped into this process's memory: writing a backend is four stores, where a
//! system call each would make ten thousand Services take most of a second.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use aya::maps::MapData;
use pintle_ebpf_common::{Endpoint, Slot, SlotRun};

use super::mapping::Mapping;

/// The array, mapped as far as it was used: the kernel counts all that is mapped as this process's
/// memory, used or not, and the planner gives out the first slots first.
pub(super) struct MappedSlots {
    memory: Mapping<Slot>,
    /// Slots of the array.
    len: usize,
}

// SAFETY: the memory belongs to the mapping, not to a thread, and is written through `&mut self`
// alone.
unsafe impl Send for MappedSlots {}

impl MappedSlots {
    /// Map `map`, an array of `len` [`Slot`]s made with `BPF_F_MMAPABLE`.
    pub(super) fn new(map: MapData, len: u32) -> io::Result<Self> {
        let len = len as usize;
        Ok(Self { memory: Mapping::new(map, PIECE.min(len))?, len })
    }

    /// Have the slots below `end` mapped: an eighth more where there are many, so that this is done
    /// rarely.
    fn map_to(&mut self, end: usize) -> io::Result<()> {
        if end > self.len {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if end > self.memory.len {
            let wanted = end.saturating_add(self.memory.len / 8).next_multiple_of(PIECE);
            self.memory.set_len(wanted.min(self.len))?;
        }
        Ok(())
    }

    /// Write `table`'s backends from the slot `base` on.
    ///
    /// # Errors
    ///
    /// If the run cannot be mapped. The planner gives out slots that lie within the array.
    pub(super) fn write(&mut self, base: u32, table: u64, backends: &[Endpoint]) -> io::Result<()> {
        self.write_slots(base, backends.iter().map(|backend| Slot::new(*backend, table)))
    }

    /// Hold what `other`, a shorter array, holds. No program reads this one yet.
    ///
    /// # Errors
    ///
    /// Among others if the other one is longer.
    pub(super) fn copy_from(&mut self, other: &Self) -> io::Result<()> {
        // All that was written or found is mapped there.
        let len = other.memory.len;
        self.map_to(len)?;
        // SAFETY: both mappings have at least so many slots, and are two. The other one is written
        // through `&mut` alone, so it does not change meanwhile.
        unsafe { self.memory.start.copy_from_nonoverlapping(other.memory.start, len) };
        Ok(())
    }

    /// Write the places of a ring of `table` from the slot `base` on.
    ///
    /// # Errors
    ///
    /// As [`MappedSlots::write`].
    pub(super) fn write_ring(&mut self, base: u32, table: u64, places: &[u16]) -> io::Result<()> {
        let slots = places.chunks(Slot::PLACES as usize).map(|some| {
            let mut all = [0; Slot::PLACES as usize];
            all[..some.len()].copy_from_slice(some);
            Slot::of_ring(all, table)
        });
        self.write_slots(base, slots)
    }

    fn write_slots(
        &mut self,
        base: u32,
        slots: impl ExactSizeIterator<Item = Slot>,
    ) -> io::Result<()> {
        let base = base as usize;
        self.map_to(base.saturating_add(slots.len()))?;
        for (index, slot) in slots.enumerate() {
            let Slot { address, port_be, seal } = slot;
            let words = [address.high_be, address.low_be, port_be, seal];
            // SAFETY: the slot lies within the mapping, by the line above, is four words long and
            // aligned to 32 bytes from the start of a page. Programs in the kernel read it meanwhile,
            // so it is written by atomic stores; that they are not one store is what the seal is for.
            unsafe {
                let slot = self.memory.start.add(base + index).cast::<u64>();
                for (at, word) in words.into_iter().enumerate() {
                    AtomicU64::from_ptr(slot.add(at).as_ptr()).store(word, Ordering::Relaxed);
                }
            }
        }
        Ok(())
    }

    /// Read a run; `None` if it does not lie within the array.
    pub(super) fn read(&mut self, run: SlotRun) -> Option<Vec<Slot>> {
        let (base, count) = (run.base as usize, run.count as usize);
        let end = base.checked_add(count)?;
        self.map_to(end).ok()?;
        // SAFETY: the slots lie within the mapping, by the line above. This process alone writes
        // them, by `&mut self`.
        Some((base..end).map(|at| unsafe { self.memory.start.add(at).read() }).collect())
    }
}

/// Slots that are mapped at a time, at least: 256 KiB.
const PIECE: usize = 8192;
