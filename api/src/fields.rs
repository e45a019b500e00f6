//! Field selectors: `fieldSelector=spec.nodeName=n1,status.phase!=Running`.
//!
//! Mirrors `k8s.io/apimachinery/pkg/fields` and the fields that each kind's registry offers.

use std::fmt;

use serde_json::Value;

use crate::scheme::Kind;

/// A condition on an object's fields; all requirements must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Selector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Requirement {
    field: String,
    value: String,
    equal: bool,
}

/// Why a field selector is refused; 400 BadRequest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldSelectorError {
    /// A term has no operator.
    #[error("invalid selector: '{selector}'; can't understand '{term}'")]
    Syntax {
        /// The whole selector.
        selector: String,
        /// The term without an operator.
        term: String,
    },
    /// A backslash escapes something other than `\`, `,` or `=`.
    #[error("invalid field selector: invalid escape sequence: {0}")]
    Escape(String),
    /// The kind cannot be selected by this field.
    #[error("field label not supported: {0}")]
    NotSupported(String),
}

impl From<FieldSelectorError> for crate::status::Status {
    fn from(error: FieldSelectorError) -> Self {
        Self::bad_request(error.to_string())
    }
}

/// Reads a selector and checks that objects of `kind` have its fields. An empty text selects all.
pub fn parse(kind: Kind, text: &str) -> Result<Selector, FieldSelectorError> {
    let mut requirements = Vec::new();
    for term in split_terms(text) {
        if term.is_empty() {
            continue;
        }
        let (field, value, equal) = split_term(term).ok_or_else(|| FieldSelectorError::Syntax {
            selector: text.to_owned(),
            term: term.to_owned(),
        })?;
        let value = unescape(value)?;
        if !is_supported(kind, field) {
            return Err(FieldSelectorError::NotSupported(field.to_owned()));
        }
        requirements.push(Requirement { field: field.to_owned(), value, equal });
    }
    Ok(Selector(requirements))
}

impl Selector {
    /// Whether all requirements hold for `object`. A field that is absent is the empty text, or
    /// `false` for a boolean.
    pub fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|r| (value_of(object, &r.field) == r.value) == r.equal)
    }

    /// The same, with the values looked up elsewhere: those that [`value_of`] gave before.
    pub fn matches_values<'a>(&self, value: impl Fn(&str) -> &'a str) -> bool {
        self.0.iter().all(|r| (value(&r.field) == r.value) == r.equal)
    }

    /// Whether it restricts nothing.
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// The value that `field` must equal, if it must; lets a lookup by name or node skip a scan.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.0.iter().find(|r| r.equal && r.field == field).map(|r| r.value.as_str())
    }
}

/// Prints the form that [`parse`] reads.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.0.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            let operator = if requirement.equal { "=" } else { "!=" };
            write!(f, "{comma}{}{operator}", requirement.field)?;
            for c in requirement.value.chars() {
                let escape = if matches!(c, '\\' | ',' | '=') { "\\" } else { "" };
                write!(f, "{escape}{c}")?;
            }
        }
        Ok(())
    }
}

/// The fields that objects of a kind can be selected by, beyond `metadata.name` and
/// `metadata.namespace`.
pub fn fields_of(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Pod => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ],
        Kind::Event => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        Kind::Node => &["spec.unschedulable"],
        Kind::Secret => &["type"],
        Kind::Namespace => &["status.phase"],
        Kind::Service => &["spec.clusterIP", "spec.type"],
        Kind::ReplicaSet | Kind::ReplicationController => &["status.replicas"],
        Kind::ResourceSlice => &["spec.driver", "spec.nodeName"],
        _ => &[],
    }
}

fn is_supported(kind: Kind, field: &str) -> bool {
    let is_namespaced = crate::scheme::of(kind).is_none_or(|resource| resource.namespaced);
    match field {
        "metadata.name" => true,
        "metadata.namespace" => is_namespaced,
        _ => fields_of(kind).contains(&field),
    }
}

