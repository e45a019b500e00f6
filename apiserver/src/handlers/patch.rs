//! patch: JSON, merge and strategic merge. Server-side apply is not served yet: 415.

use http::{Response, StatusCode};
use pintle_api::decode::{self, FieldValidation};
use pintle_api::patch::{Format, Patch};
use pintle_api::scheme::{Kind, Resource};
use pintle_api::status::Status;
use serde_json::Value;

use super::write::{Part, Write};
use super::{Call, options, pod, render, update};
use crate::body::Body;
use crate::negotiate;
use crate::request::Target;
use crate::server::Core;

pub(super) async fn patch(
    core: &Core,
    call: &Call<'_>,
    target: &Target,
    resource: &'static Resource,
    part: Part,
) -> Result<Response<Body>, Status> {
    let dry_run = call.query.dry_run()?;
    let patch = parse(call)?;
    if part == Part::Status
        && resource.kind == Kind::Pod
        && !dry_run
        && let Some((patched, warnings)) =
            pod::status_patched(core, call, resource, target, &patch).await?
    {
        let response = render::object(call, resource, StatusCode::OK, &patched)?;
        return Ok(render::with_warnings(response, &warnings));
    }
    let (validation, mut warnings) = (options::field_validation(call)?, Vec::new());
    let write = Write { resource, target, part, dry_run };
    let change = |current: Value| {
        let (mut object, found) = apply(validation, &patch, resource.kind, current)?;
        warnings = found;
        update::check_address(resource, target, &mut object)?;
        Ok(object)
    };
    let patched = write.apply(core, change).await?;
    let response = render::object(call, resource, StatusCode::OK, &patched)?;
    Ok(render::with_warnings(response, &warnings))
}

/// The body as a patch of its media type.
pub(super) fn parse(call: &Call<'_>) -> Result<Patch, Status> {
    let format = Format::from_media_type(negotiate::media_type(&call.headers));
    let format = format.ok_or_else(|| Status::unsupported_media_type(SUPPORTED))?;
    Ok(Patch::parse(format, &call.body)?)
}

/// The object after the patch, of the right shape, and what to warn of.
pub(super) fn apply(
    validation: FieldValidation,
    patch: &Patch,
    kind: Kind,
    current: Value,
) -> Result<(Value, Vec<String>), Status> {
    let mut patched = patch.apply(kind, current)?;
    let mut findings = patch.duplicates.clone();
    findings.extend(decode::check(kind, &mut patched)?);
    Ok((patched, decode::enforce(kind, findings, validation)?))
}

const SUPPORTED: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];
