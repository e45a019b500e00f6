//! A loaded dataplane, its planner and a process that is subject to it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use pintle_dataplane::plan::{
    DesiredPort, DesiredService, Planner, Protocol, ServiceName, address, frontend_key,
};
use pintle_dataplane::{Dataplane, Limits, NodeNamespace};
use pintle_ebpf_common::node_address;

use crate::agent::Agent;
use crate::cgroup::Cgroup;

pub(crate) struct Fixture {
    // Dropped in this order: the process, its programs, its cgroup.
    pub(crate) agent: Agent,
    pub(crate) dataplane: Dataplane,
    pub(crate) planner: Planner,
    pub(crate) cgroup: Cgroup,
}

impl Fixture {
    pub(crate) fn new(limits: Limits) -> Self {
        let cgroup = Cgroup::new();
        let dataplane = Dataplane::load(cgroup.path(), limits)
            .unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error)));
        let agent = Agent::start(cgroup.path());
        Self { agent, dataplane, planner: Planner::new(limits), cgroup }
    }

    /// Publish a Service named for its address, or change its backends.
    pub(crate) fn publish(&mut self, service: SocketAddr, protocol: Protocol, to: &[SocketAddr]) {
        self.publish_port(service, DesiredPort::new(service, protocol, to));
    }

    pub(crate) fn publish_port(&mut self, service: SocketAddr, port: DesiredPort) {
        let name = service_name(service, port.id.protocol);
        self.apply(name, DesiredService { created_ms: 0, ports: vec![Arc::new(port)] });
    }

    /// Let node ports answer at this address of the node, which is where this process is.
    pub(crate) fn node_address(&mut self, ip: IpAddr) {
        self.dataplane.set_node_namespace(&NodeNamespace::Own).unwrap();
        let loopback = if ip.is_loopback() { node_address::LOOPBACK } else { 0 };
        let addresses = [(address(ip), node_address::NODE_PORTS | loopback)];
        let plan = self.planner.plan_node_addresses(addresses.into());
        self.dataplane.apply(&plan.ops).unwrap();
    }

    /// Remove the Service.
    pub(crate) fn remove(&mut self, service: SocketAddr, protocol: Protocol) {
        self.apply(service_name(service, protocol), DesiredService::default());
    }

    /// Connections counted for the Service at `service`.
    pub(crate) fn connections(&self, service: SocketAddr, protocol: Protocol) -> u64 {
        let key = frontend_key(service, protocol);
        let mut published = self.planner.published();
        let (.., counter) = published.find(|(_, published, _)| *published == key).unwrap();
        self.dataplane.connections(counter).unwrap()
    }

    fn apply(&mut self, name: ServiceName, service: DesiredService) {
        let plan = self.planner.plan(0, [(name, service)]);
        assert_eq!(plan.rejected, []);
        self.dataplane.apply(&plan.ops).unwrap();
    }
}

fn service_name(service: SocketAddr, protocol: Protocol) -> ServiceName {
    ServiceName::new("test", &format!("{service}-{}", protocol.number()))
}

/// A cluster IP of a test. On the loopback network, where nothing listens, so that an address that
/// is not translated is refused at once and no packet leaves the machine.
pub(crate) fn service(last: u8, port: u16) -> SocketAddr {
    SocketAddr::new([127, 96, 0, last].into(), port)
}
