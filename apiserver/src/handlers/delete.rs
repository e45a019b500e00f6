//! delete and deletecollection: at once, or marked with a deletionTimestamp until finalizers and
//! the grace period are done with.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use pintle_api::scheme::{Kind, Resource};
use pintle_api::status::{self as api_status, Status};
use serde::Deserialize;
use serde_json::{Value, json};

use super::options::{DeleteOptions, Propagation};
use super::pod::Parts;
use super::write::TRIES_MAX;
use super::{Call, list, render};
use crate::body::Body;
use crate::request::Target;
use crate::server::Core;
use crate::storage::{self, Current, Stored};
use crate::{admission, object, registry, status};

pub(super) async fn delete(
    core: &Core,
    call: &Call<'_>,
    target: &Target,
    resource: &'static Resource,
) -> Result<Response<Body>, Status> {
    let options = DeleteOptions::parse(call)?;
    let outcome = delete_object(core, resource, &target.namespace, &target.name, &options).await?;
    match outcome {
        // As upstream: pods and services come back whole, of others only the success is told.
        Outcome::Removed(last) if !matches!(resource.kind, Kind::Pod | Kind::Service) => {
            let subject = storage::subject(resource, &target.name);
            let done = api_status::success(subject, object::meta(last.decoded(), "uid"));
            Ok(status::json(StatusCode::OK, &done))
        }
        Outcome::Removed(last) | Outcome::Marked(last) => {
            render::object(call, resource, StatusCode::OK, &last)
        }
    }
}

pub(super) async fn delete_collection(
    core: &Core,
    call: &Call<'_>,
    target: &Target,
    resource: &'static Resource,
) -> Result<Response<Body>, Status> {
    let options = DeleteOptions::parse(call)?;
    let page = list::page(core, &call.query, target, resource).await?;
    let mut items = Vec::new();
    for entry in &page.entries {
        let facts = &entry.facts;
        match delete_object(core, resource, facts.namespace(), facts.name(), &options).await {
            Ok(_) => items.push(entry.full()),
            Err(gone) if gone.code() == 404 => {}
            Err(error) => return Err(error),
        }
    }
    let list = json!({
        "kind": resource.list_kind,
        "apiVersion": resource.api_version(),
        "metadata": {},
        "items": items,
    });
    Ok(status::json(StatusCode::OK, &list))
}

/// What became of the object.
pub(super) enum Outcome {
    /// It stays until its finalizers or its grace period are done with.
    Marked(Stored),
    /// It is gone; this was its last state.
    Removed(Stored),
}

pub(super) async fn delete_object(
    core: &Core,
    resource: &'static Resource,
    namespace: &str,
    name: &str,
    options: &DeleteOptions,
) -> Result<Outcome, Status> {
    if resource.kind == Kind::Pod
        && !options.dry_run
        && let Some(outcome) = delete_pod(core, resource, namespace, name, options).await?
    {
        return Ok(outcome);
    }
    for _ in 0..TRIES_MAX {
        let old = core.storage.get(resource, namespace, name).await?;
        check_preconditions(resource, name, &old, options)?;
        if resource.kind == Kind::Namespace {
            admission::may_delete(name)?;
        }
        let new = mark(resource.kind, &old.object, options, jiff::Timestamp::now());
        let key = storage::key(resource, namespace, name);
        if registry::is_finished(resource.kind, &new) {
            if options.dry_run {
                return Ok(Outcome::Removed(Stored::unwritten(resource.kind, &new, old.revision)));
            }
            if let Some(revision) = core.storage.remove(key, old.revision).await? {
                core.allocators.release(resource.kind, &old.object);
                return Ok(Outcome::Removed(Stored::unwritten(resource.kind, &new, revision)));
            }
            continue;
        }
        if options.dry_run || new == old.object {
            return Ok(Outcome::Marked(Stored::unwritten(resource.kind, &new, old.revision)));
        }
        if let Some(marked) = core.storage.put(resource.kind, key, &new, old.revision).await? {
            return Ok(Outcome::Marked(marked));
        }
    }
    Err(Status::modified(storage::subject(resource, name)))
}

