//! `metav1.Status`: what the API answers instead of an object, by reason.
//!
//! Mirrors `k8s.io/apimachinery/pkg/api/errors`: reasons, codes, messages and details are
//! upstream's, since client-go decides by them (`IsNotFound`, `IsConflict`, retry-after).

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use meta::{ListMeta, StatusCause, StatusDetails};

use crate::field;

#[cfg(test)]
mod tests;

/// A failure as the API reports it. Serializes as a `Status` object.
#[derive(Clone, Debug, PartialEq)]
pub struct Status(Box<meta::Status>);

/// Which resource, or kind, a failure is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject<'a> {
    /// The API group; empty for core.
    pub group: &'a str,
    /// The plural resource (`pods`); for [`Status::invalid`] the kind (`Pod`).
    pub kind: &'a str,
    /// The object's name; may be empty.
    pub name: &'a str,
}

impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dot = if self.group.is_empty() { "" } else { "." };
        write!(f, "{}{dot}{} {:?}", self.kind, self.group, self.name)
    }
}

impl Subject<'_> {
    fn details(&self) -> StatusDetails {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        StatusDetails {
            group: text(self.group),
            kind: text(self.kind),
            name: text(self.name),
            ..StatusDetails::default()
        }
    }

    fn resource(&self) -> String {
        let dot = if self.group.is_empty() { "" } else { "." };
        format!("{}{dot}{}", self.kind, self.group)
    }
}

impl Status {
    /// 404: there is no such object.
    pub fn not_found(subject: Subject<'_>) -> Self {
        Self::new(404, "NotFound", format!("{subject} not found")).with(subject.details())
    }

    /// 404: there is no such path.
    pub fn no_such_path() -> Self {
        let text = "the server could not find the requested resource";
        Self::new(404, "NotFound", text.into()).with(StatusDetails::default())
    }

    /// 409: an object of this name exists.
    pub fn already_exists(subject: Subject<'_>) -> Self {
        Self::new(409, "AlreadyExists", format!("{subject} already exists")).with(subject.details())
    }

    /// 409: the object's state does not allow this; `why` completes the sentence.
    pub fn conflict(subject: Subject<'_>, why: &str) -> Self {
        let text = format!("Operation cannot be fulfilled on {subject}: {why}");
        Self::new(409, "Conflict", text).with(subject.details())
    }

    /// 409: the object was changed since it was read.
    pub fn modified(subject: Subject<'_>) -> Self {
        Self::conflict(
            subject,
            "the object has been modified; please apply your changes to the latest version and \
             try again",
        )
    }

    /// 422: fields are not valid. The subject's kind is the kind (`Pod`), not the resource.
    pub fn invalid(subject: Subject<'_>, errors: &field::Errors) -> Self {
        let causes = errors.as_slice().iter().map(|error| StatusCause {
            reason: Some(error.kind.reason().into()),
            message: Some(error.body()),
            field: Some(error.field.clone()),
        });
        let details = StatusDetails { causes: Some(causes.collect()), ..subject.details() };
        Self::new(422, "Invalid", format!("{subject} is invalid: {errors}")).with(details)
    }

    /// 400: the request cannot be understood.
    pub fn bad_request(why: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", why.into())
    }

