//! NodeVolumeLimits: how many volumes of a CSI driver a node takes.
//!
//! The limit is CSINode's `allocatable.count`. A volume that several pods on the node use counts
//! once, and so does one that is still attached there (VolumeAttachment) though no pod uses it any
//! more. An unbound claim counts as a volume of its class's provisioner. Volumes of plugins that the
//! node has migrated to CSI count for the driver they went to.

use std::borrow::Cow;
use std::sync::OnceLock;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Volume};
use k8s_openapi::api::storage::v1::{CSINode, VolumeAttachment};
use rustc_hash::{FxHashMap, FxHashSet};

use super::pod_volumes::{
    claim_name, claim_names, claim_not_found, class_of_claim, not_owned, refers_to, volume_name,
    volumes,
};
use crate::cache::{NodeInfo, Object, Objects, Snapshot};
use crate::framework::{
    Action, ClusterEvent, Hint, NodeFilter, Occurrence, Plugin, PluginName, PreFilter, Reason,
    Rejection, Resource, Subject, Verdict,
};
use crate::pod::PodInfo;

mod migration;
#[cfg(test)]
mod tests;

/// The plugin.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeVolumeLimits;

const EXCEEDED: &str = "node(s) exceed max volume count";

/// A volume of a driver, the same for all who use it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Unique<'a> {
    driver: &'a str,
    handle: Handle<'a>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Handle<'a> {
    /// As the driver names it.
    Volume(Cow<'a, str>),
    /// The claim, of this namespace and name, that is not bound yet.
    Unbound(Option<&'a str>, Option<&'a str>),
}

impl Plugin for NodeVolumeLimits {
    fn name(&self) -> PluginName {
        PluginName::NodeVolumeLimits
    }

    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> PreFilter<'a> {
        if !may_attach(pod) {
            return PreFilter::Skip;
        }
        let objects = snapshot.objects();
        let mut filter = Filter { pod, objects, refusal: None, attached: OnceLock::new() };
        // Whether its claims are there is the same for every node.
        filter.refusal = filter.collect(pod, None, true, &mut FxHashSet::default()).err();
        PreFilter::every_node(filter)
    }

    fn events(&self) -> &'static [ClusterEvent] {
        const {
            &[
                ClusterEvent::new(Resource::CSINode, Action::ADD.or(Action::UPDATE)),
                ClusterEvent::new(Resource::AssignedPod, Action::DELETE),
                ClusterEvent::new(Resource::PersistentVolumeClaim, Action::ADD),
                ClusterEvent::new(Resource::VolumeAttachment, Action::DELETE),
            ]
        }
    }

    fn hint(&self, pod: &PodInfo, occurrence: &Occurrence, snapshot: &Snapshot) -> Hint {
        match &occurrence.subject {
            Subject::Pod(Some(deleted), None) => Hint::queue_if(may_attach(deleted)),
            Subject::Object(Object::CSINode(Some(old), Some(new))) => {
                Hint::queue_if(takes_more(old, new))
            }
            Subject::Object(Object::PersistentVolumeClaim(_, Some(claim))) => {
                Hint::queue_if(refers_to(pod, claim))
            }
            Subject::Object(Object::VolumeAttachment(Some(gone), None)) => {
                Hint::queue_if(is_attachment_of(gone, pod, snapshot.objects()))
            }
            _ => Hint::Queue,
        }
    }
}

/// Whether a pod has a volume that could be a CSI driver's.
fn may_attach(pod: &PodInfo) -> bool {
    volumes(pod)
        .iter()
        .any(|volume| claim_name(pod, volume).is_some() || migration::of_volume(volume).is_some())
}

/// Whether the limit of some driver grew.
fn takes_more(old: &CSINode, new: &CSINode) -> bool {
    let count = |node: &CSINode, driver: &str| {
        node.spec.drivers.iter().find(|it| it.name == driver)?.allocatable.as_ref()?.count
    };
    new.spec.drivers.iter().any(|driver| {
        let (before, now) = (count(old, &driver.name), count(new, &driver.name));
        match (before, now) {
            (Some(before), Some(now)) => now > before,
            (Some(_), None) => true,
            (None, _) => false,
        }
    })
}

/// Whether what was detached is the pod's volume, or of a driver that the pod's volumes went to.
fn is_attachment_of(attachment: &VolumeAttachment, pod: &PodInfo, objects: &Objects) -> bool {
    let source = &attachment.spec.source;
    if let Some(name) = &source.persistent_volume_name {
        return claim_names(pod).any(|claim| {
            let claim = objects.persistent_volume_claims.get(pod.namespace(), &claim.name);
            claim.is_some_and(|claim| volume_name(claim) == name)
        });
    }
    let inline = source.inline_volume_spec.as_ref().and_then(|spec| spec.csi.as_ref());
    let driver = inline.map_or(attachment.spec.attacher.as_str(), |csi| &csi.driver);
    let migrated = volumes(pod).iter().filter_map(migration::of_volume);
    migrated.into_iter().any(|(plugin, _)| plugin.driver == driver)
}

struct Filter<'a> {
    pod: &'a PodInfo,
    objects: &'a Objects,
    /// Why no node will do.
    refusal: Option<Reason>,
    /// What is attached to each node, worked out when the first node with a limit asks.
    attached: OnceLock<FxHashMap<&'a str, Vec<Unique<'a>>>>,
}

