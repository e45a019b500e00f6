//! pods/binding.

mod splice;

use http::{Response, StatusCode};
use pintle_api::decode::Decoded;
use pintle_api::scheme::{self, Kind, Resource};
use pintle_api::status::{Status, Subject};
use serde_json::{Value, json};

use super::write::TRIES_MAX;
use super::{Call, options, render};
use crate::body::Body;
use crate::request::Target;
use crate::server::Core;
use crate::storage::{self, Current};
use crate::{object, status};

/// Put a pod on a node, once: what the scheduler writes. `POST bindings` names the pod in the body.
pub(super) async fn bind(
    core: &Core,
    call: &Call<'_>,
    target: &Target,
) -> Result<Response<Body>, Status> {
    let dry_run = call.query.dry_run()?;
    let Decoded { object: binding, warnings } = options::decode(call, Kind::Binding)?;
    let name = object::name(&binding);
    if target.name.is_empty() && name.is_empty() {
        return Err(Status::bad_request("the name of the pod must be in metadata.name"));
    }
    if !target.name.is_empty() && !name.is_empty() && name != target.name {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    let pod = Target {
        name: if target.name.is_empty() { name.to_owned() } else { target.name.clone() },
        resource: "pods".to_owned(),
        ..target.clone()
    };
    check_node(&pod.name, &binding)?;
    let resource = scheme::of(Kind::Pod).ok_or_else(Status::no_such_path)?;
    write(core, resource, &pod, &binding, dry_run).await?;
    let done = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "code": 201,
    });
    Ok(render::with_warnings(status::json(StatusCode::CREATED, &done), &warnings))
}

/// Where a pod is bound to changes nothing of what defaults, validation and the server's own fields
/// are about, so the object is changed in place and written.
async fn write(
    core: &Core,
    resource: &'static Resource,
    target: &Target,
    binding: &Value,
    dry_run: bool,
) -> Result<(), Status> {
    let key = storage::key(resource, &target.namespace, &target.name);
    if let Some(known) = core.cache.get(resource, &target.namespace, &target.name)
        && let Some((bytes, facts)) = splice::bound(&known, binding).filter(|_| !dry_run)
        && core.storage.put_bytes(key.clone(), facts, bytes, known.revision).await?.is_some()
    {
        return Ok(());
    }
    for _ in 0..TRIES_MAX {
        let Current { object: mut pod, revision, .. } =
            core.storage.get(resource, &target.namespace, &target.name).await?;
        check(&pod, revision, binding)?;
        if dry_run {
            return Ok(());
        }
        bind_to(&mut pod, binding);
        if core.storage.put(Kind::Pod, key.clone(), &pod, revision).await?.is_some() {
            return Ok(());
        }
        tokio::task::yield_now().await;
    }
    Err(Status::modified(storage::subject(resource, &target.name)))
}

fn check_node(pod: &str, binding: &Value) -> Result<(), Status> {
    let mut errors = pintle_api::field::Errors::new();
    let path = pintle_api::field::Path::new("target");
    let kind = object::text(binding, &["target", "kind"]);
    if !matches!(kind, "" | "Node") {
        errors.not_supported(&path.child("kind"), kind, &["Node", "<empty>"]);
    }
    if object::text(binding, &["target", "name"]).is_empty() {
        errors.required(&path.child("name"), "");
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(Subject { group: "", kind: "Binding", name: pod }, &errors))
}

/// Whether the pod, at this revision, may be bound so.
fn check(pod: &Value, revision: u64, binding: &Value) -> Result<(), Status> {
    let name = object::name(pod);
    let conflict = |why: String| {
        Err(Status::conflict(Subject { group: "", kind: "pods/binding", name }, &why))
    };
    let revision = revision.to_string();
    for (key, found) in [("uid", object::meta(pod, "uid")), ("resourceVersion", &revision)] {
        let wanted = object::meta(binding, key);
        if !wanted.is_empty() && wanted != found {
            return conflict(format!(
                "Precondition failed: {key} in precondition: {wanted}, in object meta: {found}"
            ));
        }
    }
    if object::is_deleting(pod) {
        return conflict(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    let node = object::text(pod, &["spec", "nodeName"]);
    if !node.is_empty() {
        return conflict(format!("pod {name} is already assigned to node {node:?}"));
    }
    let gates = pod["spec"]["schedulingGates"].as_array();
    if gates.is_some_and(|gates| !gates.is_empty()) {
        return conflict(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    Ok(())
}

/// Put the pod on the node of `binding`.
fn bind_to(pod: &mut Value, binding: &Value) {
    let target = object::text(binding, &["target", "name"]);
    object::section(pod, "spec").insert("nodeName".to_owned(), json!(target));
    if let Some(annotations) = binding["metadata"].get("annotations").and_then(Value::as_object) {
        let own = object::metadata(pod).entry("annotations").or_insert_with(|| json!({}));
        for (key, value) in annotations {
            own[key] = value.clone();
        }
    }
    let generation = pod["metadata"]["generation"].as_u64().unwrap_or(0) + 1;
    object::metadata(pod).insert("generation".to_owned(), json!(generation));
    object::section(pod, "status");
    set_scheduled(&mut pod["status"]);
}

/// In the pod's status, which is an object.
fn set_scheduled(status: &mut Value) {
    let Some(status) = status.as_object_mut() else { return };
    // What it was nominated for it has, or does not need any more.
    status.shift_remove("nominatedNodeName");
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    let Some(conditions) = conditions.as_array_mut() else { return };
    conditions.retain(|condition| condition["type"] != "PodScheduled");
    conditions.push(json!({
        "type": "PodScheduled",
        "status": "True",
        "lastProbeTime": null,
        "lastTransitionTime": object::now(),
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_bound_once() {
        let status = json!({"nominatedNodeName": "n2"});
        let pod = json!({"metadata": {"name": "a", "uid": "u"}, "spec": {}, "status": status});
        let binding = json!({"metadata": {"name": "a"}, "target": {"name": "n1"}});
        check(&pod, 1, &binding).unwrap();
        let mut once = pod.clone();
        bind_to(&mut once, &binding);
        assert_eq!(once["metadata"]["generation"], 1);
        assert_eq!(once["spec"]["nodeName"], "n1");
        assert_eq!(once["status"]["conditions"][0]["type"], "PodScheduled");
        assert_eq!(once["status"].get("nominatedNodeName"), None);
        let error = check(&once, 2, &binding).unwrap_err();
        assert_eq!(error.code(), 409);
        assert!(error.message().contains("pod a is already assigned to node \"n1\""), "{error}");
        let other = json!({"metadata": {"uid": "v"}, "target": {"name": "n1"}});
        assert_eq!(check(&pod, 1, &other).unwrap_err().code(), 409);
        let version =
            |text| json!({"metadata": {"resourceVersion": text}, "target": {"name": "n"}});
        assert_eq!(check(&pod, 7, &version("6")).unwrap_err().code(), 409);
        check(&pod, 7, &version("7")).unwrap();
    }
}
