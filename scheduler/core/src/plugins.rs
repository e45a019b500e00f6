//! Kubernetes' default plugins, one file each, as release 1.35 has them.
//!
//! Scores are computed in the integers and floats of Go: `i64` division truncates toward zero, and
//! where Go would wrap, these wrap.

mod default_preemption;
pub(crate) mod dynamic_resources;
mod gang_scheduling;
mod image_locality;
pub mod inter_pod_affinity;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources_balanced_allocation;
mod node_resources_fit;
mod node_unschedulable;
mod node_volume_limits;
mod normalize;
pub mod pod_topology_spread;
mod pod_volumes;
mod priority_sort;
mod resource_score;
mod scheduling_gates;
mod taint_toleration;
mod taints;
#[cfg(test)]
mod testing;
pub mod volume_binding;
mod volume_restrictions;
mod volume_zone;

pub use default_preemption::DefaultPreemption;
pub use dynamic_resources::DynamicResources;
pub use gang_scheduling::{Gang, GangScheduling};
pub use image_locality::ImageLocality;
pub(crate) use image_locality::normalized_image_name;
pub use inter_pod_affinity::InterPodAffinity;
pub use node_affinity::NodeAffinity;
pub use node_name::NodeName;
pub use node_ports::NodePorts;
pub use node_resources_balanced_allocation::NodeResourcesBalancedAllocation;
pub use node_resources_fit::{NodeResourcesFit, ScoringStrategy, ShapePoint};
pub use node_unschedulable::NodeUnschedulable;
pub use node_volume_limits::NodeVolumeLimits;
pub(crate) use normalize::scaled;
pub use pod_topology_spread::PodTopologySpread;
pub use priority_sort::{SortKey, sort_key};
pub use resource_score::ResourceWeight;
pub use scheduling_gates::SchedulingGates;
pub use taint_toleration::TaintToleration;
pub use volume_binding::VolumeBinding;
pub use volume_restrictions::VolumeRestrictions;
pub use volume_zone::VolumeZone;
