//! Paths to fields and the errors that name them.
//!
//! Mirrors `k8s.io/apimachinery/pkg/util/validation/field`.
//!
//! A [`Path`] is a chain of borrowed segments on the stack: walking a valid object allocates
//! nothing, and only an error spells its path out.

use std::fmt;

use serde_json::Value;

/// A path such as `spec.containers[0].image`.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    segment: Segment<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Segment<'a> {
    /// The object itself.
    Object,
    Name(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    /// The object itself; prints as nothing.
    pub const OBJECT: Path<'static> = Path { parent: None, segment: Segment::Object };

    /// A field of the object itself.
    pub const fn new(name: &'a str) -> Self {
        Self { parent: None, segment: Segment::Name(name) }
    }

    /// `self.name`.
    #[must_use]
    pub fn child<'b>(&'b self, name: &'b str) -> Path<'b> {
        Path { parent: Some(self), segment: Segment::Name(name) }
    }

    /// `self[index]`.
    #[must_use]
    pub fn index(&self, index: usize) -> Path<'_> {
        Path { parent: Some(self), segment: Segment::Index(index) }
    }

    /// `self[key]`.
    #[must_use]
    pub fn key<'b>(&'b self, key: &'b str) -> Path<'b> {
        Path { parent: Some(self), segment: Segment::Key(key) }
    }

    fn is_object(&self) -> bool {
        matches!(self.segment, Segment::Object)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.segment {
            Segment::Object => Ok(()),
            Segment::Name(name) if self.parent.is_none_or(Path::is_object) => f.write_str(name),
            Segment::Name(name) => write!(f, ".{name}"),
            Segment::Index(index) => write!(f, "[{index}]"),
            Segment::Key(key) => write!(f, "[{key}]"),
        }
    }
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The field must be set.
    Required,
    /// The value is not well formed.
    Invalid,
    /// The value is none of the known ones.
    NotSupported,
    /// The value occurs twice in a set.
    Duplicate,
    /// The field may not be set, or not be changed.
    Forbidden,
    /// The value refers to something that does not exist.
    NotFound,
    /// The value is too long.
    TooLong,
    /// The list has too many items.
    TooMany,
}

impl ErrorKind {
    /// The words in a message.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Required => "Required value",
            Self::Invalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Duplicate => "Duplicate value",
            Self::Forbidden => "Forbidden",
            Self::NotFound => "Not found",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
        }
    }

    /// The `reason` of a `StatusCause`.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Forbidden => "FieldValueForbidden",
            Self::NotFound => "FieldValueNotFound",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
        }
    }
}

/// One thing wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The field's path.
    pub field: String,
    /// What is wrong.
    pub kind: ErrorKind,
    /// The refused value as it prints, if the kind shows it.
    value: Option<String>,
    detail: String,
}

