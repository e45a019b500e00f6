//! Reviews: who is this token, and may they do that.
//!
//! Mirrors `pkg/registry/authentication` and `pkg/registry/authorization`. The answer is the object
//! that was sent with its status; nothing is stored. Tokens have no audiences here.

use http::{Response, StatusCode};
use pintle_api::decode::Decoded;
use pintle_api::scheme::{Kind, Resource};
use pintle_api::status::Status;
use pintle_api::validation;
use serde_json::{Value, json};

use super::{Call, options, render, write};
use crate::auth::{self, UserInfo};
use crate::body::Body;
use crate::object;
use crate::request::Target;
use crate::server::Core;
use crate::storage::Stored;

pub(super) fn answer(
    core: &Core,
    call: &Call<'_>,
    target: &Target,
    resource: &'static Resource,
) -> Result<Response<Body>, Status> {
    let Decoded { object: mut review, warnings } = options::decode(call, resource.kind)?;
    if resource.namespaced && object::namespace(&review).is_empty() {
        object::metadata(&mut review).insert("namespace".to_owned(), json!(target.namespace));
    }
    let errors = validation::create(resource.kind, &review);
    if !errors.is_empty() {
        return Err(Status::invalid(write::kind_subject(resource, ""), &errors));
    }
    if resource.namespaced && object::namespace(&review) != target.namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    review["status"] = match resource.kind {
        Kind::TokenReview => token(core, &review)?,
        Kind::SelfSubjectReview => json!({ "userInfo": described(call.user) }),
        Kind::SelfSubjectAccessReview => access(call.user, &review["spec"]),
        _ => access(&subject(&review["spec"]), &review["spec"]),
    };
    let answered = Stored::unwritten(resource.kind, &review, 0);
    let response = render::object(call, resource, StatusCode::CREATED, &answered)?;
    Ok(render::with_warnings(response, &warnings))
}

fn token(core: &Core, review: &Value) -> Result<Value, Status> {
    match object::text(review, &["spec", "token"]) {
        "" => Err(Status::bad_request("token is required for TokenReview in authentication")),
        token => Ok(match core.tokens.user(token) {
            Some(user) => json!({ "authenticated": true, "user": described(&user) }),
            None => json!({ "user": {} }),
        }),
    }
}

fn described(user: &UserInfo) -> Value {
    let groups = user.groups.iter().map(String::as_str).chain(["system:authenticated"]);
    json!({ "username": user.name, "groups": groups.collect::<Vec<_>>() })
}

fn subject(spec: &Value) -> UserInfo {
    let groups = spec["groups"].as_array().into_iter().flatten().filter_map(Value::as_str);
    UserInfo::new(object::text(spec, &["user"]), groups)
}

/// `SubjectAccessReviewStatus`. An attribute that is left out is empty, and `*` stands for all, which
/// only those may do who may do everything.
fn access(user: &UserInfo, spec: &Value) -> Value {
    let path = spec.get("nonResourceAttributes").filter(|it| !it.is_null());
    let asked = path.unwrap_or(&spec["resourceAttributes"]);
    let attribute = |key: &str| object::text(asked, &[key]).to_owned();
    let verb = attribute("verb");
    let answer = match path {
        Some(_) => auth::authorize_path(user, &verb, &attribute("path")),
        None => auth::authorize_target(
            user,
            &verb,
            &Target {
                group: attribute("group"),
                version: attribute("version"),
                resource: attribute("resource"),
                subresource: attribute("subresource"),
                namespace: attribute("namespace"),
                name: attribute("name"),
            },
        ),
    };
    json!({ "allowed": answer.is_ok() })
}
