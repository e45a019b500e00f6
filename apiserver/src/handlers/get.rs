//! get: one object, as it stands in the store now.

use http::{Response, StatusCode};
use pintle_api::scheme::Resource;
use pintle_api::status::Status;

use super::{Call, render};
use crate::body::Body;
use crate::negotiate::{self, Form};
use crate::request::Target;
use crate::server::Core;
use crate::{object, status, storage};

pub(super) async fn get(
    core: &Core,
    call: &Call<'_>,
    target: &Target,
    resource: &'static Resource,
) -> Result<Response<Body>, Status> {
    let key = storage::key(resource, &target.namespace, &target.name);
    let Some(found) = core.storage.raw(key).await? else {
        return Err(Status::not_found(storage::subject(resource, &target.name)));
    };
    let bytes = object::with_revision(&found.value, found.mod_revision.0);
    match negotiate::form(&call.headers)? {
        Form::Object => Ok(status::bytes(StatusCode::OK, bytes)),
        _ => render::object(call, resource, StatusCode::OK, &storage::decode(&bytes)?),
    }
}
