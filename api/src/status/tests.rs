use serde_json::json;

use super::*;
use crate::field::{Errors, Path};

const POD: Subject<'_> = Subject { group: "", kind: "pods", name: "x" };
const DEPLOYMENT: Subject<'_> = Subject { group: "apps", kind: "deployments", name: "web" };

#[test]
fn messages_are_upstreams() {
    for (status, code, reason, message) in [
        (Status::not_found(POD), 404, "NotFound", "pods \"x\" not found"),
        (Status::not_found(DEPLOYMENT), 404, "NotFound", "deployments.apps \"web\" not found"),
        (Status::already_exists(POD), 409, "AlreadyExists", "pods \"x\" already exists"),
        (
            Status::modified(DEPLOYMENT),
            409,
            "Conflict",
            "Operation cannot be fulfilled on deployments.apps \"web\": the object has been \
             modified; please apply your changes to the latest version and try again",
        ),
        (Status::too_old(5, 9), 410, "Expired", "too old resource version: 5 (9)"),
        (
            Status::too_large(9, 5),
            504,
            "Timeout",
            "Timeout: Too large resource version: 9, current: 5",
        ),
        (
            Status::method_not_allowed(POD, "patch"),
            405,
            "MethodNotAllowed",
            "patch is not supported on resources of kind \"pods\"",
        ),
        (Status::forbidden(POD, "no"), 403, "Forbidden", "pods \"x\" is forbidden: no"),
        (Status::internal("disk"), 500, "InternalError", "Internal error occurred: disk"),
        (
            Status::too_large_body(3_145_728),
            413,
            "RequestEntityTooLarge",
            "Request entity too large: limit is 3145728",
        ),
    ] {
        assert_eq!((status.code(), status.reason()), (code, reason));
        assert_eq!(status.message(), message);
    }
}

#[test]
fn invalid_lists_its_causes() {
    let mut errors = Errors::new();
    errors.required(&Path::new("spec").child("containers"), "");
    let subject = Subject { group: "", kind: "Pod", name: "x" };
    assert_eq!(
        serde_json::to_value(Status::invalid(subject, &errors)).unwrap(),
        json!({
            "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
            "message": "Pod \"x\" is invalid: spec.containers: Required value",
            "reason": "Invalid", "code": 422,
            "details": {"name": "x", "kind": "Pod", "causes": [{
                "reason": "FieldValueRequired", "message": "Required value",
                "field": "spec.containers"}]}})
    );
}

#[test]
fn clients_are_told_when_to_retry() {
    assert_eq!(Status::too_large(9, 5).retry_after_s(), Some(1));
    assert_eq!(Status::too_many_requests("wait", 7).retry_after_s(), Some(7));
    let details = Status::too_large(9, 5).as_object().details.clone().unwrap();
    let reason = details.causes.unwrap().remove(0).reason.unwrap();
    assert_eq!(reason, "ResourceVersionTooLarge");
}

#[test]
fn success_names_what_was_deleted() {
    assert_eq!(
        serde_json::to_value(success(POD, "u")).unwrap()["details"],
        json!({"kind": "pods", "name": "x", "uid": "u"})
    );
}
