//! A pod's quality of service class, as `GetPodQOS` of pkg/apis/core/v1/helper/qos computes it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use pintle_api::quantity::Quantity;

/// `Guaranteed`, `Burstable` or `BestEffort`.
#[must_use]
pub fn qos_class(spec: &PodSpec) -> &'static str {
    let containers = || spec.init_containers.iter().flatten().chain(&spec.containers);
    let any = containers().any(|it| amounts(it, false).chain(amounts(it, true)).next().is_some());
    if !any {
        return "BestEffort";
    }
    let guaranteed = containers().all(|container| {
        let limits: BTreeMap<_, _> = amounts(container, true).collect();
        limits.len() == COUNTED.len()
            && amounts(container, false).all(|(name, value)| limits.get(name) == Some(&value))
    });
    if guaranteed { "Guaranteed" } else { "Burstable" }
}

/// The non-zero requests (or limits) of CPU and memory.
fn amounts(container: &Container, limits: bool) -> impl Iterator<Item = (&'static str, Quantity)> {
    let resources = container.resources.as_ref();
    let map: Option<&BTreeMap<String, Text>> =
        resources.and_then(|it| if limits { it.limits.as_ref() } else { it.requests.as_ref() });
    COUNTED.into_iter().filter_map(move |name| {
        let value: Quantity = map?.get(name)?.0.parse().ok()?;
        (!value.is_zero()).then_some((name, value))
    })
}

const COUNTED: [&str; 2] = ["cpu", "memory"];
