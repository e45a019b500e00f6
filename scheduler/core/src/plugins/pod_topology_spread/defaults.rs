//! The constraints of pods that have none: `PodTopologySpreadArgs`, for the pods that share a
//! Service or a controller.
//!
//! Mirrors `buildDefaultConstraints` and `helper.DefaultSelector`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::TopologySpreadConstraint;
use pintle_api::labels::Selector;

use super::HOSTNAME;
use super::constraint::SCHEDULE_ANYWAY;
use crate::cache::Objects;
use crate::pod::PodInfo;

/// `defaultingType` and `defaultConstraints`.
#[derive(Clone, Debug, Default)]
pub enum Defaults {
    /// By host with a skew of 3 and by zone with a skew of 5, as preferences. Here nodes need not have
    /// both labels, so that hosts count where there are no zones.
    #[default]
    System,
    /// These, which have no selectors of their own.
    List(Vec<TopologySpreadConstraint>),
}

impl Defaults {
    /// The constraints, without selectors.
    pub(super) fn constraints(&self) -> Vec<TopologySpreadConstraint> {
        let system = |key: &str, max_skew| TopologySpreadConstraint {
            topology_key: key.to_owned(),
            when_unsatisfiable: SCHEDULE_ANYWAY.to_owned(),
            max_skew,
            ..TopologySpreadConstraint::default()
        };
        match self {
            Self::System => vec![system(HOSTNAME, 3), system(ZONE, 5)],
            Self::List(constraints) => constraints.clone(),
        }
    }

    /// Whether a node that lacks one of the keys takes no part.
    pub(super) fn require_all_keys(&self) -> bool {
        matches!(self, Self::List(_))
    }
}

const ZONE: &str = "topology.kubernetes.io/zone";

/// Selects the pods that are served or controlled together with the pod: what the Services that
/// select it and its controller require of labels. Everything if there is none.
pub(super) fn owner_selector(pod: &PodInfo, objects: &Objects) -> Selector {
    let services = objects.services.in_namespace(pod.namespace());
    let selectors = services.filter_map(|s| s.spec.as_ref()?.selector.as_ref());
    // There may be many Services, and few select the pod: no selector is made before it is known to.
    let labels = pod.pod.metadata.labels.as_ref();
    let has = |(key, value): (&String, &String)| labels.and_then(|l| l.get(key)) == Some(value);
    let serving = selectors.filter(|selector| selector.iter().all(has));
    let served = serving.map(Selector::from_labels);
    let served = served.fold(Selector::everything(), Selector::and);
    match controller_selector(pod, objects) {
        Some(controller) => served.and(controller),
        None => served,
    }
}

fn controller_selector(pod: &PodInfo, objects: &Objects) -> Option<Selector> {
    let mut owners = pod.pod.metadata.owner_references.iter().flatten();
    let owner = owners.find(|owner| owner.controller == Some(true))?;
    let (namespace, name) = (pod.namespace(), owner.name.as_str());
    let selector = match (owner.api_version.as_str(), owner.kind.as_str()) {
        ("v1", "ReplicationController") => {
            let controller = objects.replication_controllers.get(namespace, name)?;
            let labels: &BTreeMap<_, _> = controller.spec.as_ref()?.selector.as_ref()?;
            return Some(Selector::from_labels(labels));
        }
        ("apps/v1", "ReplicaSet") => {
            objects.replica_sets.get(namespace, name)?.spec.as_ref()?.selector.clone()
        }
        ("apps/v1", "StatefulSet") => {
            objects.stateful_sets.get(namespace, name)?.spec.as_ref()?.selector.clone()
        }
        _ => return None,
    };
    Selector::try_from(&selector).ok().filter(|selector| !selector.is_nothing())
}
