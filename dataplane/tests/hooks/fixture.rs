//! A loaded dataplane, its planner and a process that is subject to it.

use std::net::SocketAddrV4;

use pintle_dataplane::plan::{DesiredPort, DesiredService, Planner, Protocol, ServiceName};
use pintle_dataplane::{Dataplane, Limits};

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
    pub(crate) fn publish(
        &mut self,
        service: SocketAddrV4,
        protocol: Protocol,
        to: &[SocketAddrV4],
    ) {
        self.publish_port(service, DesiredPort::new(service, protocol, to));
    }

    pub(crate) fn publish_port(&mut self, service: SocketAddrV4, port: DesiredPort) {
        let name = ServiceName::new("test", &format!("{service}-{}", port.frontend.protocol));
        self.apply(name, DesiredService { created_ms: 0, ports: vec![port] });
    }

    /// Remove the Service.
    pub(crate) fn remove(&mut self, service: SocketAddrV4, protocol: Protocol) {
        let name = ServiceName::new("test", &format!("{service}-{}", protocol.number()));
        self.apply(name, DesiredService::default());
    }

    /// Connections counted for the Service at `service`.
    pub(crate) fn connections(&self, service: SocketAddrV4, protocol: Protocol) -> u64 {
        let key = DesiredPort::new(service, protocol, &[]).frontend;
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

/// A cluster IP of a test. On the loopback network, where nothing listens, so that an address that
/// is not translated is refused at once and no packet leaves the machine.
pub(crate) fn service(last: u8, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new([127, 96, 0, last].into(), port)
}
