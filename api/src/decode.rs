//! From bytes to an object: syntax, duplicate and unknown fields, types.
//!
//! Mirrors `sigs.k8s.io/json` with the API server's `fieldValidation`. On the server an object
//! stays a [`Value`]; [`check`] walks it once with the kind's `k8s_openapi` type, and what
//! upstream's round trip through Go structs would do happens in place: unknown fields and nulls
//! go, quantities take their canonical form.

use std::fmt;

use k8s_openapi::api::{
    apps, authentication, authorization, autoscaling, coordination, core, discovery, policy,
    resource, scheduling, storage,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::DeleteOptions;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::scheme::Kind;

#[cfg(test)]
mod tests;
mod tree;
mod typed;

/// How deep lists and objects may nest; bounds the stack of everything that walks an object.
pub const DEPTH_MAX: usize = 100;
/// The same for YAML, whose parser takes some 20 KiB of stack a level when it is not optimised.
pub const DEPTH_YAML_MAX: usize = 40;
/// How many findings are reported; the rest are counted out silently.
pub const FINDINGS_MAX: usize = 64;

/// What to do about unknown and duplicate fields: the `fieldValidation` parameter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Drop them.
    Ignore,
    /// Drop them and tell the client in `Warning` headers; the default.
    #[default]
    Warn,
    /// Refuse the request.
    Strict,
}

impl std::str::FromStr for FieldValidation {
    type Err = DecodeError;
    fn from_str(text: &str) -> Result<Self, DecodeError> {
        match text {
            "Ignore" => Ok(Self::Ignore),
            "" | "Warn" => Ok(Self::Warn),
            "Strict" => Ok(Self::Strict),
            _ => Err(DecodeError::FieldValidation(text.to_owned())),
        }
    }
}

/// The syntax of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// `application/json` and the patch types built on it.
    Json,
    /// `application/yaml`; one document.
    Yaml,
}

/// A body that was read, and what was odd about it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    /// The value. Of a duplicate key the last one counts.
    pub value: Value,
    /// Findings in upstream's words: `duplicate field "spec.x"`.
    pub duplicates: Vec<String>,
}

/// An object of the right shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The object, pruned.
    pub object: Value,
    /// What to put into `Warning` headers.
    pub warnings: Vec<String>,
}

/// Why a body is not an object of its kind. All are 400 BadRequest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON or YAML at all.
    #[error("couldn't get version/kind; {0}")]
    Syntax(String),
    /// A field has the wrong type.
    #[error("{0} cannot be handled as a {1}: {2}")]
    Type(VersionedKind, &'static str, String),
    /// Unknown or duplicate fields under `fieldValidation=Strict`.
    #[error("{0} cannot be handled as a {1}: strict decoding error: {2}")]
    Strict(VersionedKind, &'static str, String),
    /// The query parameter has none of its three values.
    #[error(
        "fieldValidation: Unsupported value: {0:?}: supported values: \"Ignore\", \"Strict\", \
         \"Warn\""
    )]
    FieldValidation(String),
}

/// Prints as `Pod in version "v1"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionedKind(Kind);

impl fmt::Display for VersionedKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in version {:?}", self.0.name(), self.0.api_version())
    }
}

/// Reads a body's syntax and reports duplicate keys.
pub fn parse(bytes: &[u8], syntax: Syntax) -> Result<Document, DecodeError> {
    tree::parse(bytes, syntax)
}

