//! pods/binding, and the shorter ways of writing a pod as it is stored.

mod direct;
mod parts;
mod splice;
mod status;
mod text;

use http::{Response, StatusCode};
use pintle_api::decode::Decoded;
use pintle_api::scheme::{self, Kind, Resource};
use pintle_api::status::{Status, Subject};
use serde_json::{Map, Value, json};

use super::write::TRIES_MAX;
use super::{Call, options, render};
use crate::body::Body;
use crate::object;
use crate::request::Target;
use crate::server::Core;
use crate::storage::{self, Current};

pub(crate) use direct::PodWrite;
pub(crate) use parts::Parts;
pub(crate) use status::patched as status_patched;
pub(crate) use text::PodText;

/// What a binding says.
#[derive(Clone, Copy, Debug, Default)]
struct Wanted<'a> {
    /// Empty if it says none.
    uid: &'a str,
    /// Empty if it says none.
    revision: &'a str,
    annotations: Option<&'a Map<String, Value>>,
    node: &'a str,
}

impl<'a> Wanted<'a> {
    fn of(binding: &'a Value) -> Self {
        Self {
            uid: object::meta(binding, "uid"),
            revision: object::meta(binding, "resourceVersion"),
            annotations: binding["metadata"].get("annotations").and_then(Value::as_object),
            node: object::text(binding, &["target", "name"]),
        }
    }
}

/// Put a pod on a node, once. `POST bindings` names the pod in the body.
pub(super) async fn create_binding(
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
    let name = if target.name.is_empty() { name } else { &target.name };
    let wanted = Wanted::of(&binding);
    check_node(name, object::text(&binding, &["target", "kind"]), wanted.node)?;
    write(core, &target.namespace, name, &wanted, dry_run).await?;
    let done = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "code": 201,
    });
    Ok(render::with_warnings(crate::status::json(StatusCode::CREATED, &done), &warnings))
}

/// Where a pod is bound to changes nothing of what defaults, validation and the server's own fields
/// are about, so the object is changed in place and written.
async fn write(
    core: &Core,
    namespace: &str,
    name: &str,
    wanted: &Wanted<'_>,
    dry_run: bool,
) -> Result<(), Status> {
    let resource = scheme::of(Kind::Pod).ok_or_else(Status::no_such_path)?;
    let key = storage::key(resource, namespace, name);
    if let Some(known) = core.cache.get_by_key(resource, &key)
        && let Some((bytes, facts)) = splice::bound(&known, wanted).filter(|_| !dry_run)
        && core.storage.put_bytes(key, facts, bytes, known.revision).await?.is_some()
    {
        return Ok(());
    }
    Box::pin(write_longer(core, resource, namespace, name, wanted, dry_run)).await
}

/// The same of the newest state, with a word on why not.
async fn write_longer(
    core: &Core,
    resource: &'static Resource,
    namespace: &str,
    name: &str,
    wanted: &Wanted<'_>,
    dry_run: bool,
) -> Result<(), Status> {
    let key = storage::key(resource, namespace, name);
    for _ in 0..TRIES_MAX {
        let Current { object: mut pod, revision, .. } =
            core.storage.get(resource, namespace, name).await?;
        check(&pod, revision, wanted)?;
        if dry_run {
            return Ok(());
        }
        bind_to(&mut pod, wanted);
        if core.storage.put(Kind::Pod, key.clone(), &pod, revision).await?.is_some() {
            return Ok(());
        }
        tokio::task::yield_now().await;
    }
    Err(Status::modified(storage::subject(resource, name)))
}

fn check_node(pod: &str, kind: &str, node: &str) -> Result<(), Status> {
    let mut errors = pintle_api::field::Errors::new();
    let path = pintle_api::field::Path::new("target");
    if !matches!(kind, "" | "Node") {
        errors.not_supported(&path.child("kind"), kind, &["Node", "<empty>"]);
    }
    if node.is_empty() {
        errors.required(&path.child("name"), "");
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(Subject { group: "", kind: "Binding", name: pod }, &errors))
}

/// Whether the pod, at this revision, may be bound so.
fn check(pod: &Value, revision: u64, wanted: &Wanted<'_>) -> Result<(), Status> {
    let name = object::name(pod);
    let conflict = |why: String| {
        Err(Status::conflict(Subject { group: "", kind: "pods/binding", name }, &why))
    };
    let revision = revision.to_string();
    for (key, wanted, found) in [
        ("uid", wanted.uid, object::meta(pod, "uid")),
        ("resourceVersion", wanted.revision, &revision),
    ] {
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

/// Put the pod on its node.
fn bind_to(pod: &mut Value, wanted: &Wanted<'_>) {
    object::section(pod, "spec").insert("nodeName".to_owned(), json!(wanted.node));
    if let Some(annotations) = wanted.annotations {
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
        check(&pod, 1, &Wanted::of(&binding)).unwrap();
        let mut once = pod.clone();
        bind_to(&mut once, &Wanted::of(&binding));
        assert_eq!(once["metadata"]["generation"], 1);
        assert_eq!(once["spec"]["nodeName"], "n1");
        assert_eq!(once["status"]["conditions"][0]["type"], "PodScheduled");
        assert_eq!(once["status"].get("nominatedNodeName"), None);
        let error = check(&once, 2, &Wanted::of(&binding)).unwrap_err();
        assert_eq!(error.code(), 409);
        assert!(error.message().contains("pod a is already assigned to node \"n1\""), "{error}");
        let other = json!({"metadata": {"uid": "v"}, "target": {"name": "n1"}});
        assert_eq!(check(&pod, 1, &Wanted::of(&other)).unwrap_err().code(), 409);
        let version =
            |text| json!({"metadata": {"resourceVersion": text}, "target": {"name": "n"}});
        assert_eq!(check(&pod, 7, &Wanted::of(&version("6"))).unwrap_err().code(), 409);
        check(&pod, 7, &Wanted::of(&version("7"))).unwrap();
    }
}
