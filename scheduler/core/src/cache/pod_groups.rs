//! The pods of each pod group of a Workload.
//!
//! Mirrors `pkg/scheduler/backend/workloadmanager`. A pod names its group by `spec.workloadRef`: the
//! Workload, one of its pod groups, and if there are several copies of the group, which of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::pod::{PodInfo, PodUid};

/// What tells groups apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodGroupKey {
    /// The namespace of the Workload and its pods.
    pub namespace: Box<str>,
    /// The name of the Workload.
    pub workload: Box<str>,
    /// The name of the pod group in the Workload.
    pub pod_group: Box<str>,
    /// Which copy of the pod group.
    pub replica: Option<Box<str>>,
}

impl PodGroupKey {
    /// The group of the pod; `None` if it is in none.
    pub fn of(pod: &PodInfo) -> Option<Self> {
        let reference = pod.pod.spec.as_ref()?.workload_ref.as_ref()?;
        Some(Self {
            namespace: pod.namespace().into(),
            workload: reference.name.as_str().into(),
            pod_group: reference.pod_group.as_str().into(),
            replica: reference.pod_group_replica_key.as_deref().map(Into::into),
        })
    }
}

/// The pods of each group, bound or not, that have not ended.
#[derive(Clone, Debug, Default)]
pub struct PodGroups(BTreeMap<PodGroupKey, BTreeSet<PodUid>>);

impl PodGroups {
    /// The pods of the group.
    pub fn members(&self, key: &PodGroupKey) -> impl Iterator<Item = &PodUid> {
        self.0.get(key).into_iter().flatten()
    }

    /// How many pods the group has.
    pub fn count(&self, key: &PodGroupKey) -> usize {
        self.0.get(key).map_or(0, BTreeSet::len)
    }

    /// Returns whether the pod is new to its group.
    pub(super) fn join(&mut self, key: PodGroupKey, uid: PodUid) -> bool {
        self.0.entry(key).or_default().insert(uid)
    }

    pub(super) fn leave(&mut self, key: &PodGroupKey, uid: &PodUid) {
        let Some(members) = self.0.get_mut(key) else { return };
        members.remove(uid);
        if members.is_empty() {
            self.0.remove(key);
        }
    }
}