impl NodeFilter for Filter<'_> {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        if let Some(reason) = &self.refusal {
            return Err(Rejection::unresolvable(reason.clone()));
        }
        let Some(csi_node) = self.objects.csi_nodes.get("", node.name()) else { return Ok(()) };
        let mut wanted = FxHashSet::default();
        let _ = self.collect(self.pod, Some(csi_node), true, &mut wanted);
        wanted.retain(|it| limit(csi_node, it.driver).is_some());
        if wanted.is_empty() {
            return Ok(());
        }
        let mut there: FxHashSet<Unique<'_>> = FxHashSet::default();
        for pod in node.pods() {
            // A pod that is there already has its volumes; only what is known of them counts.
            let _ = self.collect(pod, Some(csi_node), false, &mut there);
        }
        there.extend(self.attached_to(node.name()).iter().cloned());
        for Unique { driver, .. } in &wanted {
            let of_driver = |it: &&Unique<'_>| it.driver == *driver;
            let new = wanted.iter().filter(of_driver).filter(|it| !there.contains(*it)).count();
            let old = there.iter().filter(of_driver).count();
            if new > 0 && limit(csi_node, driver).is_some_and(|limit| old + new > limit) {
                return Err(Rejection::unschedulable(EXCEEDED));
            }
        }
        Ok(())
    }
}

impl<'a> Filter<'a> {
    /// Adds the pod's volumes. A claim that is missing is an error for the pod to be scheduled.
    fn collect<'b>(
        &self,
        pod: &'b PodInfo,
        csi_node: Option<&CSINode>,
        is_new: bool,
        into: &mut FxHashSet<Unique<'b>>,
    ) -> Result<(), Reason>
    where
        'a: 'b,
    {
        for volume in volumes(pod) {
            let Some(named) = claim_name(pod, volume) else {
                into.extend(inline(volume, csi_node));
                continue;
            };
            if named.name.is_empty() {
                return Err("PersistentVolumeClaim had no name".into());
            }
            let claim = self.objects.persistent_volume_claims.get(pod.namespace(), &named.name);
            let Some(claim) = claim else {
                if is_new {
                    let missing = claim_not_found(&named.name);
                    let (namespace, name) = (pod.namespace(), &named.name);
                    return Err(format!("looking up PVC {namespace}/{name}: {missing}").into());
                }
                continue;
            };
            if named.is_ephemeral
                && let Some(why) = not_owned(pod, claim)
            {
                return Err(why.into());
            }
            into.extend(of_claim(claim, csi_node, self.objects));
        }
        Ok(())
    }

    fn attached_to(&self, node: &str) -> &[Unique<'a>] {
        let attached = self.attached.get_or_init(|| {
            let mut all: FxHashMap<&str, Vec<Unique<'a>>> = FxHashMap::default();
            for attachment in self.objects.volume_attachments.iter() {
                if let Some(volume) = of_attachment(attachment, self.objects) {
                    all.entry(&attachment.spec.node_name).or_default().push(volume);
                }
            }
            all
        });
        attached.get(node).map(Vec::as_slice).unwrap_or_default()
    }
}

fn of_claim<'a>(
    claim: &'a PersistentVolumeClaim,
    csi_node: Option<&CSINode>,
    objects: &'a Objects,
) -> Option<Unique<'a>> {
    let bound = objects.persistent_volumes.get("", volume_name(claim));
    let Some(volume) = bound.filter(|_| !volume_name(claim).is_empty()) else {
        return of_class(claim, csi_node, objects);
    };
    let (driver, handle) = match &volume.spec.as_ref()?.csi {
        Some(csi) => (csi.driver.as_str(), Cow::from(csi.volume_handle.as_str())),
        None => {
            let (plugin, handle) = migration::of_persistent_volume(volume)?;
            if !migration::is_on(csi_node, plugin.name) {
                return None;
            }
            (plugin.driver, handle)
        }
    };
    if driver.is_empty() || handle.is_empty() {
        return None;
    }
    Some(Unique { driver, handle: Handle::Volume(handle) })
}

/// An unbound claim, by the provisioner of its class.
fn of_class<'a>(
    claim: &'a PersistentVolumeClaim,
    csi_node: Option<&CSINode>,
    objects: &'a Objects,
) -> Option<Unique<'a>> {
    let class = class_of_claim(claim);
    let class = objects.storage_classes.get("", class).filter(|_| !class.is_empty())?;
    let driver = match migration::by_name(&class.provisioner) {
        Some(plugin) if migration::is_on(csi_node, plugin.name) => plugin.driver,
        Some(_) => return None,
        None => class.provisioner.as_str(),
    };
    let meta = &claim.metadata;
    let handle = Handle::Unbound(meta.namespace.as_deref(), meta.name.as_deref());
    (!driver.is_empty()).then_some(Unique { driver, handle })
}

fn of_attachment<'a>(attachment: &'a VolumeAttachment, objects: &'a Objects) -> Option<Unique<'a>> {
    let spec = &attachment.spec;
    let name = spec.source.persistent_volume_name.as_deref()?;
    let volume = objects.persistent_volumes.get("", name)?;
    let csi = volume.spec.as_ref()?.csi.as_ref()?;
    let handle = Handle::Volume(csi.volume_handle.as_str().into());
    (!spec.attacher.is_empty()).then_some(Unique { driver: &spec.attacher, handle })
}

/// A volume in the pod itself whose plugin went to a CSI driver.
fn inline<'a>(volume: &'a Volume, csi_node: Option<&CSINode>) -> Option<Unique<'a>> {
    let (plugin, handle) = migration::of_volume(volume)?;
    if !migration::is_on(csi_node, plugin.name) {
        return None;
    }
    Some(Unique { driver: plugin.driver, handle: Handle::Volume(handle?) })
}

/// How many volumes of the driver the node takes, if it says so.
fn limit(node: &CSINode, driver: &str) -> Option<usize> {
    let driver = node.spec.drivers.iter().find(|it| it.name == driver)?;
    let count = driver.allocatable.as_ref()?.count?;
    Some(usize::try_from(count).unwrap_or(0))
}
