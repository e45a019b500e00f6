//! What may still be done for a pod that no node will have.

use std::sync::Arc;

use super::{Profile, Reason, Step};
use crate::cache::Snapshot;
use crate::diagnosis::Diagnosis;
use crate::pod::PodInfo;

/// What PostFilter plugins look at.
#[derive(Clone, Copy)]
pub struct PostFilterContext<'a> {
    /// The profile that the pod is scheduled with.
    pub profile: &'a Profile,
    /// The cluster.
    pub snapshot: &'a Snapshot,
    /// The pod.
    pub pod: &'a Arc<PodInfo>,
    /// Why no node will have it.
    pub diagnosis: &'a Diagnosis,
    /// A random number, for where to start looking.
    pub random: u64,
}

/// What PostFilter answers.
#[derive(Clone, Debug)]
pub enum PostFilter {
    /// Nothing helps, and this is said of it (nothing if empty). The next plugin is asked.
    Unhelped(Reason),
    /// Evict pods; the pod then waits for their place.
    Preempt(Preemption),
    /// Carry out these steps; what they change will wake the pod. The message says so.
    Write(Reason, Vec<Step>),
}

/// Pods to evict so that another fits.
#[derive(Clone, Debug)]
pub struct Preemption {
    /// Where the preemptor will fit then: its `status.nominatedNodeName`.
    pub node: Arc<str>,
    /// Who has to go, the most important first.
    pub victims: Vec<Arc<PodInfo>>,
    /// How many of them a PodDisruptionBudget would keep.
    pub pdb_violations: usize,
    /// Waiting pods nominated for the node that are less important: they lose their nomination.
    pub outranked: Vec<Arc<PodInfo>>,
}
