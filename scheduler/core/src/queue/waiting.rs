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
    /// Also of pods that left by their slot and were not heard of since; another may be there now.
    by_uid: FxHashMap<PodUid, Slot>,
    slots: Vec<Option<Waiting>>,
    free: Vec<Slot>,
    /// How many wait or are lent out.
    count: usize,
}

impl WaitingPods {
    pub(super) fn contains(&self, uid: &PodUid) -> bool {
        self.get(uid).is_some()
    }

    pub(super) fn get(&self, uid: &PodUid) -> Option<&Waiting> {
        let waiting = self.at(*self.by_uid.get(uid)?)?;
        (waiting.pod.info.uid == *uid).then_some(waiting)
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
        self.count += 1;
        slot
    }

    pub(super) fn remove(&mut self, uid: &PodUid) -> Option<Waiting> {
        let slot = self.by_uid.remove(uid)?;
        if self.at(slot)?.pod.info.uid == *uid { self.remove_at(slot) } else { None }
    }

    /// Its identity stays in the table until the pod is heard of again, which is soon: it is seen bound
    /// or gone, or comes back.
    pub(super) fn remove_at(&mut self, slot: Slot) -> Option<Waiting> {
        let waiting = self.slots[slot.0 as usize].take()?;
        self.vacate(slot);
        Some(waiting)
    }

    /// The pod in this slot.
    pub(super) fn at(&self, slot: Slot) -> Option<&Waiting> {
        self.slots.get(slot.0 as usize)?.as_ref()
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
    pub(super) fn settle(&mut self, slot: Slot) {
        self.vacate(slot);
    }

    fn vacate(&mut self, slot: Slot) {
        self.free.push(slot);
        self.count -= 1;
        if self.count == 0 {
            // The next pods lie side by side again, whatever the order in which these left.
            self.slots.clear();
            self.free.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::pod::PodInfo;
    use crate::time::Time;

    fn waiting(name: &str) -> Waiting {
        let pod = json!({"metadata": {"name": name, "uid": name}});
        let info = Arc::new(PodInfo::new(Arc::new(serde_json::from_value(pod).unwrap())));
        let pod = QueuedPod::new(info, Time::default(), 0);
        Waiting { pod, place: Place::Active }
    }

    #[test]
    fn who_left_by_a_slot_is_not_found_and_does_not_take_another_along() {
        let mut pods = WaitingPods::default();
        let (a, b) = (waiting("a"), waiting("b"));
        let (a_uid, b_uid) = (a.pod.info.uid.clone(), b.pod.info.uid.clone());
        let slot = pods.insert(a);
        pods.insert(waiting("c"));
        assert!(pods.remove_at(slot).is_some());
        assert!(!pods.contains(&a_uid));
        assert_eq!(pods.insert(b), slot);
        assert!(!pods.contains(&a_uid) && pods.contains(&b_uid));
        assert!(pods.remove(&a_uid).is_none());
        assert!(pods.contains(&b_uid));
        assert!(pods.remove(&b_uid).is_some());
        assert!(!pods.by_uid.contains_key(&a_uid), "it was heard of again");
    }
}
