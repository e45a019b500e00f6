//! What is written of a solution: the allocation in a claim's status.

use std::hash::{Hash as _, Hasher as _};

use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};
use k8s_openapi::api::resource::v1::{
    AllocationResult, DeviceAllocationConfiguration, DeviceAllocationResult,
    DeviceRequestAllocationResult,
};

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use rustc_hash::FxHasher;

use super::allocator::{Chosen, Solution};
use super::inventory::Candidate;
use super::request::{Alternative, ClaimPlan};

/// The allocation: devices, their configuration, and the nodes that can reach them.
pub(super) fn allocation(
    plan: &ClaimPlan,
    solution: &Solution<'_>,
    node: &str,
) -> AllocationResult {
    let results = solution.devices.iter().enumerate();
    let results = results.map(|(at, chosen)| device(plan, at, chosen));
    let config = config(plan, solution);
    AllocationResult {
        allocation_timestamp: None,
        devices: Some(DeviceAllocationResult {
            config: (!config.is_empty()).then_some(config),
            results: Some(results.collect()),
        }),
        node_selector: node_selector(solution.devices.iter().map(|it| &it.candidate), node),
    }
}

fn device(plan: &ClaimPlan, at: usize, chosen: &Chosen<'_>) -> DeviceRequestAllocationResult {
    let Chosen { request, candidate, shared } = chosen;
    let (driver, pool, device) = candidate.id;
    let consumed =
        shared.iter().flatten().map(|(name, amount)| (name.clone(), Text::from(*amount)));
    DeviceRequestAllocationResult {
        admin_access: request.admin_access.then_some(true),
        device: device.to_owned(),
        driver: driver.to_owned(),
        pool: pool.to_owned(),
        request: request.full_name.clone(),
        share_id: shared.is_some().then(|| share_id(plan, at)),
        consumed_capacity: shared.as_ref().filter(|it| !it.is_empty()).map(|_| consumed.collect()),
        tolerations: (!request.tolerations.is_empty()).then(|| request.tolerations.clone()),
        ..DeviceRequestAllocationResult::default()
    }
}

/// A name for the share of a device: made of the claim and the device's position in it, so that the same
/// decision gives the same name.
fn share_id(plan: &ClaimPlan, at: usize) -> String {
    let meta = &plan.claim.metadata;
    let half = |salt: usize| {
        let mut hasher = FxHasher::default();
        (salt, at, &meta.uid, &meta.namespace, &meta.name, &meta.resource_version)
            .hash(&mut hasher);
        hasher.finish()
    };
    let (high, low) = (half(1), half(2));
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        (low >> 48) & 0xfff,
        low & 0xffff_ffff_ffff
    )
}

/// The configuration of the classes, each once, then the claim's own; without the names of requests
/// if it is for all of them.
fn config(plan: &ClaimPlan, solution: &Solution<'_>) -> Vec<DeviceAllocationConfiguration> {
    let mut config: Vec<DeviceAllocationConfiguration> = Vec::new();
    let mut classes: Vec<(&str, std::ops::Range<usize>)> = Vec::new();
    for taken in &solution.taken {
        let name = taken.class.metadata.name.as_deref().unwrap_or_default();
        if let Some((_, known)) = classes.iter().find(|(class, _)| *class == name) {
            for entry in &mut config[known.clone()] {
                entry.requests.get_or_insert_default().push(taken.full_name.clone());
            }
            continue;
        }
        let start = config.len();
        config.extend(taken.class.spec.config.iter().flatten().map(|entry| {
            DeviceAllocationConfiguration {
                opaque: entry.opaque.clone(),
                requests: Some(vec![taken.full_name.clone()]),
                source: "FromClass".to_owned(),
            }
        }));
        classes.push((name, start..config.len()));
    }
    let own = plan.claim.spec.devices.iter().flat_map(|devices| devices.config.iter().flatten());
    for entry in own {
        let names = entry.requests.as_deref().unwrap_or_default();
        let concerned = |taken: &&&Alternative| {
            names.iter().any(|name| *name == taken.request || *name == taken.full_name)
        };
        let times = match names {
            [] => 1,
            _ => solution.taken.iter().filter(|taken| concerned(taken)).count(),
        };
        config.extend((0..times).map(|_| DeviceAllocationConfiguration {
            opaque: entry.opaque.clone(),
            requests: entry.requests.clone(),
            source: "FromClaim".to_owned(),
        }));
    }
    for entry in &mut config {
        if entry.requests.as_ref().map(Vec::len) == Some(plan.requests.len()) {
            entry.requests = None;
        }
    }
    config
}

/// The node if one of the devices is local to it or binds to it; else what the slices' or the devices'
/// selectors have in all; `None` if all nodes reach all devices.
fn node_selector<'a>(
    candidates: impl Iterator<Item = &'a Candidate<'a>>,
    node: &str,
) -> Option<NodeSelector> {
    let mut term = NodeSelectorTerm::default();
    for candidate in candidates {
        let (slice, device) = (&candidate.slice.spec, candidate.device);
        let (name, selector) = match slice.per_device_node_selection {
            Some(true) => (&device.node_name, &device.node_selector),
            _ => (&slice.node_name, &slice.node_selector),
        };
        let is_local = name.as_ref().is_some_and(|name| !name.is_empty());
        if is_local || device.binds_to_node == Some(true) {
            return Some(one_node(node));
        }
        for other in selector.iter().flat_map(|selector| &selector.node_selector_terms) {
            add_new(&mut term.match_fields, other.match_fields.as_deref());
            add_new(&mut term.match_expressions, other.match_expressions.as_deref());
        }
    }
    let is_any = term.match_fields.is_none() && term.match_expressions.is_none();
    (!is_any).then(|| NodeSelector { node_selector_terms: vec![term] })
}

fn one_node(name: &str) -> NodeSelector {
    let requirement = NodeSelectorRequirement {
        key: "metadata.name".to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![name.to_owned()]),
    };
    let term = NodeSelectorTerm { match_expressions: None, match_fields: Some(vec![requirement]) };
    NodeSelector { node_selector_terms: vec![term] }
}

fn add_new(
    to: &mut Option<Vec<NodeSelectorRequirement>>,
    from: Option<&[NodeSelectorRequirement]>,
) {
    let sorted = |requirement: &NodeSelectorRequirement| {
        let mut values = requirement.values.clone().unwrap_or_default();
        values.sort_unstable();
        values.dedup();
        values
    };
    for requirement in from.unwrap_or_default() {
        let known = to.iter().flatten().any(|other| {
            other.key == requirement.key
                && other.operator == requirement.operator
                && sorted(other) == sorted(requirement)
        });
        if !known {
            to.get_or_insert_default().push(requirement.clone());
        }
    }
}
