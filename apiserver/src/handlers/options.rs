//! What several verbs read from a request: the body's object and DeleteOptions.

use pintle_api::decode::{self, Decoded, FieldValidation};
use pintle_api::scheme::Kind;
use pintle_api::status::Status;
use serde_json::Value;

use super::{Call, create};
use crate::{negotiate, object};

/// The body as an object of `kind`, under the request's `fieldValidation`.
pub(super) fn decode(call: &Call<'_>, kind: Kind) -> Result<Decoded, Status> {
    let syntax = negotiate::syntax(&call.headers)?;
    let validation = field_validation(call)?;
    let mut decoded = decode::decode(kind, &call.body, syntax, validation)?;
    fill_type(kind, &mut decoded.object);
    create::check_kind(kind, &decoded.object)?;
    Ok(decoded)
}

/// `apiVersion` and `kind` may be left out of a body; the path has said what they are.
pub(super) fn fill_type(kind: Kind, object: &mut Value) {
    let Some(map) = object.as_object_mut() else { return };
    map.entry("apiVersion").or_insert_with(|| kind.api_version().into());
    map.entry("kind").or_insert_with(|| kind.name().into());
}

pub(super) fn field_validation(call: &Call<'_>) -> Result<FieldValidation, Status> {
    match call.query.get("fieldValidation") {
        "" => Ok(FieldValidation::Warn),
        text => text.parse().map_err(|error: decode::DecodeError| error.into()),
    }
}

/// How an object is to be deleted; the body's options go before the query's.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeleteOptions {
    pub(super) grace_seconds: Option<u64>,
    pub(super) propagation: Option<Propagation>,
    pub(super) uid: Option<String>,
    pub(super) revision: Option<String>,
    pub(super) dry_run: bool,
}

/// What becomes of the objects that this one owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Propagation {
    /// Deleted by the garbage collector afterwards.
    Background,
    /// Deleted before the object itself goes.
    Foreground,
    /// Kept, without an owner.
    Orphan,
}

impl DeleteOptions {
    pub(super) fn parse(call: &Call<'_>) -> Result<Self, Status> {
        let body = match call.body.is_empty() {
            true => Value::Null,
            false => {
                let syntax = negotiate::syntax(&call.headers)?;
                let body = &call.body;
                decode::decode(Kind::DeleteOptions, body, syntax, FieldValidation::Ignore)?.object
            }
        };
        let mut options = Self::from_object(&body)?;
        options.dry_run |= call.query.dry_run()?;
        if options.grace_seconds.is_none() {
            options.grace_seconds = call.query.number("gracePeriodSeconds")?;
        }
        if options.propagation.is_none() {
            options.propagation = propagation(call.query.get("propagationPolicy"))?;
        }
        Ok(options)
    }

    pub(super) fn from_object(body: &Value) -> Result<Self, Status> {
        let mut policy = propagation(object::text(body, &["propagationPolicy"]))?;
        if let Some(orphan) = body.get("orphanDependents").and_then(Value::as_bool) {
            policy = Some(if orphan { Propagation::Orphan } else { Propagation::Background });
        }
        let grace_seconds = match body.get("gracePeriodSeconds").and_then(Value::as_i64) {
            None => None,
            Some(seconds) => Some(u64::try_from(seconds).map_err(|_| {
                Status::bad_request("gracePeriodSeconds: Invalid value: must not be negative")
            })?),
        };
        let precondition = |key: &str| {
            let text = body.get("preconditions").and_then(|all| all.get(key));
            text.and_then(Value::as_str).map(str::to_owned)
        };
        let dry_run = body.get("dryRun").and_then(Value::as_array);
        Ok(Self {
            grace_seconds,
            propagation: policy,
            uid: precondition("uid"),
            revision: precondition("resourceVersion"),
            dry_run: dry_run.is_some_and(|values| values.iter().any(|value| value == "All")),
        })
    }
}

fn propagation(text: &str) -> Result<Option<Propagation>, Status> {
    match text {
        "" => Ok(None),
        "Background" => Ok(Some(Propagation::Background)),
        "Foreground" => Ok(Some(Propagation::Foreground)),
        "Orphan" => Ok(Some(Propagation::Orphan)),
        other => Err(Status::bad_request(format!(
            "propagationPolicy: Unsupported value: {other:?}: supported values: \"Background\", \
             \"Foreground\", \"Orphan\""
        ))),
    }
}
