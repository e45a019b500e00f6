//! `matchLabelKeys` and `mismatchLabelKeys`: the pod's own labels as part of what it selects by.
//!
//! Mirrors `applyMatchLabelKeysAndMismatchLabelKeys` of `podStrategy.PrepareForCreate` (KEP 3633,
//! KEP 3243): the labels that the keys name are merged into the selectors beside them, so that who
//! reads the pod later needs only the selectors.

use serde_json::{Map, Value, json};

/// Completes the selectors of a pod's affinity and of its topology spread constraints. What is merged
/// already stays as it is.
pub fn merge_into_selectors(pod: &mut Value) {
    let labels = pod["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(affinity) = pod.pointer_mut(&format!("/spec/affinity/{kind}")) else { continue };
        for term in list(affinity, "preferredDuringSchedulingIgnoredDuringExecution") {
            if let Some(term) = term.get_mut("podAffinityTerm") {
                complete(term, &labels);
            }
        }
        for term in list(affinity, "requiredDuringSchedulingIgnoredDuringExecution") {
            complete(term, &labels);
        }
    }
    if let Some(spec) = pod.get_mut("spec") {
        for constraint in list(spec, "topologySpreadConstraints") {
            merge(constraint, "matchLabelKeys", "In", &labels);
        }
    }
}

fn list<'a>(parent: &'a mut Value, field: &str) -> impl Iterator<Item = &'a mut Value> {
    parent.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten()
}

fn complete(term: &mut Value, labels: &Map<String, Value>) {
    merge(term, "matchLabelKeys", "In", labels);
    merge(term, "mismatchLabelKeys", "NotIn", labels);
}

/// Keys that the pod has no label for are left out; without a selector nothing is selected, and
/// nothing is merged.
fn merge(term: &mut Value, field: &str, operator: &str, labels: &Map<String, Value>) {
    let keys = term[field].as_array().cloned().unwrap_or_default();
    let Some(selector) = term.get_mut("labelSelector").and_then(Value::as_object_mut) else {
        return;
    };
    for key in keys.iter().filter_map(Value::as_str) {
        let Some(value) = labels.get(key) else { continue };
        let requirement = json!({"key": key, "operator": operator, "values": [value]});
        match selector.get_mut("matchExpressions").and_then(Value::as_array_mut) {
            Some(expressions) if expressions.contains(&requirement) => {}
            Some(expressions) => expressions.push(requirement),
            None => _ = selector.insert("matchExpressions".to_owned(), json!([requirement])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn created(mut spec: Value) -> Value {
        let mut pod = json!({"metadata": {"labels": {"app": "a", "hash": "1"}}});
        pod["spec"] = spec.take();
        merge_into_selectors(&mut pod);
        let once = pod.clone();
        merge_into_selectors(&mut pod);
        assert_eq!(pod, once);
        pod
    }

    #[test]
    fn keys_are_merged_into_the_selectors() {
        let term = json!({"topologyKey": "zone",
            "labelSelector": {"matchLabels": {"app": "a"},
                "matchExpressions": [{"key": "x", "operator": "Exists"}]},
            "matchLabelKeys": ["hash", "absent"], "mismatchLabelKeys": ["app"]});
        let expected = json!([{"key": "x", "operator": "Exists"},
            {"key": "hash", "operator": "In", "values": ["1"]},
            {"key": "app", "operator": "NotIn", "values": ["a"]}]);
        let (required, preferred) = (
            "requiredDuringSchedulingIgnoredDuringExecution",
            "preferredDuringSchedulingIgnoredDuringExecution",
        );
        let pod = created(json!({"affinity": {
            "podAffinity": {required: [term]},
            "podAntiAffinity": {preferred: [{"weight": 1, "podAffinityTerm": term}]}}}));
        let affinity = &pod["spec"]["affinity"];
        let near = &affinity["podAffinity"][required][0];
        let far = &affinity["podAntiAffinity"][preferred][0]["podAffinityTerm"];
        for term in [near, far] {
            assert_eq!(term["labelSelector"]["matchExpressions"], expected);
            assert_eq!(term["matchLabelKeys"], json!(["hash", "absent"]), "the keys stay");
        }
    }

    #[test]
    fn spread_constraints_take_part_and_no_selector_stays_none() {
        let pod = created(json!({"topologySpreadConstraints": [
            {"topologyKey": "zone", "labelSelector": {}, "matchLabelKeys": ["hash"]},
            {"topologyKey": "zone", "matchLabelKeys": ["hash"]}]}));
        let constraints = &pod["spec"]["topologySpreadConstraints"];
        assert_eq!(
            constraints[0]["labelSelector"],
            json!({"matchExpressions": [{"key": "hash", "operator": "In", "values": ["1"]}]})
        );
        assert_eq!(constraints[1].get("labelSelector"), None);
    }
}
