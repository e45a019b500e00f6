//! What is written of a solution: the allocation in a claim's status.

use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};
use k8s_openapi::api::resource::v1::{
    AllocationResult, DeviceAllocationConfiguration, DeviceAllocationResult,
    DeviceRequestAllocationResult,
};

use super::allocator::Solution;
use super::inventory::Candidate;
use super::request::{Alternative, ClaimPlan};

/// The allocation: devices, their configuration, and the nodes that can reach them.
pub(super) fn allocation(plan: &ClaimPlan<'_>, solution: &Solution<'_, '_>) -> AllocationResult {
    let results = solution.devices.iter().map(|(request, candidate)| device(request, candidate));
    let config = config(plan, solution);
    AllocationResult {
        allocation_timestamp: None,
        devices: Some(DeviceAllocationResult {
            config: (!config.is_empty()).then_some(config),
            results: Some(results.collect()),
        }),
        node_selector: node_selector(solution.devices.iter().map(|(_, candidate)| candidate)),
    }
}

fn device(request: &Alternative<'_>, candidate: &Candidate<'_>) -> DeviceRequestAllocationResult {
    let (driver, pool, device) = candidate.id;
    DeviceRequestAllocationResult {
        admin_access: request.admin_access.then_some(true),
        device: device.to_owned(),
        driver: driver.to_owned(),
        pool: pool.to_owned(),
        request: request.full_name.clone(),
        tolerations: (!request.tolerations.is_empty()).then(|| request.tolerations.to_vec()),
        ..DeviceRequestAllocationResult::default()
    }
}

/// The configuration of the classes, each once, then the claim's own; without the names of requests
/// if it is for all of them.
fn config(plan: &ClaimPlan<'_>, solution: &Solution<'_, '_>) -> Vec<DeviceAllocationConfiguration> {
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
        let concerned = |taken: &&Alternative<'_>| {
            names.iter().any(|name| name == taken.request || *name == taken.full_name)
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

/// The node if one of the devices is local to it; else what the slices' selectors have in all; `None`
/// if all nodes reach all devices.
fn node_selector<'a>(candidates: impl Iterator<Item = &'a Candidate<'a>>) -> Option<NodeSelector> {
    let mut term = NodeSelectorTerm::default();
    for candidate in candidates {
        let slice = &candidate.slice.spec;
        if let Some(name) = slice.node_name.as_deref().filter(|name| !name.is_empty()) {
            return Some(one_node(name));
        }
        let terms = slice.node_selector.iter().flat_map(|s| &s.node_selector_terms);
        for other in terms {
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
