//! Label selectors inside objects.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::meta;
use crate::field::{Errors, Path};
use crate::syntax;

pub(super) fn label_selector(path: &Path<'_>, selector: &LabelSelector, errors: &mut Errors) {
    meta::label_map(&path.child("matchLabels"), selector.match_labels.as_ref(), errors);
    let list = path.child("matchExpressions");
    for (i, expression) in selector.match_expressions.iter().flatten().enumerate() {
        let path = list.index(i);
        let values = expression.values.as_deref().unwrap_or_default();
        match expression.operator.as_str() {
            "In" | "NotIn" if values.is_empty() => errors.required(
                &path.child("values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            ),
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.forbidden(
                &path.child("values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            ),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                errors.invalid(&path.child("operator"), other, "not a valid selector operator");
            }
        }
        let key = &expression.key;
        errors.each_invalid(&path.child("key"), key, syntax::qualified_name(key));
        for (j, value) in values.iter().enumerate() {
            let path = path.child("values");
            errors.each_invalid(&path.index(j), value, syntax::label_value(value));
        }
    }
}

/// Whether the selector has no requirement at all.
pub(super) fn is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(std::collections::BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}
