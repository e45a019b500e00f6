//! A binding cut into the pod's stored form, without decoding the pod: of thousands of bindings a
//! second nearly all are of this plain kind.
//!
//! Whatever is out of the ordinary (a precondition that fails or is rare, gates, annotations, a pod
//! that is bound or being deleted) is left to the longer way, which also knows the refusals.

use std::fmt::Write as _;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;

use super::Wanted;
use crate::facts::Facts;
use crate::storage::Stored;

/// The five fields that a pod has, in the order of the stored form.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Pod<'a> {
    #[serde(rename = "apiVersion")]
    _api_version: IgnoredAny,
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    #[serde(borrow)]
    metadata: Metadata<'a>,
    #[serde(borrow)]
    spec: &'a RawValue,
    #[serde(borrow)]
    status: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    uid: Option<String>,
    #[serde(borrow)]
    generation: &'a RawValue,
    deletion_timestamp: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    node_name: Option<IgnoredAny>,
    scheduling_gates: Option<IgnoredAny>,
    #[serde(rename = "containers")]
    _containers: IgnoredAny,
}

/// The pod on its node, as it is stored and as selectors see it; `None` if that takes the longer
/// way. The node's name becomes the last field of the spec.
pub(super) fn bound(stored: &Stored, wanted: &Wanted<'_>) -> Option<(Bytes, Facts)> {
    let text = std::str::from_utf8(&stored.bytes).ok()?;
    let pod: Pod<'_> = serde_json::from_str(text).ok()?;
    let Wanted { uid, revision, annotations, node } = *wanted;
    let spec: Spec = serde_json::from_str(pod.spec.get()).ok()?;
    let mut status: Value = serde_json::from_str(pod.status.get()).ok()?;
    let is_plain = (uid.is_empty() || pod.metadata.uid.as_deref() == Some(uid))
        && revision.is_empty()
        && annotations.is_none()
        && spec.node_name.is_none()
        && spec.scheduling_gates.is_none()
        && pod.metadata.deletion_timestamp.is_none()
        && status.is_object();
    if !is_plain {
        return None;
    }
    super::set_scheduled(&mut status);
    let generation = pod.metadata.generation.get().parse::<u64>().ok()? + 1;
    let before_generation = text.get(..offset(text, pod.metadata.generation)?)?;
    let to_spec_end = text.get(end(text, pod.metadata.generation)?..end(text, pod.spec)? - 1)?;
    let between = text.get(end(text, pod.spec)?..offset(text, pod.status)?)?;
    let rest = text.get(end(text, pod.status)?..)?;
    let mut new = String::with_capacity(text.len() + GROWTH_BYTES);
    // Writing into a text that grows cannot fail.
    let _ = write!(
        new,
        "{before_generation}{generation}{to_spec_end},\"nodeName\":{}}}{between}{status}{rest}",
        Value::from(node)
    );
    let facts = stored.facts.with(&[("spec.nodeName", node), ("status.nominatedNodeName", "")]);
    // In as much memory as it needs: it is kept.
    Some((Bytes::copy_from_slice(new.as_bytes()), facts))
}

/// Where in the text a part of it begins.
fn offset(text: &str, part: &RawValue) -> Option<usize> {
    (part.get().as_ptr() as usize).checked_sub(text.as_ptr() as usize)
}

fn end(text: &str, part: &RawValue) -> Option<usize> {
    Some(offset(text, part)? + part.get().len())
}

/// Room for the node's name, of at most 253 characters, and the condition.
const GROWTH_BYTES: usize = 512;

#[cfg(test)]
mod tests {
    use pintle_api::scheme::Kind;
    use serde_json::json;

    use super::*;
    use crate::object;

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
        let (bytes, facts) = bound(&Stored::unwritten(Kind::Pod, pod, 7), &Wanted::of(binding))?;
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
            super::super::bind_to(&mut longer, &Wanted::of(&binding()));
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