/// What selectors compare the field with.
pub fn value_of(object: &Value, field: &str) -> String {
    let at = |path: &str| path.split('.').try_fold(object, |value, name| value.get(name));
    let text = |path: &str| match at(path) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null | Value::Array(_) | Value::Object(_)) | None => String::new(),
        Some(scalar) => scalar.to_string(),
    };
    match field {
        "spec.unschedulable" | "spec.hostNetwork" if at(field).is_none() => "false".into(),
        "status.replicas" if at(field).is_none() => "0".into(),
        "source" => {
            let component = text("source.component");
            if component.is_empty() { text("reportingComponent") } else { component }
        }
        "status.podIPs" => at(field)
            .and_then(Value::as_array)
            .map(|ips| ips.iter().filter_map(|ip| ip.get("ip")?.as_str()).collect::<Vec<_>>())
            .unwrap_or_default()
            .join(","),
        _ => text(field),
    }
}

/// Terms are separated by commas that no backslash escapes.
fn split_terms(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut escaped) = (Vec::new(), 0, false);
    for (i, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b',' => {
                terms.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

/// Field, value, and whether they must be equal: the first of `!=`, `==`, `=`.
fn split_term(term: &str) -> Option<(&str, &str, bool)> {
    let at = term.find("!=").into_iter().chain(term.find('=')).min()?;
    let (field, rest) = term.split_at(at);
    if let Some(value) = rest.strip_prefix("!=") {
        return Some((field, value, false));
    }
    let value = rest.strip_prefix("==").or_else(|| rest.strip_prefix('='))?;
    Some((field, value, true))
}

fn unescape(value: &str) -> Result<String, FieldSelectorError> {
    let mut text = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped @ ('\\' | ',' | '=')) => text.push(escaped),
                other => {
                    let sequence = other.map_or("\\".into(), |other| format!("\\{other}"));
                    return Err(FieldSelectorError::Escape(sequence));
                }
            },
            _ => text.push(c),
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_match_fields() {
        let pod = json!({"metadata": {"name": "x", "namespace": "d"}, "spec": {"nodeName": "n1"},
            "status": {"phase": "Running"}});
        for (text, expected) in [
            ("", true),
            ("metadata.name=x", true),
            ("metadata.name==x,metadata.namespace=d", true),
            ("metadata.name!=x", false),
            ("spec.nodeName=n1,status.phase!=Failed,status.phase!=Succeeded", true),
            ("spec.nodeName=", false),
            ("status.podIP=", true),
            ("spec.hostNetwork=false", true),
        ] {
            let selector = parse(Kind::Pod, text).unwrap();
            assert_eq!(selector.matches(&pod), expected, "{text}");
        }
        assert_eq!(
            parse(Kind::Pod, "spec.nodeName=n1").unwrap().exact("spec.nodeName"),
            Some("n1")
        );
        let node = parse(Kind::Node, "spec.unschedulable=false").unwrap();
        assert!(node.matches(&json!({"spec": {}})));
        assert!(!node.matches(&json!({"spec": {"unschedulable": true}})));
    }

    #[test]
    fn bad_selectors_say_why() {
        for (kind, text, error) in [
            (Kind::Pod, "spec.foo=x", "field label not supported: spec.foo"),
            (Kind::Node, "metadata.namespace=x", "field label not supported: metadata.namespace"),
            (Kind::Pod, "x", "invalid selector: 'x'; can't understand 'x'"),
            (
                Kind::Pod,
                "metadata.name=a\\b",
                "invalid field selector: invalid escape sequence: \\b",
            ),
        ] {
            assert_eq!(parse(kind, text).unwrap_err().to_string(), error);
        }
    }

    proptest! {
        #[test]
        fn printed_selectors_read_back(value in "[a-z=,!\\\\é]{0,8}", equal: bool) {
            let field = "metadata.name".to_owned();
            let selector = Selector(vec![Requirement { field, value, equal }]);
            let text = selector.to_string();
            prop_assert_eq!(parse(Kind::Pod, &text).unwrap(), selector);
        }
    }
}
