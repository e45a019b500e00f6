//! What a pod asks of a node, as kube-scheduler and the kubelet compute it.
//!
//! Mirrors `PodRequests` of `k8s.io/component-helpers/resource` (the sidecar KEP 753, pod-level
//! resources KEP 2837, in-place resize KEP 1287). A quantity that does not parse counts as absent:
//! validation has refused it long before. Claims for dynamic resources are not counted.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use crate::quantity::{Format, Quantity};

#[cfg(test)]
mod tests;

/// The resource counted in thousandths of a core.
pub const CPU: &str = "cpu";
/// Memory, in bytes.
pub const MEMORY: &str = "memory";
/// Local ephemeral storage, in bytes.
pub const EPHEMERAL_STORAGE: &str = "ephemeral-storage";
/// How many pods a node takes.
pub const PODS: &str = "pods";

/// What scoring assumes of a container that requests no CPU (`DefaultMilliCPURequest`).
pub const DEFAULT_MILLI_CPU: i64 = 100;
/// What scoring assumes of a container that requests no memory (`DefaultMemoryRequest`).
pub const DEFAULT_MEMORY_BYTES: i64 = 200 << 20;

/// Exact amounts by resource name.
pub type Amounts = BTreeMap<String, Quantity>;

/// The integers a scheduler calculates with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// CPU in thousandths of a core, rounded up.
    pub milli_cpu: i64,
    /// Memory in bytes, rounded up.
    pub memory_bytes: i64,
    /// Ephemeral storage in bytes, rounded up.
    pub ephemeral_storage_bytes: i64,
    /// Everything else (hugepages, extended resources, `pods`) by name, in whole units.
    pub scalar: BTreeMap<String, i64>,
}

impl From<&Amounts> for Resources {
    fn from(amounts: &Amounts) -> Self {
        let mut resources = Self::default();
        for (name, quantity) in amounts {
            match name.as_str() {
                CPU => resources.milli_cpu = quantity.milli_value(),
                MEMORY => resources.memory_bytes = quantity.value(),
                EPHEMERAL_STORAGE => resources.ephemeral_storage_bytes = quantity.value(),
                _ => {
                    resources.scalar.insert(name.clone(), quantity.value());
                }
            }
        }
        resources
    }
}

impl Resources {
    /// The integers of a `resources.requests`, `capacity` or `allocatable` map.
    pub fn from_list(list: Option<&BTreeMap<String, Text>>) -> Self {
        Self::from(&amounts(list))
    }
}

/// The exact amounts of a resource list; entries that do not parse are left out.
pub fn amounts(list: Option<&BTreeMap<String, Text>>) -> Amounts {
    let entries = list.into_iter().flatten();
    entries
        .filter_map(|(name, text)| Some((name.clone(), Quantity::try_from(text).ok()?)))
        .collect()
}

/// What the pod requests, overhead included: filtering counts this.
pub fn pod_requests(pod: &Pod) -> Resources {
    Resources::from(&pod_request_amounts(pod, &Amounts::new()))
}

/// What the pod's containers request, with 100m CPU and 200Mi memory for each that requests none,
/// overhead included: some scores count this. What the pod requests as a whole does not count here,
/// though it does once the pod is on its node: kube-scheduler's `Fit` gives its scorer no
/// `enablePodLevelResources` (`pkg/scheduler/framework/plugins/noderesources/fit.go`, 1.35).
pub fn pod_requests_nonzero(pod: &Pod) -> Resources {
    let Some(spec) = &pod.spec else { return Resources::default() };
    let mut total = container_amounts(pod, spec, &missing_requests());
    add(&mut total, &amounts(spec.overhead.as_ref()));
    Resources::from(&total)
}

/// What a pod that requests something as a whole (`spec.resources`) counts on its node instead of
/// [`pod_requests_nonzero`]: a default stands in only for what no part of it requests. `None` for
/// other pods.
pub fn placed_pod_requests_nonzero(pod: &Pod) -> Option<Resources> {
    let whole = pod.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    if !whole.keys().any(|name| is_pod_level(name)) {
        return None;
    }
    let requested = pod_request_amounts(pod, &Amounts::new());
    let mut missing = missing_requests();
    missing.retain(|name, _| !requested.contains_key(name));
    Some(Resources::from(&pod_request_amounts(pod, &missing)))
}

