//! What stands around a scheduler where pods claim devices: a driver that offers devices on nodes, and
//! allocations made beforehand.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::resource::v1::ResourceClaim;
use pintle_scheduler_core::PodInfo;
use pintle_scheduler_core::cache::Snapshot;
use pintle_scheduler_core::framework::{Plugin as _, Step};
use pintle_scheduler_core::plugins::DynamicResources;
use serde_json::{Value, json};

use super::config::{CreateResourceDriver, Workload};

/// The ResourceSlices of the driver, one for each of these nodes that it is on, with devices as
/// scheduler_perf's own driver offers them.
pub(crate) fn slices<'a>(
    driver: &CreateResourceDriver,
    workload: &Workload,
    nodes: impl Iterator<Item = &'a str>,
) -> anyhow::Result<Vec<Value>> {
    let count = driver.max_claims_per_node.of(workload)?;
    let devices: Vec<Value> = (0..count).map(device).collect();
    let slice = |node: &str| {
        json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice",
            "metadata": {"name": node},
            "spec": {"driver": driver.driver_name, "nodeName": node, "devices": devices,
                "pool": {"name": node, "generation": 0, "resourceSliceCount": 1}}})
    };
    Ok(nodes.filter(|node| matches(&driver.nodes, node)).map(slice).collect())
}

fn device(number: usize) -> Value {
    json!({"name": format!("instance-{number}"),
        "attributes": {
            "model": {"string": "A100"},
            "family": {"string": "GPU"},
            "driverVersion": {"version": "1.2.3"},
            "dra.example.com/numa": {"int": number},
        },
        "capacity": {"memory": {"value": "1Gi"}}})
}

/// Finds devices for claims that no pod asks for yet.
#[derive(Default)]
pub(crate) struct Allocation {
    plugin: DynamicResources,
}

impl Allocation {
    /// The claims of the namespace, or of all if that is empty, that have no devices.
    pub(crate) fn wanting(snapshot: &Snapshot, namespace: &str) -> Vec<Arc<ResourceClaim>> {
        let is_wanting = |claim: &&Arc<ResourceClaim>| {
            let own = claim.metadata.namespace.as_deref().unwrap_or_default();
            let status = claim.status.as_ref();
            (namespace.is_empty() || own == namespace)
                && status.is_none_or(|status| status.allocation.is_none())
        };
        snapshot.objects().resource_claims.iter().filter(is_wanting).cloned().collect()
    }

    /// The claim with devices of a node, and reserved for nobody; nodes are tried from this one on.
    pub(crate) fn allocated(
        &self,
        claim: &ResourceClaim,
        snapshot: &Snapshot,
        first: usize,
    ) -> anyhow::Result<ResourceClaim> {
        let name = claim.metadata.name.as_deref().unwrap_or_default();
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "nobody", "namespace": claim.metadata.namespace},
            "spec": {"containers": [], "resourceClaims": [
                {"name": "claim", "resourceClaimName": name}]}}))?;
        let (pod, nodes) = (PodInfo::new(Arc::new(pod)), snapshot.nodes());
        let reserve = |number: usize| {
            let node = &nodes[(first + number) % nodes.len()];
            self.plugin.reserve(&pod, snapshot, node).ok()
        };
        let steps = (0..nodes.len()).find_map(reserve);
        let steps = steps.with_context(|| format!("no node has devices for the claim {name}"))?;
        let Some(Step::WriteClaim { new, .. }) = steps.into_iter().next() else {
            bail!("nothing was allocated for the claim {name}")
        };
        let mut claim = Arc::unwrap_or_clone(new);
        claim.status.get_or_insert_default().reserved_for = None;
        Ok(claim)
    }
}

/// Whether the name is as the pattern has it, in which `*` stands for any text and `?` for a letter.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_at_checked(1) else { return name.is_empty() };
    match (first, name.chars().next()) {
        ("*", _) => (0..=name.len())
            .filter(|at| name.is_char_boundary(*at))
            .any(|at| matches(rest, &name[at..])),
        ("?", Some(letter)) => matches(rest, &name[letter.len_utf8()..]),
        (first, Some(_)) => {
            name.strip_prefix(first).is_some_and(|remainder| matches(rest, remainder))
        }
        (_, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_choose_nodes() {
        for (pattern, name, expected) in [
            ("scheduler-perf-dra-*", "scheduler-perf-dra-00007", true),
            ("scheduler-perf-dra-*", "scheduler-perf-00007", false),
            ("*", "", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*b*", "abc", true),
            ("abc", "abcd", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
