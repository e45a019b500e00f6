//! A failure as an HTTP response.

use http::{HeaderValue, Response, StatusCode, header};
use pintle_api::status::Status;

use crate::body::Body;

pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");

pub(crate) fn code(status: &Status) -> StatusCode {
    StatusCode::from_u16(status.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

pub(crate) fn response(status: &Status) -> Response<Body> {
    let mut response = json(code(status), &status);
    if let Some(seconds) = status.retry_after_s() {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// A response whose body is `value` in JSON.
pub(crate) fn json(code: StatusCode, value: &impl serde::Serialize) -> Response<Body> {
    // Only map keys that are no strings could fail, and no API type has them.
    bytes(code, serde_json::to_vec(value).unwrap_or_default())
}

/// A response whose body is JSON already.
pub(crate) fn bytes(code: StatusCode, body: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response.headers_mut().insert(header::CACHE_CONTROL, NO_CACHE);
    response
}

const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache, private");
