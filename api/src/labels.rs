//! Label selectors: the API's `LabelSelector` and the query string's `labelSelector=`.
//!
//! Mirrors `k8s.io/apimachinery/pkg/labels` and `LabelSelectorAsSelector`.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::syntax;

mod parse;
#[cfg(test)]
mod tests;

pub use parse::parse;

/// Something labels can be looked up in.
pub trait LabelSet {
    /// The value of the label `key`, if it is there.
    fn label(&self, key: &str) -> Option<&str>;
}

impl LabelSet for BTreeMap<String, String> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

impl<L: LabelSet> LabelSet for Option<L> {
    fn label(&self, key: &str) -> Option<&str> {
        self.as_ref().and_then(|labels| labels.label(key))
    }
}

impl<L: LabelSet> LabelSet for &L {
    fn label(&self, key: &str) -> Option<&str> {
        (*self).label(key)
    }
}

/// The value of `metadata.labels`; anything but an object has no labels.
impl LabelSet for serde_json::Value {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(serde_json::Value::as_str)
    }
}

/// A condition on a set of labels. The default one matches everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Selector {
    /// All must hold; `None` matches nothing.
    requirements: Option<Vec<Requirement>>,
}

/// A condition on one label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Requirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

/// How a [`Requirement`] compares the label with its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operator {
    /// The label is one of the values.
    In,
    /// The label is absent or none of the values.
    NotIn,
    /// `=`: as `In`, with one value.
    Equals,
    /// `==`: as `In`, with one value.
    DoubleEquals,
    /// `!=`: as `NotIn`, with one value.
    NotEquals,
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
    /// The label is an integer greater than the value.
    GreaterThan,
    /// The label is an integer less than the value.
    LessThan,
}

/// Why a selector is refused; the text is upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub(crate) String);

impl Default for Selector {
    fn default() -> Self {
        Self::everything()
    }
}

impl Selector {
    /// Matches every set of labels.
    pub fn everything() -> Self {
        Self { requirements: Some(Vec::new()) }
    }

    /// Matches no set of labels.
    pub fn nothing() -> Self {
        Self { requirements: None }
    }

    /// Matches sets that have every one of `labels`, as a Service's or ReplicationController's
    /// plain map selector does.
    pub fn from_labels<'a>(labels: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        let equals = |(key, value): (&String, &String)| Requirement {
            key: key.clone(),
            operator: Operator::Equals,
            values: vec![value.clone()],
        };
        Self { requirements: Some(labels.into_iter().map(equals).collect()) }
    }

    /// Matches what both match. Equal conditions give equal selectors, in whichever order.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let both = self.requirements.zip(other.requirements);
        let requirements = both.map(|(mut all, more)| {
            all.extend(more);
            all.sort_unstable();
            all.dedup();
            all
        });
        Self { requirements }
    }

    /// Whether all requirements hold for `labels`.
    pub fn matches(&self, labels: &impl LabelSet) -> bool {
        self.requirements.as_ref().is_some_and(|all| all.iter().all(|r| r.matches(labels)))
    }

    /// A label and the only value of it that can match, if there is such a one: to look up by.
    pub fn exact(&self) -> Option<(&str, &str)> {
        self.requirements.iter().flatten().find_map(|requirement| {
            use Operator::{DoubleEquals, Equals, In};
            match (requirement.operator, requirement.values.as_slice()) {
                (In | Equals | DoubleEquals, [value]) => Some((&*requirement.key, &**value)),
                _ => None,
            }
        })
    }

    /// Whether it restricts nothing.
    pub fn is_everything(&self) -> bool {
        self.requirements.as_ref().is_some_and(Vec::is_empty)
    }

    /// Whether it can match nothing by construction.
    pub fn is_nothing(&self) -> bool {
        self.requirements.is_none()
    }
}

/// No selector matches nothing, an empty one everything, as `LabelSelectorAsSelector` has it.
impl TryFrom<Option<&LabelSelector>> for Selector {
    type Error = SelectorError;
    fn try_from(selector: Option<&LabelSelector>) -> Result<Self, SelectorError> {
        selector.map_or_else(|| Ok(Self::nothing()), Self::try_from)
    }
}

