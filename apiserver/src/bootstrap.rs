//! What every cluster has, made at start where it is missing.

use pintle_api::scheme::{self, Kind};
use serde_json::{Value, json};

use crate::Error;
use crate::handlers::create_object;
use crate::server::ApiServer;

pub(crate) async fn run(server: &ApiServer) -> Result<(), Error> {
    for name in NAMESPACES {
        ensure(server, Kind::Namespace, "", json!({ "metadata": { "name": name } })).await?;
    }
    for (name, value, description) in PRIORITY_CLASSES {
        let class = json!({
            "metadata": { "name": name },
            "value": value,
            "description": description,
        });
        ensure(server, Kind::PriorityClass, "", class).await?;
    }
    ensure(server, Kind::Service, "default", kubernetes_service(server)?).await?;
    match kubernetes_endpoint(server) {
        Some(slice) => ensure(server, Kind::EndpointSlice, "default", slice).await,
        // The API does not take loopback addresses as endpoints: they mean each node itself.
        None => Ok(()),
    }
}

async fn ensure(
    server: &ApiServer,
    kind: Kind,
    namespace: &str,
    mut object: Value,
) -> Result<(), Error> {
    let Some(resource) = scheme::of(kind) else { return Ok(()) };
    object["apiVersion"] = json!(kind.api_version());
    object["kind"] = json!(kind.name());
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    match create_object(server.core(), resource, namespace, object, false).await {
        Ok(_) => Ok(()),
        Err(status) if status.reason() == "AlreadyExists" => Ok(()),
        Err(status) => Err(Error::Bootstrap {
            object: format!("{} {name}", kind.name()),
            message: status.message().to_owned(),
        }),
    }
}

fn kubernetes_service(server: &ApiServer) -> Result<Value, Error> {
    let config = &server.core().config;
    let cidr = config.service_cidr;
    let address = cidr.hosts().next().ok_or(Error::ServiceCidr(cidr))?;
    Ok(json!({
        "metadata": {
            "name": "kubernetes",
            "labels": { "component": "apiserver", "provider": "kubernetes" },
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": address,
            "ports": [{
                "name": "https",
                "protocol": "TCP",
                "port": 443,
                "targetPort": config.advertise_port,
            }],
        },
    }))
}

fn kubernetes_endpoint(server: &ApiServer) -> Option<Value> {
    let config = &server.core().config;
    let address = config.advertise_address;
    if address.is_loopback() || address.is_unspecified() {
        return None;
    }
    Some(json!({
        "metadata": {
            "name": "kubernetes",
            "labels": { "kubernetes.io/service-name": "kubernetes" },
        },
        "addressType": "IPv4",
        "endpoints": [{ "addresses": [address], "conditions": { "ready": true } }],
        "ports": [{ "name": "https", "protocol": "TCP", "port": config.advertise_port }],
    }))
}

const NAMESPACES: &[&str] = &["default", "kube-node-lease", "kube-public", "kube-system"];

/// `pkg/apis/scheduling` `SystemPriorityClasses`.
const PRIORITY_CLASSES: &[(&str, i64, &str)] = &[
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another \
         node if necessary.",
    ),
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
];
