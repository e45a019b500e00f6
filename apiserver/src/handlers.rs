//! The verbs. Each is a function from a [`Call`] to a response or a `Status`.

mod create;
mod delete;
mod eviction;
mod get;
mod list;
mod list_options;
mod options;
mod patch;
mod pod;
mod render;
mod review;
mod scale;
mod update;
mod watch;
mod write;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use pintle_api::scheme::{Kind, Resource};
use pintle_api::status::Status;

use crate::auth::UserInfo;
use crate::body::Body;
use crate::query::Query;
use crate::request::{Info, Target};
use crate::server::Core;
use crate::{discovery, openapi};

pub(crate) use create::{Recurring, create_object};
pub(crate) use pod::PodWrite;
pub(crate) use watch::{BATCH as WATCH_BATCH, PACE as WATCH_PACE};

/// A request that may be made.
pub(crate) struct Call<'a> {
    pub(crate) info: &'a Info,
    pub(crate) user: &'a UserInfo,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// What anybody may read: health and version. Everything else needs a user.
pub(crate) fn public(core: &Core, info: &Info, query: Option<&str>) -> Option<Response<Body>> {
    if !matches!(info.verb, "get" | "head") {
        return None;
    }
    if info.path == "/version" {
        return Some(discovery::version());
    }
    let reply = core.daemon.health.answer(&info.path, query.unwrap_or_default())?;
    let mut response = Response::new(Body::full(reply.body));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::OK);
    Some(response)
}

/// Answer a request that is authenticated and authorized.
pub(crate) async fn dispatch(core: &Core, call: &Call<'_>) -> Result<Response<Body>, Status> {
    let Some(target) = &call.info.target else { return no_resource(core, call) };
    if target.resource == "bindings" && call.info.verb == "create" {
        return pod::create_binding(core, call, target).await;
    }
    let resource = target.scheme().ok_or_else(Status::no_such_path)?;
    if resource.namespaced && target.namespace.is_empty() && !target.name.is_empty() {
        return Err(Status::no_such_path());
    }
    let subject = crate::storage::subject(resource, &target.name);
    let served = match target.subresource.as_str() {
        "" => resource.verbs,
        name => resource.subresource(name).ok_or_else(Status::no_such_path)?.verbs,
    };
    if !served.contains(&call.info.verb) {
        return Err(Status::method_not_allowed(subject, call.info.verb));
    }
    match target.subresource.as_str() {
        "" => plain(core, call, target, resource).await,
        name => Box::pin(subresource(core, call, target, resource, name)).await,
    }
}

/// Each in a box of its own: else every request would be as large as the largest of them, and moved
/// about as that.
async fn plain(
    core: &Core,
    call: &Call<'_>,
    target: &Target,
    resource: &'static Resource,
) -> Result<Response<Body>, Status> {
    match call.info.verb {
        "get" => Box::pin(get::get(core, call, target, resource)).await,
        "list" => Box::pin(list::list(core, call, target, resource)).await,
        "watch" => Box::pin(watch::watch(core, call, target, resource)).await,
        "create" if !resource.is_stored() => review::answer(core, call, target, resource),
        "create" => Box::pin(create::create(core, call, target, resource)).await,
        "update" => Box::pin(update::update(core, call, target, resource, write::Part::Main)).await,
        "patch" => Box::pin(patch::patch(core, call, target, resource, write::Part::Main)).await,
        "delete" => Box::pin(delete::delete(core, call, target, resource)).await,
        _ => Box::pin(delete::delete_collection(core, call, target, resource)).await,
    }
}

async fn subresource(
    core: &Core,
    call: &Call<'_>,
    target: &Target,
    resource: &'static Resource,
    name: &str,
) -> Result<Response<Body>, Status> {
    match (name, call.info.verb) {
        ("status" | "resize", "get") => get::get(core, call, target, resource).await,
        ("resize", "update") => {
            update::update(core, call, target, resource, write::Part::Resize).await
        }
        ("resize", "patch") => {
            patch::patch(core, call, target, resource, write::Part::Resize).await
        }
        ("status", "update") => {
            update::update(core, call, target, resource, write::Part::Status).await
        }
        ("status", "patch") => {
            patch::patch(core, call, target, resource, write::Part::Status).await
        }
        ("finalize", _) if resource.kind == Kind::Namespace => {
            update::update(core, call, target, resource, write::Part::Finalize).await
        }
        ("scale", "get") => scale::get(core, call, target, resource).await,
        ("scale", "update") => scale::update(core, call, target, resource).await,
        ("scale", "patch") => scale::patch(core, call, target, resource).await,
        ("binding", _) => pod::create_binding(core, call, target).await,
        ("eviction", _) => eviction::evict(core, call, target, resource).await,
        _ => Err(Status::no_such_path()),
    }
}

fn no_resource(core: &Core, call: &Call<'_>) -> Result<Response<Body>, Status> {
    if !matches!(call.info.verb, "get" | "head") {
        return Err(Status::no_such_path());
    }
    if call.info.path == "/metrics" {
        let text = pintle_component::encode_metrics(&core.daemon.registry);
        let mut response = Response::new(Body::full(text));
        response.headers_mut().insert(http::header::CONTENT_TYPE, METRICS_TYPE);
        return Ok(response);
    }
    openapi::answer(call).or_else(|| discovery::answer(core, call)).ok_or_else(Status::no_such_path)
}

const METRICS_TYPE: http::HeaderValue =
    http::HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
