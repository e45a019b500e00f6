//! The waiting pods themselves, by identity and by slot.
//!
//! Pods that were queued one after the other lie side by side, and a pop by slot hashes and compares
//! nothing but to take the identity out of the table.

use rustc_hash::FxHashMap;

use super::{Place, QueuedPod};
use crate::pod::PodUid;

/// A waiting pod and where it waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) pod: QueuedPod,
    pub(super) place: Place,
}

/// Where a waiting pod lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(u32);

/// All waiting pods.
#[derive(Debug, Default)]
pub(super) struct WaitingPods {
    by_uid: FxHashMap<PodUid, Slot>,
    slots: Vec<Option<Waiting>>,
    free: Vec<Slot>,
}

impl WaitingPods {
    pub(super) fn contains(&self, uid: &PodUid) -> bool {
        self.by_uid.contains_key(uid)
    }

    pub(super) fn get(&self, uid: &PodUid) -> Option<&Waiting> {
        self.slots[self.by_uid.get(uid)?.0 as usize].as_ref()
    }

    /// The pod must not be there yet.
    pub(super) fn insert(&mut self, waiting: Waiting) -> Slot {
        let uid = waiting.pod.info.uid.clone();
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot.0 as usize] = Some(waiting);
                slot
            }
            None => {
                let slot = u32::try_from(self.slots.len()).expect("fewer than 2^32 pods wait");
                self.slots.push(Some(waiting));
                Slot(slot)
            }
        };
        self.by_uid.insert(uid, slot);
        slot
    }

    pub(super) fn remove(&mut self, uid: &PodUid) -> Option<Waiting> {
        let slot = self.by_uid.remove(uid)?;
        self.free(slot)
    }

    pub(super) fn remove_at(&mut self, slot: Slot) -> Option<Waiting> {
        let waiting = self.free(slot)?;
        self.by_uid.remove(&waiting.pod.info.uid);
        Some(waiting)
    }

    /// The pod in this slot.
    pub(super) fn at(&self, slot: Slot) -> Option<&Waiting> {
        self.slots[slot.0 as usize].as_ref()
    }

    /// Lends the pod out, to [`WaitingPods::put_back`] it or to [`WaitingPods::settle`] it.
    pub(super) fn lend(&mut self, slot: Slot) -> Option<Waiting> {
        self.slots[slot.0 as usize].take()
    }

    /// Takes back a pod that was lent out.
    pub(super) fn put_back(&mut self, slot: Slot, waiting: Waiting) {
        self.slots[slot.0 as usize] = Some(waiting);
    }

    /// The pod that was lent out does not come back.
    pub(super) fn settle(&mut self, slot: Slot, uid: &PodUid) {
        self.by_uid.remove(uid);
        self.vacate(slot);
    }

    fn free(&mut self, slot: Slot) -> Option<Waiting> {
        let waiting = self.slots[slot.0 as usize].take()?;
        self.vacate(slot);
        Some(waiting)
    }

    fn vacate(&mut self, slot: Slot) {
        self.free.push(slot);
        if self.by_uid.is_empty() {
            // The next pods lie side by side again, whatever the order in which these left.
            self.slots.clear();
            self.free.clear();
        }
    }
}
