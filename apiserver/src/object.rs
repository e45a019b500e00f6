//! Objects as the server holds them: JSON values whose shape decoding has checked.
//!
//! The stored form has no `metadata.resourceVersion`; it is the store's revision and is spliced
//! into the bytes on the way out ([`encode`], [`with_revision`]).

use std::fmt::Write as _;

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::{Map, Value, json};

/// The text at a path of keys, empty where there is none.
pub(crate) fn text<'a>(object: &'a Value, path: &[&str]) -> &'a str {
    path.iter().try_fold(object, |value, key| value.get(key)).and_then(Value::as_str).unwrap_or("")
}

/// A text of `metadata`.
pub(crate) fn meta<'a>(object: &'a Value, key: &str) -> &'a str {
    text(object, &["metadata", key])
}

pub(crate) fn name(object: &Value) -> &str {
    meta(object, "name")
}

pub(crate) fn namespace(object: &Value) -> &str {
    meta(object, "namespace")
}

/// The object at `key` of an object, made where there is none.
pub(crate) fn section<'a>(object: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    if !object.is_object() {
        *object = json!({});
    }
    let slot = &mut object[key];
    if !slot.is_object() {
        *slot = json!({});
    }
    slot.as_object_mut().expect("was made an object above")
}

pub(crate) fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    section(object, "metadata")
}

/// Set, or with `None` remove, a field at the object's top.
pub(crate) fn set(object: &mut Value, key: &str, value: Option<Value>) {
    let Some(map) = object.as_object_mut() else { return };
    match value {
        Some(value) => _ = map.insert(key.to_owned(), value),
        None => _ = map.remove(key),
    }
}

pub(crate) fn finalizers(object: &Value) -> Vec<String> {
    let list = object["metadata"]["finalizers"].as_array();
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

pub(crate) fn set_finalizers(object: &mut Value, finalizers: &[String]) {
    let metadata = metadata(object);
    if finalizers.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers".to_owned(), json!(finalizers));
    }
}

pub(crate) fn is_deleting(object: &Value) -> bool {
    !meta(object, "deletionTimestamp").is_empty()
}

/// The stored bytes: `apiVersion`, `kind` and `metadata` first, no resourceVersion.
pub(crate) fn encode(object: &Value) -> Bytes {
    json_bytes(&AsStored(object))
}

/// A value in JSON, in as much memory as it needs: these bytes are kept.
pub(crate) fn json_bytes(value: &impl Serialize) -> Bytes {
    let mut bytes = Vec::with_capacity(OBJECT_BYTES);
    // Keys are strings and there are no writers that fail, so this cannot fail.
    let _ = serde_json::to_writer(&mut bytes, value);
    Bytes::copy_from_slice(&bytes)
}

/// Most objects fit.
const OBJECT_BYTES: usize = 4096;

/// An object in the order of the stored form.
struct AsStored<'a>(&'a Value);

impl Serialize for AsStored<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for key in ["apiVersion", "kind"] {
            map.serialize_entry(key, self.0.get(key).unwrap_or(&Value::Null))?;
        }
        if let Some(metadata) = self.0.get("metadata") {
            map.serialize_entry("metadata", &StoredMetadata(metadata))?;
        }
        for (key, value) in self.0.as_object().into_iter().flatten() {
            if !matches!(key.as_str(), "apiVersion" | "kind" | "metadata") {
                map.serialize_entry(key, value)?;
            }
        }
        map.end()
    }
}

/// `metadata` without resourceVersion.
pub(crate) struct StoredMetadata<'a>(pub(crate) &'a Value);

impl Serialize for StoredMetadata<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(fields) => {
                serializer.collect_map(fields.iter().filter(|(key, _)| *key != "resourceVersion"))
            }
            other => other.serialize(serializer),
        }
    }
}

/// The stored bytes with `metadata.resourceVersion` spliced in.
pub(crate) fn with_revision(stored: &[u8], revision: u64) -> Bytes {
    let mut bytes = BytesMut::with_capacity(stored.len() + REVISION_BYTES);
    put_with_revision(&mut bytes, stored, revision);
    bytes.freeze()
}

/// The same, appended. Revision 0 is none.
pub(crate) fn put_with_revision(out: &mut BytesMut, stored: &[u8], revision: u64) {
    const METADATA: &[u8] = b"\"metadata\":{";
    let start = stored.windows(METADATA.len()).position(|window| window == METADATA);
    let Some(start) = start.filter(|_| revision > 0) else { return out.put_slice(stored) };
    let split = start + METADATA.len();
    let comma = if stored.get(split) == Some(&b'}') { "" } else { "," };
    out.put_slice(&stored[..split]);
    // Writing into a buffer that grows cannot fail.
    let _ = write!(out, "\"resourceVersion\":\"{revision}\"{comma}");
    out.put_slice(&stored[split..]);
}

/// Room for `"resourceVersion":"18446744073709551615",`.
const REVISION_BYTES: usize = 41;

/// Now, as `metav1.Time` has it: RFC 3339 in whole seconds.
pub(crate) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A `metadata.uid`.
pub(crate) fn new_uid() -> String {
    uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_revision_is_spliced_into_the_outermost_metadata() {
        let pod = json!({
            "spec": {"template": {"metadata": {"name": "inner"}}},
            "metadata": {"name": "a", "resourceVersion": "7"},
            "kind": "Pod", "apiVersion": "v1",
        });
        let bytes = encode(&pod);
        assert!(!String::from_utf8_lossy(&bytes).contains("resourceVersion"));
        let value: Value = serde_json::from_slice(&with_revision(&bytes, 42)).unwrap();
        assert_eq!(value["metadata"], json!({"resourceVersion": "42", "name": "a"}));
        assert_eq!(value["spec"]["template"]["metadata"], json!({"name": "inner"}));
    }

    #[test]
    fn empty_metadata_stays_json() {
        let bytes = encode(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {}}));
        let value: Value = serde_json::from_slice(&with_revision(&bytes, 1)).unwrap();
        assert_eq!(value["metadata"]["resourceVersion"], "1");
    }
}
