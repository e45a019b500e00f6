//! What a node would have allocated of each scored resource with the pod on it: shared by
//! NodeResourcesFit and NodeResourcesBalancedAllocation (`resourceAllocationScorer`).

use pintle_api::resources::{CPU, EPHEMERAL_STORAGE, MEMORY, Resources};

use crate::cache::NodeInfo;
use crate::pod::PodInfo;

/// A resource to score and how much it counts, 1..=100.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceWeight {
    /// The resource's name.
    pub name: String,
    /// How much it counts.
    pub weight: i64,
}

impl ResourceWeight {
    /// `cpu` and `memory`, each with weight 1.
    pub fn cpu_and_memory() -> Vec<Self> {
        [CPU, MEMORY].map(|name| Self { name: name.to_owned(), weight: 1 }).into()
    }
}

/// One resource on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allocation {
    /// What the pods on the node and this one ask for.
    pub(super) requested: i64,
    /// What the node has; not zero.
    pub(super) allocatable: i64,
    /// How much the resource counts.
    pub(super) weight: i64,
}

/// Which requests are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    /// What is asked for.
    Real,
    /// With a minimum of CPU and memory for each container.
    Nonzero,
}

impl Counted {
    fn of_pod(self, pod: &PodInfo) -> &Resources {
        match self {
            Self::Real => &pod.requests,
            Self::Nonzero => &pod.requests_nonzero,
        }
    }

    fn of_node(self, node: &NodeInfo) -> &Resources {
        match self {
            Self::Real => node.requested(),
            Self::Nonzero => node.requested_nonzero(),
        }
    }
}

/// What one pod asks of the scored resources.
pub(super) struct PodAllocation<'a> {
    counted: Counted,
    resources: Vec<(&'a ResourceWeight, i64)>,
}

impl<'a> PodAllocation<'a> {
    pub(super) fn new(resources: &'a [ResourceWeight], counted: Counted, pod: &PodInfo) -> Self {
        let requests = counted.of_pod(pod);
        let with_request =
            |resource: &'a ResourceWeight| (resource, amount(requests, &resource.name));
        Self { counted, resources: resources.iter().map(with_request).collect() }
    }

    /// Whether the pod asks for none of the resources.
    pub(super) fn is_nothing(&self) -> bool {
        self.resources.iter().all(|(_, request)| *request == 0)
    }

    /// Each resource that the node has; an extended resource only if the pod asks for it.
    pub(super) fn on(&self, node: &NodeInfo) -> impl Iterator<Item = Allocation> {
        self.resources.iter().filter_map(move |(resource, request)| {
            if *request == 0 && is_scalar(&resource.name) {
                return None;
            }
            let allocatable = amount(node.allocatable(), &resource.name);
            let requested = amount(self.counted.of_node(node), &resource.name);
            (allocatable != 0).then(|| Allocation {
                requested: requested.wrapping_add(*request),
                allocatable,
                weight: resource.weight,
            })
        })
    }
}

fn amount(resources: &Resources, name: &str) -> i64 {
    match name {
        CPU => resources.milli_cpu,
        MEMORY => resources.memory_bytes,
        EPHEMERAL_STORAGE => resources.ephemeral_storage_bytes,
        name => resources.scalar.get(name).copied().unwrap_or(0),
    }
}

fn is_scalar(name: &str) -> bool {
    !matches!(name, CPU | MEMORY | EPHEMERAL_STORAGE)
}
