//! Pods taken from the front of the active queue while nothing else happens.
//!
//! A drawn pod is on loan: it goes back to where it was, or it is settled, as if it had been popped
//! and done. Until either is said of all of them nobody else may ask or change the queue.

use super::waiting::{Slot, Waiting};
use super::{ActiveKey, PluginSet, Queue, QueuedPod};

/// A pod on loan.
#[derive(Debug)]
pub(crate) struct Drawn {
    key: ActiveKey,
    slot: Slot,
    waiting: Waiting,
}

impl Drawn {
    /// As it waits.
    pub(crate) fn pod(&self) -> &QueuedPod {
        &self.waiting.pod
    }

    /// As it would be popped.
    pub(crate) fn into_popped(self) -> QueuedPod {
        let mut pod = self.waiting.pod;
        pod.attempts += 1;
        pod.refused_by = PluginSet::default();
        pod
    }
}

impl Queue {
    /// Lends up to `max` pods in their order, as long as they are `wanted`.
    pub(crate) fn draw(
        &mut self,
        max: usize,
        wanted: impl Fn(&QueuedPod) -> bool,
        out: &mut Vec<Drawn>,
    ) {
        for _ in 0..max {
            let Some(first) = self.active.first_entry() else { return };
            let slot = *first.get();
            if !self.waiting.at(slot).is_some_and(|waiting| wanted(&waiting.pod)) {
                return;
            }
            let key = first.remove_entry().0;
            out.extend(self.waiting.lend(slot).map(|waiting| Drawn { key, slot, waiting }));
        }
    }

    /// Takes back pods that nothing was decided about.
    pub(crate) fn take_back(&mut self, drawn: impl Iterator<Item = Drawn>) {
        for Drawn { key, slot, waiting } in drawn {
            self.waiting.put_back(slot, waiting);
            self.active.insert(key, slot);
        }
    }

    /// These have their nodes.
    pub(crate) fn settle(&mut self, drawn: &[Drawn]) {
        for drawn in drawn {
            self.waiting.settle(drawn.slot);
        }
    }
}
