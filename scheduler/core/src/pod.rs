//! A pod with everything that scheduling needs of it worked out once.
//!
//! Mirrors `framework.PodInfo`. What a pod asks for is fixed here; a changed pod is a new value.

mod affinity;
mod likeness;
mod template;
mod uid;

use std::num::NonZeroU32;
use std::ops::Deref;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, PodStatus, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use pintle_api::resources::Resources;

use likeness::{Likeness, is_metadata_alike, is_resized, kept_status};

pub use affinity::{AffinityTerm, AffinityTerms, WeightedTerm};
pub(crate) use likeness::DISRUPTION_TARGET;
pub use template::{Template, Templates};
pub use uid::PodUid;

/// Where a cache that has admitted the pod keeps what it knows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PodNumber(NonZeroU32);

impl PodNumber {
    pub(crate) fn new(at: usize) -> Self {
        let number = u32::try_from(at + 1).ok().and_then(NonZeroU32::new);
        Self(number.expect("fewer than 2^32 pods fit into memory"))
    }

    pub(crate) fn at(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// A port of the node that a container wants, normalised.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// The node's address; `0.0.0.0` stands for all of them.
    pub address: Box<str>,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: Box<str>,
    /// Above zero.
    pub port: i32,
}

/// The address that stands for every address of the node.
const ANY_ADDRESS: &str = "0.0.0.0";

impl HostPort {
    /// Whether both cannot be had on one node.
    pub fn conflicts_with(&self, other: &Self) -> bool {
        self.port == other.port
            && self.protocol == other.protocol
            && (self.address == other.address
                || &*self.address == ANY_ADDRESS
                || &*other.address == ANY_ADDRESS)
    }
}

/// What a pod shares with those like it.
#[derive(Clone, Debug)]
pub struct Alike(Likeness);

impl Alike {
    /// Whether this is the metadata of a pod like these, but for what is its own.
    pub fn has_metadata_of(&self, metadata: &ObjectMeta) -> bool {
        is_metadata_alike(&self.0.pod.metadata, metadata)
    }
}

/// A pod as the scheduler sees it.
#[derive(Clone, Debug)]
pub struct PodInfo {
    /// The object as far as pods that are alike share it: not name, uid, version, node and status.
    /// [`PodInfo::object`] has them.
    pub pod: Arc<Pod>,
    /// Its identity.
    pub uid: PodUid,
    /// `spec.priority`; 0 if it has none.
    pub priority: i32,
    /// What it has in common with others made from the same template.
    pub template: Arc<Template>,
    name: Box<str>,
    resource_version: Option<Box<str>>,
    node_name: Option<Box<str>>,
    /// `status.startTime`; the end of time if it has not started.
    start_seconds: i64,
    /// What is read again of it.
    status: Option<Box<PodStatus>>,
    affinity: Option<Arc<AffinityTerms>>,
    /// `None` if it is what `requests_nonzero` is.
    placed_nonzero: Option<Arc<Resources>>,
    is_terminating: bool,
    /// Whether `uid` is its `metadata.uid`.
    has_uid: bool,
    number: Option<PodNumber>,
}

impl Deref for PodInfo {
    type Target = Template;

    fn deref(&self) -> &Template {
        &self.template
    }
}

impl PodInfo {
    /// Works out what scheduling needs of the pod. Negative requests count as zero.
    pub fn new(pod: Arc<Pod>) -> Self {
        let own = Likeness::of(pod);
        let pod = Arc::clone(&own.pod);
        Self::with(&pod, own)
    }

    /// As [`PodInfo::new`], sharing what known pods that are alike have. The object is not kept. The
    /// template of a pod on a node is the one of such pods without a node.
    pub fn shared(pod: Arc<Pod>, templates: &mut Templates) -> Self {
        if pod.metadata.deletion_timestamp.is_some() {
            let mut info = Self::new(pod);
            info.template = templates.known.share(info.template);
            return info;
        }
        let Alike(mut likeness) = templates.alike(&pod);
        let known = &mut templates.known;
        if is_resized(&pod) {
            let Likeness { template, placed_nonzero, .. } = Likeness::of(Arc::clone(&pod));
            let template = known.share(template);
            likeness = Likeness { template, placed_nonzero, ..likeness };
        }
        Self::with(&pod, likeness)
    }

    /// As [`PodInfo::shared`] of a pod that is like one that was seen before, and of which `own` says
    /// what is its own: name, uid, version, priority, node and status. Neither is being deleted, nor
    /// is any of its containers being resized.
    pub fn like(own: &Pod, alike: &Alike) -> Self {
        Self::with(own, alike.0.clone())
    }

    fn with(pod: &Pod, likeness: Likeness) -> Self {
        let boxed = |text: &Option<String>| text.as_deref().map(Box::from);
        let start = pod.status.as_ref().and_then(|status| status.start_time.as_ref());
        let Likeness { pod: kept, template, affinity, placed_nonzero } = likeness;
        Self {
            uid: PodUid::of(pod),
            has_uid: pod.metadata.uid.as_ref().is_some_and(|uid| !uid.is_empty()),
            name: pod.metadata.name.as_deref().unwrap_or_default().into(),
            resource_version: boxed(&pod.metadata.resource_version),
            node_name: pod.spec.as_ref().and_then(|spec| boxed(&spec.node_name)),
            start_seconds: start.map_or(i64::MAX, |start| start.0.as_second()),
            status: kept_status(pod),
            priority: pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0),
            is_terminating: pod.metadata.deletion_timestamp.is_some(),
            number: None,
            template,
            affinity,
            placed_nonzero,
            pod: kept,
        }
    }

