//! How production decides. It must agree with [`crate::reference`] on every cluster.
//!
//! [`Indexed`] keeps for every class of equal pods what each node is worth and patches that where
//! nodes change; it is what runs. [`Scan`] goes over all nodes for every pod: the plugins of the
//! reference, once each, with its buffers kept from pod to pod; it decides what the index does not
//! hold. The choice among the best nodes is uniform, and made alike everywhere ([`Draw`]).

mod choice;
mod class;
mod columns;
mod fixed;
mod holders;
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
mod workers;

use std::sync::Arc;

use rand::Rng;

use crate::cache::Snapshot;
use crate::diagnosis::Diagnosis;
use crate::framework::Profile;
use crate::pod::{PodInfo, Template};
use crate::preemption::CandidateSearch;

pub(crate) use local::{Local, nominated_from};
pub(crate) use workers::{End, together};

pub use choice::Draw;
pub use indexed::{IndexCounts, Indexed};
pub use scan::Scan;
pub use signature::{Asks, Signature};

/// Pods to be decided about in a row.
pub struct Batch<'a> {
    /// Of all of them.
    pub profile: &'a Profile,
    /// The cluster before the first.
    pub snapshot: &'a Snapshot,
    /// In order.
    pub pods: &'a mut dyn Iterator<Item = &'a Arc<PodInfo>>,
    /// How many threads may help.
    pub helpers: usize,
}

/// Something that finds a node for a pod.
pub trait Engine: CandidateSearch {
    /// One of the best nodes (an index into the snapshot), as the draw has it, or why there is none.
    fn decide(
        &mut self,
        profile: &Profile,
        snapshot: &Snapshot,
        pod: &Arc<PodInfo>,
        draw: Draw,
    ) -> Result<usize, Box<Diagnosis>>;

    /// Decides about pods in their order as if each was assumed on its node before the next is looked
    /// at, and pushes the nodes to `out`; ends before the first pod that it does not decide about so,
    /// which may be any. A number is drawn for each pod that is decided about. The caller must then assume these pods on these nodes, in this order.
    fn decide_batch(&mut self, batch: Batch<'_>, random: &mut dyn Rng, out: &mut Vec<usize>) {
        let _ = (batch, random, out);
    }

    /// Makes ready for [`Engine::decide_streamed`], and pushes the templates that the pods are of: from
    /// here to [`Engine::end_stream`] pods of these alone may come, that have no affinity and ask of
    /// their nodes what their template says. `None` if pods of one of them are not decided about so.
    fn begin_stream(
        &mut self,
        profile: &Profile,
        snapshot: &Snapshot,
        pods: &mut dyn Iterator<Item = &Arc<PodInfo>>,
        templates: &mut Vec<Arc<Template>>,
    ) -> Option<()> {
        let _ = (profile, snapshot, pods, templates);
        None
    }

    /// As [`Engine::decide_batch`] for a single pod, of the template with this number. Nothing of the
    /// cluster is read meanwhile. After the first `None` nothing more may be asked.
    fn decide_streamed(&mut self, template: usize, random: &mut dyn Rng) -> Option<usize> {
        let _ = (template, random);
        None
    }

    /// All pods that were decided about are assumed next, in their order.
    fn end_stream(&mut self) {}
}
