//! Merge patches of statuses.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// A merge patch that turns the status `old` into `new`: absent fields are taken away. It holds
/// for the same object (uid), but for any version of it: a controller alone writes its status, and
/// a sync works on one object at a time, so the latest one written is the one last computed.
pub(crate) fn status_patch<S: Serialize>(meta: &ObjectMeta, old: Option<&S>, new: &S) -> Value {
    let old = old.map(|old| serde_json::to_value(old).unwrap_or_default()).unwrap_or_default();
    let new = serde_json::to_value(new).unwrap_or_default();
    json!({ "metadata": { "uid": meta.uid }, "status": with_nulls(&old, new) })
}

/// `new`, with a null for each field of `old` that it lacks, at every depth.
fn with_nulls(old: &Value, new: Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (old, &new) else { return new };
    let mut merged = Map::new();
    for (key, value) in new {
        let before = old.get(key).unwrap_or(&Value::Null);
        merged.insert(key.clone(), with_nulls(before, value.clone()));
    }
    for key in old.keys() {
        merged.entry(key.clone()).or_insert(Value::Null);
    }
    Value::Object(merged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_new_status_lacks_is_taken_away() {
        let meta = ObjectMeta { uid: Some("u".to_owned()), ..ObjectMeta::default() };
        let old = json!({"replicas": 3, "unavailableReplicas": 1, "conditions": [1, 2]});
        let new = json!({"replicas": 3, "conditions": [1]});
        assert_eq!(
            status_patch(&meta, Some(&old), &new),
            json!({
                "metadata": {"uid": "u"},
                "status": {"replicas": 3, "conditions": [1], "unavailableReplicas": null},
            })
        );
    }
}
