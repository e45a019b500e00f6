//! What counting reads of a pod, once for all pods that are alike in it.
//!
//! Of the pods on nodes only this is kept, so that a pod's memory is free when the cache lets it go,
//! and a pod that changed in nothing that is counted is not counted anew.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, Weak};

use rustc_hash::{FxHashMap, FxHasher};

use crate::pod::{PodInfo, WeightedTerm};

/// The looks of the pods on nodes.
#[derive(Debug, Default)]
pub(super) struct Looks {
    all: Vec<Look>,
    free: Vec<usize>,
    by_hash: FxHashMap<u64, Vec<usize>>,
}

#[derive(Debug)]
struct Look {
    /// Any pod that looks so.
    pod: Arc<PodInfo>,
    hash: u64,
    /// How many pods on nodes look so.
    uses: u32,
}

/// A pod on a node, as it was last seen.
#[derive(Debug)]
pub(super) struct Seen {
    /// Tells the pod from others: its memory is not used again as long as this is held.
    pod: Weak<PodInfo>,
    pub(super) look: usize,
}

impl Seen {
    /// Whether it is this very value.
    pub(super) fn is(&self, pod: &Arc<PodInfo>) -> bool {
        std::ptr::eq(self.pod.as_ptr(), Arc::as_ptr(pod))
    }
}

impl Looks {
    /// A pod comes to a node.
    pub(super) fn come(&mut self, pod: &Arc<PodInfo>) -> Seen {
        let hash = hash(pod);
        let all = self.by_hash.entry(hash).or_default();
        let known = all.iter().copied().find(|look| is_alike(&self.all[*look].pod, pod));
        let look = known.unwrap_or_else(|| {
            let look = Look { pod: Arc::clone(pod), hash, uses: 0 };
            let at = match self.free.pop() {
                Some(at) => {
                    self.all[at] = look;
                    at
                }
                None => {
                    self.all.push(look);
                    self.all.len() - 1
                }
            };
            all.push(at);
            at
        });
        self.all[look].uses += 1;
        Seen { pod: Arc::downgrade(pod), look }
    }

    /// A pod that looks so goes.
    pub(super) fn go(&mut self, look: usize) {
        self.all[look].uses -= 1;
        if self.all[look].uses > 0 {
            return;
        }
        let hash = self.all[look].hash;
        if let Some(all) = self.by_hash.get_mut(&hash) {
            all.retain(|other| *other != look);
            if all.is_empty() {
                self.by_hash.remove(&hash);
            }
        }
        self.free.push(look);
    }

    /// Any pod that looks so.
    pub(super) fn pod(&self, look: usize) -> &Arc<PodInfo> {
        &self.all[look].pod
    }

    /// Of each look whether it is so; of those that no pod has, anything.
    pub(super) fn which(&self, is_so: impl Fn(&PodInfo) -> bool) -> Vec<bool> {
        self.all.iter().map(|look| look.uses > 0 && is_so(&look.pod)).collect()
    }
}

fn hash(pod: &PodInfo) -> u64 {
    let mut hasher = FxHasher::default();
    pod.namespace().hash(&mut hasher);
    for label in pod.pod.metadata.labels.iter().flatten() {
        label.hash(&mut hasher);
    }
    let terms = pod.affinity();
    (terms.required.len(), terms.preferred.len()).hash(&mut hasher);
    (terms.required_anti.len(), terms.preferred_anti.len()).hash(&mut hasher);
    pod.is_terminating().hash(&mut hasher);
    hasher.finish()
}

fn is_alike(a: &PodInfo, b: &PodInfo) -> bool {
    let weighted = |a: &[WeightedTerm], b: &[WeightedTerm]| {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.weight == b.weight && a.term == b.term)
    };
    let (terms, others) = (a.affinity(), b.affinity());
    a.is_terminating() == b.is_terminating()
        && a.namespace() == b.namespace()
        && a.pod.metadata.labels == b.pod.metadata.labels
        && terms.required == others.required
        && terms.required_anti == others.required_anti
        && weighted(&terms.preferred, &others.preferred)
        && weighted(&terms.preferred_anti, &others.preferred_anti)
}
