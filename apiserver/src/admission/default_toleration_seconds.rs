//! The `DefaultTolerationSeconds` admission plugin: a pod stays on a node that is not ready or
//! unreachable for five minutes, unless it says otherwise.
//!
//! Mirrors k8s.io/kubernetes/plugin/pkg/admission/defaulttolerationseconds.

use serde_json::{Value, json};

/// Add the tolerations that a pod lacks.
pub(crate) fn admit(pod: &mut Value) {
    let tolerations = pod["spec"]["tolerations"].as_array().cloned().unwrap_or_default();
    let missing: Vec<Value> = TAINTS
        .iter()
        .filter(|taint| !tolerations.iter().any(|toleration| covers(toleration, taint)))
        .map(|taint| {
            json!({
                "key": taint, "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": SECONDS,
            })
        })
        .collect();
    if !missing.is_empty() {
        pod["spec"]["tolerations"] = json!([tolerations, missing].concat());
    }
}

fn covers(toleration: &Value, taint: &str) -> bool {
    let text = |key: &str| toleration[key].as_str().unwrap_or("");
    (text("key") == taint || text("key").is_empty()) && ["", "NoExecute"].contains(&text("effect"))
}

const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
/// kube-apiserver's `--default-not-ready-toleration-seconds` and its twin.
const SECONDS: u64 = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "reads better in the tables below")]
    fn admitted(tolerations: Value) -> Value {
        let mut pod = json!({"spec": {"tolerations": tolerations}});
        admit(&mut pod);
        pod["spec"]["tolerations"].take()
    }

    #[test]
    fn both_are_added_once() {
        let added = admitted(json!(null));
        assert_eq!(added.as_array().unwrap().len(), 2);
        assert_eq!(added[0]["tolerationSeconds"], 300);
        assert_eq!(admitted(added.clone()), added);
    }

    #[test]
    fn own_tolerations_are_respected() {
        let own = json!([{"key": TAINTS[0], "operator": "Exists", "effect": "NoExecute"}]);
        assert_eq!(admitted(own).as_array().unwrap().len(), 2);
        assert_eq!(admitted(json!([{"operator": "Exists"}])).as_array().unwrap().len(), 1);
        let other = json!([{"key": TAINTS[0], "operator": "Exists", "effect": "NoSchedule"}]);
        assert_eq!(admitted(other).as_array().unwrap().len(), 3);
    }
}
