//! The `Priority` admission plugin: a pod's `spec.priority` follows from its PriorityClass.
//!
//! Mirrors k8s.io/kubernetes/plugin/pkg/admission/priority. A pod without a class gets the global
//! default's value, or 0.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::storage::Stored;

/// Fill in priority, class and preemption policy of a pod that is created; the error is why it may
/// not be. `classes` are all PriorityClasses.
pub(crate) fn admit(pod: &mut Value, classes: &[Arc<Stored>]) -> Result<(), String> {
    let named = pod["spec"]["priorityClassName"].as_str().unwrap_or("").to_owned();
    let class = if named.is_empty() {
        default_class(classes)
    } else {
        let found = classes.iter().map(|entry| entry.decoded()).find(|class| name(class) == named);
        Some(found.ok_or_else(|| format!("no PriorityClass with name {named} was found"))?)
    };
    let value = class.and_then(|class| class["value"].as_i64()).unwrap_or(0);
    let policy = class
        .and_then(|class| class["preemptionPolicy"].as_str())
        .unwrap_or("PreemptLowerPriority");
    if let Some(given) = pod["spec"]["priority"].as_i64().filter(|given| *given != value) {
        return Err(format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority \
             admission controller computed {value} from the given PriorityClass name"
        ));
    }
    let given = pod["spec"]["preemptionPolicy"].as_str().filter(|given| *given != policy);
    if let Some(given) = given {
        return Err(format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; \
             priority admission controller computed {policy} from the given PriorityClass name"
        ));
    }
    if let Some(class) = class {
        pod["spec"]["priorityClassName"] = json!(name(class));
    }
    pod["spec"]["priority"] = json!(value);
    pod["spec"]["preemptionPolicy"] = json!(policy);
    Ok(())
}

/// The global default; of several, which an unlucky race allows, the one with the lowest value.
fn default_class(classes: &[Arc<Stored>]) -> Option<&Value> {
    classes
        .iter()
        .map(|entry| entry.decoded())
        .filter(|class| class["globalDefault"] == json!(true))
        .min_by_key(|class| class["value"].as_i64())
}

fn name(class: &Value) -> &str {
    crate::object::name(class)
}

#[cfg(test)]
mod tests {
    use pintle_api::scheme::Kind;

    use super::*;

    fn class(name: &str, value: i64, default: bool) -> Arc<Stored> {
        let object = json!({
            "metadata": {"name": name}, "value": value, "globalDefault": default,
            "preemptionPolicy": if name == "polite" { "Never" } else { "PreemptLowerPriority" },
        });
        Arc::new(Stored::unwritten(Kind::PriorityClass, &object, 1))
    }

    #[expect(clippy::needless_pass_by_value, reason = "reads better in the tables below")]
    fn admitted(spec: Value, classes: &[Arc<Stored>]) -> Result<Value, String> {
        let mut pod = json!({ "spec": spec });
        admit(&mut pod, classes).map(|()| pod["spec"].take())
    }

    #[test]
    fn the_class_decides() {
        let classes = [class("high", 1000, false), class("polite", 5, false)];
        let spec = admitted(json!({"priorityClassName": "polite"}), &classes).unwrap();
        assert_eq!(spec["priority"], 5);
        assert_eq!(spec["preemptionPolicy"], "Never");
        assert_eq!(admitted(json!({}), &classes).unwrap()["priority"], 0);
        let missing = admitted(json!({"priorityClassName": "nope"}), &classes).unwrap_err();
        assert_eq!(missing, "no PriorityClass with name nope was found");
    }

    #[test]
    fn the_lowest_global_default_is_taken() {
        let classes = [class("b", 20, true), class("a", 10, true), class("c", 1, false)];
        let spec = admitted(json!({}), &classes).unwrap();
        assert_eq!((&spec["priority"], &spec["priorityClassName"]), (&json!(10), &json!("a")));
    }

    #[test]
    fn a_pod_cannot_choose_its_own_number() {
        assert!(admitted(json!({"priority": 7}), &[]).unwrap_err().contains("(7)"));
        assert!(admitted(json!({"priority": 0}), &[]).is_ok());
        assert!(admitted(json!({"preemptionPolicy": "Never"}), &[]).unwrap_err().contains("Never"));
    }
}