/// Checks an object against its kind's type. Unknown fields and nulls are removed, quantities made
/// canonical; returns the findings, `unknown field "spec.x"`.
pub fn check(kind: Kind, value: &mut Value) -> Result<Vec<String>, DecodeError> {
    let check = match kind {
        Kind::Namespace => typed::check::<core::v1::Namespace>,
        Kind::Node => typed::check::<core::v1::Node>,
        Kind::Pod => typed::check::<core::v1::Pod>,
        Kind::Service => typed::check::<core::v1::Service>,
        Kind::Event => typed::check::<core::v1::Event>,
        Kind::ConfigMap => typed::check::<core::v1::ConfigMap>,
        Kind::Secret => typed::check::<core::v1::Secret>,
        Kind::ServiceAccount => typed::check::<core::v1::ServiceAccount>,
        Kind::Deployment => typed::check::<apps::v1::Deployment>,
        Kind::ReplicaSet => typed::check::<apps::v1::ReplicaSet>,
        Kind::EndpointSlice => typed::check::<discovery::v1::EndpointSlice>,
        Kind::Lease => typed::check::<coordination::v1::Lease>,
        Kind::PriorityClass => typed::check::<scheduling::v1::PriorityClass>,
        Kind::PersistentVolume => typed::check::<core::v1::PersistentVolume>,
        Kind::PersistentVolumeClaim => typed::check::<core::v1::PersistentVolumeClaim>,
        Kind::ReplicationController => typed::check::<core::v1::ReplicationController>,
        Kind::StatefulSet => typed::check::<apps::v1::StatefulSet>,
        Kind::DaemonSet => typed::check::<apps::v1::DaemonSet>,
        Kind::StorageClass => typed::check::<storage::v1::StorageClass>,
        Kind::CsiNode => typed::check::<storage::v1::CSINode>,
        Kind::CsiDriver => typed::check::<storage::v1::CSIDriver>,
        Kind::CsiStorageCapacity => typed::check::<storage::v1::CSIStorageCapacity>,
        Kind::VolumeAttachment => typed::check::<storage::v1::VolumeAttachment>,
        Kind::PodDisruptionBudget => typed::check::<policy::v1::PodDisruptionBudget>,
        Kind::DeviceClass => typed::check::<resource::v1::DeviceClass>,
        Kind::DeviceTaintRule => typed::check::<resource::v1alpha3::DeviceTaintRule>,
        Kind::ResourceClaim => typed::check::<resource::v1::ResourceClaim>,
        Kind::ResourceClaimTemplate => typed::check::<resource::v1::ResourceClaimTemplate>,
        Kind::ResourceSlice => typed::check::<resource::v1::ResourceSlice>,
        Kind::Workload => typed::check::<scheduling::v1alpha1::Workload>,
        Kind::TokenReview => typed::check::<authentication::v1::TokenReview>,
        Kind::SelfSubjectReview => typed::check::<authentication::v1::SelfSubjectReview>,
        Kind::SubjectAccessReview => typed::check::<authorization::v1::SubjectAccessReview>,
        Kind::LocalSubjectAccessReview => {
            typed::check::<authorization::v1::LocalSubjectAccessReview>
        }
        Kind::SelfSubjectAccessReview => typed::check::<authorization::v1::SelfSubjectAccessReview>,
        Kind::Binding => typed::check::<core::v1::Binding>,
        Kind::Eviction => typed::check::<policy::v1::Eviction>,
        Kind::Scale => typed::check::<autoscaling::v1::Scale>,
        Kind::DeleteOptions => typed::check::<DeleteOptions>,
    };
    check(value).map_err(|why| DecodeError::Type(VersionedKind(kind), kind.name(), why))
}

/// Reads a type that is no kind of the API, such as a component's configuration, by the rules of
/// [`check`]: the typed value and the unknown fields, or the first field of a wrong type.
pub fn read<T: DeserializeOwned>(value: &mut Value) -> Result<(T, Vec<String>), String> {
    typed::read(value)
}

/// Reads an object in one pass by the rules of [`check`], if that has nothing to put right but how
/// quantities are written: no unknown fields, no nulls, no numbers where quantities belong, no
/// wrong types. `None` of any other, which may be changed by then.
pub fn read_plain<T: DeserializeOwned>(value: &mut Value) -> Option<T> {
    typed::read_plain(value)
}

/// Applies `fieldValidation` to findings: nothing, warnings, or a refusal.
pub fn enforce(
    kind: Kind,
    findings: Vec<String>,
    validation: FieldValidation,
) -> Result<Vec<String>, DecodeError> {
    match validation {
        FieldValidation::Ignore => Ok(Vec::new()),
        FieldValidation::Warn => Ok(findings),
        FieldValidation::Strict if findings.is_empty() => Ok(findings),
        FieldValidation::Strict => {
            let all = findings.join(", ");
            Err(DecodeError::Strict(VersionedKind(kind), kind.name(), all))
        }
    }
}

/// [`parse`], [`check`] and [`enforce`] in one: what create and update do with a body. Missing
/// `apiVersion` and `kind` are filled in; that they are the right ones is the caller's to say.
pub fn decode(
    kind: Kind,
    bytes: &[u8],
    syntax: Syntax,
    validation: FieldValidation,
) -> Result<Decoded, DecodeError> {
    let Document { value: mut object, duplicates: mut findings } = parse(bytes, syntax)?;
    findings.extend(check(kind, &mut object)?);
    let warnings = enforce(kind, findings, validation)?;
    Ok(Decoded { object, warnings })
}

impl From<DecodeError> for crate::status::Status {
    fn from(error: DecodeError) -> Self {
        Self::bad_request(error.to_string())
    }
}
