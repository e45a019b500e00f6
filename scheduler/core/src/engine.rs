//! How production decides. It must agree with [`crate::reference`] on every cluster.
//!
//! [`Indexed`] keeps for every class of equal pods what each node is worth and patches that where
//! nodes change; it is what runs. [`Scan`] goes over all nodes for every pod: the plugins of the
//! reference, once each, with its buffers kept from pod to pod; it decides what the index does not
//! hold. The choice among the best nodes is uniform.

mod class;
mod columns;
mod fixed;
mod indexed;
mod local;
mod overlay;
mod partition;
mod partitions;
mod plan;
mod probe;
mod refused;
mod scan;
mod scope;
mod signature;
#[cfg(test)]
mod tests;
mod tournament;

use std::sync::Arc;

use rand::Rng;

use crate::cache::Snapshot;
use crate::diagnosis::Diagnosis;
use crate::framework::Profile;
use crate::pod::PodInfo;
use crate::preemption::CandidateSearch;

pub(crate) use local::{Local, nominated_from};

pub use indexed::{IndexCounts, Indexed};
pub use scan::Scan;
pub use signature::{Asks, Signature};

/// Something that finds a node for a pod.
pub trait Engine: CandidateSearch {
    /// One of the best nodes (an index into the snapshot), each with the same chance, or why there
    /// is none.
    fn decide(
        &mut self,
        profile: &Profile,
        snapshot: &Snapshot,
        pod: &Arc<PodInfo>,
        random: &mut dyn Rng,
    ) -> Result<usize, Box<Diagnosis>>;
}
