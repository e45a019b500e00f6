//! Reviews: questions that are answered and not stored.
//!
//! Mirrors `pkg/apis/authorization/validation`.

use k8s_openapi::api::authorization::v1::{
    LocalSubjectAccessReview, SelfSubjectAccessReview, SubjectAccessReview, SubjectAccessReviewSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde_json::json;

use crate::field::{Errors, Path};

const SPEC: Path<'static> = Path::new("spec");

pub(super) fn subject_access(review: &SubjectAccessReview, errors: &mut Errors) {
    subject(&review.spec, errors);
    no_metadata(&review.metadata, errors);
}

pub(super) fn local_subject_access(review: &LocalSubjectAccessReview, errors: &mut Errors) {
    let (spec, namespace) = (&review.spec, review.metadata.namespace.as_deref());
    subject(spec, errors);
    let attributes = spec.resource_attributes.as_ref();
    if let Some(attributes) = attributes
        && attributes.namespace.as_deref() != namespace
    {
        let path = SPEC.child("resourceAttributes");
        let path = path.child("namespace");
        errors.invalid(&path, attributes.namespace.clone(), "must match metadata.namespace");
    }
    if spec.non_resource_attributes.is_some() {
        let path = SPEC.child("nonResourceAttributes");
        errors.invalid(
            &path,
            json!(spec.non_resource_attributes),
            "disallowed on this kind of request",
        );
    }
    no_metadata(&ObjectMeta { namespace: None, ..review.metadata.clone() }, errors);
}

pub(super) fn self_subject_access(review: &SelfSubjectAccessReview, errors: &mut Errors) {
    let spec = &review.spec;
    one_of(spec.resource_attributes.as_ref(), spec.non_resource_attributes.as_ref(), errors);
    no_metadata(&review.metadata, errors);
}

fn subject(spec: &SubjectAccessReviewSpec, errors: &mut Errors) {
    one_of(spec.resource_attributes.as_ref(), spec.non_resource_attributes.as_ref(), errors);
    let nobody = spec.user.as_ref().is_none_or(String::is_empty)
        && spec.groups.as_ref().is_none_or(Vec::is_empty);
    if nobody {
        errors.invalid(&SPEC.child("user"), "", "at least one of user or group must be specified");
    }
}

fn one_of<R, N: Serialize>(resource: Option<&R>, path: Option<&N>, errors: &mut Errors) {
    match (resource, path) {
        (Some(_), Some(path)) => errors.invalid(
            &SPEC.child("nonResourceAttributes"),
            json!(path),
            "cannot be specified in combination with resourceAttributes",
        ),
        (None, None) => errors.invalid(
            &SPEC.child("resourceAttributes"),
            json!(null),
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        ),
        _ => {}
    }
}

fn no_metadata(metadata: &ObjectMeta, errors: &mut Errors) {
    let rest = ObjectMeta { managed_fields: None, ..metadata.clone() };
    if rest != ObjectMeta::default() {
        errors.invalid(&Path::new("metadata"), json!(metadata), "must be empty");
    }
}
