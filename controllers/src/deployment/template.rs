//! Pod templates: their hash, their equality, and the ReplicaSet made of one.
//!
//! The hash need only be stable and short: it names the ReplicaSet and keeps the selectors of a
//! Deployment's ReplicaSets apart. Upstream hashes a Go dump of the struct; here it is FNV-1a over
//! the canonical JSON, in the same alphabet. Which ReplicaSet is the new one is decided by comparing
//! templates, never by the hash.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use crate::owner::controller_reference;

/// The label that carries the hash.
pub(crate) const HASH_LABEL: &str = "pod-template-hash";

/// The hash of the Deployment's template. A collision count changes it.
pub(super) fn hash(template: &PodTemplateSpec, collision_count: Option<i32>) -> String {
    let text = canonical(template).to_string();
    let mut hash = fnv1a(FNV_OFFSET, text.as_bytes());
    if let Some(count) = collision_count {
        hash = fnv1a(hash, &count.to_le_bytes());
    }
    safe_encode(&hash.to_string())
}

/// Whether the templates are the same but for the hash label, with absent and empty alike.
pub(super) fn equal(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    a == b || canonical(a) == canonical(b)
}

/// The ReplicaSet for the Deployment's current template, with no replicas and no annotations yet.
pub(super) fn new_replica_set(deployment: &Deployment) -> ReplicaSet {
    let spec = deployment.spec.clone().unwrap_or_default();
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
    let hash = hash(&spec.template, collisions);
    let mut template = spec.template;
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(HASH_LABEL.to_owned(), hash.clone());
    let labels = labels.clone();
    let mut selector = spec.selector;
    selector.match_labels.get_or_insert_default().insert(HASH_LABEL.to_owned(), hash.clone());
    let name = deployment.metadata.name.as_deref().unwrap_or_default();
    ReplicaSet {
        metadata: ObjectMeta {
            annotations: Some(BTreeMap::new()),
            labels: Some(labels),
            name: Some(format!("{name}-{hash}")),
            namespace: deployment.metadata.namespace.clone(),
            owner_references: Some(vec![controller_reference(deployment)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            min_ready_seconds: spec.min_ready_seconds,
            replicas: Some(0),
            selector,
            template: Some(template),
        }),
        status: None,
    }
}

fn canonical(template: &PodTemplateSpec) -> Value {
    let mut value = serde_json::to_value(template).unwrap_or_default();
    if let Some(labels) = value.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.shift_remove(HASH_LABEL);
    }
    prune(&mut value);
    value
}

/// Take out what is empty, so that `{}`, `[]`, `null` and absence are one.
fn prune(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(prune),
        Value::Object(fields) => {
            fields.values_mut().for_each(prune);
            fields.retain(|_, field| !is_empty(field));
        }
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        // `emptyDir: {}` means something, but a volume without any source is refused anyway.
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

fn fnv1a(seed: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(seed, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(FNV_PRIME))
}

/// Only letters and digits that cannot spell a word (k8s.io/apimachinery/pkg/util/rand).
fn safe_encode(text: &str) -> String {
    let alphabet = SAFE_ALPHABET.as_bytes();
    text.bytes().map(|byte| char::from(alphabet[usize::from(byte) % alphabet.len()])).collect()
}

const FNV_OFFSET: u32 = 0x811c_9dc5;
const FNV_PRIME: u32 = 0x0100_0193;
const SAFE_ALPHABET: &str = "bcdfghjklmnpqrstvwxz2456789";

#[cfg(test)]
mod tests {
    use super::*;

    fn template(json: Value) -> PodTemplateSpec {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn the_hash_is_stable_safe_and_ignores_its_own_label() {
        let plain = template(serde_json::json!({
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "nginx:1.27"}]},
        }));
        let mut labelled = plain.clone();
        let labels = labelled.metadata.as_mut().unwrap().labels.as_mut().unwrap();
        labels.insert(HASH_LABEL.to_owned(), "abc".to_owned());
        assert_eq!(hash(&plain, None), hash(&labelled, None));
        assert!(equal(&plain, &labelled));
        // A pinned value: a changed hash would roll every Deployment's names.
        assert_eq!(hash(&plain, None), "6f5954ff8d");
        assert_ne!(hash(&plain, None), hash(&plain, Some(1)));
        assert!(hash(&plain, None).bytes().all(|byte| SAFE_ALPHABET.as_bytes().contains(&byte)));
    }

    #[test]
    fn empty_and_absent_are_equal_and_images_are_not() {
        let one = template(serde_json::json!({
            "metadata": {"annotations": {}},
            "spec": {"containers": [{"name": "c", "image": "a", "resources": {}}]},
        }));
        let two = template(serde_json::json!({
            "spec": {"containers": [{"name": "c", "image": "a"}], "volumes": []},
        }));
        let three = template(serde_json::json!({"spec": {"containers": [{"name": "c"}]}}));
        assert!(equal(&one, &two));
        assert!(!equal(&one, &three));
    }
}
