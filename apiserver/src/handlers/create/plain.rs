//! Pods made in one pass: a body in which there is nothing to put right is read with the pod's type
//! once, when all is filled in, and validated as that. What was read goes along to a scheduler in
//! this process.
//!
//! Else a body is read with the type before anything is filled in, so that findings and refusals are
//! about what the client sent, and once more to be validated. Whatever is out of the ordinary (an
//! unknown field, a null, a generated name, YAML, a refusal) goes that longer way, from the body on.

use k8s_openapi::api::core::v1::Pod;
use pintle_api::decode::{self, Document, Syntax};
use pintle_api::scheme::{Kind, Resource};
use pintle_api::{defaults, validation};
use serde_json::{Map, Value, json};

use super::{check_kind, identify, options};
use crate::handlers::Call;
use crate::registry::strategy;
use crate::server::Core;
use crate::storage::{self, Stored};
use crate::{admission, negotiate, object};

/// The pod as it was stored; `None` if it takes the longer way.
pub(super) async fn create(
    core: &Core,
    call: &Call<'_>,
    resource: &'static Resource,
    namespace: &str,
) -> Option<Stored> {
    let mut object = read(call, resource, namespace)?;
    strategy::create(Kind::Pod, &mut object);
    admission::create(core, resource, namespace, &mut object).await.ok()?;
    defaults::apply(Kind::Pod, &mut object);
    strategy::after_defaults(Kind::Pod, &mut object);
    let pod: Box<Pod> = Box::new(decode::read_plain(&mut object)?);
    if !validation::create_pod(&object, &pod).is_empty() {
        return None;
    }
    let key = storage::key(resource, namespace, object::name(&object));
    // That the name is taken, or the store closed, the longer way says.
    core.storage.put_pod(key, &object, pod).await.ok()?
}

/// The body with the metadata that a new pod has.
fn read(call: &Call<'_>, resource: &'static Resource, namespace: &str) -> Option<Value> {
    options::field_validation(call).ok()?;
    if negotiate::syntax(&call.headers) != Ok(Syntax::Json) || has_empty_text(&call.body) {
        return None;
    }
    let Document { value: mut object, duplicates } =
        decode::parse(&call.body, Syntax::Json).ok()?;
    options::fill_type(Kind::Pod, &mut object);
    check_kind(Kind::Pod, &object).ok()?;
    if !duplicates.is_empty() || !has_shape(&object) || object::name(&object).is_empty() {
        return None;
    }
    identify(resource, namespace, &mut object).ok()?;
    Some(object)
}

/// Whether a default could take the place of an empty text, whatever the type of the field.
fn has_empty_text(json: &[u8]) -> bool {
    json.windows(2).any(|pair| pair == b"\"\"")
}

/// Whether nothing that is of a wrong type could be written over before the type is known: all else
/// that is filled in is so where there is nothing, or an empty text.
fn has_shape(object: &Value) -> bool {
    let (Some(metadata), Some(spec)) = (object["metadata"].as_object(), object["spec"].as_object())
    else {
        return false;
    };
    let has = |fields: &Map<String, Value>, names: &[&str], is: fn(&Value) -> bool| {
        names.iter().all(|name| fields.get(*name).is_none_or(is))
    };
    has(metadata, &SERVERS_OWN, |_| false)
        && has(metadata, &["creationTimestamp"], Value::is_null)
        && has(metadata, &["namespace"], Value::is_string)
        && has(spec, &ADMITTED_TEXTS, Value::is_string)
        && has(spec, &["priority"], Value::is_i64)
        && has(spec, &["tolerations"], Value::is_array)
        && object.get("status").is_none_or(|status| *status == json!({}))
}

/// What `identify` writes over or drops, but for what is checked by itself.
const SERVERS_OWN: [&str; 7] = [
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "selfLink",
    "uid",
];
/// What admission writes over.
const ADMITTED_TEXTS: [&str; 4] =
    ["preemptionPolicy", "priorityClassName", "serviceAccount", "serviceAccountName"];
