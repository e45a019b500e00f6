//! Nodes.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use super::Column;
use super::cell::{self, AGE, NAME, list, or_none, text, text_column, wide};

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    text_column("Status", "The status of the node"),
    text_column("Roles", "The roles of the node"),
    AGE,
    text_column("Version", "Kubelet Version reported by the node."),
    wide(text_column("Internal-IP", "An address of the node within the cluster.")),
    wide(text_column("External-IP", "An address of the node from outside the cluster.")),
    wide(text_column("OS-Image", "OS Image reported by the node.")),
    wide(text_column("Kernel-Version", "Kernel Version reported by the node.")),
    wide(text_column("Container-Runtime", "ContainerRuntime Version reported by the node.")),
];

pub(super) fn cells(node: &Value, now: Timestamp) -> Vec<Value> {
    let info = &node["status"]["nodeInfo"];
    let or_unknown = |value: &Value| match text(value) {
        "" => Value::from("<unknown>"),
        known => known.into(),
    };
    vec![
        cell::name(node),
        status(node).into(),
        roles(node).into(),
        cell::age(node, now),
        text(&info["kubeletVersion"]).into(),
        or_none(address(node, "InternalIP")).into(),
        or_none(address(node, "ExternalIP")).into(),
        or_unknown(&info["osImage"]),
        or_unknown(&info["kernelVersion"]),
        or_unknown(&info["containerRuntimeVersion"]),
    ]
}

fn status(node: &Value) -> String {
    let conditions = list(&node["status"]["conditions"]);
    let mut status = match conditions.iter().find(|condition| condition["type"] == "Ready") {
        Some(ready) if ready["status"] == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if node["spec"]["unschedulable"] == true {
        status.push_str(",SchedulingDisabled");
    }
    status
}

fn roles(node: &Value) -> String {
    let mut roles = BTreeSet::new();
    for (key, value) in node["metadata"]["labels"].as_object().into_iter().flatten() {
        match key.strip_prefix("node-role.kubernetes.io/") {
            Some("") => {}
            Some(role) => {
                roles.insert(role);
            }
            None if key == "kubernetes.io/role" && !text(value).is_empty() => {
                roles.insert(text(value));
            }
            None => {}
        }
    }
    let roles: Vec<&str> = roles.into_iter().collect();
    or_none(&roles.join(",")).to_owned()
}

fn address<'a>(node: &'a Value, kind: &str) -> &'a str {
    let addresses = list(&node["status"]["addresses"]);
    addresses.iter().find(|a| a["type"] == kind).map_or("", |a| text(&a["address"]))
}
