//! ConfigMaps and Secrets.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::Value;

use super::IMMUTABLE;
use crate::field::{Errors, Path};
use crate::scheme::Kind;
use crate::syntax;

/// The values of one object together, in bytes.
const DATA_BYTES_MAX: usize = 1 << 20;

const DATA: Path<'static> = Path::new("data");

pub(super) fn config_map(map: &ConfigMap, errors: &mut Errors) {
    let mut bytes = 0;
    for (key, value) in map.data.iter().flatten() {
        bytes += value.len();
        data_key(&DATA.key(key), key, errors);
        if map.binary_data.as_ref().is_some_and(|binary| binary.contains_key(key)) {
            let detail = "duplicate of key present in binaryData";
            errors.invalid(&DATA.key(key), key.as_str(), detail);
        }
    }
    let path = Path::new("binaryData");
    for (key, value) in map.binary_data.iter().flatten() {
        bytes += value.0.len();
        data_key(&path.key(key), key, errors);
    }
    if bytes > DATA_BYTES_MAX {
        errors.too_long(&Path::new("[]"), DATA_BYTES_MAX);
    }
}

fn data_key(path: &Path<'_>, key: &str, errors: &mut Errors) {
    errors.each_invalid(path, key, syntax::config_map_key(key));
}

pub(super) fn secret(secret: &Secret, errors: &mut Errors) {
    let mut bytes = 0;
    for (key, value) in secret.data.iter().flatten() {
        bytes += value.0.len();
        data_key(&DATA.key(key), key, errors);
    }
    if bytes > DATA_BYTES_MAX {
        errors.too_long(&DATA, DATA_BYTES_MAX);
    }
    let keys: &[&str] = match secret.type_.as_deref().unwrap_or_default() {
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        _ => &[],
    };
    for key in keys {
        if !secret.data.as_ref().is_some_and(|data| data.contains_key(*key)) {
            errors.required(&DATA.key(key), "");
        }
    }
    if secret.type_.as_deref() == Some("kubernetes.io/service-account-token") {
        const ACCOUNT: &str = "kubernetes.io/service-account.name";
        let annotations = secret.metadata.annotations.as_ref();
        if annotations.and_then(|all| all.get(ACCOUNT)).is_none_or(String::is_empty) {
            let path = Path::new("metadata");
            errors.required(&path.child("annotations").key(ACCOUNT), "");
        }
    }
}

pub(super) fn update(kind: Kind, new: &Value, old: &Value, errors: &mut Errors) {
    if kind == Kind::Secret {
        super::immutable(new, old, &["type"], errors);
    }
    if old["immutable"] != true {
        return;
    }
    let detail = format!("{IMMUTABLE} when `immutable` is set");
    for field in ["immutable", "data", "binaryData"] {
        let empty = |value: &Value| value.as_object().is_some_and(serde_json::Map::is_empty);
        let unset = |value: &Value| value.is_null() || empty(value);
        let (now, before) = (&new[field], &old[field]);
        if now != before && !(unset(now) && unset(before)) {
            errors.forbidden(&Path::new(field), detail.clone());
        }
    }
}