/// The same of a pod as the cache has it, without decoding its spec; `None` if it is out of the
/// ordinary, or was changed meanwhile.
async fn delete_pod(
    core: &Core,
    resource: &'static Resource,
    namespace: &str,
    name: &str,
    options: &DeleteOptions,
) -> Result<Option<Outcome>, Status> {
    let key = storage::key(resource, namespace, name);
    let Some(known) = core.cache.get_by_key(resource, &key) else { return Ok(None) };
    let Some((new, bytes)) = marked_pod(resource, name, &known, options) else { return Ok(None) };
    let (facts, revision) = (Arc::clone(&known.facts), known.revision);
    if registry::is_finished(Kind::Pod, &new) {
        let removed = core.storage.remove(key, revision).await?;
        return Ok(removed.map(|at| Outcome::Removed(Stored::new(facts, bytes, at))));
    }
    // That nothing changes is for the newest state to say: the cache may be a moment behind.
    if bytes == known.bytes {
        return Ok(None);
    }
    let marked = core.storage.put_bytes(key, facts, bytes, revision).await?;
    Ok(marked.map(Outcome::Marked))
}

/// What of the spec decides on the grace period.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GraceSpec {
    node_name: Option<String>,
    termination_grace_period_seconds: Option<Value>,
}

/// The pod as the deletion leaves it, less most of its spec, and its stored form.
fn marked_pod(
    resource: &'static Resource,
    name: &str,
    known: &Stored,
    options: &DeleteOptions,
) -> Option<(Value, Bytes)> {
    let parts = Parts::of(&known.bytes)?;
    let spec: GraceSpec = serde_json::from_str(parts.spec.get()).ok()?;
    let mut object = parts.object.clone();
    object["spec"] = json!({"nodeName": spec.node_name,
        "terminationGracePeriodSeconds": spec.termination_grace_period_seconds});
    let old = Current { object, bytes: known.bytes.clone(), revision: known.revision };
    check_preconditions(resource, name, &old, options).ok()?;
    let new = mark(Kind::Pod, &old.object, options, jiff::Timestamp::now());
    let bytes = parts.encode(&new);
    Some((new, bytes))
}

fn check_preconditions(
    resource: &Resource,
    name: &str,
    old: &Current,
    options: &DeleteOptions,
) -> Result<(), Status> {
    let conflict = |what: &str, wanted: &str, found: &str| {
        let why = format!(
            "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}"
        );
        Err(Status::conflict(storage::subject(resource, name), &why))
    };
    let uid = object::meta(&old.object, "uid");
    if let Some(wanted) = &options.uid
        && wanted != uid
    {
        return conflict("UID", wanted, uid);
    }
    let revision = old.revision.to_string();
    match &options.revision {
        Some(wanted) if *wanted != revision => conflict("ResourceVersion", wanted, &revision),
        _ => Ok(()),
    }
}

/// The object as the deletion leaves it: finalizers by policy, deletionTimestamp, grace period.
fn mark(kind: Kind, old: &Value, options: &DeleteOptions, now: jiff::Timestamp) -> Value {
    let mut new = old.clone();
    set_policy_finalizers(&mut new, options.propagation);
    let grace = grace_seconds(kind, &new, options);
    let pending = new["metadata"].get("deletionGracePeriodSeconds").and_then(Value::as_u64);
    let already = object::is_deleting(&new);
    // A second delete can only shorten the grace period.
    if already && pending.is_none_or(|pending| pending <= grace) {
        return new;
    }
    if !already && let Some(generation) = new["metadata"]["generation"].as_u64() {
        new["metadata"]["generation"] = json!(generation + 1);
    }
    let at = now.checked_add(Duration::from_secs(grace)).unwrap_or(now);
    let metadata = object::metadata(&mut new);
    let at = at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    metadata.insert("deletionTimestamp".to_owned(), json!(at));
    metadata.insert("deletionGracePeriodSeconds".to_owned(), json!(grace));
    if kind == Kind::Namespace {
        object::section(&mut new, "status").insert("phase".to_owned(), json!("Terminating"));
    }
    new
}

fn set_policy_finalizers(object: &mut Value, policy: Option<Propagation>) {
    let Some(policy) = policy else { return };
    let mut finalizers = object::finalizers(object);
    finalizers.retain(|name| name != ORPHAN && name != FOREGROUND);
    match policy {
        Propagation::Background => {}
        Propagation::Foreground => finalizers.push(FOREGROUND.to_owned()),
        Propagation::Orphan => finalizers.push(ORPHAN.to_owned()),
    }
    object::set_finalizers(object, &finalizers);
}

