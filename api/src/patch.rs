//! The three patches of the API: JSON patch, JSON merge patch, strategic merge patch.
//!
//! RFC 6902, RFC 7386, and upstream's `strategicpatch`. A patch never nests an object deeper than
//! [`DEPTH_MAX`] or copies more than [`COPY_BYTES_MAX`]; the size of the result is the caller's to
//! check. Server-side apply is not here.

use json_patch::{PatchErrorKind, PatchOperation};
use serde_json::Value;

use crate::decode::{self, DEPTH_MAX, Syntax};
use crate::scheme::Kind;
use crate::status::Status;

mod order;
mod schema;
mod strategic;
#[cfg(test)]
mod tests;

/// Upstream's limit on the operations of a JSON patch.
pub const OPERATIONS_MAX: usize = 10_000;
/// How much the `copy` operations of one JSON patch may add; upstream's request size limit.
pub const COPY_BYTES_MAX: usize = 3 << 20;

/// Which patch a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `application/json-patch+json`
    Json,
    /// `application/merge-patch+json`
    Merge,
    /// `application/strategic-merge-patch+json`
    Strategic,
}

impl Format {
    /// The format of a media type (without parameters).
    pub fn from_media_type(media_type: &str) -> Option<Self> {
        match media_type {
            "application/json-patch+json" => Some(Self::Json),
            "application/merge-patch+json" => Some(Self::Merge),
            "application/strategic-merge-patch+json" => Some(Self::Strategic),
            _ => None,
        }
    }
}

/// A patch that was read; can be applied again when the object changed meanwhile.
#[derive(Clone, Debug)]
pub struct Patch {
    body: Body,
    /// Duplicate keys in the patch, in upstream's words; `fieldValidation` decides about them.
    pub duplicates: Vec<String>,
}

#[derive(Clone, Debug)]
enum Body {
    Operations(Vec<PatchOperation>),
    Merge(Value),
    Strategic(Value),
}

/// Why a patch is refused.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    /// The body is not a patch of its format.
    #[error("error decoding patch: {0}")]
    Malformed(String),
    /// More than [`OPERATIONS_MAX`] operations.
    #[error("The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {0}")]
    TooManyOperations(usize),
    /// The copies add up to more than [`COPY_BYTES_MAX`].
    #[error("Unable to complete the copy, the accumulated size of copies exceeds {COPY_BYTES_MAX}")]
    CopiesTooLarge,
    /// The result would nest deeper than [`DEPTH_MAX`].
    #[error("the patch nests the object deeper than {DEPTH_MAX} levels")]
    TooDeep,
    /// An operation of a JSON patch fails on this object; a failed `test` is one.
    #[error("the server rejected our request due to an error in our request: {0}")]
    Operation(String),
    /// A directive or list item of a strategic merge patch is wrong.
    #[error("{0}")]
    Strategic(String),
}

impl From<PatchError> for Status {
    fn from(error: PatchError) -> Self {
        let text = error.to_string();
        match error {
            PatchError::TooManyOperations(_) | PatchError::CopiesTooLarge => {
                Self::new(413, "RequestEntityTooLarge", text)
            }
            PatchError::Operation(_) => Self::new(422, "Invalid", text),
            PatchError::Malformed(_) | PatchError::TooDeep | PatchError::Strategic(_) => {
                Self::bad_request(text)
            }
        }
    }
}

impl Patch {
    /// What a merge patch, strategic or not, merges in.
    pub fn merged(&self) -> Option<&Value> {
        match &self.body {
            Body::Operations(_) => None,
            Body::Merge(value) | Body::Strategic(value) => Some(value),
        }
    }

    /// Reads a patch.
    pub fn parse(format: Format, bytes: &[u8]) -> Result<Self, PatchError> {
        let document = decode::parse(bytes, Syntax::Json)
            .map_err(|error| PatchError::Malformed(error.to_string()))?;
        let decode::Document { value, duplicates } = document;
        let body = match format {
            Format::Json => Body::Operations(operations(value)?),
            Format::Merge => Body::Merge(object(value)?),
            Format::Strategic => Body::Strategic(object(value)?),
        };
        Ok(Self { body, duplicates })
    }

    /// The object after the patch. Whether it still is a valid one is the caller's to check.
    pub fn apply(&self, kind: Kind, mut object: Value) -> Result<Value, PatchError> {
        match &self.body {
            Body::Operations(operations) => apply_operations(&mut object, operations)?,
            Body::Merge(patch) => json_patch::merge(&mut object, patch),
            Body::Strategic(patch) => strategic::merge(&mut object, patch, schema::of(kind))?,
        }
        Ok(object)
    }
}

fn object(value: Value) -> Result<Value, PatchError> {
    if value.is_object() {
        return Ok(value);
    }
    Err(PatchError::Malformed("a merge patch must be a JSON object".into()))
}

fn operations(value: Value) -> Result<Vec<PatchOperation>, PatchError> {
    if let Some(items) = value.as_array()
        && items.len() > OPERATIONS_MAX
    {
        return Err(PatchError::TooManyOperations(items.len()));
    }
    serde_json::from_value(value).map_err(|error| PatchError::Malformed(error.to_string()))
}

fn apply_operations(object: &mut Value, operations: &[PatchOperation]) -> Result<(), PatchError> {
    let mut copied_bytes = 0;
    for (index, operation) in operations.iter().enumerate() {
        check_growth(object, operation, &mut copied_bytes)?;
        // The whole object is thrown away when an operation fails, so nothing need be undone.
        json_patch::patch_unsafe(object, std::slice::from_ref(operation)).map_err(|error| {
            let verb = match error.kind {
                PatchErrorKind::TestFailed => "testing value",
                _ => "operation",
            };
            let text =
                format!("{verb} {index} at path {:?} failed: {}", error.path.as_str(), error.kind);
            PatchError::Operation(text)
        })?;
    }
    Ok(())
}

/// Refuses operations that would grow the object without bound: each nests a little deeper, or
/// doubles what the one before it doubled.
fn check_growth(
    object: &Value,
    operation: &PatchOperation,
    copied_bytes: &mut usize,
) -> Result<(), PatchError> {
    let (path, value) = match operation {
        PatchOperation::Add(add) => (&add.path, Some(&add.value)),
        PatchOperation::Replace(replace) => (&replace.path, Some(&replace.value)),
        PatchOperation::Move(it) => (&it.path, object.pointer(it.from.as_str())),
        PatchOperation::Copy(it) => {
            let value = object.pointer(it.from.as_str());
            *copied_bytes += value.map_or(0, |value| value.to_string().len());
            if *copied_bytes > COPY_BYTES_MAX {
                return Err(PatchError::CopiesTooLarge);
            }
            (&it.path, value)
        }
        PatchOperation::Remove(_) | PatchOperation::Test(_) => return Ok(()),
    };
    if path.count() + value.map_or(0, depth) > DEPTH_MAX {
        return Err(PatchError::TooDeep);
    }
    Ok(())
}

/// How many lists and objects nest in `value`.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
