//! Which plugins look at one node at a time, and when the others have nothing to say of a pod.
//!
//! The index holds verdicts and scores per node. That is exact for plugins whose answer about a node
//! depends on the pod's [`super::Signature`] and on that node alone. Every other plugin must be
//! *idle* for the pod: it would answer Skip at both PreFilter and PreScore. A pod for which some
//! plugin is not idle is decided by the scan. Every plugin is named here; a new one is a compile
//! error until somebody thought about it.

use crate::cache::Snapshot;
use crate::framework::{Plugin, PluginName, PreFilter, PreScore};
use crate::plugins::dynamic_resources;
use crate::pod::PodInfo;

/// What a plugin's answer about a node depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// It neither filters nor scores.
    Nothing,
    /// The fixed part of the signature and the node's object (and, for ImageLocality, which images
    /// the other nodes hold).
    Fixed,
    /// The signature, the node's object and the pods on it.
    Moving,
    /// More than that, or other objects.
    Cluster,
}

/// What the plugin's answer about a node depends on.
pub(super) fn of(plugin: PluginName) -> Scope {
    use PluginName as P;
    match plugin {
        P::SchedulingGates
        | P::PrioritySort
        | P::DefaultPreemption
        | P::DefaultBinder
        | P::GangScheduling => Scope::Nothing,
        P::NodeUnschedulable
        | P::NodeName
        | P::TaintToleration
        | P::NodeAffinity
        | P::ImageLocality => Scope::Fixed,
        P::NodePorts | P::NodeResourcesFit | P::NodeResourcesBalancedAllocation => Scope::Moving,
        P::VolumeRestrictions
        | P::NodeVolumeLimits
        | P::VolumeBinding
        | P::VolumeZone
        | P::PodTopologySpread
        | P::InterPodAffinity
        | P::DynamicResources
        | P::NodeDeclaredFeatures => Scope::Cluster,
    }
}

/// How the scores of a plugin that looks at one node at a time become 0..=100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Normalization {
    /// They are that already.
    None,
    /// By the highest of the feasible nodes; `reverse` makes the highest the worst.
    ByHighest { reverse: bool },
}

/// How the plugin normalises; only asked of [`Scope::Fixed`] and [`Scope::Moving`].
pub(super) fn normalization(plugin: PluginName) -> Normalization {
    match plugin {
        PluginName::TaintToleration => Normalization::ByHighest { reverse: true },
        PluginName::NodeAffinity => Normalization::ByHighest { reverse: false },
        _ => Normalization::None,
    }
}

/// Whether a plugin of [`Scope::Cluster`] says nothing of the pod, neither refusing nor scoring.
pub(super) fn is_idle(plugin: &dyn Plugin, pod: &PodInfo, snapshot: &Snapshot) -> bool {
    use PluginName as P;
    let asks = pod.signature.asks;
    match plugin.name() {
        P::VolumeRestrictions | P::NodeVolumeLimits | P::VolumeBinding | P::VolumeZone => {
            !asks.volumes
        }
        P::DynamicResources => !dynamic_resources::asks(pod, snapshot.objects()),
        // Else the counters are asked, which also know whether there is nothing to say.
        P::PodTopologySpread => !asks.spread && has_no_owners(snapshot),
        P::InterPodAffinity => !asks.pod_affinity && snapshot.pods_with_affinity() == 0,
        P::NodeDeclaredFeatures => skips(plugin, pod, snapshot),
        _ => false,
    }
}

/// Whether no pod can have constraints by default: those are for pods with a Service or a controller.
fn has_no_owners(snapshot: &Snapshot) -> bool {
    let objects = snapshot.objects();
    objects.services.is_empty()
        && objects.replication_controllers.is_empty()
        && objects.replica_sets.is_empty()
        && objects.stateful_sets.is_empty()
}

/// Whether the plugin answers Skip at both points. Nothing is scored without a node.
fn skips(plugin: &dyn Plugin, pod: &PodInfo, snapshot: &Snapshot) -> bool {
    let one: &[usize] = if snapshot.nodes().is_empty() { &[] } else { &[0] };
    matches!(plugin.pre_filter(pod, snapshot), PreFilter::Skip)
        && matches!(plugin.pre_score(pod, snapshot, one), PreScore::Skip)
}