    /// The object, put together again. Of a shared pod's status and metadata what decisions and
    /// reports do not read is missing.
    pub fn object(&self) -> Pod {
        let mut pod = Pod::clone(&self.pod);
        pod.metadata.name = Some(self.name.to_string()).filter(|name| !name.is_empty());
        pod.metadata.uid = self.object_uid();
        pod.metadata.resource_version = self.resource_version.as_deref().map(str::to_owned);
        if let Some(node) = &self.node_name {
            pod.spec.get_or_insert_default().node_name = Some(node.to_string());
        }
        if pod.status.is_none() {
            pod.status = self.status.as_deref().cloned();
        }
        pod
    }

    /// The pod under this number.
    pub(crate) fn numbered(self, number: PodNumber) -> Self {
        Self { number: Some(number), ..self }
    }

    /// Its number with the cache that admitted it. Another cache may know it under another.
    pub(crate) fn number(&self) -> Option<PodNumber> {
        self.number
    }

    /// `metadata.uid`.
    pub fn object_uid(&self) -> Option<String> {
        self.has_uid.then(|| self.uid.to_string())
    }

    /// `metadata.resourceVersion`.
    pub fn resource_version(&self) -> Option<&str> {
        self.resource_version.as_deref()
    }

    /// `status`, as far as it is kept.
    pub fn status(&self) -> Option<&PodStatus> {
        self.status.as_deref()
    }

    /// `status.startTime` in seconds; the end of time if the pod has not started.
    pub fn start_seconds(&self) -> i64 {
        self.start_seconds
    }

    /// What the pod adds to the [`Template::requests_nonzero`] of its node.
    pub fn placed_nonzero(&self) -> &Resources {
        self.placed_nonzero.as_deref().unwrap_or(&self.requests_nonzero)
    }

    /// `metadata.namespace`.
    pub fn namespace(&self) -> &str {
        namespace_of(&self.pod)
    }

    /// `metadata.name`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `spec.nodeName`; `None` if it is not bound.
    pub fn node_name(&self) -> Option<&str> {
        self.node_name.as_deref().filter(|name| !name.is_empty())
    }

    /// `spec.schedulerName`; the default if it has none.
    pub fn scheduler_name(&self) -> &str {
        &self.template.scheduler_name
    }

    /// `spec.tolerations`.
    pub fn tolerations(&self) -> &[Toleration] {
        self.spec().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default()
    }

    /// The names of `spec.schedulingGates`.
    pub fn scheduling_gates(&self) -> impl Iterator<Item = &str> {
        let gates = self.spec().and_then(|spec| spec.scheduling_gates.as_deref());
        gates.unwrap_or_default().iter().map(|gate| gate.name.as_str())
    }

    /// Init containers, then containers.
    pub fn containers(&self) -> impl Iterator<Item = &Container> {
        self.spec()
            .into_iter()
            .flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers))
    }

    /// Whether the pod is nominated for a node (`status.nominatedNodeName`).
    pub fn is_nominated(&self) -> bool {
        self.nominated_node().is_some()
    }

    /// `status.nominatedNodeName` of a pod that is not bound.
    pub fn nominated_node(&self) -> Option<&str> {
        let name = self.status().and_then(|status| status.nominated_node_name.as_deref());
        name.filter(|name| !name.is_empty())
    }

    /// Whether the pod is being deleted.
    pub fn is_terminating(&self) -> bool {
        self.is_terminating
    }

    fn spec(&self) -> Option<&PodSpec> {
        self.pod.spec.as_ref()
    }
}

fn namespace_of(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

/// The API server refuses negative quantities; a scheduler in front of another must not be led to
/// overcommit by one. The pod count is not a request.
pub(crate) fn not_negative(mut resources: Resources) -> Resources {
    resources.milli_cpu = resources.milli_cpu.max(0);
    resources.memory_bytes = resources.memory_bytes.max(0);
    resources.ephemeral_storage_bytes = resources.ephemeral_storage_bytes.max(0);
    resources.scalar.values_mut().for_each(|value| *value = (*value).max(0));
    resources
}

/// The host ports of containers and sidecars (`schedutil.GetHostPorts`); other init containers are
/// done before the pod listens.
fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let containers = spec.containers.iter().chain(sidecars);
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let or = |text: &Option<String>, default: &str| {
                text.as_deref().filter(|text| !text.is_empty()).unwrap_or(default).into()
            };
            Some(HostPort {
                address: or(&port.host_ip, ANY_ADDRESS),
                protocol: or(&port.protocol, "TCP"),
                port: port.host_port.filter(|port| *port > 0)?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(text: &str) -> HostPort {
        let mut parts = text.split(' ');
        let mut next = || parts.next().unwrap_or_default();
        HostPort {
            address: next().into(),
            protocol: next().into(),
            port: next().parse().unwrap_or_default(),
        }
    }

    #[test]
    fn ports_conflict_as_upstream() {
        for (a, b, expected) in [
            ("0.0.0.0 TCP 80", "0.0.0.0 TCP 80", true),
            ("0.0.0.0 TCP 80", "127.0.0.1 TCP 80", true),
            ("127.0.0.1 TCP 80", "0.0.0.0 TCP 80", true),
            ("127.0.0.1 TCP 80", "127.0.0.2 TCP 80", false),
            ("0.0.0.0 TCP 80", "0.0.0.0 UDP 80", false),
            ("0.0.0.0 TCP 80", "0.0.0.0 TCP 81", false),
        ] {
            assert_eq!(port(a).conflicts_with(&port(b)), expected, "{a} and {b}");
        }
    }
}