impl Error {
    /// The message without the field.
    pub fn body(&self) -> String {
        let mut body = self.kind.text().to_owned();
        if let Some(value) = &self.value {
            body = format!("{body}: {value}");
        }
        if !self.detail.is_empty() {
            body = format!("{body}: {}", self.detail);
        }
        body
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

impl std::error::Error for Error {}

/// Everything found wrong with an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Errors(Vec<Error>);

/// How many errors are reported; a list of 100,000 bad items shall not become a 10 MB answer.
pub const ERRORS_MAX: usize = 64;

impl Errors {
    /// No errors yet.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The errors, at most [`ERRORS_MAX`].
    pub fn as_slice(&self) -> &[Error] {
        &self.0
    }

    /// `Required value`.
    pub fn required(&mut self, path: &Path<'_>, detail: &str) {
        self.push(path, ErrorKind::Required, None, detail.to_owned());
    }

    /// `Invalid value: "value": detail`.
    pub fn invalid(&mut self, path: &Path<'_>, value: impl Into<Value>, detail: impl Into<String>) {
        self.push(path, ErrorKind::Invalid, Some(show(&value.into())), detail.into());
    }

    /// An `Invalid value` for each of `details`.
    pub fn each_invalid(&mut self, path: &Path<'_>, value: &str, details: Vec<String>) {
        for detail in details {
            self.invalid(path, value, detail);
        }
    }

    /// `Unsupported value: "value": supported values: "a", "b"`.
    pub fn not_supported(&mut self, path: &Path<'_>, value: &str, supported: &[&str]) {
        let mut supported: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
        supported.sort_unstable();
        let detail = format!("supported values: {}", supported.join(", "));
        self.push(path, ErrorKind::NotSupported, Some(format!("{value:?}")), detail);
    }

    /// `Duplicate value: "value"`.
    pub fn duplicate(&mut self, path: &Path<'_>, value: impl Into<Value>) {
        self.push(path, ErrorKind::Duplicate, Some(show(&value.into())), String::new());
    }

    /// `Forbidden: detail`.
    pub fn forbidden(&mut self, path: &Path<'_>, detail: impl Into<String>) {
        self.push(path, ErrorKind::Forbidden, None, detail.into());
    }

    /// `Not found: "value"`.
    pub fn not_found(&mut self, path: &Path<'_>, value: &str) {
        self.push(path, ErrorKind::NotFound, Some(format!("{value:?}")), String::new());
    }

    /// `Too long: may not be more than N bytes`.
    pub fn too_long(&mut self, path: &Path<'_>, bytes_max: usize) {
        let detail = format!("may not be more than {bytes_max} bytes");
        self.push(path, ErrorKind::TooLong, None, detail);
    }

    /// `Too many: N: must have at most M items`.
    pub fn too_many(&mut self, path: &Path<'_>, count: usize, count_max: usize) {
        let detail = format!("must have at most {count_max} items");
        self.push(path, ErrorKind::TooMany, Some(count.to_string()), detail);
    }

    fn push(&mut self, path: &Path<'_>, kind: ErrorKind, value: Option<String>, detail: String) {
        if self.0.len() < ERRORS_MAX {
            self.0.push(Error { field: path.to_string(), kind, value, detail });
        }
    }
}

/// Strings quoted, all else as JSON; long values cut.
fn show(value: &Value) -> String {
    let mut text = value.to_string();
    if text.len() > SHOWN_BYTES_MAX {
        let end = (0..=SHOWN_BYTES_MAX).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
        text.truncate(end);
        text.push_str("...");
    }
    text
}

/// A refused value in a message; a megabyte of it helps nobody.
const SHOWN_BYTES_MAX: usize = 4096;

/// Upstream's aggregate: one error plainly, several in brackets.
impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [one] = self.0.as_slice() {
            return one.fmt(f);
        }
        let all: Vec<String> = self.0.iter().map(Error::to_string).collect();
        write!(f, "[{}]", all.join(", "))
    }
}

impl std::error::Error for Errors {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_messages_are_upstreams() {
        let spec = Path::new("spec");
        let containers = spec.child("containers");
        let first = containers.index(0);
        let labels = Path::OBJECT;
        let labels = labels.child("metadata");
        let labels = labels.child("labels");
        let mut errors = Errors::new();
        errors.required(&first.child("image"), "");
        assert_eq!(errors.to_string(), "spec.containers[0].image: Required value");
        errors.invalid(&labels.key("a b"), "x", "must be good");
        errors.not_supported(&spec.child("restartPolicy"), "Now", &["Never", "Always"]);
        errors.duplicate(&spec.child("port"), 80);
        errors.too_many(&spec, 5, 3);
        errors.forbidden(&spec, "field is immutable");
        assert_eq!(
            errors.to_string(),
            "[spec.containers[0].image: Required value, \
             metadata.labels[a b]: Invalid value: \"x\": must be good, \
             spec.restartPolicy: Unsupported value: \"Now\": supported values: \"Always\", \
             \"Never\", spec.port: Duplicate value: 80, \
             spec: Too many: 5: must have at most 3 items, spec: Forbidden: field is immutable]"
        );
    }

    #[test]
    fn reports_are_bounded() {
        let mut errors = Errors::new();
        for _ in 0..1000 {
            errors.invalid(&Path::new("x"), "é".repeat(5000), "");
        }
        assert_eq!(errors.as_slice().len(), ERRORS_MAX);
        assert!(errors.to_string().len() < ERRORS_MAX * (SHOWN_BYTES_MAX + 64));
    }
}