    /// 401: nobody knows who asks.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized".into())
    }

    /// 403: the asker may not do this, or nobody may.
    pub fn forbidden(subject: Subject<'_>, why: &str) -> Self {
        let text = if subject.kind.is_empty() {
            format!("forbidden: {why}")
        } else if subject.name.is_empty() {
            format!("{} is forbidden: {why}", subject.resource())
        } else {
            format!("{subject} is forbidden: {why}")
        };
        Self::new(403, "Forbidden", text).with(subject.details())
    }

    /// 405: the resource does not support the verb.
    pub fn method_not_allowed(subject: Subject<'_>, verb: &str) -> Self {
        let text =
            format!("{verb} is not supported on resources of kind \"{}\"", subject.resource());
        Self::new(405, "MethodNotAllowed", text).with(subject.details())
    }

    /// 406: none of the media types asked for is served.
    pub fn not_acceptable(supported: &[&str]) -> Self {
        let text = format!("only the following media types are accepted: {}", supported.join(", "));
        Self::new(406, "NotAcceptable", text)
    }

    /// 415: the body's media type is not read here.
    pub fn unsupported_media_type(supported: &[&str]) -> Self {
        let text = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            supported.join(", ")
        );
        Self::new(415, "UnsupportedMediaType", text)
    }

    /// 410: the revision asked for is compacted. `oldest` is the first that is still there.
    pub fn too_old(requested: u64, oldest: u64) -> Self {
        Self::expired(format!("too old resource version: {requested} ({oldest})"))
    }

    /// 410: a continue token or a revision has expired.
    pub fn expired(why: impl Into<String>) -> Self {
        Self::new(410, "Expired", why.into())
    }

    /// 504: the revision asked for has not happened yet; ask again in a second.
    pub fn too_large(requested: u64, current: u64) -> Self {
        let cause = StatusCause {
            reason: Some("ResourceVersionTooLarge".into()),
            message: Some("Too large resource version".into()),
            field: None,
        };
        let details = StatusDetails {
            causes: Some(vec![cause]),
            retry_after_seconds: Some(1),
            ..StatusDetails::default()
        };
        let text = format!("Timeout: Too large resource version: {requested}, current: {current}");
        Self::new(504, "Timeout", text).with(details)
    }

    /// 504: the request took too long.
    pub fn timeout(why: &str, retry_after_s: i32) -> Self {
        Self::new(504, "Timeout", format!("Timeout: {why}")).retry_after(retry_after_s)
    }

    /// 413: the body is larger than the limit.
    pub fn too_large_body(bytes_max: usize) -> Self {
        let text = format!("Request entity too large: limit is {bytes_max}");
        Self::new(413, "RequestEntityTooLarge", text)
    }

    /// 429: too much at once; ask again after `retry_after_s` seconds.
    pub fn too_many_requests(why: &str, retry_after_s: i32) -> Self {
        Self::new(429, "TooManyRequests", why.into()).retry_after(retry_after_s)
    }

    /// 500: this server failed.
    pub fn internal(why: impl fmt::Display) -> Self {
        let cause = StatusCause { message: Some(why.to_string()), reason: None, field: None };
        let details = StatusDetails { causes: Some(vec![cause]), ..StatusDetails::default() };
        let text = format!("Internal error occurred: {why}");
        Self::new(500, "InternalError", text).with(details)
    }

    /// 503: this server cannot serve now.
    pub fn unavailable(why: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", why.into())
    }

    /// The same failure, with advice to ask again after so many seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: i32) -> Self {
        self.0.details.get_or_insert_default().retry_after_seconds = Some(seconds);
        self
    }

    /// The HTTP status code.
    pub fn code(&self) -> u16 {
        self.0.code.and_then(|code| u16::try_from(code).ok()).unwrap_or(500)
    }

    /// The machine readable reason, such as `NotFound`.
    pub fn reason(&self) -> &str {
        self.0.reason.as_deref().unwrap_or_default()
    }

    /// The sentence for people.
    pub fn message(&self) -> &str {
        self.0.message.as_deref().unwrap_or_default()
    }

    /// How many seconds to wait before asking again, if the failure says so.
    pub fn retry_after_s(&self) -> Option<i32> {
        self.0.details.as_ref()?.retry_after_seconds
    }

    /// The object itself.
    pub fn as_object(&self) -> &meta::Status {
        &self.0
    }

    /// The same failure with one cause more.
    #[must_use]
    pub fn cause(mut self, reason: &str, message: &str, field: &str) -> Self {
        let details = self.0.details.get_or_insert_default();
        let [reason, message, field] = [reason, message, field].map(|text| Some(text.to_owned()));
        details.causes.get_or_insert_default().push(StatusCause { field, message, reason });
        self
    }

    /// A failure with any code and reason.
    pub fn new(code: u16, reason: &str, message: String) -> Self {
        Self(Box::new(meta::Status {
            code: Some(i32::from(code)),
            details: None,
            message: Some(message),
            metadata: ListMeta::default(),
            reason: Some(reason.to_owned()),
            status: Some("Failure".to_owned()),
        }))
    }

    fn with(mut self, details: StatusDetails) -> Self {
        self.0.details = Some(details);
        self
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for Status {}

impl serde::Serialize for Status {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// The `Status` object that a delete answers with when it has removed the object.
pub fn success(subject: Subject<'_>, uid: &str) -> meta::Status {
    let uid = (!uid.is_empty()).then(|| uid.to_owned());
    meta::Status {
        details: Some(StatusDetails { uid, ..subject.details() }),
        status: Some("Success".into()),
        ..meta::Status::default()
    }
}
