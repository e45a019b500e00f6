//! What to do about one Service's slices: objects in, writes out.
//!
//! Mirrors reconciler.go of k8s.io/endpointslice. Slices are written as little as can be, for every
//! node reads each write: endpoints stay in the slice they are in; those that go are taken out and
//! those that changed replaced there; new ones fill the slices that are written anyway, then one
//! that has room for all that are left, then new slices. Slices are not merged beyond that.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::endpoint::{self, AddressType};
use super::{HEADLESS, MANAGED_BY, MANAGER, SERVICE_NAME};
use crate::owner::controller_reference;
use crate::pod;

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    /// A new slice.
    Create(Box<EndpointSlice>),
    /// The stored slice with other contents.
    Update(Box<EndpointSlice>),
    /// A slice that nothing is left of.
    Delete(Arc<EndpointSlice>),
}

/// Endpoints with the same ports share slices.
type Group = (AddressType, Vec<PortKey>);
type PortKey = (Option<String>, Option<i32>, Option<String>, Option<String>);

struct Wanted {
    ports: Vec<EndpointPort>,
    /// By what identifies an endpoint: the pod's uid and the address.
    endpoints: BTreeMap<EndpointKey, Endpoint>,
}

type EndpointKey = (Option<String>, Vec<String>);

/// Plan for `service`: `pods` match its selector, `slices` are the controller's own for it, and
/// `node_of` finds a node by name.
pub(super) fn plan(
    service: &Service,
    pods: &[Arc<Pod>],
    slices: &[Arc<EndpointSlice>],
    node_of: impl Fn(&str) -> Option<Arc<Node>>,
    max_endpoints: usize,
) -> Vec<Action> {
    let mut wanted = wanted(service, pods, node_of);
    let mut actions = Vec::new();
    let mut existing: BTreeMap<Group, Vec<Arc<EndpointSlice>>> = BTreeMap::new();
    for slice in slices.iter().filter(|slice| slice.metadata.deletion_timestamp.is_none()) {
        match group_of(slice).filter(|group| wanted.contains_key(group)) {
            Some(group) => existing.entry(group).or_default().push(Arc::clone(slice)),
            // No pod has these ports (any more). A placeholder without ports goes as well.
            None => actions.push(Action::Delete(Arc::clone(slice))),
        }
    }
    for (group, wanted) in &mut wanted {
        let slices = existing.remove(group).unwrap_or_default();
        actions.extend(plan_group(service, group.0, wanted, &slices, max_endpoints));
    }
    actions
}

/// The endpoints there should be, by group. A family without any has an empty group without ports,
/// for a Service has at least one slice, as readers wait for it.
fn wanted(
    service: &Service,
    pods: &[Arc<Pod>],
    node_of: impl Fn(&str) -> Option<Arc<Node>>,
) -> BTreeMap<Group, Wanted> {
    let mut groups: BTreeMap<Group, Wanted> = BTreeMap::new();
    for kind in endpoint::address_types(service) {
        for pod in pods.iter().filter(|pod| endpoint::is_endpoint(pod)) {
            let Some(address) = endpoint::address_of(pod, kind) else { continue };
            let ports = endpoint::ports(service, pod);
            let node = node_of(pod::node_name(pod));
            let endpoint = endpoint::endpoint(service, pod, address, node.as_deref());
            let wanted = groups
                .entry((kind, ports.iter().map(port_key).collect()))
                .or_insert_with(|| Wanted { ports, endpoints: BTreeMap::new() });
            wanted.endpoints.insert(key(&endpoint), endpoint);
        }
        if !groups.keys().any(|(other, _)| *other == kind) {
            let empty = Wanted { ports: Vec::new(), endpoints: BTreeMap::new() };
            groups.insert((kind, Vec::new()), empty);
        }
    }
    groups
}

/// Steps 1 and 2: keep, replace and take out within the slices; step 3: place what is left.
fn plan_group(
    service: &Service,
    kind: AddressType,
    wanted: &mut Wanted,
    slices: &[Arc<EndpointSlice>],
    max_endpoints: usize,
) -> Vec<Action> {
    let mut drafts: Vec<Draft> = Vec::new();
    for slice in slices {
        drafts.push(Draft::keep(service, slice, &mut wanted.endpoints));
    }
    let mut left: Vec<Endpoint> = std::mem::take(&mut wanted.endpoints).into_values().collect();
    fill(&mut drafts, &mut left, max_endpoints);
    // A family keeps one slice, also an empty one.
    let any_kept = drafts.iter().any(|draft| !draft.endpoints.is_empty());
    let keep_empty = !any_kept && left.is_empty();
    let mut actions = Vec::new();
    let mut placeholder = keep_empty;
    for draft in drafts {
        if draft.endpoints.is_empty() && !std::mem::take(&mut placeholder) {
            actions.push(Action::Delete(draft.stored));
        } else if draft.changed {
            actions.push(Action::Update(Box::new(draft.into_slice(service))));
        }
    }
    if placeholder || !left.is_empty() {
        for chunk in chunks(left, max_endpoints) {
            actions.push(Action::Create(Box::new(new_slice(service, kind, &wanted.ports, chunk))));
        }
    }
    actions
}

