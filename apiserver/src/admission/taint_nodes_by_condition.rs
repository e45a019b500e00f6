//! The `TaintNodesByCondition` admission plugin: a node begins with the not-ready taint, so that
//! nothing is bound to it before the node controller has seen it Ready.

use serde_json::{Value, json};

/// Add the taint to a node that is created.
pub(crate) fn admit(node: &mut Value) {
    let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
    if taints.iter().any(|taint| taint["key"] == NOT_READY && taint["effect"] == "NoSchedule") {
        return;
    }
    let added = vec![json!({"key": NOT_READY, "effect": "NoSchedule"})];
    node["spec"]["taints"] = json!([taints, added].concat());
}

const NOT_READY: &str = "node.kubernetes.io/not-ready";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_taint_is_added_once() {
        let mut node = json!({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}});
        admit(&mut node);
        admit(&mut node);
        assert_eq!(node["spec"]["taints"].as_array().unwrap().len(), 2);
    }
}