fn missing_requests() -> Amounts {
    Amounts::from([
        (CPU.to_owned(), Quantity::from_milli(DEFAULT_MILLI_CPU)),
        (MEMORY.to_owned(), Quantity::from_units(DEFAULT_MEMORY_BYTES, Format::BinarySi)),
    ])
}

/// The exact requests of a pod; `missing` stands in for what a container does not request.
pub fn pod_request_amounts(pod: &Pod, missing: &Amounts) -> Amounts {
    let Some(spec) = &pod.spec else { return Amounts::new() };
    let mut total = container_amounts(pod, spec, missing);
    let pod_level = spec.resources.as_ref().and_then(|r| r.requests.as_ref());
    for (name, quantity) in amounts(pod_level) {
        if is_pod_level(&name) {
            total.insert(name, quantity);
        }
    }
    add(&mut total, &amounts(spec.overhead.as_ref()));
    total
}

fn container_amounts(pod: &Pod, spec: &PodSpec, missing: &Amounts) -> Amounts {
    aggregate(spec, missing, |container| container_requests(pod, container))
}

/// Containers run together, init containers one after another, beside the restartable ones that
/// started before them; the pod needs the most of any moment.
fn aggregate(
    spec: &PodSpec,
    missing: &Amounts,
    requests_of: impl Fn(&Container) -> Amounts,
) -> Amounts {
    let with_missing = |container: &Container| {
        let mut requests = requests_of(container);
        for (name, quantity) in missing {
            requests.entry(name.clone()).or_insert(*quantity);
        }
        requests
    };
    let mut running = Amounts::new();
    for container in &spec.containers {
        add(&mut running, &with_missing(container));
    }
    let (mut sidecars, mut initialising) = (Amounts::new(), Amounts::new());
    for container in spec.init_containers.iter().flatten() {
        let mut moment = with_missing(container);
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut running, &moment);
            add(&mut sidecars, &moment);
            raise(&mut initialising, &sidecars);
        } else {
            add(&mut moment, &sidecars);
            raise(&mut initialising, &moment);
        }
    }
    raise(&mut running, &initialising);
    running
}

/// While a container is being resized it is charged the most of: what the spec asks, what the
/// kubelet allocated, and what the runtime has; an infeasible resize does not count what the spec
/// asks. Init containers that end are not resized.
fn container_requests(pod: &Pod, container: &Container) -> Amounts {
    let asked = amounts(container.resources.as_ref().and_then(|r| r.requests.as_ref()));
    let status = status_of(pod, container);
    let Some(actuated) = status.and_then(|status| status.resources.as_ref()) else { return asked };
    let mut most = amounts(actuated.requests.as_ref());
    raise(&mut most, &amounts(status.and_then(|status| status.allocated_resources.as_ref())));
    if !is_resize_infeasible(pod) {
        raise(&mut most, &asked);
    }
    most
}

fn status_of<'a>(pod: &'a Pod, container: &Container) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let is_sidecar = container.restart_policy.as_deref() == Some("Always");
    let sidecars = status.init_container_statuses.iter().flatten().filter(|_| is_sidecar);
    let mut all = status.container_statuses.iter().flatten().chain(sidecars);
    all.find(|status| status.name == container.name)
}

fn is_resize_infeasible(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let pending = conditions.into_iter().find(|c| c.type_ == "PodResizePending");
    pending.is_some_and(|c| c.reason.as_deref() == Some("Infeasible"))
}

/// Pod-level resources exist for CPU, memory and huge pages.
fn is_pod_level(name: &str) -> bool {
    name == CPU || name == MEMORY || name.starts_with("hugepages-")
}

fn add(total: &mut Amounts, more: &Amounts) {
    for (name, quantity) in more {
        *total.entry(name.clone()).or_default() += *quantity;
    }
}

/// Takes for each resource the larger of the two.
fn raise(total: &mut Amounts, other: &Amounts) {
    for (name, quantity) in other {
        let entry = total.entry(name.clone()).or_insert(*quantity);
        *entry = (*entry).max(*quantity);
    }
}
