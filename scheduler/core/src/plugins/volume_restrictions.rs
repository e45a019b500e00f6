//! VolumeRestrictions: disks that only one node or one pod may use.
//!
//! Disks named in the pod itself (GCE persistent disk, AWS EBS, iSCSI, RBD) conflict with those of
//! pods on the node. A claim with the access mode ReadWriteOncePod may be used by one pod in the
//! cluster: while another uses it no node will do, but removing that pod would help.

use k8s_openapi::api::core::v1::Volume;

use super::pod_volumes::{claim_not_found, plain_claim_names, volumes};
use crate::cache::{NodeInfo, Object, Snapshot};
use crate::framework::{
    Action, ClusterEvent, Hint, NodeFilter, Occurrence, Plugin, PluginName, PreFilter, Rejection,
    Resource, Subject, Verdict,
};
use crate::pod::PodInfo;

/// The plugin.
#[derive(Clone, Copy, Debug, Default)]
pub struct VolumeRestrictions;

const DISK_CONFLICT: &str = "node(s) had no available disk";
const POD_CONFLICT: &str =
    "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode";

impl Plugin for VolumeRestrictions {
    fn name(&self) -> PluginName {
        PluginName::VolumeRestrictions
    }

    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> PreFilter<'a> {
        let exclusive = match exclusive_claims(pod, snapshot) {
            Ok(claims) => claims,
            Err(missing) => {
                return PreFilter::Reject(Rejection::unresolvable(claim_not_found(missing)));
            }
        };
        let in_use = !exclusive.is_empty() && is_in_use(pod, &exclusive, snapshot);
        let disks: Vec<&Volume> = volumes(pod).iter().filter(|volume| is_disk(volume)).collect();
        if disks.is_empty() && !in_use {
            return PreFilter::Skip;
        }
        PreFilter::every_node(Filter { disks, in_use })
    }

    fn events(&self) -> &'static [ClusterEvent] {
        const {
            &[
                ClusterEvent::new(Resource::Pod, Action::DELETE),
                ClusterEvent::new(Resource::Node, Action::ADD),
                ClusterEvent::new(Resource::PersistentVolumeClaim, Action::ADD),
            ]
        }
    }

    fn hint(&self, pod: &PodInfo, occurrence: &Occurrence, _snapshot: &Snapshot) -> Hint {
        match &occurrence.subject {
            Subject::Pod(Some(deleted), None) => Hint::queue_if(shares_volume(pod, deleted)),
            Subject::Object(Object::PersistentVolumeClaim(_, Some(claim))) => {
                let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
                let name = claim.metadata.name.as_deref().unwrap_or_default();
                let is_used = plain_claim_names(pod).any(|wanted| wanted == name);
                Hint::queue_if(namespace == pod.namespace() && is_used)
            }
            _ => Hint::Queue,
        }
    }
}

/// The pod's claims that only one pod may use, or the name of a claim that is missing.
fn exclusive_claims<'a>(pod: &'a PodInfo, snapshot: &Snapshot) -> Result<Vec<&'a str>, &'a str> {
    let mut exclusive = Vec::new();
    let claims = &snapshot.objects().persistent_volume_claims;
    for name in plain_claim_names(pod) {
        let claim = claims.get(pod.namespace(), name).ok_or(name)?;
        let modes = claim.spec.as_ref().and_then(|spec| spec.access_modes.as_deref());
        if modes.unwrap_or_default().iter().any(|mode| mode == "ReadWriteOncePod") {
            exclusive.push(name);
        }
    }
    Ok(exclusive)
}

/// Whether a pod on some node uses one of the claims.
fn is_in_use(pod: &PodInfo, claims: &[&str], snapshot: &Snapshot) -> bool {
    let others = snapshot.nodes().iter().flat_map(|node| node.pods());
    let mut others = others.filter(|other| other.namespace() == pod.namespace());
    others.any(|other| plain_claim_names(other).any(|name| claims.contains(&name)))
}

fn shares_volume(pod: &PodInfo, other: &PodInfo) -> bool {
    if pod.namespace() != other.namespace() {
        return false;
    }
    let conflicts = |disk: &Volume| volumes(other).iter().any(|it| conflict(disk, it));
    let shares = |name: &str| plain_claim_names(other).any(|it| it == name);
    volumes(pod).iter().any(conflicts) || plain_claim_names(pod).any(shares)
}

struct Filter<'a> {
    disks: Vec<&'a Volume>,
    /// A claim for one pod is another's.
    in_use: bool,
}

impl NodeFilter for Filter<'_> {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        let conflicts = |pod: &PodInfo| {
            let taken = volumes(pod);
            self.disks.iter().any(|disk| taken.iter().any(|it| conflict(disk, it)))
        };
        if !self.disks.is_empty() && node.pods().iter().any(|pod| conflicts(pod)) {
            return Err(Rejection::unschedulable(DISK_CONFLICT));
        }
        if self.in_use {
            return Err(Rejection::unschedulable(POD_CONFLICT));
        }
        Ok(())
    }
}

fn is_disk(volume: &Volume) -> bool {
    volume.gce_persistent_disk.is_some()
        || volume.aws_elastic_block_store.is_some()
        || volume.iscsi.is_some()
        || volume.rbd.is_some()
}

/// Whether two pods on one node cannot have these two. EBS never, the others if all read only.
fn conflict(a: &Volume, b: &Volume) -> bool {
    let both_read = |a: Option<bool>, b: Option<bool>| a == Some(true) && b == Some(true);
    if let (Some(a), Some(b)) = (&a.gce_persistent_disk, &b.gce_persistent_disk)
        && a.pd_name == b.pd_name
        && !both_read(a.read_only, b.read_only)
    {
        return true;
    }
    if let (Some(a), Some(b)) = (&a.aws_elastic_block_store, &b.aws_elastic_block_store)
        && a.volume_id == b.volume_id
    {
        return true;
    }
    if let (Some(a), Some(b)) = (&a.iscsi, &b.iscsi)
        && a.iqn == b.iqn
        && !both_read(a.read_only, b.read_only)
    {
        return true;
    }
    if let (Some(a), Some(b)) = (&a.rbd, &b.rbd) {
        return a.monitors.iter().any(|monitor| b.monitors.contains(monitor))
            && a.pool == b.pool
            && a.image == b.image
            && !both_read(a.read_only, b.read_only);
    }
    false
}

#[cfg(test)]
mod tests;
