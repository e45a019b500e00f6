//! Bindings and changes of the status cut into the pod's stored form, without decoding the pod: of
//! the thousands a second nearly all are of this plain kind.
//!
//! Whatever is out of the ordinary (a precondition that fails or is rare, gates, annotations, a pod
//! that is bound already or being deleted) is left to the longer way, which also knows the refusals.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use pintle_api::syntax::dns1123_subdomain;
use pintle_client::PodStatusChange;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::Wanted;
use super::text::StoredText;
use crate::facts::Facts;
use crate::storage::Stored;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    uid: Option<String>,
    #[serde(borrow)]
    generation: &'a RawValue,
    deletion_timestamp: Option<IgnoredAny>,
    finalizers: Option<IgnoredAny>,
}

impl Metadata<'_> {
    /// Whether a write that is for this uid, if it names one, is for this pod.
    fn is_meant(&self, uid: Option<&str>) -> bool {
        uid.is_none_or(|uid| self.uid.as_deref() == Some(uid))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    node_name: Option<IgnoredAny>,
    scheduling_gates: Option<IgnoredAny>,
    termination_grace_period_seconds: Option<Value>,
    #[serde(rename = "containers")]
    _containers: IgnoredAny,
}

/// The pod on its node, as it is stored and as selectors see it; `None` if that takes the longer
/// way. The node's name becomes the last field of the spec.
pub(super) fn bound(stored: &Stored, wanted: &Wanted<'_>) -> Option<(Bytes, Facts)> {
    let pod = StoredText::of(&stored.bytes)?;
    let metadata: Metadata<'_> = serde_json::from_str(pod.metadata).ok()?;
    let Wanted { uid, revision, annotations, node } = *wanted;
    let spec: Spec = serde_json::from_str(pod.spec.get()).ok()?;
    let mut status: Value = serde_json::from_str(pod.status).ok()?;
    let is_plain = metadata.is_meant(Some(uid).filter(|uid| !uid.is_empty()))
        && revision.is_empty()
        && annotations.is_none()
        && spec.node_name.is_none()
        && spec.scheduling_gates.is_none()
        && metadata.deletion_timestamp.is_none()
        && status.is_object();
    if !is_plain {
        return None;
    }
    super::set_scheduled(&mut status);
    let status = serde_json::to_string(&status).ok()?;
    let generation = metadata.generation.get();
    let next = generation.parse::<u64>().ok()? + 1;
    let before_generation = pod.before(generation)?;
    let open_spec = pod.spec.get().strip_suffix('}')?;
    let to_spec_end = pod.between(generation, &open_spec[open_spec.len()..])?;
    let between = pod.between(pod.spec.get(), pod.status)?;
    let rest = pod.after(pod.status)?;
    let mut new = String::with_capacity(pod.len() + GROWTH_BYTES);
    // Writing into a text that grows cannot fail.
    let _ = write!(
        new,
        "{before_generation}{next}{to_spec_end},\"nodeName\":{}}}{between}{status}{rest}",
        Value::from(node)
    );
    let facts = stored.facts.with(&[("spec.nodeName", node), ("status.nominatedNodeName", "")]);
    // In as much memory as it needs: it is kept.
    Some((Bytes::copy_from_slice(new.as_bytes()), facts))
}

/// The pod with its status changed; `None` if that takes the longer way, or if nothing changes,
/// which is for the newest state to say: the cache may be a moment behind.
pub(super) fn changed(
    stored: &Stored,
    change: &PodStatusChange<'_>,
) -> Option<(Bytes, Arc<Facts>)> {
    let pod = StoredText::of(&stored.bytes)?;
    let metadata: Metadata<'_> = serde_json::from_str(pod.metadata).ok()?;
    let mut status: Map<String, Value> = serde_json::from_str(pod.status).ok()?;
    let revision = change.resource_version.unwrap_or_default();
    let node = change.nominated_node.flatten().unwrap_or_default();
    let is_plain = metadata.is_meant(change.uid)
        && metadata.deletion_timestamp.is_none()
        && (revision.is_empty() || revision.parse() == Ok(stored.revision))
        && (node.is_empty() || dns1123_subdomain(node).is_empty())
        && !status.contains_key("resourceClaimStatuses");
    if !is_plain {
        return None;
    }
    // As a patch leaves it.
    status.retain(|_, value| !value.is_null());
    if let Some(condition) = change.condition {
        let conditions = status.entry("conditions").or_insert_with(|| Value::Array(Vec::new()));
        set_condition(conditions.as_array_mut()?, serde_json::to_value(condition).ok()?)?;
    }
    match change.nominated_node {
        None => {}
        Some(None) => _ = status.shift_remove("nominatedNodeName"),
        Some(Some(node)) => _ = status.insert("nominatedNodeName".to_owned(), node.into()),
    }
    let status = serde_json::to_string(&status).ok()?;
    if status == pod.status {
        return None;
    }
    let new = [pod.before(pod.status)?, &status, pod.after(pod.status)?].concat();
    let facts = match change.nominated_node {
        Some(_) => Arc::new(stored.facts.with(&[("status.nominatedNodeName", node)])),
        None => Arc::clone(&stored.facts),
    };
    Some((Bytes::from(new), facts))
}

/// Lays the condition over the one of its type, or adds it; `None` if they are not conditions.
fn set_condition(conditions: &mut Vec<Value>, new: Value) -> Option<()> {
    for condition in conditions.iter_mut() {
        condition.as_object_mut()?.retain(|_, value| !value.is_null());
    }
    let mut same = conditions.iter_mut().filter(|condition| condition["type"] == new["type"]);
    match (same.next(), same.next()) {
        (Some(Value::Object(old)), None) => {
            let Value::Object(new) = new else { return None };
            old.extend(new);
        }
        // Where a patch puts it.
        (None, _) => conditions.insert(0, new),
        _ => return None,
    }
    Some(())
}

/// Whether nothing holds the pod once it is to be deleted: no node runs it, or it is given no time
/// there.
pub(super) fn goes_at_once(stored: &Stored, uid: Option<&str>) -> bool {
    let read = || {
        let pod = StoredText::of(&stored.bytes)?;
        let metadata: Metadata<'_> = serde_json::from_str(pod.metadata).ok()?;
        let spec: Spec = serde_json::from_str(pod.spec.get()).ok()?;
        let has_no_time = spec.termination_grace_period_seconds == Some(0.into());
        let is_held = metadata.deletion_timestamp.is_some() || metadata.finalizers.is_some();
        Some(metadata.is_meant(uid) && !is_held && (spec.node_name.is_none() || has_no_time))
    };
    read().unwrap_or(false)
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
