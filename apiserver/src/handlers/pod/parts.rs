//! A pod's stored form with the spec left as text: what changes the status or the metadata alone
//! neither decodes nor encodes the larger half.

use bytes::Bytes;
use pintle_api::scheme::Kind;
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::text::StoredText;
use crate::object;

/// The pod, and its spec apart.
pub(crate) struct Parts<'a> {
    /// `apiVersion`, `kind`, `metadata` and `status`.
    pub(crate) object: Value,
    pub(crate) spec: &'a RawValue,
}

impl<'a> Parts<'a> {
    /// `None` if the fields are others, or in another order.
    pub(crate) fn of(stored: &'a Bytes) -> Option<Self> {
        let StoredText { metadata, spec, status, .. } = StoredText::of(stored)?;
        let value = |text: &str| serde_json::from_str::<Value>(text).ok();
        let object = json!({"apiVersion": Kind::Pod.api_version(), "kind": Kind::Pod.name(),
            "metadata": value(metadata)?, "status": value(status)?});
        Some(Self { object, spec })
    }

    /// The stored form of the pod with this in its place.
    pub(crate) fn encode(&self, object: &Value) -> Bytes {
        object::json_bytes(&Whole { object, spec: self.spec })
    }
}

struct Whole<'a> {
    object: &'a Value,
    spec: &'a RawValue,
}

impl Serialize for Whole<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for key in ["apiVersion", "kind"] {
            map.serialize_entry(key, &self.object[key])?;
        }
        map.serialize_entry("metadata", &object::StoredMetadata(&self.object["metadata"]))?;
        map.serialize_entry("spec", self.spec)?;
        map.serialize_entry("status", &self.object["status"])?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_form_comes_out_as_it_went_in() {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
            "spec": {"containers": [{"name": "c", "image": "é\"\\"}], "priority": 0},
            "status": {"phase": "Pending"}});
        let stored = object::encode(&pod);
        let parts = Parts::of(&stored).unwrap();
        assert_eq!(parts.encode(&parts.object), stored);
        let mut changed = parts.object.clone();
        changed["status"]["phase"] = json!("Running");
        changed["metadata"]["resourceVersion"] = json!("7");
        let mut expected = pod.clone();
        expected["status"]["phase"] = json!("Running");
        assert_eq!(parts.encode(&changed), object::encode(&expected));
    }

    #[test]
    fn other_forms_are_none() {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": {}});
        assert!(Parts::of(&object::encode(&pod)).is_none());
        let turned = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {}, "status": {},
            "spec": {}});
        assert!(Parts::of(&object::encode(&turned)).is_none());
    }
}
