//! Random objects: small clusters with everything that a default plugin looks at, and names few
//! enough to collide. One seed, one sequence.
//!
//! Volumes are left out: the controller of persistent volumes that they need besides a scheduler is
//! not there to answer.

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

mod affinity;
mod devices;

pub(super) use devices::device_class;

/// What is random is drawn from this alone.
pub(super) struct Dice {
    random: SmallRng,
}

/// PriorityClasses that pods name: name, value, preemption policy.
pub(super) const PRIORITY_CLASSES: [(&str, i32, &str); 4] = [
    ("low", 0, "PreemptLowerPriority"),
    ("middle", 10, "PreemptLowerPriority"),
    ("patient", 15, "Never"),
    ("high", 20, "PreemptLowerPriority"),
];

/// The namespaces that pods are in; the second has the label `team: red`.
pub(super) const NAMESPACES: [&str; 2] = ["default", "other"];

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: SmallRng::seed_from_u64(seed) }
    }

    /// So often, of 1.
    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.random.random_bool(probability)
    }

    pub(super) fn between(&mut self, least: usize, most: usize) -> usize {
        self.random.random_range(least..=most)
    }

    pub(super) fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.random.random_range(0..of.len())]
    }

    /// So often, of 1, what is drawn; else nothing.
    fn perhaps(&mut self, probability: f64, draw: impl FnOnce(&mut Self) -> Value) -> Value {
        if self.chance(probability) { draw(self) } else { Value::Null }
    }

    fn several(
        &mut self,
        least: usize,
        most: usize,
        mut draw: impl FnMut(&mut Self) -> Value,
    ) -> Value {
        (0..self.between(least, most)).map(|_| draw(self)).collect()
    }

    /// A node with its status. Its labels, taints and images are shared with others.
    pub(super) fn node(&mut self, name: &str) -> Value {
        let zone = self.perhaps(0.8, |dice| json!(dice.zone()));
        let labels = json!({
            "kubernetes.io/hostname": if self.chance(0.95) { name } else { "shared" },
            "zone": zone,
            "topology.kubernetes.io/zone": zone,
            "slot": self.perhaps(0.9, |dice| json!(dice.one(&["s0", "s1", "s2", "s3"]))),
            "disk": self.perhaps(0.5, |dice| json!(dice.one(&["ssd", "hdd"]))),
            "generation": self.between(0, 4).to_string()});
        let mut taints = Vec::new();
        for key in ["gpu", "spot"] {
            if self.chance(0.15) {
                let value = self.perhaps(0.5, |_| json!("x"));
                taints.push(json!({"key": key, "value": value, "effect": self.effect()}));
            }
        }
        let allocatable = json!({
            "cpu": self.one(&["1", "2", "1500m", "3500m"]),
            "memory": self.one(&["1Gi", "2Gi", "4Gi", "6000Mi"]),
            "pods": self.one(&["3", "5", "8", "20"]),
            "ephemeral-storage": self.perhaps(0.5, |_| json!("10Gi")),
            "example.com/gpu": self.perhaps(0.5, |dice| json!(dice.between(0, 3).to_string()))});
        let mut images = Vec::new();
        for (image, mebibytes) in [("app:v1", 300), ("db:latest", 900), ("reg.io/web:v2", 60)] {
            if self.chance(0.4) {
                images.push(json!({"names": [image], "sizeBytes": mebibytes << 20}));
            }
        }
        pruned(json!({"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": labels},
            "spec": {"taints": taints, "unschedulable": self.perhaps(0.05, |_| json!(true))},
            "status": {"capacity": allocatable, "allocatable": allocatable, "images": images}}))
    }

    /// What else of a namespace is read: a Service, a ReplicaSet, a budget that some have spent.
    pub(super) fn setting(&mut self, namespace: &str) -> Vec<Value> {
        let metadata = json!({"name": "x", "namespace": namespace});
        let mut objects = Vec::new();
        if self.chance(0.6) {
            let selector = self.perhaps(0.9, |dice| json!({"app": dice.app()}));
            objects.push(json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata,
                "spec": {"selector": selector, "ports": [{"port": 80}]}}));
        }
        if self.chance(0.6) {
            let labels = json!({"app": self.app()});
            objects.push(json!({"apiVersion": "apps/v1", "kind": "ReplicaSet",
                "metadata": metadata, "spec": {"replicas": 0, "selector": {"matchLabels": labels},
                    "template": {"metadata": {"labels": labels},
                        "spec": {"containers": [{"name": "c", "image": "i"}]}}}}));
        }
        if self.chance(0.4) {
            objects.push(json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
                "metadata": metadata,
                "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": self.app()}}},
                "status": {"disruptionsAllowed": self.between(0, 2), "currentHealthy": 1,
                    "desiredHealthy": 1, "expectedPods": 1}}));
        }
        objects.extend(self.claims(namespace));
        objects.into_iter().map(pruned).collect()
    }

    /// A pod that is not bound. `is_late`: one that may have to make room for itself.
    pub(super) fn pod(&mut self, name: &str, is_late: bool) -> Value {
        let classes: &[&str] = if is_late {
            &["middle", "high", "high", "patient"]
        } else {
            &["low", "low", "middle"]
        };
        let owner = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x", "uid": "x",
            "controller": true}]);
        let metadata = json!({
            "name": name,
            "namespace": self.one(&["default", "default", "other"]),
            "labels": {
                "app": self.perhaps(0.9, |dice| json!(dice.one(&["x", "y", "y", "z"]))),
                "tier": self.perhaps(0.4, |dice| json!(dice.one(&["a", "b"])))},
            "ownerReferences": self.perhaps(0.3, |_| owner)});
        let spec = if self.chance(0.4) { self.heavy() } else { self.particular() };
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata});
        pod["spec"] = spec;
        pod["spec"]["priorityClassName"] = json!(self.one(classes));
        pod["spec"]["terminationGracePeriodSeconds"] = json!(0);
        pruned(pod)
    }

    /// Wants much and goes anywhere.
    fn heavy(&mut self) -> Value {
        let requests = json!({"cpu": self.one(&["400m", "700m", "1"]),
            "memory": self.one(&["100Mi", "700Mi"])});
        json!({"tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "c", "image": "none", "resources": {"requests": requests}}]})
    }

    /// Wants little of everything.
    fn particular(&mut self) -> Value {
        let mut containers = Vec::new();
        for at in 0..self.between(1, 2) {
            containers.push(self.container(&format!("c{at}"), false));
        }
        let mut first = Vec::new();
        for at in 0..if self.chance(0.2) { self.between(1, 2) } else { 0 } {
            first.push(self.container(&format!("i{at}"), true));
        }
        let whole = json!({"requests": {"cpu": self.one(&["2", "1700m"]), "memory": "3Gi"}});
        let toleration = |dice: &mut Self| {
            let effect =
                dice.perhaps(0.5, |dice| json!(dice.one(&["NoSchedule", "PreferNoSchedule"])));
            json!({"key": dice.one(&["gpu", "spot"]), "operator": "Exists", "effect": effect})
        };
        json!({
            "containers": containers,
            "initContainers": first,
            "resources": self.perhaps(0.1, |_| whole),
            "tolerations": self.perhaps(0.5, |dice| dice.several(1, 2, toleration)),
            "nodeSelector": self.perhaps(0.15, |dice| json!({"zone": dice.zone()})),
            "affinity": self.affinity(),
            "resourceClaims": self.perhaps(0.15, Self::claims_of_pod),
            "topologySpreadConstraints": self.constraints()})
    }

    fn container(&mut self, name: &str, is_first: bool) -> Value {
        let gpu = self.perhaps(0.05, |dice| json!(dice.one(&["0", "1", "2"])));
        let requests = json!({
            "cpu": self.perhaps(0.6, |dice| {
                json!(dice.one(&["0", "50m", "100m", "300m", "500m", "600m"]))
            }),
            "memory": self.perhaps(0.5, |dice| {
                json!(dice.one(&["0", "64Mi", "200Mi", "300Mi", "1Gi"]))
            }),
            "ephemeral-storage": self.perhaps(0.04, |dice| json!(dice.one(&["1Gi", "9Gi"]))),
            "example.com/gpu": gpu});
        let host_ip = |dice: &mut Self| json!(dice.one(&["127.0.0.1", "10.0.0.1", "0.0.0.0"]));
        let port = |dice: &mut Self| {
            json!([{"containerPort": dice.between(1, 9),
                "hostPort": if dice.chance(0.5) { 80 } else { 81 },
                "protocol": dice.one(&["TCP", "TCP", "UDP"]),
                "hostIP": dice.perhaps(0.3, host_ip)}])
        };
        json!({
            "name": name,
            "image": self.one(&["app:v1", "db", "reg.io/web:v2", "none", "app"]),
            "resources": {"requests": requests, "limits": {"example.com/gpu": gpu}},
            "ports": self.perhaps(0.08, port),
            "restartPolicy": self.perhaps(if is_first { 0.4 } else { 0.0 }, |_| json!("Always"))})
    }

    fn zone(&mut self) -> &'static str {
        self.one(&["a", "b", "c"])
    }

    fn app(&mut self) -> &'static str {
        self.one(&["x", "y"])
    }

    fn effect(&mut self) -> &'static str {
        self.one(&["NoSchedule", "PreferNoSchedule", "PreferNoSchedule", "NoExecute"])
    }
}

/// Without the fields that are null.
fn pruned(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
            fields.map(|(name, value)| (name, pruned(value))).collect()
        }
        Value::Array(items) => items.into_iter().map(pruned).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_is_one_sequence() {
        let drawn = |seed| {
            let mut dice = Dice::new(seed);
            let pods: Vec<Value> = (0..50).map(|at| dice.pod(&format!("p{at}"), at > 25)).collect();
            (pods, dice.node("n0"), dice.setting("default"))
        };
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
    }
}
