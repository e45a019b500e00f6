//! The backend array, mapped into this process's memory: writing a backend is four stores, where a
//! system call each would make ten thousand Services take most of a second.

use std::io;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use aya::maps::MapData;
use pintle_ebpf_common::{Endpoint, Slot, SlotRun};

use super::mapping::Mapping;

/// The array, of which a piece is mapped at a time: the kernel counts all that is mapped as this process's
/// memory too.
pub(super) struct MappedSlots {
    memory: Mapping<Slot>,
    /// Slots of the array.
    len: usize,
    /// The slots from this on were neither written nor read.
    used: usize,
}

// SAFETY: the memory belongs to the mapping, not to a thread, and is written through `&mut self`
// alone.
unsafe impl Send for MappedSlots {}

impl MappedSlots {
    /// Map `map`, an array of `len` [`Slot`]s made with `BPF_F_MMAPABLE`.
    pub(super) fn new(map: MapData, len: u32) -> io::Result<Self> {
        let len = len as usize;
        Ok(Self { memory: Mapping::new(map, 0..PIECE.min(len))?, len, used: 0 })
    }

    /// Have these slots mapped. Returns where the first of them stands.
    fn map(&mut self, slots: Range<usize>) -> io::Result<NonNull<Slot>> {
        if slots.end > self.len || slots.is_empty() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mapped = &self.memory.records;
        if slots.start < mapped.start || slots.end > mapped.end {
            let (first, end) = (slots.start / PIECE * PIECE, slots.end.next_multiple_of(PIECE));
            self.memory.set_records(first..end.min(self.len))?;
        }
        self.used = self.used.max(slots.end);
        // SAFETY: the slot is one of those that are mapped, by the lines above.
        Ok(unsafe { self.memory.start.add(slots.start - self.memory.records.start) })
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
    pub(super) fn copy_from(&mut self, other: &mut Self) -> io::Result<()> {
        for first in (0..other.used).step_by(PIECE) {
            let some = first..other.used.min(first + PIECE);
            let (from, to) = (other.map(some.clone())?, self.map(some.clone())?);
            // SAFETY: both mappings have these slots, and are two. The other one is written through
            // `&mut` alone, so it does not change meanwhile.
            unsafe { to.copy_from_nonoverlapping(from, some.len()) };
        }
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
        if slots.len() == 0 {
            return Ok(());
        }
        let base = base as usize;
        let first = self.map(base..base.saturating_add(slots.len()))?;
        for (index, slot) in slots.enumerate() {
            let Slot { address, port_be, seal } = slot;
            let words = [address.high_be, address.low_be, port_be, seal];
            // SAFETY: the slot lies within the mapping, by the line above, is four words long and
            // aligned to 32 bytes from the start of a page. Programs in the kernel read it meanwhile,
            // so it is written by atomic stores; that they are not one store is what the seal is for.
            unsafe {
                let slot = first.add(index).cast::<u64>();
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
        let end = base.checked_add(count).filter(|end| *end <= self.len)?;
        if count == 0 {
            return Some(Vec::new());
        }
        let first = self.map(base..end).ok()?;
        // SAFETY: the slots lie within the mapping, by the line above. This process alone writes
        // them, by `&mut self`.
        Some((0..count).map(|at| unsafe { first.add(at).read() }).collect())
    }
}

/// Slots that are mapped at a time, if a run has no more: 64 KiB, whole pages.
const PIECE: usize = 2048;
