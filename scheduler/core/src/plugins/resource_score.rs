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
    resources: Vec<Wanted<'a>>,
}

struct Wanted<'a> {
    kind: Kind<'a>,
    request: i64,
    weight: i64,
}

/// A resource's name, looked up once a pod rather than once a node.
#[derive(Clone, Copy, Debug)]
enum Kind<'a> {
    Cpu,
    Memory,
    EphemeralStorage,
    Scalar(&'a str),
}

impl<'a> Kind<'a> {
    fn of(name: &'a str) -> Self {
        match name {
            CPU => Self::Cpu,
            MEMORY => Self::Memory,
            EPHEMERAL_STORAGE => Self::EphemeralStorage,
            name => Self::Scalar(name),
        }
    }

    fn amount(self, resources: &Resources) -> i64 {
        match self {
            Self::Cpu => resources.milli_cpu,
            Self::Memory => resources.memory_bytes,
            Self::EphemeralStorage => resources.ephemeral_storage_bytes,
            Self::Scalar(name) => resources.scalar.get(name).copied().unwrap_or(0),
        }
    }
}

impl<'a> PodAllocation<'a> {
    pub(super) fn new(resources: &'a [ResourceWeight], counted: Counted, pod: &PodInfo) -> Self {
        let wanted = |resource: &'a ResourceWeight| {
            let kind = Kind::of(&resource.name);
            let request = kind.amount(counted.of_pod(pod));
            Wanted { kind, request, weight: resource.weight }
        };
        Self { counted, resources: resources.iter().map(wanted).collect() }
    }

    /// Whether the pod asks for none of the resources.
    pub(super) fn is_nothing(&self) -> bool {
        self.resources.iter().all(|wanted| wanted.request == 0)
    }

    /// Each resource that the node has; an extended resource only if the pod asks for it.
    pub(super) fn on(&self, node: &NodeInfo) -> impl Iterator<Item = Allocation> {
        let (has, used) = (node.allocatable(), self.counted.of_node(node));
        self.resources.iter().filter_map(move |&Wanted { kind, request, weight }| {
            if request == 0 && matches!(kind, Kind::Scalar(_)) {
                return None;
            }
            let allocatable = kind.amount(has);
            let requested = kind.amount(used).wrapping_add(request);
            (allocatable != 0).then_some(Allocation { requested, allocatable, weight })
        })
    }
}
