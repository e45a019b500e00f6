//! `metadata`: names, namespaces, labels, annotations, owners, finalizers.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{IMMUTABLE, is_namespaced};
use crate::field::{Errors, Path};
use crate::scheme::Kind;
use crate::syntax;

/// All annotations of an object together, keys and values, in bytes.
const ANNOTATIONS_BYTES_MAX: usize = 256 << 10;

const METADATA: Path<'static> = Path::new("metadata");

pub(super) fn object_meta(kind: Kind, metadata: &Value, errors: &mut Errors) {
    // The bodies of requests below an object take their name from the URL, and reviews have none.
    let is_body = crate::scheme::of(kind).is_none_or(|resource| !resource.is_stored());
    names(kind, metadata, is_body, errors);
    namespace(kind, metadata, is_body, errors);
    if metadata["generation"].as_i64().is_some_and(|generation| generation < 0) {
        let path = METADATA.child("generation");
        errors.invalid(&path, metadata["generation"].clone(), super::NOT_NEGATIVE);
    }
    if let Some(all) = metadata["labels"].as_object() {
        let all = all.iter().map(|(key, value)| (key.as_str(), text(value)));
        labels(&METADATA.child("labels"), all, errors);
    }
    annotations(&metadata["annotations"], &METADATA.child("annotations"), errors);
    owners(&metadata["ownerReferences"], errors);
    finalizers(&metadata["finalizers"], errors);
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn names(kind: Kind, metadata: &Value, is_body: bool, errors: &mut Errors) {
    let (name, prefix) = (text(&metadata["name"]), text(&metadata["generateName"]));
    if !prefix.is_empty() {
        // What is appended makes a trailing dash well formed.
        let whole = format!("{}a", prefix.strip_suffix('-').unwrap_or(prefix));
        errors.each_invalid(&METADATA.child("generateName"), prefix, name_errors(kind, &whole));
    }
    let path = METADATA.child("name");
    if !name.is_empty() {
        errors.each_invalid(&path, name, name_errors(kind, name));
    } else if prefix.is_empty() && !is_body {
        errors.required(&path, "name or generateName is required");
    }
}

/// What is wrong with a name of this kind.
fn name_errors(kind: Kind, name: &str) -> Vec<String> {
    match kind {
        Kind::Namespace => syntax::dns1123_label(name),
        Kind::Service => syntax::dns1035_label(name),
        _ => syntax::dns1123_subdomain(name),
    }
}

fn namespace(kind: Kind, metadata: &Value, is_body: bool, errors: &mut Errors) {
    let namespace = text(&metadata["namespace"]);
    let path = METADATA.child("namespace");
    if !is_namespaced(kind) {
        if !namespace.is_empty() {
            errors.forbidden(&path, "not allowed on this type");
        }
    } else if !namespace.is_empty() {
        errors.each_invalid(&path, namespace, syntax::dns1123_label(namespace));
    } else if !is_body {
        errors.required(&path, "");
    }
}

/// Keys and values of labels, or of anything with labels' syntax.
pub(super) fn labels<'a>(
    path: &Path<'_>,
    labels: impl IntoIterator<Item = (&'a str, &'a str)>,
    errors: &mut Errors,
) {
    for (key, value) in labels {
        errors.each_invalid(path, key, syntax::qualified_name(key));
        errors.each_invalid(path, value, syntax::label_value(value));
    }
}

/// [`labels`] of a typed map.
pub(super) fn label_map(
    path: &Path<'_>,
    map: Option<&BTreeMap<String, String>>,
    errors: &mut Errors,
) {
    let all = map.into_iter().flatten();
    labels(path, all.map(|(key, value)| (key.as_str(), value.as_str())), errors);
}

fn annotations(annotations: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut bytes = 0;
    for (key, value) in annotations.as_object().into_iter().flatten() {
        errors.each_invalid(path, key, syntax::qualified_name(&key.to_lowercase()));
        bytes += key.len() + text(value).len();
    }
    if bytes > ANNOTATIONS_BYTES_MAX {
        errors.too_long(path, ANNOTATIONS_BYTES_MAX);
    }
}

fn owners(owners: &Value, errors: &mut Errors) {
    let path = METADATA.child("ownerReferences");
    let mut controllers = Vec::new();
    for owner in owners.as_array().into_iter().flatten() {
        let version = text(&owner["apiVersion"]).rsplit('/').next().unwrap_or_default();
        for (field, value, what) in [
            ("apiVersion", version, "version"),
            ("kind", text(&owner["kind"]), "kind"),
            ("name", text(&owner["name"]), "name"),
            ("uid", text(&owner["uid"]), "uid"),
        ] {
            if value.is_empty() {
                errors.invalid(&path.child(field), value, format!("{what} must not be empty"));
            }
        }
        if owner["controller"] == true {
            controllers.push(text(&owner["name"]));
        }
    }
    if let [first, second, ..] = controllers.as_slice() {
        errors.invalid(
            &path,
            owners.clone(),
            format!(
                "Only one reference can have Controller set to true. Found \"true\" in references \
                 for {first} and {second}"
            ),
        );
    }
}

fn finalizers(finalizers: &Value, errors: &mut Errors) {
    let path = METADATA.child("finalizers");
    let all: Vec<&str> = finalizers.as_array().into_iter().flatten().map(text).collect();
    for finalizer in &all {
        errors.each_invalid(&path, finalizer, syntax::qualified_name(finalizer));
    }
    if all.contains(&"orphan") && all.contains(&"foregroundDeletion") {
        errors.invalid(
            &path,
            finalizers.clone(),
            "finalizer orphan and foregroundDeletion cannot be both set",
        );
    }
}

/// What of the metadata may not change. System fields the request leaves out are not changes.
pub(super) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    for field in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        let value = &new[field];
        if !value.is_null() && *value != old[field] {
            errors.invalid(&METADATA.child(field), value.clone(), IMMUTABLE);
        }
    }
    let generation = |metadata: &Value| metadata["generation"].as_i64().unwrap_or(0);
    if new.get("generation").is_some() && generation(new) < generation(old) {
        let path = METADATA.child("generation");
        errors.invalid(&path, generation(new), "must not be decremented");
    }
    if !old["deletionTimestamp"].is_null() {
        let known = old["finalizers"].as_array();
        let all = new["finalizers"].as_array().into_iter().flatten();
        let added: Vec<&str> =
            all.filter(|it| !known.is_some_and(|k| k.contains(it))).map(text).collect();
        if !added.is_empty() {
            errors.forbidden(
                &METADATA.child("finalizers"),
                format!(
                    "no new finalizers can be added if the object is being deleted, found new \
                     finalizers {added:?}"
                ),
            );
        }
    }
}
