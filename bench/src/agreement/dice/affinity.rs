//! What pods want of labels: of nodes', and of other pods'.

use serde_json::{Value, json};

use super::Dice;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

impl Dice {
    pub(super) fn affinity(&mut self) -> Value {
        json!({
            "nodeAffinity": self.perhaps(0.2, Self::node_affinity),
            "podAffinity": self.perhaps(0.15, Self::pod_affinity),
            "podAntiAffinity": self.perhaps(0.15, Self::pod_affinity)})
    }

    fn node_affinity(&mut self) -> Value {
        let required = |dice: &mut Self| json!({"nodeSelectorTerms": dice.several(1, 2, Self::node_selector_term)});
        let preferred = |dice: &mut Self| {
            let expressions = dice.several(1, 2, Self::node_selector_requirement);
            json!({"weight": dice.between(1, 100),
                "preference": {"matchExpressions": expressions}})
        };
        json!({REQUIRED: self.perhaps(0.6, required),
            PREFERRED: self.perhaps(0.6, |dice| dice.several(1, 2, preferred))})
    }

    fn node_selector_term(&mut self) -> Value {
        if self.chance(0.2) {
            let name = format!("n{}", self.between(0, 8));
            return json!({"matchFields": [{"key": "metadata.name",
                "operator": self.one(&["In", "In", "NotIn"]), "values": [name]}]});
        }
        json!({"matchExpressions": self.several(1, 2, Self::node_selector_requirement)})
    }

    fn node_selector_requirement(&mut self) -> Value {
        match self.between(0, 3) {
            0 => json!({"key": "zone", "operator": self.one(&["In", "NotIn"]),
                "values": [self.zone(), "c"]}),
            1 => json!({"key": self.one(&["disk", "zone", "nothing"]),
                "operator": self.one(&["Exists", "DoesNotExist"])}),
            2 => json!({"key": "generation", "operator": self.one(&["Gt", "Lt"]),
                "values": [self.between(0, 4).to_string()]}),
            _ => json!({"key": "disk", "operator": "In", "values": ["ssd"]}),
        }
    }

    fn pod_affinity(&mut self) -> Value {
        let preferred = |dice: &mut Self| json!({"weight": dice.between(1, 100), "podAffinityTerm": dice.pod_affinity_term()});
        json!({REQUIRED: self.perhaps(0.5, |dice| dice.several(1, 2, Self::pod_affinity_term)),
            PREFERRED: self.perhaps(0.5, |dice| dice.several(1, 2, preferred))})
    }

    fn pod_affinity_term(&mut self) -> Value {
        let selector = self.selector();
        let mut term = json!({
            "topologyKey": self.topology_key(),
            "namespaces": self.perhaps(0.3, |dice| dice.one(&[
                &["default"][..], &["other"], &["default", "other"], &["none", "default"]]).into()),
            "namespaceSelector": self.perhaps(0.3, Self::namespace_selector)});
        if !selector.is_null() && self.chance(0.2) {
            term[self.one(&["matchLabelKeys", "mismatchLabelKeys"])] = json!(["tier"]);
        }
        term["labelSelector"] = selector;
        term
    }

    fn namespace_selector(&mut self) -> Value {
        match self.between(0, 2) {
            0 => json!({}),
            1 => json!({"matchLabels": {"team": "red"}}),
            _ => json!({"matchExpressions": [
                {"key": "team", "operator": "NotIn", "values": ["red"]}]}),
        }
    }

    /// At most one constraint for a topology key and what happens where it cannot be met: the API
    /// takes no two.
    pub(super) fn constraints(&mut self) -> Value {
        if !self.chance(0.2) {
            return Value::Null;
        }
        let drawn = [self.constraint(), self.constraint()];
        let what = |constraint: &Value| {
            [constraint["topologyKey"].clone(), constraint["whenUnsatisfiable"].clone()]
        };
        let count = if what(&drawn[0]) == what(&drawn[1]) { 1 } else { self.between(1, 2) };
        drawn[..count].iter().cloned().collect()
    }

    fn constraint(&mut self) -> Value {
        let is_hard = self.chance(0.5);
        let policy = |dice: &mut Self| json!(dice.one(&["Honor", "Ignore"]));
        let selector = self.selector();
        let keys = if selector.is_null() { 0.0 } else { 0.2 };
        json!({
            "topologyKey": self.topology_key(),
            "whenUnsatisfiable": if is_hard { "DoNotSchedule" } else { "ScheduleAnyway" },
            "maxSkew": self.between(1, 2),
            "minDomains": self.perhaps(if is_hard { 0.4 } else { 0.0 }, |dice| {
                json!(dice.between(1, 3))
            }),
            "nodeAffinityPolicy": self.perhaps(0.3, policy),
            "nodeTaintsPolicy": self.perhaps(0.3, policy),
            "matchLabelKeys": self.perhaps(keys, |_| json!(["tier"])),
            "labelSelector": selector})
    }

    fn selector(&mut self) -> Value {
        match self.between(0, 9) {
            0..=5 => json!({"matchLabels": {"app": self.app()}}),
            6 => json!({"matchExpressions": [{"key": "app",
                "operator": self.one(&["Exists", "DoesNotExist"])}]}),
            7 => json!({"matchExpressions": [{"key": "app",
                "operator": self.one(&["In", "NotIn"]), "values": [self.app(), "z"]}]}),
            8 => json!({}),
            _ => Value::Null,
        }
    }

    fn topology_key(&mut self) -> &'static str {
        self.one(&["zone", "zone", "kubernetes.io/hostname", "kubernetes.io/hostname", "slot"])
    }
}
