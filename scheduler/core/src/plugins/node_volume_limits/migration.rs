//! Volume plugins that used to be part of Kubernetes, and the CSI drivers they went to.
//!
//! Mirrors `k8s.io/csi-translation-lib` as far as telling one volume from another needs it: the
//! driver's name and the handle that the driver knows the volume by.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::{PersistentVolume, Volume};
use k8s_openapi::api::storage::v1::CSINode;

use crate::plugins::pod_volumes::annotation;

/// A plugin and where it went.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plugin {
    /// As StorageClasses and CSINodes name it.
    pub(super) name: &'static str,
    /// The CSI driver.
    pub(super) driver: &'static str,
}

/// On a CSINode: the plugins that the node has migrated, separated by commas.
const MIGRATED_PLUGINS: &str = "storage.alpha.kubernetes.io/migrated-plugins";

static EBS: Plugin = Plugin { name: "kubernetes.io/aws-ebs", driver: "ebs.csi.aws.com" };
static GCE: Plugin = Plugin { name: "kubernetes.io/gce-pd", driver: "pd.csi.storage.gke.io" };
static AZURE: Plugin = Plugin { name: "kubernetes.io/azure-disk", driver: "disk.csi.azure.com" };
static CINDER: Plugin = Plugin { name: "kubernetes.io/cinder", driver: "cinder.csi.openstack.org" };
static PORTWORX: Plugin =
    Plugin { name: "kubernetes.io/portworx-volume", driver: "pxd.portworx.com" };

/// The plugin of this name.
pub(super) fn by_name(name: &str) -> Option<&'static Plugin> {
    [&EBS, &GCE, &AZURE, &CINDER, &PORTWORX].into_iter().find(|plugin| plugin.name == name)
}

/// Whether the node has migrated the plugin.
pub(super) fn is_on(node: Option<&CSINode>, plugin: &str) -> bool {
    let migrated = node.and_then(|node| annotation(&node.metadata, MIGRATED_PLUGINS));
    migrated.is_some_and(|all| all.split(',').any(|name| name == plugin))
}

/// The plugin of a volume in a pod, and the driver's handle if it can be told.
pub(super) fn of_volume(volume: &Volume) -> Option<(&'static Plugin, Option<Cow<'_, str>>)> {
    if let Some(disk) = &volume.aws_elastic_block_store {
        return Some((&EBS, ebs_handle(&disk.volume_id)));
    }
    if let Some(disk) = &volume.gce_persistent_disk {
        return Some((&GCE, Some(gce_handle("zones/UNSPECIFIED", &disk.pd_name).into())));
    }
    if let Some(disk) = &volume.azure_disk {
        return Some((&AZURE, Some(disk.disk_uri.as_str().into())));
    }
    if let Some(disk) = &volume.cinder {
        return Some((&CINDER, Some(disk.volume_id.as_str().into())));
    }
    let disk = volume.portworx_volume.as_ref()?;
    Some((&PORTWORX, Some(disk.volume_id.as_str().into())))
}

/// The plugin of a persistent volume, and the driver's handle.
pub(super) fn of_persistent_volume(
    volume: &PersistentVolume,
) -> Option<(&'static Plugin, Cow<'_, str>)> {
    let spec = volume.spec.as_ref()?;
    if let Some(disk) = &spec.aws_elastic_block_store {
        return Some((&EBS, ebs_handle(&disk.volume_id)?));
    }
    if let Some(disk) = &spec.gce_persistent_disk {
        return Some((&GCE, gce_handle(&gce_place(volume), &disk.pd_name).into()));
    }
    if let Some(disk) = &spec.azure_disk {
        return Some((&AZURE, disk.disk_uri.as_str().into()));
    }
    if let Some(disk) = &spec.cinder {
        return Some((&CINDER, disk.volume_id.as_str().into()));
    }
    let disk = spec.portworx_volume.as_ref()?;
    Some((&PORTWORX, disk.volume_id.as_str().into()))
}

/// `vol-1`, also where it is written `aws://zone/vol-1`.
fn ebs_handle(id: &str) -> Option<Cow<'_, str>> {
    let Some(path) = id.strip_prefix("aws://") else { return Some(id.into()) };
    let last = path.split_once('/')?.1.trim_matches('/');
    (last.starts_with("vol-") && !last.contains('/')).then(|| last.into())
}

fn gce_handle(place: &str, name: &str) -> String {
    format!("projects/UNSPECIFIED/{place}/disks/{name}")
}

/// The zone of a disk, or the region of one that is in several.
fn gce_place(volume: &PersistentVolume) -> String {
    let labels = volume.metadata.labels.as_ref();
    let label = |key: &str| labels.and_then(|labels| labels.get(key));
    let zones = label("topology.kubernetes.io/zone")
        .or_else(|| label("failure-domain.beta.kubernetes.io/zone"));
    match zones {
        None => "zones/UNSPECIFIED".to_owned(),
        Some(zones) => match zones.split_once("__") {
            None => format!("zones/{zones}"),
            Some((first, _)) => {
                let region = first.rsplit_once('-').map_or(first, |(region, _)| region);
                format!("regions/{region}")
            }
        },
    }
}
