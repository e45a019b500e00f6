//! create: a new object, named by the client or, with `generateName`, by the server.

mod plain;
mod recurring;

use http::{Response, StatusCode};
use pintle_api::decode::Decoded;
use pintle_api::scheme::{Kind, Resource};
use pintle_api::status::Status;
use pintle_api::{defaults, validation};
use rand::RngExt as _;
use serde_json::{Value, json};

use super::{Call, options, render, write};
use crate::body::Body;
use crate::registry::strategy;
use crate::request::Target;
use crate::server::Core;
use crate::storage::{self, Stored};
use crate::{admission, object};

pub(crate) use recurring::Recurring;

pub(super) async fn create(
    core: &Core,
    call: &Call<'_>,
    target: &Target,
    resource: &'static Resource,
) -> Result<Response<Body>, Status> {
    if resource.namespaced && target.namespace.is_empty() {
        return Err(Status::bad_request("the namespace must be in the path"));
    }
    let dry_run = call.query.dry_run()?;
    let namespace = if resource.namespaced { target.namespace.as_str() } else { "" };
    let body = match resource.kind {
        Kind::Pod if !dry_run => recurring::Body::of(core, call, namespace),
        _ => None,
    };
    if let Some(body) = &body
        && let Some(created) = recurring::create(core, resource, namespace, body).await?
    {
        return render::object(call, resource, StatusCode::CREATED, &created);
    }
    if resource.kind == Kind::Pod
        && !dry_run
        && let Some(created) = Box::pin(plain::create(core, call, resource, namespace)).await
    {
        let response = render::object(call, resource, StatusCode::CREATED, &created)?;
        if let Some(body) = body {
            recurring::remember(core, body, &created);
        }
        return Ok(response);
    }
    let Decoded { object, warnings } = options::decode(call, resource.kind)?;
    let created = Box::pin(create_object(core, resource, namespace, object, dry_run)).await?;
    if let Some(body) = body.filter(|_| warnings.is_empty()) {
        recurring::remember(core, body, &created);
    }
    let response = render::object(call, resource, StatusCode::CREATED, &created)?;
    Ok(render::with_warnings(response, &warnings))
}

/// Create an object whose shape has been checked; returns what was stored.
pub(crate) async fn create_object(
    core: &Core,
    resource: &'static Resource,
    namespace: &str,
    mut object: Value,
    dry_run: bool,
) -> Result<Stored, Status> {
    identify(resource, namespace, &mut object)?;
    let generated =
        object::name(&object).is_empty() && !object::meta(&object, "generateName").is_empty();
    if !generated {
        let name = object::name(&object).to_owned();
        prepare(core, resource, namespace, &mut object).await?;
        return match store(core, resource, namespace, object, dry_run).await? {
            Some(created) => Ok(created),
            None => Err(exists(core, resource, namespace, &name).await),
        };
    }
    let prefix = object::meta(&object, "generateName").to_owned();
    for _ in 0..NAMES_MAX {
        let mut candidate = object.clone();
        let name = generated_name(&prefix);
        object::metadata(&mut candidate).insert("name".to_owned(), json!(name));
        prepare(core, resource, namespace, &mut candidate).await?;
        if let Some(created) = store(core, resource, namespace, candidate, dry_run).await? {
            return Ok(created);
        }
    }
    Err(Status::already_exists(storage::subject(resource, &prefix)))
}

/// Namespace and metadata; what the client may not set is dropped.
fn identify(resource: &Resource, namespace: &str, object: &mut Value) -> Result<(), Status> {
    let given = object::namespace(object).to_owned();
    if !given.is_empty() && given != namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    if !object::meta(object, "resourceVersion").is_empty() {
        return Err(Status::bad_request(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    let metadata = object::metadata(object);
    for field in [
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "managedFields",
        "resourceVersion",
        "selfLink",
    ] {
        metadata.shift_remove(field);
    }
    if resource.namespaced {
        metadata.insert("namespace".to_owned(), json!(namespace));
    }
    metadata.insert("uid".to_owned(), json!(object::new_uid()));
    metadata.insert("creationTimestamp".to_owned(), json!(object::now()));
    metadata.shift_remove("generation");
    if strategy::has_generation(resource.kind) {
        metadata.insert("generation".to_owned(), json!(1));
    }
    Ok(())
}

async fn prepare(
    core: &Core,
    resource: &'static Resource,
    namespace: &str,
    object: &mut Value,
) -> Result<(), Status> {
    let kind = resource.kind;
    strategy::create(kind, object);
    admission::create(core, resource, namespace, object).await?;
    defaults::apply(kind, object);
    strategy::after_defaults(kind, object);
    let errors = validation::create(kind, object);
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(write::kind_subject(resource, object::name(object)), &errors))
}

/// `None`: there is an object of this name.
async fn store(
    core: &Core,
    resource: &'static Resource,
    namespace: &str,
    mut object: Value,
    dry_run: bool,
) -> Result<Option<Stored>, Status> {
    let key = storage::key(resource, namespace, object::name(&object));
    // The write itself finds out, but not before something is claimed, and not in a dry run.
    let looks_first = dry_run || resource.kind == Kind::Service;
    if looks_first && core.storage.raw(key.clone()).await?.is_some() {
        return Ok(None);
    }
    let claim = match resource.kind {
        Kind::Service => Some(core.allocators.claim(&mut object, None)?),
        _ => None,
    };
    if dry_run {
        return Ok(Some(Stored::unwritten(resource.kind, &object, 0)));
    }
    let created = core.storage.put(resource.kind, key, &object, 0).await?;
    if created.is_some()
        && let Some(claim) = claim
    {
        claim.keep();
    }
    Ok(created)
}

async fn exists(core: &Core, resource: &Resource, namespace: &str, name: &str) -> Status {
    let subject = storage::subject(resource, name);
    match core.storage.get(resource, namespace, name).await {
        Ok(found) if object::is_deleting(&found.object) => {
            let message = format!("object is being deleted: {subject} already exists");
            Status::new(409, "AlreadyExists", message)
        }
        _ => Status::already_exists(subject),
    }
}

/// k8s.io/apiserver's `names.SimpleNameGenerator`.
fn generated_name(prefix: &str) -> String {
    let mut kept = prefix;
    while kept.len() > NAME_BYTES_MAX - SUFFIX_CHARS {
        let mut chars = kept.chars();
        chars.next_back();
        kept = chars.as_str();
    }
    let mut rng = rand::rng();
    let mut letter = || char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]);
    let suffix: String = (0..SUFFIX_CHARS).map(|_| letter()).collect();
    format!("{kept}{suffix}")
}

/// The object of a body, of the kind that the path asks for.
pub(super) fn check_kind(kind: Kind, object: &Value) -> Result<(), Status> {
    let (version, name) = (kind.api_version(), kind.name());
    let given = (object::text(object, &["apiVersion"]), object::text(object, &["kind"]));
    if given == (version.as_str(), name) {
        return Ok(());
    }
    Err(Status::bad_request(format!(
        "the object provided is unrecognized (must be of type {name}): apiVersion {:?}, kind {:?} \
         do not match {version:?}, {name:?}",
        given.0, given.1
    )))
}

/// Vowels and look-alikes are left out, as in `k8s.io/apimachinery/pkg/util/rand`.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_CHARS: usize = 5;
/// k8s.io/apiserver's `maxNameLength`.
const NAME_BYTES_MAX: usize = 63;
/// How many names are tried; a clash has odds of objects / 14 million.
const NAMES_MAX: usize = 8;
