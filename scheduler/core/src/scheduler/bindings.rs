//! Assumed pods whose binding is being written.
//!
//! They begin and end in about the same order, often thousands of them at once. What is kept of each lies
//! beside that of the one before; the table over it holds identities and numbers alone, so that it
//! stays in the processor's caches.

use rustc_hash::FxHashMap;

use crate::framework::Step;
use crate::pod::PodUid;
use crate::queue::QueuedPod;

/// An assumed pod and what is to be written before its binding.
#[derive(Debug)]
pub(super) struct Binding {
    pub(super) pod: QueuedPod,
    pub(super) steps: Vec<Step>,
}

/// All of them, by identity.
#[derive(Debug, Default)]
pub(super) struct Bindings {
    by_uid: FxHashMap<PodUid, u32>,
    slots: Vec<Option<Binding>>,
    free: Vec<u32>,
}

impl Bindings {
    pub(super) fn len(&self) -> usize {
        self.by_uid.len()
    }

    pub(super) fn get(&self, uid: &PodUid) -> Option<&Binding> {
        let slot = *self.by_uid.get(uid)?;
        self.slots[slot as usize].as_ref()
    }

    pub(super) fn get_mut(&mut self, uid: &PodUid) -> Option<&mut Binding> {
        let slot = *self.by_uid.get(uid)?;
        self.slots[slot as usize].as_mut()
    }

    /// In place of the one that the pod had before, if any.
    pub(super) fn insert(&mut self, binding: Binding) {
        let slot = self.free.pop().unwrap_or_else(|| {
            let slot = u32::try_from(self.slots.len()).expect("fewer than 2^32 pods are assumed");
            self.slots.push(None);
            slot
        });
        let before = self.by_uid.insert(binding.pod.info.uid.clone(), slot);
        self.slots[slot as usize] = Some(binding);
        if let Some(before) = before {
            self.vacate(before);
        }
    }

    pub(super) fn remove(&mut self, uid: &PodUid) -> Option<Binding> {
        let slot = self.by_uid.remove(uid)?;
        self.vacate(slot)
    }

    fn vacate(&mut self, slot: u32) -> Option<Binding> {
        let binding = self.slots[slot as usize].take();
        self.free.push(slot);
        if self.by_uid.is_empty() {
            // The next lie side by side again, whatever the order in which these ended.
            self.slots.clear();
            self.free.clear();
        }
        binding
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::pod::PodInfo;
    use crate::time::Time;

    fn binding(name: &str) -> Binding {
        let pod = json!({"metadata": {"name": name, "uid": name}});
        let info = PodInfo::new(Arc::new(serde_json::from_value(pod).unwrap()));
        Binding { pod: QueuedPod::new(Arc::new(info), Time::default(), 0), steps: Vec::new() }
    }

    #[test]
    fn each_pod_has_one_and_its_own() {
        let mut bindings = Bindings::default();
        for name in ["a", "b", "a", "c"] {
            bindings.insert(binding(name));
        }
        assert_eq!(bindings.len(), 3);
        let uid = |name: &str| binding(name).pod.info.uid.clone();
        for name in ["b", "a", "c"] {
            assert_eq!(bindings.get(&uid(name)).unwrap().pod.info.uid, uid(name));
            assert_eq!(bindings.remove(&uid(name)).unwrap().pod.info.uid, uid(name));
            assert!(bindings.remove(&uid(name)).is_none());
        }
        assert!(bindings.slots.is_empty(), "the next lie side by side");
    }
}
