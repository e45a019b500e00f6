//! Answers in the form that the client asked for, with its warnings.

use http::{HeaderValue, Response, StatusCode, header};
use jiff::Timestamp;
use pintle_api::scheme::Resource;
use pintle_api::status::Status;
use serde_json::{Value, json};

use super::Call;
use crate::body::Body;
use crate::negotiate::{self, Form};
use crate::query::Query;
use crate::status;
use crate::storage::Stored;
use crate::table::{self, IncludeObject};

/// One object.
pub(super) fn object(
    call: &Call<'_>,
    resource: &Resource,
    code: StatusCode,
    stored: &Stored,
) -> Result<Response<Body>, Status> {
    Ok(match negotiate::form(&call.headers)? {
        Form::Object => status::bytes(code, stored.rendered()),
        Form::Metadata => status::json(code, &metadata(&stored.full())),
        Form::Table => {
            check_include(&call.query)?;
            status::json(code, &one_row(&call.query, resource, &stored.full(), true))
        }
    })
}

/// A response with its `Warning` headers.
pub(super) fn with_warnings(mut response: Response<Body>, warnings: &[String]) -> Response<Body> {
    for warning in warnings {
        let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    response
}

/// `PartialObjectMetadata` of an object.
pub(super) fn metadata(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object["metadata"],
    })
}

/// A `Table` of one object; the later events of a watch go without column definitions.
pub(super) fn one_row(
    query: &Query,
    resource: &Resource,
    object: &Value,
    with_columns: bool,
) -> Value {
    let metadata = json!({ "resourceVersion": crate::object::meta(object, "resourceVersion") });
    table::render(
        resource.kind,
        [object],
        &metadata,
        Timestamp::now(),
        include(query),
        with_columns,
    )
}

/// A `Table` of objects.
pub(super) fn rows(
    query: &Query,
    resource: &Resource,
    objects: &[Value],
    list_metadata: &Value,
) -> Value {
    table::render(resource.kind, objects, list_metadata, Timestamp::now(), include(query), true)
}

/// `includeObject`, checked by [`check_include`] before.
fn include(query: &Query) -> IncludeObject {
    query.get("includeObject").parse().unwrap_or_default()
}

/// 400 if `includeObject` is none of its values.
pub(super) fn check_include(query: &Query) -> Result<(), Status> {
    let parsed: Result<IncludeObject, String> = query.get("includeObject").parse();
    parsed.map(|_| ()).map_err(Status::bad_request)
}
