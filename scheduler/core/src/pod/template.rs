//! What pods made from one template have in common, kept once.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use pintle_api::resources::{Resources, pod_requests, pod_requests_nonzero};
use rustc_hash::FxHashSet;

use super::likeness::{Likeness, Likenesses};
use super::{Alike, HostPort, host_ports, not_negative};
use crate::engine::Signature;

/// What scheduling needs of a pod besides its identity.
#[derive(Debug)]
pub struct Template {
    /// What the pod asks for: filtering and NodeResourcesBalancedAllocation count this.
    pub requests: Resources,
    /// With 100m CPU and 200Mi memory for each container that asks for none: NodeResourcesFit's
    /// score counts this.
    pub requests_nonzero: Resources,
    /// The ports of the node that it wants.
    pub host_ports: Vec<HostPort>,
    /// `spec.schedulerName`; the default if it has none.
    pub scheduler_name: Box<str>,
    /// What decisions that look at one node at a time depend on: everything above but the name.
    pub signature: Arc<Signature>,
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.signature == other.signature && self.scheduler_name == other.scheduler_name
    }
}

impl Eq for Template {}

impl Hash for Template {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.signature.hash(state);
    }
}

impl Template {
    /// Works it out. Negative requests count as zero.
    pub(super) fn new(pod: &Pod) -> Self {
        let spec = pod.spec.as_ref();
        let requests = not_negative(pod_requests(pod));
        let requests_nonzero = not_negative(pod_requests_nonzero(pod));
        let host_ports = spec.map(host_ports).unwrap_or_default();
        let signature = Signature::new(pod, &requests, &requests_nonzero, &host_ports);
        let name = spec.and_then(|spec| spec.scheduler_name.as_deref());
        let name = name.filter(|name| !name.is_empty()).unwrap_or("default-scheduler");
        Self {
            requests,
            requests_nonzero,
            host_ports,
            scheduler_name: name.into(),
            signature: Arc::new(signature),
        }
    }
}

/// What known pods have in common.
#[derive(Debug, Default)]
pub struct Templates {
    pub(super) known: KnownTemplates,
    pub(super) likenesses: Likenesses,
}

impl Templates {
    /// What the pod shares with those like it.
    pub fn alike(&mut self, pod: &Pod) -> Alike {
        let Self { known, likenesses } = self;
        Alike(likenesses.share(pod, |pod| {
            let own = Likeness::of(pod);
            Likeness { template: known.share(own.template), ..own }
        }))
    }
}

/// The templates of all of them.
#[derive(Debug, Default)]
pub(super) struct KnownTemplates(FxHashSet<Arc<Template>>);

/// With more templates than this, those that no pod has any more are forgotten, and if that does not
/// help, all: pods that are there keep theirs.
const TEMPLATES_MAX: usize = 1 << 16;

impl KnownTemplates {
    /// The one that is equal to `template` and known, from now on `template` itself if there is none.
    pub(super) fn share(&mut self, template: Arc<Template>) -> Arc<Template> {
        if let Some(known) = self.0.get(&template) {
            return Arc::clone(known);
        }
        if self.0.len() >= TEMPLATES_MAX {
            self.0.retain(|template| Arc::strong_count(template) > 1);
            if self.0.len() > TEMPLATES_MAX / 2 {
                self.0.clear();
            }
        }
        self.0.insert(Arc::clone(&template));
        template
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::PodInfo;
    use super::*;

    #[test]
    fn equal_pods_share_and_others_do_not() {
        let pod = |name: &str, cpu: &str, scheduler: &str| {
            let pod = json!({"metadata": {"name": name}, "spec": {"schedulerName": scheduler,
                "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}});
            Arc::new(serde_json::from_value(pod).unwrap())
        };
        let mut templates = Templates::default();
        let mut shared = |pod| PodInfo::shared(pod, &mut templates);
        let a = shared(pod("a", "1", "s"));
        assert!(Arc::ptr_eq(&a.template, &shared(pod("b", "1000m", "s")).template));
        assert!(!Arc::ptr_eq(&a.template, &shared(pod("a", "2", "s")).template));
        assert!(!Arc::ptr_eq(&a.template, &shared(pod("a", "1", "t")).template));
    }

    #[test]
    fn what_a_pod_asks_of_plugins_of_wider_view_is_its_own() {
        let constraint = json!({"maxSkew": 1, "topologyKey": "zone",
            "whenUnsatisfiable": "DoNotSchedule"});
        let anti_affinity = json!({"podAntiAffinity": {}});
        let mut templates = Templates::default();
        let mut asks = |spec: serde_json::Value| {
            let pod = json!({"metadata": {"name": "p"}, "spec": spec});
            let pod = Arc::new(serde_json::from_value(pod).unwrap());
            PodInfo::shared(pod, &mut templates).signature.asks
        };
        let plain = asks(json!({"containers": []}));
        assert!(!plain.spread && !plain.pod_affinity && !plain.volumes);
        let spread = json!({"containers": [], "topologySpreadConstraints": [constraint]});
        assert!(asks(spread).spread);
        assert!(asks(json!({"containers": [], "affinity": anti_affinity})).pod_affinity);
        let claim = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]);
        assert!(asks(json!({"containers": [], "volumes": claim})).volumes);
        assert!(!asks(json!({"containers": []})).spread);
    }
}