impl TryFrom<&LabelSelector> for Selector {
    type Error = SelectorError;
    fn try_from(selector: &LabelSelector) -> Result<Self, SelectorError> {
        let mut requirements = Vec::new();
        for (key, value) in selector.match_labels.iter().flatten() {
            requirements.push(Requirement::new(key, Operator::Equals, vec![value.clone()])?);
        }
        for expression in selector.match_expressions.iter().flatten() {
            let operator = match expression.operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    let text = format!("{other:?} is not a valid label selector operator");
                    return Err(SelectorError(text));
                }
            };
            let values = expression.values.clone().unwrap_or_default();
            requirements.push(Requirement::new(&expression.key, operator, values)?);
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { requirements: Some(requirements) })
    }
}

impl Requirement {
    /// Checks the key, the values and how many of them the operator takes.
    pub fn new(key: &str, operator: Operator, values: Vec<String>) -> Result<Self, SelectorError> {
        let mut errors = Vec::new();
        let bad_key = syntax::qualified_name(key);
        if !bad_key.is_empty() {
            errors.push(format!("key: Invalid value: {key:?}: {}", bad_key.join("; ")));
        }
        if let Some(error) = count_error(operator, &values) {
            errors.push(format!("values: Invalid value: {values:?}: {error}"));
        }
        for (i, value) in values.iter().enumerate() {
            if operator.is_numeric() && value.parse::<i64>().is_err() {
                errors.push(format!(
                    "values[{i}]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value \
                     must be an integer"
                ));
            }
            let bad_value = syntax::label_value(value);
            if !bad_value.is_empty() {
                errors.push(format!(
                    "values[{i}][{key}]: Invalid value: {value:?}: {}",
                    bad_value.join("; ")
                ));
            }
        }
        match errors.as_slice() {
            [] => Ok(Self { key: key.to_owned(), operator, values }),
            [one] => Err(SelectorError(one.clone())),
            many => Err(SelectorError(format!("[{}]", many.join(", ")))),
        }
    }

    /// Whether the label of this key in `labels` satisfies the operator.
    pub fn matches(&self, labels: &impl LabelSet) -> bool {
        let label = labels.label(&self.key);
        let is_one_of = |label: &str| self.values.iter().any(|value| value == label);
        match self.operator {
            Operator::In | Operator::Equals | Operator::DoubleEquals => {
                label.is_some_and(is_one_of)
            }
            Operator::NotIn | Operator::NotEquals => !label.is_some_and(is_one_of),
            Operator::Exists => label.is_some(),
            Operator::DoesNotExist => label.is_none(),
            Operator::GreaterThan => self.compare(label, |label, value| label > value),
            Operator::LessThan => self.compare(label, |label, value| label < value),
        }
    }

    fn compare(&self, label: Option<&str>, holds: impl Fn(i64, i64) -> bool) -> bool {
        let label = label.and_then(|label| label.parse().ok());
        let value = self.values.first().and_then(|value| value.parse().ok());
        label.zip(value).is_some_and(|(label, value)| holds(label, value))
    }
}

impl Operator {
    fn is_numeric(self) -> bool {
        matches!(self, Self::GreaterThan | Self::LessThan)
    }
}

fn count_error(operator: Operator, values: &[String]) -> Option<&'static str> {
    match operator {
        Operator::In | Operator::NotIn => {
            values.is_empty().then_some("for 'in', 'notin' operators, values set can't be empty")
        }
        Operator::Equals | Operator::DoubleEquals | Operator::NotEquals => {
            (values.len() != 1).then_some("exact-match compatibility requires one single value")
        }
        Operator::Exists | Operator::DoesNotExist => {
            (!values.is_empty()).then_some("values set must be empty for exists and does not exist")
        }
        Operator::GreaterThan | Operator::LessThan => {
            (values.len() != 1).then_some("for 'Gt', 'Lt' operators, exactly one value is required")
        }
    }
}

/// The query string form, which [`parse`] reads back.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements.iter().flatten().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            write!(f, "{comma}{requirement}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, values) = (&self.key, self.values.join(","));
        match self.operator {
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}
