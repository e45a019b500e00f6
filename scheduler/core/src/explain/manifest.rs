//! Files of Kubernetes objects: YAML streams and JSON, in and out.
//!
//! Reading stops at generic values with the number of their document; [`super::Cluster`] makes
//! objects of them.

use serde::Serialize;
use serde_json::Value;

/// One document of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Counted from 1, empty documents included.
    pub number: usize,
    /// The document; never null.
    pub value: Value,
}

/// What is wrong with a file. Prints as `document 2: ...`; the file's name is the caller's to add.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not YAML or JSON.
    #[error("document {document}: {problem}")]
    Syntax {
        /// Counted from 1.
        document: usize,
        /// What and where.
        problem: String,
    },
    /// An object that is none.
    #[error("document {document}: {object}: {problem}")]
    Object {
        /// Counted from 1.
        document: usize,
        /// `Pod default/web`, and where in a List it is.
        object: String,
        /// Which field is wrong, and how.
        problem: String,
    },
}

/// The documents of a YAML stream or a JSON file, without the empty ones.
pub fn documents(text: &str) -> Result<Vec<Document>, ManifestError> {
    let mut documents = Vec::new();
    for (at, part) in split(text).enumerate() {
        let number = at + 1;
        let value = parse(part.text, part.lines_before)
            .map_err(|problem| ManifestError::Syntax { document: number, problem })?;
        if !value.is_null() {
            documents.push(Document { number, value });
        }
    }
    Ok(documents)
}

/// One document as it stands in the file.
struct Part<'a> {
    lines_before: usize,
    text: &'a str,
}

/// YAML forbids a line that begins with `---` within any value, so lines alone tell documents apart.
fn split(text: &str) -> impl Iterator<Item = Part<'_>> {
    let mut rest = Some((0, text));
    std::iter::from_fn(move || {
        let (lines_before, text) = rest.take()?;
        let mut at = 0;
        for (number, line) in text.split_inclusive('\n').enumerate() {
            if at > 0 && is_marker(line) && !is_prologue(&text[..at]) {
                rest = Some((lines_before + number, &text[at..]));
                return Some(Part { lines_before, text: &text[..at] });
            }
            at += line.len();
        }
        Some(Part { lines_before, text })
    })
}

fn is_marker(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.trim_start() != rest || rest.is_empty())
}

/// Comments and blank lines before the first marker are not a document of their own.
fn is_prologue(text: &str) -> bool {
    let says_something = |line: &str| !line.trim().is_empty() && !line.starts_with(['#', '%']);
    !text.lines().any(says_something)
}

fn parse(text: &str, lines_before: usize) -> Result<Value, String> {
    if text.trim_start().starts_with(['{', '[']) {
        return serde_json::from_str(text)
            .map_err(|error| at_line(&error.to_string(), lines_before));
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: NODES_MAX * 4, max_nodes: NODES_MAX, max_depth: DEPTH_MAX,
            max_total_scalar_bytes: BYTES_MAX,
        },
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::Error,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let problem = error.without_snippet().to_string().replace('\n', " ");
        let Some(location) = error.location() else { return problem };
        // The parser counts from the document's first line, people from the file's.
        let (line, column) = (location.line(), location.column());
        let in_file = line as usize + lines_before;
        problem.replace(
            &format!("line {line}, column {column}"),
            &format!("line {in_file}, column {column}"),
        )
    })
}

fn at_line(problem: &str, lines_before: usize) -> String {
    match lines_before {
        0 => problem.to_owned(),
        lines => format!("{problem} (the document begins after line {lines})"),
    }
}

/// The objects as a YAML stream that [`documents`] reads.
pub fn to_yaml<T: Serialize>(objects: &[T]) -> String {
    let mut text = String::new();
    for object in objects {
        let value = serde_json::to_value(object).unwrap_or_default();
        // A value that JSON can hold, YAML can hold.
        let yaml = serde_saphyr::to_string(&value).unwrap_or_else(|_| value.to_string());
        text.push_str("---\n");
        text.push_str(&yaml);
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    text
}

/// A List of 150,000 pods of 200 values each.
const NODES_MAX: usize = 30_000_000;
/// The same in bytes.
const BYTES_MAX: usize = 4 << 30;
/// No Kubernetes object nests deeper; the parser takes some 20 KiB of stack a level.
const DEPTH_MAX: usize = 40;
