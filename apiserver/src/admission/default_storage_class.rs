//! The `DefaultStorageClass` admission plugin: a claim that names no class gets the default one.
//!
//! Mirrors plugin/pkg/admission/storage/storageclass/setdefault. An empty name is a name: such a claim
//! wants a volume without a class.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::object;
use crate::storage::Stored;

/// Fill in the class of a claim that is created. `classes` are all StorageClasses.
pub(crate) fn admit(claim: &mut Value, classes: &[Arc<Stored>]) {
    let annotations = &claim["metadata"]["annotations"];
    let is_named =
        !claim["spec"]["storageClassName"].is_null() || annotations[BETA_CLASS].is_string();
    if is_named {
        return;
    }
    if let Some(class) = default_class(classes.iter().map(|entry| entry.decoded())) {
        let name = json!(object::name(class));
        object::section(claim, "spec").insert("storageClassName".to_owned(), name);
    }
}

/// The default; of several the newest, of those the first by name.
fn default_class<'a>(classes: impl Iterator<Item = &'a Value>) -> Option<&'a Value> {
    let is_default = |class: &&Value| {
        let annotations = &class["metadata"]["annotations"];
        DEFAULT.iter().any(|key| annotations[key] == "true")
    };
    let age = |class: &&'a Value| {
        let created = object::meta(class, "creationTimestamp");
        (std::cmp::Reverse(created), object::name(class))
    };
    classes.filter(is_default).min_by_key(age)
}

const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const DEFAULT: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn class(name: &str, created: &str, is_default: &str) -> Value {
        json!({"metadata": {"name": name, "creationTimestamp": created,
            "annotations": {DEFAULT[0]: is_default}}})
    }

    #[test]
    fn the_newest_default_counts() {
        let classes = [
            class("old", "2026-01-01T00:00:00Z", "true"),
            class("b", "2026-01-02T00:00:00Z", "true"),
            class("a", "2026-01-02T00:00:00Z", "true"),
            class("no", "2026-01-03T00:00:00Z", "false"),
        ];
        assert_eq!(default_class(classes.iter()).map(object::name), Some("a"));
        assert_eq!(default_class(classes[3..].iter()), None);
    }

    #[test]
    fn a_named_class_stays() {
        for claim in [
            json!({"spec": {"storageClassName": ""}}),
            json!({"metadata": {"annotations": {BETA_CLASS: "x"}}, "spec": {}}),
        ] {
            let mut admitted = claim.clone();
            admit(&mut admitted, &[]);
            assert_eq!(admitted, claim);
        }
    }
}