/// Only pods are deleted gracefully, and only those that a node may be running.
fn grace_seconds(kind: Kind, pod: &Value, options: &DeleteOptions) -> u64 {
    let done = matches!(object::text(pod, &["status", "phase"]), "Failed" | "Succeeded");
    if kind != Kind::Pod || done || object::text(pod, &["spec", "nodeName"]).is_empty() {
        return 0;
    }
    let own = pod["spec"]["terminationGracePeriodSeconds"].as_u64();
    options.grace_seconds.or(own).unwrap_or(GRACE_SECONDS).min(GRACE_SECONDS_MAX)
}

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// The default of `terminationGracePeriodSeconds`.
const GRACE_SECONDS: u64 = 30;
/// Keeps the deletionTimestamp a date.
const GRACE_SECONDS_MAX: u64 = i32::MAX as u64;

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> jiff::Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn pod(node: &str) -> Value {
        json!({
            "metadata": {"name": "a", "generation": 1},
            "spec": {"nodeName": node, "terminationGracePeriodSeconds": 10},
        })
    }

    #[test]
    fn a_bound_pod_is_given_its_grace_period() {
        let marked = mark(Kind::Pod, &pod("n"), &DeleteOptions::default(), now());
        assert_eq!(marked["metadata"]["deletionTimestamp"], "2026-01-01T00:00:10Z");
        assert_eq!(marked["metadata"]["generation"], 2);
        assert!(!registry::is_finished(Kind::Pod, &marked));
        // A second, longer one changes nothing; a shorter one does.
        let longer = DeleteOptions { grace_seconds: Some(60), ..DeleteOptions::default() };
        assert_eq!(mark(Kind::Pod, &marked, &longer, now()), marked);
        let now_gone = DeleteOptions { grace_seconds: Some(0), ..DeleteOptions::default() };
        assert!(registry::is_finished(Kind::Pod, &mark(Kind::Pod, &marked, &now_gone, now())));
    }

    #[test]
    fn a_pod_is_marked_alike_with_and_without_its_spec() {
        let resource = pintle_api::scheme::of(Kind::Pod).unwrap();
        let whole = |node: &str| {
            let mut pod = pod(node);
            pod["apiVersion"] = json!("v1");
            pod["kind"] = json!("Pod");
            pod["spec"]["containers"] = json!([{"name": "c"}]);
            pod["status"] = json!({"phase": "Running"});
            pod
        };
        let seconds = |grace| DeleteOptions { grace_seconds: grace, ..DeleteOptions::default() };
        for (pod, options) in [
            (whole(""), seconds(None)),
            (whole("n"), seconds(None)),
            (whole("n"), seconds(Some(0))),
            (mark(Kind::Pod, &whole("n"), &seconds(None), now()), seconds(Some(0))),
        ] {
            let known = Stored::unwritten(Kind::Pod, &pod, 7);
            let (new, bytes) = marked_pod(resource, "a", &known, &options).unwrap();
            let mut expected = mark(Kind::Pod, &pod, &options, jiff::Timestamp::now());
            let mut marked = storage::decode(&bytes).unwrap();
            assert_eq!(
                registry::is_finished(Kind::Pod, &new),
                registry::is_finished(Kind::Pod, &expected)
            );
            for pod in [&mut expected, &mut marked] {
                assert!(object::is_deleting(pod));
                object::metadata(pod).shift_remove("deletionTimestamp");
            }
            assert_eq!(marked, expected);
        }
        let other = DeleteOptions { uid: Some("u".to_owned()), ..DeleteOptions::default() };
        let known = Stored::unwritten(Kind::Pod, &whole(""), 7);
        assert!(marked_pod(resource, "a", &known, &other).is_none());
    }

    #[test]
    fn an_unbound_pod_goes_at_once() {
        let marked = mark(Kind::Pod, &pod(""), &DeleteOptions::default(), now());
        assert!(registry::is_finished(Kind::Pod, &marked));
    }

    #[test]
    fn policies_become_finalizers() {
        let object = json!({"metadata": {"name": "a", "finalizers": ["orphan", "x/y"]}});
        let policy = |propagation| DeleteOptions { propagation, ..DeleteOptions::default() };
        let foreground = policy(Some(Propagation::Foreground));
        let marked = mark(Kind::ReplicaSet, &object, &foreground, now());
        assert_eq!(object::finalizers(&marked), ["x/y", FOREGROUND]);
        assert!(!registry::is_finished(Kind::ReplicaSet, &marked));
        let unsaid = mark(Kind::ReplicaSet, &object, &policy(None), now());
        assert_eq!(object::finalizers(&unsaid), ["orphan", "x/y"]);
    }
}
