//! How production decides. It must agree with [`crate::reference`] on every cluster.
//!
//! [`Scan`] goes over all nodes for every pod: the plugins of the reference, once each, with its
//! buffers kept from pod to pod. The choice among the best nodes is uniform.

mod scan;
#[cfg(test)]
mod tests;

use rand::Rng;

use crate::cache::Snapshot;
use crate::diagnosis::Diagnosis;
use crate::framework::Profile;
use crate::pod::PodInfo;

pub use scan::Scan;

/// Something that finds a node for a pod.
pub trait Engine {
    /// One of the best nodes (an index into the snapshot), each with the same chance, or why there
    /// is none.
    fn decide(
        &mut self,
        profile: &Profile,
        snapshot: &Snapshot,
        pod: &PodInfo,
        random: &mut dyn Rng,
    ) -> Result<usize, Box<Diagnosis>>;
}
