//! Which nodes a pod's `nodeSelector` and node affinity select.
//!
//! Mirrors `k8s.io/component-helpers/scheduling/corev1/nodeaffinity`: terms are ORed, a term's
//! expressions ANDed, an empty term matches nothing, and `matchFields` knows `metadata.name`.
//! A term that cannot be evaluated (unknown operator, wrong count of values) matches nothing.

use k8s_openapi::api::core::v1::{
    Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PreferredSchedulingTerm,
};

use crate::labels::LabelSet;

/// Whether the node satisfies what the pod requires: `spec.nodeSelector` and
/// `affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution`.
pub fn required_matches(pod: &Pod, node: &Node) -> bool {
    let Some(spec) = &pod.spec else { return true };
    let labels = &node.metadata.labels;
    let plain = spec.node_selector.iter().flatten();
    plain.into_iter().all(|(key, value)| labels.label(key) == Some(value))
        && required_selector(pod).is_none_or(|selector| selector_matches(selector, node))
}

/// The pod's required node selector, if it has one.
pub fn required_selector(pod: &Pod) -> Option<&NodeSelector> {
    let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
    affinity.required_during_scheduling_ignored_during_execution.as_ref()
}

/// The pod's preferred terms; empty if it has none.
pub fn preferred_terms(pod: &Pod) -> &[PreferredSchedulingTerm] {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
    affinity
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|node| node.preferred_during_scheduling_ignored_during_execution.as_deref())
        .unwrap_or_default()
}

/// The sum of the weights of the pod's preferred terms that match the node.
pub fn preferred_weight(pod: &Pod, node: &Node) -> i64 {
    let matching = preferred_terms(pod).iter().filter(|p| term_matches(&p.preference, node));
    matching.map(|preferred| i64::from(preferred.weight)).sum()
}

/// Whether any of the selector's terms matches the node.
pub fn selector_matches(selector: &NodeSelector, node: &Node) -> bool {
    selector.node_selector_terms.iter().any(|term| term_matches(term, node))
}

/// Whether all expressions and fields of the term match the node; an empty term does not.
pub fn term_matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let name = node.metadata.name.as_deref().unwrap_or_default();
    expressions.iter().all(|e| requirement_matches(e, node.metadata.labels.label(&e.key)))
        && fields.iter().all(|f| field_matches(f, name))
}

fn requirement_matches(requirement: &NodeSelectorRequirement, label: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let is_one_of = |label: &str| values.iter().any(|value| value == label);
    match requirement.operator.as_str() {
        "In" => !values.is_empty() && label.is_some_and(is_one_of),
        "NotIn" => !values.is_empty() && !label.is_some_and(is_one_of),
        "Exists" => values.is_empty() && label.is_some(),
        "DoesNotExist" => values.is_empty() && label.is_none(),
        "Gt" => compare(label, values, |label, value| label > value),
        "Lt" => compare(label, values, |label, value| label < value),
        _ => false,
    }
}

fn compare(label: Option<&str>, values: &[String], holds: impl Fn(i64, i64) -> bool) -> bool {
    let [value] = values else { return false };
    let parse = |text: &str| text.parse::<i64>().ok();
    label.and_then(parse).zip(parse(value)).is_some_and(|(label, value)| holds(label, value))
}

/// `matchFields` takes `metadata.name`, `In` or `NotIn`, and exactly one value.
fn field_matches(requirement: &NodeSelectorRequirement, name: &str) -> bool {
    let Some([value]) = requirement.values.as_deref() else { return false };
    match (requirement.key.as_str(), requirement.operator.as_str()) {
        ("metadata.name", "In") => value == name,
        ("metadata.name", "NotIn") => value != name,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node() -> Node {
        serde_json::from_value(json!({"metadata": {
            "name": "n1", "labels": {"zone": "a", "cores": "8"}}}))
        .unwrap()
    }

    fn term(value: Value) -> NodeSelectorTerm {
        serde_json::from_value(value).unwrap()
    }

    fn expression(key: &str, operator: &str, values: &[&str]) -> Value {
        json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]})
    }

    #[test]
    fn terms_match_as_upstream() {
        for (value, expected) in [
            (json!({}), false),
            (expression("zone", "In", &["a", "b"]), true),
            (expression("zone", "In", &["b"]), false),
            (expression("zone", "NotIn", &["b"]), true),
            (expression("rack", "NotIn", &["b"]), true),
            (expression("zone", "Exists", &[]), true),
            (expression("zone", "Exists", &["a"]), false),
            (expression("rack", "DoesNotExist", &[]), true),
            (expression("cores", "Gt", &["7"]), true),
            (expression("cores", "Gt", &["8"]), false),
            (expression("cores", "Lt", &["9"]), true),
            (expression("zone", "Lt", &["9"]), false),
            (expression("cores", "Lt", &["9", "10"]), false),
            (expression("zone", "Near", &["a"]), false),
            (
                json!({"matchFields": [
                {"key": "metadata.name", "operator": "In", "values": ["n1"]}]}),
                true,
            ),
            (
                json!({"matchFields": [
                {"key": "metadata.name", "operator": "NotIn", "values": ["n1"]}]}),
                false,
            ),
            (
                json!({"matchFields": [
                {"key": "metadata.uid", "operator": "In", "values": ["n1"]}]}),
                false,
            ),
            (
                json!({"matchExpressions": [{"key": "zone", "operator": "Exists"}], "matchFields": [
                {"key": "metadata.name", "operator": "In", "values": ["n2"]}]}),
                false,
            ),
        ] {
            assert_eq!(term_matches(&term(value.clone()), &node()), expected, "{value}");
        }
    }

    #[test]
    fn plain_selector_and_affinity_must_both_hold() {
        let pod = |selector: Value, terms: Value| -> Pod {
            serde_json::from_value(json!({"spec": {"containers": [], "nodeSelector": selector,
                "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                {"nodeSelectorTerms": terms}}}}}))
            .unwrap()
        };
        let zone_a = expression("zone", "In", &["a"]);
        let zone_b = expression("zone", "In", &["b"]);
        assert!(required_matches(&pod(json!({"zone": "a"}), json!([zone_b, zone_a])), &node()));
        assert!(!required_matches(&pod(json!({"zone": "b"}), json!([zone_a])), &node()));
        assert!(!required_matches(&pod(json!({}), json!([])), &node()));
        assert!(required_matches(&Pod::default(), &node()));
    }

    #[test]
    fn weights_of_matching_preferences_add_up() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [], "affinity":
            {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 5, "preference": expression("zone", "In", &["a"])},
                {"weight": 7, "preference": expression("zone", "In", &["b"])},
                {"weight": 11, "preference": expression("cores", "Exists", &[])}]}}}}))
        .unwrap();
        assert_eq!(preferred_weight(&pod, &node()), 16);
    }
}
