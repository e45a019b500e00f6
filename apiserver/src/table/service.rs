//! Services and EndpointSlices.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use super::Column;
use super::cell::{self, AGE, NAME, count, list, or_none, text, text_column, wide};

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    text_column("Type", "How the Service is exposed."),
    text_column("Cluster-IP", "The address of the Service within the cluster."),
    text_column("External-IP", "The addresses of the Service from outside the cluster."),
    text_column("Port(s)", "The ports that are exposed by this service."),
    AGE,
    wide(text_column("Selector", "Route traffic to pods with these labels.")),
];

pub(super) fn cells(service: &Value, now: Timestamp) -> Vec<Value> {
    let spec = &service["spec"];
    let address = match text(&spec["clusterIPs"][0]) {
        "" => text(&spec["clusterIP"]),
        first => first,
    };
    vec![
        cell::name(service),
        text(&spec["type"]).into(),
        or_none(address).into(),
        external(service).into(),
        or_none(&ports(spec)).into(),
        cell::age(service, now),
        or_none(&pairs(&spec["selector"])).into(),
    ]
}

fn external(service: &Value) -> String {
    let spec = &service["spec"];
    let mut addresses: Vec<&str> = Vec::new();
    let nothing = match text(&spec["type"]) {
        "ExternalName" => return text(&spec["externalName"]).to_owned(),
        "ClusterIP" | "NodePort" => "<none>",
        "LoadBalancer" => {
            addresses.extend(load_balancers(service));
            "<pending>"
        }
        _ => return "<unknown>".into(),
    };
    addresses.extend(list(&spec["externalIPs"]).iter().map(text));
    if addresses.is_empty() { nothing.into() } else { addresses.join(",") }
}

fn load_balancers(service: &Value) -> BTreeSet<&str> {
    let ingress = list(&service["status"]["loadBalancer"]["ingress"]).iter();
    let address = |entry| {
        let entry: &Value = entry;
        [text(&entry["ip"]), text(&entry["hostname"])].into_iter().find(|a| !a.is_empty())
    };
    ingress.filter_map(address).collect()
}

fn ports(spec: &Value) -> String {
    let show = |port: &Value| {
        let (number, protocol) = (count(&port["port"]), text(&port["protocol"]));
        match count(&port["nodePort"]) {
            0 => format!("{number}/{protocol}"),
            node_port => format!("{number}:{node_port}/{protocol}"),
        }
    };
    list(&spec["ports"]).iter().map(show).collect::<Vec<_>>().join(",")
}

/// `key=value` pairs by key.
fn pairs(labels: &Value) -> String {
    let entries = labels.as_object().into_iter().flatten();
    let mut pairs: Vec<String> = entries.map(|(k, v)| format!("{k}={}", text(v))).collect();
    pairs.sort_unstable();
    pairs.join(",")
}

pub(super) const SLICE_COLUMNS: &[Column] = &[
    NAME,
    text_column("AddressType", "The type of address carried by this EndpointSlice."),
    text_column("Ports", "The ports exposed by each endpoint in this slice."),
    text_column("Endpoints", "The unique endpoints in this slice."),
    AGE,
];

pub(super) fn slice_cells(slice: &Value, now: Timestamp) -> Vec<Value> {
    let port = |port: &Value| match (port["port"].as_i64(), port["name"].as_str()) {
        (Some(number), _) => number.to_string(),
        (None, Some(name)) => name.to_owned(),
        (None, None) => "*".to_owned(),
    };
    let ports = list(&slice["ports"]).iter().map(port);
    let endpoints = list(&slice["endpoints"]).iter();
    let addresses = endpoints.flat_map(|endpoint| list(&endpoint["addresses"]));
    vec![
        cell::name(slice),
        text(&slice["addressType"]).into(),
        first_few(ports).into(),
        first_few(addresses.map(|address| text(address).to_owned())).into(),
        cell::age(slice, now),
    ]
}

/// How many entries of a list a cell shows.
const SHOWN_MAX: usize = 3;

fn first_few(items: impl Iterator<Item = String>) -> String {
    let all: Vec<String> = items.collect();
    let shown = all[..all.len().min(SHOWN_MAX)].join(",");
    match all.len() {
        0 => "<unset>".into(),
        count if count > SHOWN_MAX => format!("{shown} + {} more...", count - SHOWN_MAX),
        _ if shown.is_empty() => "<unset>".into(),
        _ => shown,
    }
}
