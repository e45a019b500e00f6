//! A binding cut into the pod's stored form, without decoding the pod: of thousands of bindings a
//! second nearly all are of this plain kind.
//!
//! Whatever is out of the ordinary (a precondition that fails or is rare, gates, annotations, a pod
//! that is bound or being deleted) is left to the longer way, which also knows the refusals.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use crate::facts::Facts;
use crate::object;
use crate::storage::Stored;

type Fields<'a> = BTreeMap<&'a str, &'a RawValue>;

/// The five fields that a pod has, in the order of the stored form.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Pod<'a> {
    #[serde(borrow)]
    api_version: &'a RawValue,
    #[serde(borrow)]
    kind: &'a RawValue,
    #[serde(borrow)]
    metadata: Fields<'a>,
    #[serde(borrow)]
    spec: Fields<'a>,
    status: Value,
}

/// The pod on the node of `binding`, as it is stored and as selectors see it; `None` if that takes
/// the longer way.
pub(super) fn bound(stored: &Stored, binding: &Value) -> Option<(Bytes, Facts)> {
    let mut pod: Pod<'_> = serde_json::from_slice(&stored.bytes).ok()?;
    let uid = object::meta(binding, "uid");
    let is_plain = (uid.is_empty() || text(&pod.metadata, "uid") == Some(uid))
        && object::meta(binding, "resourceVersion").is_empty()
        && binding["metadata"].get("annotations").is_none()
        && ["nodeName", "schedulingGates"].iter().all(|field| !pod.spec.contains_key(field))
        && !pod.metadata.contains_key("deletionTimestamp")
        && pod.status.is_object();
    if !is_plain {
        return None;
    }
    let node = object::text(binding, &["target", "name"]);
    let before = pod.metadata.get("generation").and_then(|raw| raw.get().parse::<u64>().ok());
    let (name, generation) =
        (to_raw_value(node).ok()?, to_raw_value(&(before.unwrap_or(0) + 1)).ok()?);
    pod.spec.insert("nodeName", &name);
    pod.metadata.insert("generation", &generation);
    super::set_scheduled(&mut pod.status);
    let facts = stored.facts.with(&[("spec.nodeName", node), ("status.nominatedNodeName", "")]);
    Some((object::json_bytes(&pod), facts))
}

fn text<'a>(fields: &Fields<'a>, key: &str) -> Option<&'a str> {
    serde_json::from_str(fields.get(key)?.get()).ok()
}

#[cfg(test)]
mod tests {
    use pintle_api::scheme::Kind;
    use serde_json::json;

    use super::*;

    fn pod() -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "namespace": "ns", "uid": "u", "generation": 3,
                "labels": {"k": "é\"\\"}, "annotations": {"x": "\n"}},
            "spec": {"containers": [{"name": "c", "image": "i"}], "schedulerName": "s"},
            "status": {"phase": "Pending", "nominatedNodeName": "n2", "conditions": [
                {"type": "PodScheduled", "status": "False"}, {"type": "Other", "status": "True"}]},
        })
    }

    fn binding() -> Value {
        json!({"metadata": {"name": "a", "uid": "u"}, "target": {"name": "n1"}})
    }

    fn spliced(pod: &Value, binding: &Value) -> Option<(Value, Facts)> {
        let (bytes, facts) = bound(&Stored::unwritten(Kind::Pod, pod, 7), binding)?;
        Some((serde_json::from_slice(&bytes).unwrap(), facts))
    }

    /// But for the time of the transition.
    fn untimed(mut pod: Value) -> Value {
        for condition in pod["status"]["conditions"].as_array_mut().unwrap() {
            object::set(condition, "lastTransitionTime", None);
        }
        pod
    }

    #[test]
    fn it_does_what_the_longer_way_does() {
        let mut plain = pod();
        plain["status"] = json!({});
        for pod in [pod(), plain] {
            let (spliced, facts) = spliced(&pod, &binding()).unwrap();
            let mut longer = pod.clone();
            super::super::bind_to(&mut longer, &binding());
            assert_eq!(untimed(spliced.clone()), untimed(longer));
            assert_eq!(facts, Facts::of(Kind::Pod, &spliced));
        }
    }

    #[test]
    fn what_is_not_plain_goes_the_longer_way() {
        for (pointer, value) in [
            ("/spec/nodeName", json!("n")),
            ("/spec/schedulingGates", json!([{"name": "g"}])),
            ("/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z")),
            ("/metadata/uid", json!("v")),
        ] {
            let mut pod = pod();
            let (parent, field) = pointer.rsplit_once('/').unwrap();
            pod.pointer_mut(parent).unwrap()[field] = value;
            assert!(spliced(&pod, &binding()).is_none(), "{pointer}");
        }
        let mut annotated = binding();
        annotated["metadata"]["annotations"] = json!({"a": "b"});
        assert!(spliced(&pod(), &annotated).is_none());
        let mut versioned = binding();
        versioned["metadata"]["resourceVersion"] = json!("7");
        assert!(spliced(&pod(), &versioned).is_none());
    }
}
