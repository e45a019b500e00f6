//! A patch of a pod's status without decoding the spec: what schedulers and kubelets write most.
//!
//! Whatever is out of the ordinary (a patch that touches anything but the status, claims, a pod that
//! is being deleted, every refusal) is left to the longer way.

use pintle_api::patch::Patch;
use pintle_api::scheme::{Kind, Resource};
use pintle_api::status::Status;
use pintle_api::{fields, validation};
use serde_json::Value;

use super::parts::Parts;
use crate::handlers::write::{Part, Write, keep_system_fields};
use crate::handlers::{Call, options, patch, update};
use crate::object;
use crate::registry::strategy;
use crate::request::Target;
use crate::server::Core;
use crate::storage::{self, Current, Stored};

/// The pod after the patch and what to warn of; `None` if that takes the longer way.
pub(crate) async fn patched(
    core: &Core,
    call: &Call<'_>,
    resource: &'static Resource,
    target: &Target,
    patch: &Patch,
) -> Result<Option<(Stored, Vec<String>)>, Status> {
    let key = storage::key(resource, &target.namespace, &target.name);
    let Some(known) = core.cache.get_by_key(resource, &key).filter(|_| is_plain(patch)) else {
        return Ok(None);
    };
    let Some((parts, new, warnings)) = change(call, resource, target, patch, &known) else {
        return Ok(None);
    };
    let encoded = parts.encode(&new);
    // That nothing changes is for the newest state to say: the cache may be a moment behind.
    if encoded == known.bytes {
        return Ok(None);
    }
    let told = fields::fields_of(Kind::Pod).iter().filter(|field| field.starts_with("status."));
    let told: Vec<_> = told.map(|field| (*field, fields::value_of(&new, field))).collect();
    let told: Vec<_> = told.iter().map(|(field, value)| (*field, value.as_str())).collect();
    let written = core.storage.put_bytes(key, known.facts.with(&told), encoded, known.revision);
    Ok(written.await?.map(|stored| (stored, warnings)))
}

fn change<'a>(
    call: &Call<'_>,
    resource: &'static Resource,
    target: &Target,
    patch: &Patch,
    known: &'a Stored,
) -> Option<(Parts<'a>, Value, Vec<String>)> {
    let validation = options::field_validation(call).ok()?;
    let parts = Parts::of(&known.bytes)?;
    let old = Current {
        object: parts.object.clone(),
        bytes: known.bytes.clone(),
        revision: known.revision,
    };
    let (mut new, warnings) = patch::apply(validation, patch, Kind::Pod, old.full()).ok()?;
    update::check_address(resource, target, &mut new).ok()?;
    let write = Write { resource, target, part: Part::Status, dry_run: false };
    write.check_identity(&new, &old).ok()?;
    keep_system_fields(&mut new, &old.object);
    strategy::status_update(Kind::Pod, &mut new, &old.object);
    let may_stay = !object::is_deleting(&new)
        && new["status"].is_object()
        && new["status"].get("resourceClaimStatuses").is_none()
        && validation::update_status(Kind::Pod, &new, &old.object).is_empty();
    may_stay.then_some((parts, new, warnings))
}

/// Whether it names the pod and changes its status, and no more.
fn is_plain(patch: &Patch) -> bool {
    let Some(Value::Object(body)) = patch.merged() else { return false };
    body.iter().all(|(field, value)| match field.as_str() {
        "status" => value.is_object(),
        "metadata" => value.as_object().is_some_and(|metadata| {
            metadata.keys().all(|field| NAMES_IT.contains(&field.as_str()))
        }),
        _ => false,
    })
}

/// What of the metadata says which pod is meant.
const NAMES_IT: [&str; 4] = ["name", "namespace", "resourceVersion", "uid"];
