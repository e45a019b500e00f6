//! Devices on nodes, and claims for them that pods share.

use serde_json::{Value, json};

use super::{Dice, pruned};

/// The class that all claims are of.
pub(in crate::agreement) fn device_class() -> Value {
    json!({"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": "gpu"},
        "spec": {"selectors": [{"cel": {"expression": "device.driver == 'gpu.example.com'"}}]}})
}

impl Dice {
    /// A node's devices: some of this kind, some of that, some tainted. Some nodes have none.
    pub(in crate::agreement) fn slice(&mut self, node: &str) -> Option<Value> {
        let count = self.between(0, 3);
        let device = |dice: &mut Self, at: usize| {
            let taint = |dice: &mut Self| json!([{"key": "broken", "effect": dice.one(&["NoSchedule", "NoExecute"])}]);
            json!({"name": format!("d{at}"), "taints": dice.perhaps(0.1, taint),
                "attributes": {"kind": {"int": dice.between(0, 1)}},
                "capacity": {"memory": {"value": dice.one(&["4Gi", "8Gi"])}}})
        };
        let mut devices = Vec::new();
        for at in 0..count {
            devices.push(device(self, at));
        }
        let slice = json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice",
            "metadata": {"name": node},
            "spec": {"driver": "gpu.example.com", "nodeName": node, "devices": devices,
                "pool": {"name": node, "generation": 1, "resourceSliceCount": 1}}});
        (count > 0).then(|| pruned(slice))
    }

    /// The claims of a namespace, by numbered names.
    pub(super) fn claims(&mut self, namespace: &str) -> Vec<Value> {
        let mut claims = Vec::new();
        for at in 0..CLAIMS {
            let requests = self.several(1, 2, Self::device_request);
            let mut requests = requests.as_array().cloned().unwrap_or_default();
            for (at, request) in requests.iter_mut().enumerate() {
                request["name"] = json!(format!("r{at}"));
            }
            let alike = json!([{"matchAttribute": "gpu.example.com/kind"}]);
            claims.push(json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim",
                "metadata": {"name": format!("c{at}"), "namespace": namespace},
                "spec": {"devices": {"requests": requests,
                    "constraints": self.perhaps(0.2, |_| alike)}}}));
        }
        claims
    }

    /// One or two.
    pub(super) fn claims_of_pod(&mut self) -> Value {
        let first = self.between(0, CLAIMS - 1);
        let names = if self.chance(0.3) { vec![first, (first + 1) % CLAIMS] } else { vec![first] };
        let claim = |at: usize| json!({"name": format!("claim{at}"), "resourceClaimName": format!("c{at}")});
        names.into_iter().map(claim).collect()
    }

    fn device_request(&mut self) -> Value {
        if self.chance(0.2) {
            let first = json!({"name": "large", "deviceClassName": "gpu", "count": 2,
                "selectors": LARGE.map(cel)});
            let second = json!({"name": "any", "deviceClassName": "gpu"});
            return json!({"firstAvailable": [first, second]});
        }
        let selectors = |dice: &mut Self| {
            json!([cel(dice.one(&["device.attributes['gpu.example.com'].kind == 1", LARGE[0]]))])
        };
        let tolerations = json!([{"operator": "Exists"}]);
        let is_all = self.chance(0.1);
        json!({"exactly": {
            "deviceClassName": "gpu",
            "allocationMode": if is_all { "All" } else { "ExactCount" },
            "count": if is_all { Value::Null } else { json!(self.between(1, 2)) },
            "selectors": self.perhaps(0.4, selectors),
            "tolerations": self.perhaps(0.2, |_| tolerations)}})
    }
}

fn cel(expression: &str) -> Value {
    json!({"cel": {"expression": expression}})
}

const LARGE: [&str; 1] =
    ["device.capacity['gpu.example.com'].memory.compareTo(quantity('8Gi')) >= 0"];

/// In each namespace.
const CLAIMS: usize = 5;
