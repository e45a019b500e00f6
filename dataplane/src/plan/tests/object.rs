//! Services and EndpointSlices, shortly written.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// A Service with a cluster IP and ports `(name, protocol, number)`.
pub(crate) fn service(name: &str, cluster_ip: &str, ports: &[(&str, &str, i32)]) -> Service {
    let port = |(name, protocol, port): &(&str, &str, i32)| ServicePort {
        name: Some((*name).to_owned()).filter(|name| !name.is_empty()),
        protocol: Some((*protocol).to_owned()),
        port: *port,
        ..ServicePort::default()
    };
    Service {
        metadata: meta(name),
        spec: Some(ServiceSpec {
            cluster_ip: Some(cluster_ip.to_owned()),
            cluster_ips: Some(vec![cluster_ip.to_owned()]),
            ports: Some(ports.iter().map(port).collect()),
            type_: Some("ClusterIP".to_owned()),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// A slice of a Service, with ports `(name, protocol, number)`.
pub(crate) fn slice(
    name: &str,
    service: &str,
    ports: &[(&str, &str, i32)],
    endpoints: Vec<Endpoint>,
) -> EndpointSlice {
    let port = |(name, protocol, port): &(&str, &str, i32)| EndpointPort {
        name: Some((*name).to_owned()),
        protocol: Some((*protocol).to_owned()),
        port: Some(*port),
        ..EndpointPort::default()
    };
    let mut metadata = meta(name);
    let label = ("kubernetes.io/service-name".to_owned(), service.to_owned());
    metadata.labels = Some(BTreeMap::from([label]));
    EndpointSlice {
        address_type: "IPv4".to_owned(),
        endpoints,
        metadata,
        ports: Some(ports.iter().map(port).collect()),
    }
}

/// An endpoint with its conditions as they stand in a slice; unset ones are `None`.
pub(crate) fn endpoint(
    address: &str,
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
) -> Endpoint {
    Endpoint {
        addresses: vec![address.to_owned()],
        conditions: Some(EndpointConditions { ready, serving, terminating }),
        ..Endpoint::default()
    }
}

/// A ready endpoint.
pub(crate) fn ready(address: &str) -> Endpoint {
    endpoint(address, Some(true), Some(true), Some(false))
}

fn meta(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some("default".to_owned()),
        ..ObjectMeta::default()
    }
}