/// First the slices that are written anyway, the fullest first; then, if one unwritten slice can
/// take all that is left, the fullest such.
fn fill(drafts: &mut [Draft], left: &mut Vec<Endpoint>, max_endpoints: usize) {
    let mut changed: Vec<&mut Draft> =
        drafts.iter_mut().filter(|draft| draft.changed && !draft.endpoints.is_empty()).collect();
    changed.sort_by_key(|draft| std::cmp::Reverse(draft.endpoints.len()));
    for draft in changed {
        let room = max_endpoints.saturating_sub(draft.endpoints.len()).min(left.len());
        draft.endpoints.extend(left.drain(..room));
    }
    // A slice that lost all its endpoints is written or deleted anyway: use it before a new one.
    for draft in drafts.iter_mut().filter(|draft| draft.endpoints.is_empty()) {
        let room = max_endpoints.min(left.len());
        draft.changed |= room > 0;
        draft.endpoints.extend(left.drain(..room));
    }
    if left.is_empty() {
        return;
    }
    let fits = |draft: &&mut Draft| draft.endpoints.len() + left.len() <= max_endpoints;
    let fullest = drafts.iter_mut().filter(fits).max_by_key(|draft| draft.endpoints.len());
    if let Some(draft) = fullest {
        draft.endpoints.append(left);
        draft.changed = true;
    }
}

struct Draft {
    stored: Arc<EndpointSlice>,
    endpoints: Vec<Endpoint>,
    changed: bool,
}

impl Draft {
    /// What stays of a slice; what it holds is taken out of `wanted`.
    fn keep(
        service: &Service,
        slice: &Arc<EndpointSlice>,
        wanted: &mut BTreeMap<EndpointKey, Endpoint>,
    ) -> Self {
        let mut changed = !metadata_is_right(service, slice);
        let mut endpoints = Vec::with_capacity(slice.endpoints.len());
        for endpoint in &slice.endpoints {
            match wanted.remove(&key(endpoint)) {
                Some(new) => {
                    changed |= new != *endpoint;
                    endpoints.push(new);
                }
                None => changed = true,
            }
        }
        Self { stored: Arc::clone(slice), endpoints, changed }
    }

    fn into_slice(self, service: &Service) -> EndpointSlice {
        let mut slice = Arc::unwrap_or_clone(self.stored);
        slice.endpoints = self.endpoints;
        slice.metadata.labels = Some(labels(service));
        slice.metadata.owner_references = Some(vec![controller_reference(service)]);
        slice
    }
}

fn metadata_is_right(service: &Service, slice: &EndpointSlice) -> bool {
    let owned = slice.metadata.owner_references.iter().flatten().any(|owner| {
        Some(&owner.uid) == service.metadata.uid.as_ref() && owner.controller == Some(true)
    });
    owned && slice.metadata.labels.as_ref() == Some(&labels(service))
}

fn new_slice(
    service: &Service,
    kind: AddressType,
    ports: &[EndpointPort],
    endpoints: Vec<Endpoint>,
) -> EndpointSlice {
    let name = service.metadata.name.as_deref().unwrap_or_default();
    EndpointSlice {
        address_type: kind.as_str().to_owned(),
        endpoints,
        metadata: ObjectMeta {
            generate_name: Some(format!("{name}-")),
            labels: Some(labels(service)),
            namespace: service.metadata.namespace.clone(),
            owner_references: Some(vec![controller_reference(service)]),
            ..ObjectMeta::default()
        },
        ports: Some(ports.to_vec()),
    }
}

/// The Service's labels, and the ones that say whose slice it is.
fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    labels.insert(SERVICE_NAME.to_owned(), service.metadata.name.clone().unwrap_or_default());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    let cluster_ip = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref());
    if cluster_ip == Some("None") {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels
}

fn group_of(slice: &EndpointSlice) -> Option<Group> {
    let kind = match slice.address_type.as_str() {
        "IPv4" => AddressType::V4,
        "IPv6" => AddressType::V6,
        _ => return None,
    };
    let mut ports: Vec<EndpointPort> = slice.ports.clone().unwrap_or_default();
    ports.sort_by(|a, b| (&a.name, a.port, &a.protocol).cmp(&(&b.name, b.port, &b.protocol)));
    Some((kind, ports.iter().map(port_key).collect()))
}

fn port_key(port: &EndpointPort) -> PortKey {
    (
        Some(port.name.clone().unwrap_or_default()),
        port.port,
        port.protocol.clone(),
        port.app_protocol.clone(),
    )
}

fn key(endpoint: &Endpoint) -> EndpointKey {
    let uid = endpoint.target_ref.as_ref().and_then(|target| target.uid.clone());
    (uid, endpoint.addresses.clone())
}

/// Chunks of at most `max` endpoints; one empty chunk if there are none.
fn chunks(mut left: Vec<Endpoint>, max: usize) -> Vec<Vec<Endpoint>> {
    let mut chunks = Vec::new();
    while left.len() > max {
        let rest = left.split_off(max);
        chunks.push(std::mem::replace(&mut left, rest));
    }
    chunks.push(left);
    chunks
}
