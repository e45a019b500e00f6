//! The Services of a case: so many, each with so many endpoints, all of them at addresses that
//! answer.

use std::net::{Ipv4Addr, SocketAddrV4};

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// How many Services, and how many endpoints each has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cluster {
    pub(super) services: usize,
    pub(super) endpoints: usize,
}

impl Cluster {
    /// The Services that are connected to: the first, a middle one and the last.
    pub(super) fn probes(self) -> [usize; 3] {
        [0, self.services / 2, self.services - 1]
    }

    /// The cluster IP and port of a Service.
    pub(super) fn cluster_ip(self, service: usize) -> SocketAddrV4 {
        SocketAddrV4::new(nth(FIRST_CLUSTER_IP, service), SERVICE_PORT)
    }

    /// An endpoint of a Service.
    pub(super) fn endpoint(self, service: usize, endpoint: usize) -> SocketAddrV4 {
        SocketAddrV4::new(nth(FIRST_ENDPOINT, service * self.endpoints + endpoint), ENDPOINT_PORT)
    }

    /// An endpoint in the place of a Service's first, another one each `turn`.
    pub(super) fn replacement(self, turn: usize) -> SocketAddrV4 {
        let unused = self.services * self.endpoints + turn;
        SocketAddrV4::new(nth(FIRST_ENDPOINT, unused), ENDPOINT_PORT)
    }

    pub(super) fn endpoints_of(self, service: usize) -> Vec<SocketAddrV4> {
        (0..self.endpoints).map(|endpoint| self.endpoint(service, endpoint)).collect()
    }

    /// The node port of a Service that is connected to; the others have none.
    pub(super) fn node_port(self, service: usize) -> Option<u16> {
        let place = self.probes().iter().position(|probe| *probe == service)?;
        Some(FIRST_NODE_PORT + u16::try_from(place).unwrap_or(0))
    }

    pub(super) fn service(self, service: usize) -> Service {
        let ip = self.cluster_ip(service).ip().to_string();
        let node_port = self.node_port(service);
        let port = ServicePort {
            port: SERVICE_PORT.into(),
            protocol: Some("TCP".to_owned()),
            node_port: node_port.map(i32::from),
            ..ServicePort::default()
        };
        let spec = ServiceSpec {
            type_: Some(if node_port.is_some() { "NodePort" } else { "ClusterIP" }.to_owned()),
            cluster_ip: Some(ip.clone()),
            cluster_ips: Some(vec![ip]),
            ports: Some(vec![port]),
            ..ServiceSpec::default()
        };
        Service { metadata: metadata(name(service)), spec: Some(spec), status: None }
    }

    pub(super) fn slice(self, service: usize) -> EndpointSlice {
        self.slice_of(service, &self.endpoints_of(service))
    }

    /// A Service's slice with these endpoints.
    pub(super) fn slice_of(self, service: usize, endpoints: &[SocketAddrV4]) -> EndpointSlice {
        let mut metadata = metadata(format!("{}-slice", name(service)));
        let label = ("kubernetes.io/service-name".to_owned(), name(service));
        metadata.labels = Some([label].into());
        let endpoints = endpoints.iter().map(|endpoint| Endpoint {
            addresses: vec![endpoint.ip().to_string()],
            node_name: Some("peer".to_owned()),
            ..Endpoint::default()
        });
        let port = EndpointPort {
            port: Some(ENDPOINT_PORT.into()),
            protocol: Some("TCP".to_owned()),
            ..EndpointPort::default()
        };
        EndpointSlice {
            address_type: "IPv4".to_owned(),
            endpoints: endpoints.collect(),
            metadata,
            ports: Some(vec![port]),
        }
    }
}

fn metadata(name: String) -> ObjectMeta {
    let (name, namespace) = (Some(name), Some(NAMESPACE.to_owned()));
    let resource_version = Some("1".to_owned());
    ObjectMeta { name, namespace, resource_version, ..ObjectMeta::default() }
}

pub(super) fn name(service: usize) -> String {
    format!("service-{service}")
}

fn nth(first: Ipv4Addr, index: usize) -> Ipv4Addr {
    // `Options` bounds the numbers, so the sum stays in 10.0.0.0/8.
    Ipv4Addr::from(u32::from(first) + u32::try_from(index).unwrap_or(0))
}

pub(super) const NAMESPACE: &str = "bench";
pub(super) const ENDPOINT_PORT: u16 = 8080;
pub(super) const SERVICE_PORT: u16 = 80;
const FIRST_CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
const FIRST_NODE_PORT: u16 = 30_080;
/// Of [`ENDPOINTS`].
const FIRST_ENDPOINT: Ipv4Addr = Ipv4Addr::new(10, 128, 0, 1);
/// Where endpoints are.
pub(super) const ENDPOINTS: &str = "10.128.0.0/10";
/// How many addresses are left for endpoints, with some for [`Cluster::replacement`].
pub(super) const ENDPOINTS_MAX: usize = 4_000_000;
