//! Volumes: names, exactly one source, and the fields of those a node can serve by itself.

use k8s_openapi::api::core::v1::{KeyToPath, Volume};
use rustc_hash::FxHashSet;

use super::container::Volumes;
use crate::field::{Errors, Path};
use crate::syntax;

/// Checks the volumes and returns the names that mounts may refer to.
pub(super) fn volumes<'a>(
    volumes: &'a [Volume],
    spec: &Path<'_>,
    errors: &mut Errors,
) -> Volumes<'a> {
    let list = spec.child("volumes");
    let mut names = FxHashSet::default();
    for (i, volume) in volumes.iter().enumerate() {
        let path = list.index(i);
        let name = volume.name.as_str();
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        } else {
            errors.each_invalid(&path.child("name"), name, syntax::dns1123_label(name));
        }
        if !name.is_empty() && !names.insert(name) {
            errors.duplicate(&path.child("name"), name);
        }
        source(volume, &path, errors);
    }
    names
}

fn source(volume: &Volume, path: &Path<'_>, errors: &mut Errors) {
    let mut sources = sources(volume).into_iter().filter(|(_, is_set)| *is_set);
    if sources.next().is_none() {
        errors.required(path, "must specify a volume type");
    }
    for (field, _) in sources {
        errors.forbidden(&path.child(field), "may not specify more than 1 volume type");
    }
    if let Some(secret) = &volume.secret {
        let path = path.child("secret");
        required(&path.child("secretName"), secret.secret_name.as_deref(), errors);
        mode(&path.child("defaultMode"), secret.default_mode, errors);
        items(secret.items.as_deref().unwrap_or_default(), &path, errors);
    }
    if let Some(config_map) = &volume.config_map {
        let path = path.child("configMap");
        required(&path.child("name"), Some(&config_map.name), errors);
        mode(&path.child("defaultMode"), config_map.default_mode, errors);
        items(config_map.items.as_deref().unwrap_or_default(), &path, errors);
    }
    if let Some(host_path) = &volume.host_path {
        required(&path.child("hostPath").child("path"), Some(&host_path.path), errors);
    }
    if let Some(claim) = &volume.persistent_volume_claim {
        let path = path.child("persistentVolumeClaim");
        required(&path.child("claimName"), Some(&claim.claim_name), errors);
    }
}

fn required(path: &Path<'_>, value: Option<&str>, errors: &mut Errors) {
    if value.is_none_or(str::is_empty) {
        errors.required(path, "");
    }
}

fn mode(path: &Path<'_>, mode: Option<i32>, errors: &mut Errors) {
    if let Some(mode) = mode.filter(|mode| !(0..=0o777).contains(mode)) {
        let detail = "must be a number between 0 and 0777 (octal), both inclusive";
        errors.invalid(path, mode, detail);
    }
}

fn items(items: &[KeyToPath], path: &Path<'_>, errors: &mut Errors) {
    let list = path.child("items");
    for (i, item) in items.iter().enumerate() {
        let path = list.index(i);
        required(&path.child("key"), Some(&item.key), errors);
        if item.path.is_empty() {
            errors.required(&path.child("path"), "");
        } else {
            relative_path(&path.child("path"), &item.path, errors);
        }
        mode(&path.child("mode"), item.mode, errors);
    }
}

/// A path that stays below where it is taken from.
pub(super) fn relative_path(path: &Path<'_>, value: &str, errors: &mut Errors) {
    if value.starts_with('/') {
        errors.invalid(path, value, "must be a relative path");
    }
    if value.split('/').any(|part| part == "..") {
        errors.invalid(path, value, "must not contain '..'");
    }
}

fn sources(it: &Volume) -> [(&'static str, bool); 30] {
    [
        ("emptyDir", it.empty_dir.is_some()),
        ("hostPath", it.host_path.is_some()),
        ("configMap", it.config_map.is_some()),
        ("secret", it.secret.is_some()),
        ("downwardAPI", it.downward_api.is_some()),
        ("projected", it.projected.is_some()),
        ("persistentVolumeClaim", it.persistent_volume_claim.is_some()),
        ("ephemeral", it.ephemeral.is_some()),
        ("csi", it.csi.is_some()),
        ("nfs", it.nfs.is_some()),
        ("image", it.image.is_some()),
        ("awsElasticBlockStore", it.aws_elastic_block_store.is_some()),
        ("azureDisk", it.azure_disk.is_some()),
        ("azureFile", it.azure_file.is_some()),
        ("cephfs", it.cephfs.is_some()),
        ("cinder", it.cinder.is_some()),
        ("fc", it.fc.is_some()),
        ("flexVolume", it.flex_volume.is_some()),
        ("flocker", it.flocker.is_some()),
        ("gcePersistentDisk", it.gce_persistent_disk.is_some()),
        ("gitRepo", it.git_repo.is_some()),
        ("glusterfs", it.glusterfs.is_some()),
        ("iscsi", it.iscsi.is_some()),
        ("photonPersistentDisk", it.photon_persistent_disk.is_some()),
        ("portworxVolume", it.portworx_volume.is_some()),
        ("quobyte", it.quobyte.is_some()),
        ("rbd", it.rbd.is_some()),
        ("scaleIO", it.scale_io.is_some()),
        ("storageos", it.storageos.is_some()),
        ("vsphereVolume", it.vsphere_volume.is_some()),
    ]
}
