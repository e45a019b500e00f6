//! get: one object, as it stands in the store now.

use http::{Response, StatusCode};
use pintle_api::scheme::Resource;
use pintle_api::status::Status;

use super::{Call, render};
use crate::body::Body;
use crate::request::Target;
use crate::server::Core;
use crate::storage::{self, Stored};

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
    let found = Stored::read(resource.kind, &found)?;
    render::object(call, resource, StatusCode::OK, &found)
}
