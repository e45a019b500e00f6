//! update: replace an object that exists, at the resourceVersion that the new one names.

use http::{Response, StatusCode};
use pintle_api::decode::Decoded;
use pintle_api::scheme::Resource;
use pintle_api::status::Status;
use serde_json::{Value, json};

use super::write::{Part, Write};
use super::{Call, options, render};
use crate::body::Body;
use crate::object;
use crate::request::Target;
use crate::server::Core;

pub(super) async fn update(
    core: &Core,
    call: &Call<'_>,
    target: &Target,
    resource: &'static Resource,
    part: Part,
) -> Result<Response<Body>, Status> {
    let dry_run = call.query.dry_run()?;
    let Decoded { mut object, warnings } = options::decode(call, resource.kind)?;
    check_address(resource, target, &mut object)?;
    let write = Write { resource, target, part, dry_run };
    let updated = write.apply(core, |_| Ok(object.clone())).await?;
    let response = render::object(call, resource, StatusCode::OK, &updated)?;
    Ok(render::with_warnings(response, &warnings))
}

/// Name and namespace are those of the path, where the object has any.
pub(super) fn check_address(
    resource: &Resource,
    target: &Target,
    object: &mut Value,
) -> Result<(), Status> {
    let name = object::name(object);
    if name.is_empty() {
        object::metadata(object).insert("name".to_owned(), json!(target.name));
    } else if name != target.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            target.name
        )));
    }
    let namespace = object::namespace(object);
    let expected = if resource.namespaced { target.namespace.as_str() } else { "" };
    if !namespace.is_empty() && namespace != expected {
        return Err(Status::bad_request(format!(
            "the namespace of the object ({namespace}) does not match the namespace on the URL \
             ({expected})"
        )));
    }
    Ok(())
}
