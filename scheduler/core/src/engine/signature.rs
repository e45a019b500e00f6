//! What a node-by-node decision about a pod depends on, as bytes that compare and hash.
//!
//! Pods with equal signatures get the same verdict and the same score from every node, as far as the
//! plugins go that look at one node at a time (see [`super::scope`]). The signature has two parts:
//! *fixed*, what is compared with node objects (tolerations, nodeName, nodeSelector, node affinity,
//! images), and *moving*, what is compared with the pods on a node as well (requests, host ports).
//! What the other plugins read is not in it: [`Asks`] says which of them the pod concerns.
//!
//! Mirrors the PodSignature of opportunistic batching (KEP 5598), with another boundary.

use std::hash::{Hash, Hasher};

use k8s_openapi::api::core::v1::{Affinity, Pod, PodSpec, Volume};
use pintle_api::resources::Resources;
use rustc_hash::FxHasher;

use crate::pod::HostPort;

/// The signature of a pod.
#[derive(Clone, Debug, Default)]
pub struct Signature {
    bytes: Box<[u8]>,
    /// How many of `bytes` are the fixed part; it comes first.
    fixed: usize,
    hash: u64,
    /// What the pod asks of plugins that look at more than one node.
    pub asks: Asks,
}

/// What a pod asks of the plugins that look at more than one node at a time, or at other objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asks {
    /// Affinity or anti-affinity to pods.
    pub pod_affinity: bool,
    /// Topology spread constraints.
    pub spread: bool,
    /// Volumes other than those that every node has.
    pub volumes: bool,
    /// ResourceClaims.
    pub claims: bool,
    /// To be placed with the pods of a Workload.
    pub workload: bool,
    /// Requests by names that the scheduler does not know (extended resources, hugepages).
    pub scalars: bool,
    /// Node affinity by name: few nodes come into question.
    pub named_nodes: bool,
}

impl PartialEq for Signature {
    fn eq(&self, other: &Self) -> bool {
        // What the pod asks for is not in the bytes, and pods share whole signatures.
        self.hash == other.hash
            && self.asks == other.asks
            && self.fixed == other.fixed
            && self.bytes == other.bytes
    }
}

impl Eq for Signature {}

impl Hash for Signature {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Signature {
    /// The signature of a pod that makes these requests.
    pub fn new(
        pod: &Pod,
        requests: &Resources,
        requests_nonzero: &Resources,
        host_ports: &[HostPort],
    ) -> Self {
        let mut bytes = Bytes::default();
        if let Some(spec) = &pod.spec {
            fixed_part(&mut bytes, spec);
        }
        let fixed = bytes.0.len();
        bytes.resources(requests);
        bytes.resources(requests_nonzero);
        for port in host_ports {
            bytes.text(Some(&port.address));
            bytes.text(Some(&port.protocol));
            bytes.number(port.port.into());
        }
        let mut asks = pod.spec.as_ref().map(asks).unwrap_or_default();
        asks.scalars = !requests.scalar.is_empty();
        let mut hasher = FxHasher::default();
        hasher.write(&bytes.0);
        Self { bytes: bytes.0.into(), fixed, hash: hasher.finish(), asks }
    }

    /// The fixed part alone.
    pub fn fixed(&self) -> &[u8] {
        &self.bytes[..self.fixed]
    }
}

fn fixed_part(bytes: &mut Bytes, spec: &PodSpec) {
    bytes.text(spec.node_name.as_deref());
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    bytes.length(tolerations.len());
    for toleration in tolerations {
        bytes.text(toleration.key.as_deref());
        bytes.text(toleration.operator.as_deref());
        bytes.text(toleration.value.as_deref());
        bytes.text(toleration.effect.as_deref());
    }
    // Whether there is a selector at all is told apart from an empty one: PreFilter does so.
    bytes.number(spec.node_selector.is_some().into());
    for (key, value) in spec.node_selector.iter().flatten() {
        bytes.text(Some(key));
        bytes.text(Some(value));
    }
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    // Debug of these types names every field and escapes every string: equal text, equal value.
    bytes.text(affinity.map(|affinity| format!("{affinity:?}")).as_deref());
    let containers = || spec.init_containers.iter().flatten().chain(&spec.containers);
    bytes.length(containers().count());
    containers().for_each(|container| bytes.text(container.image.as_deref()));
}

fn asks(spec: &PodSpec) -> Asks {
    let affinity = spec.affinity.as_ref();
    let among_pods = |affinity: &Affinity| {
        affinity.pod_affinity.is_some() || affinity.pod_anti_affinity.is_some()
    };
    let constraints = spec.topology_spread_constraints.as_deref().unwrap_or_default();
    let claims = spec.resource_claims.as_deref().unwrap_or_default();
    Asks {
        pod_affinity: affinity.is_some_and(among_pods),
        spread: !constraints.is_empty(),
        volumes: spec.volumes.iter().flatten().any(|volume| !is_everywhere(volume)),
        claims: !claims.is_empty(),
        workload: spec.workload_ref.is_some(),
        scalars: false,
        named_nodes: affinity.is_some_and(names_nodes),
    }
}

fn names_nodes(affinity: &Affinity) -> bool {
    let node = affinity.node_affinity.as_ref();
    let required =
        node.and_then(|node| node.required_during_scheduling_ignored_during_execution.as_ref());
    let mut terms = required.into_iter().flat_map(|selector| &selector.node_selector_terms);
    terms.any(|term| term.match_fields.as_ref().is_some_and(|fields| !fields.is_empty()))
}

/// Whether the volume is of a kind that no scheduling plugin looks at. The pattern names every kind
/// there is, so that a new one has to be thought about.
fn is_everywhere(volume: &Volume) -> bool {
    matches!(
        volume,
        Volume {
            aws_elastic_block_store: None,
            azure_disk: None,
            azure_file: None,
            cephfs: None,
            cinder: None,
            config_map: _,
            csi: None,
            downward_api: _,
            empty_dir: _,
            ephemeral: None,
            fc: None,
            flex_volume: None,
            flocker: None,
            gce_persistent_disk: None,
            git_repo: None,
            glusterfs: None,
            host_path: _,
            image: None,
            iscsi: None,
            name: _,
            nfs: _,
            persistent_volume_claim: None,
            photon_persistent_disk: None,
            portworx_volume: None,
            projected: _,
            quobyte: None,
            rbd: None,
            scale_io: None,
            secret: _,
            storageos: None,
            vsphere_volume: None
        }
    )
}

/// Writes values so that different sequences of values give different bytes.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn number(&mut self, number: i64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn length(&mut self, length: usize) {
        self.0.extend_from_slice(&length.to_le_bytes());
    }

    fn text(&mut self, text: Option<&str>) {
        match text {
            Some(text) => {
                self.length(text.len());
                self.0.extend_from_slice(text.as_bytes());
            }
            None => self.number(-1),
        }
    }

    fn resources(&mut self, resources: &Resources) {
        self.number(resources.milli_cpu);
        self.number(resources.memory_bytes);
        self.number(resources.ephemeral_storage_bytes);
        self.length(resources.scalar.len());
        for (name, amount) in &resources.scalar {
            self.text(Some(name));
            self.number(*amount);
        }
    }
}
