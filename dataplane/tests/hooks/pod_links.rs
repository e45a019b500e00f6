//! On which of the node's links the programs for packets are, and since when.

use std::net::SocketAddr;
use std::sync::Arc;

use pintle_dataplane::plan::{
    DesiredPort, DesiredService, LocalDetector, Policy, Protocol, ServiceName,
};
use pintle_dataplane::{Dataplane, Limits, LinkRole, NodeNamespace, Pins, PodLinks};
use pintle_ebpf_common::{flag, locality};

use crate::cgroup::Cgroup;
use crate::forward::{CLIENT, GATEWAY, NODE, POD, Published, World, ask, at, serve};

impl World {
    /// The names of the links that have programs.
    fn served(&self) -> Vec<String> {
        let served = self.dataplane.served_links();
        let links = NodeNamespace::Named(self.node.clone()).links().unwrap();
        let links = links.into_iter().filter(|link| served.contains(&link.index));
        links.map(|link| link.name).collect()
    }

    /// Publish a cluster IP whose endpoint is said to be there.
    fn publish_cluster_ip(&mut self, endpoint: SocketAddr, protocol: Protocol, place: u16) {
        let mut port = DesiredPort::new(at(CLUSTER_IP, 80), protocol, &[endpoint]);
        port.cluster = port.cluster.iter().map(|backend| backend.at(place)).collect();
        for frontend in &mut port.frontends {
            frontend.flags = flag::CLUSTER_IP;
        }
        let service = DesiredService { created_ms: 0, ports: vec![Arc::new(port)] };
        let plan = self.planner.plan(0, [(ServiceName::new("test", "inner"), service)]);
        self.dataplane.apply(&plan.ops).unwrap();
    }

    /// Packets that no other route is for leave by the link to the client.
    fn add_default_route(&self) {
        let route = ["-n", self.node.name(), "route", "add", "default", "via", CLIENT[0]];
        assert!(std::process::Command::new("ip").args(route).status().unwrap().success());
    }

    fn ask_from_the_pod(&self) -> Result<String, std::io::ErrorKind> {
        // Not in the cgroup: as if it were of a virtual machine.
        self.pod.run_in(|| ask(at(CLUSTER_IP, 80))).unwrap()
    }
}

#[test]
#[ignore = "needs root"]
fn a_pods_link_has_none_while_endpoints_are_elsewhere_or_behind_a_cluster_ip() {
    let mut world = World::new();
    world.add_default_route();
    assert_eq!(world.served(), ["eth0"]);
    let elsewhere = at(CLIENT[0], 8080);
    world.publish_cluster_ip(elsewhere, Protocol::Tcp, locality::OTHER_NODE);
    world.publish_cluster_ip(at(POD[0], 8080), Protocol::Tcp, locality::THIS_NODE);
    world.publish(Published::node_port(0, Policy::Local), &[elsewhere], &[]);
    world.publish(Published::node_port(0, Policy::Cluster), &[at(NODE[0], 8080)], &[]);
    world.dataplane.look_for_strays().unwrap();
    assert_eq!(world.served(), ["eth0"]);
    // Nobody is told of where the pod is, so the client's packets may have to be masqueraded.
    world.publish_cluster_ip(at(POD[0], 8080), Protocol::Tcp, locality::UNKNOWN);
    assert_eq!(world.served(), ["cni0", "eth0"]);
}

#[test]
#[ignore = "needs root"]
fn a_client_elsewhere_keeps_its_address_on_the_way_to_a_pod_behind_a_cluster_ip() {
    let mut world = World::new();
    let backend = at(POD[0], 8080);
    serve(&world.pod, backend, 1, 1);
    world.publish_cluster_ip(backend, Protocol::Tcp, locality::THIS_NODE);
    assert_eq!(world.served(), ["eth0"]);
    assert_eq!(world.ask(at(CLUSTER_IP, 80)).as_deref(), Ok(CLIENT[0]));
}

#[test]
#[ignore = "needs root"]
fn the_programs_are_there_before_a_service_that_clients_elsewhere_may_use() {
    let mut world = World::new();
    world.add_default_route();
    assert_eq!(world.served(), ["eth0"]);
    let backend = at(POD[0], 8080);
    serve(&world.pod, backend, 1, 1);
    world.publish(Published::node_port(0, Policy::Cluster), &[backend], &[]);
    assert_eq!(world.served(), ["cni0", "eth0"]);
    assert_eq!(world.ask(at(NODE[0], 30_080)).as_deref(), Ok(GATEWAY[0]));
}

#[test]
#[ignore = "needs root"]
fn sctp_needs_them_since_its_sockets_have_no_hooks() {
    let mut world = World::new();
    world.publish_cluster_ip(at(CLIENT[0], 80), Protocol::Sctp, locality::OTHER_NODE);
    assert_eq!(world.served(), ["cni0", "eth0"]);
}

#[test]
#[ignore = "needs root"]
fn a_pod_whose_sockets_are_not_seen_is_served_once_its_packets_are() {
    let mut world = World::new();
    world.add_default_route();
    let backend = at(CLIENT[0], 8080);
    serve(&world.client, backend, 1, 1);
    world.publish_cluster_ip(backend, Protocol::Tcp, locality::OTHER_NODE);
    world.dataplane.look_for_strays().unwrap();
    assert_eq!(world.served(), ["eth0"]);
    assert!(world.ask_from_the_pod().is_err());
    assert!(world.dataplane.events().unwrap().strayed > 0);
    world.dataplane.look_for_strays().unwrap();
    assert_eq!(world.served(), ["cni0", "eth0"]);
    assert_eq!(world.ask_from_the_pod().as_deref(), Ok(POD[0]));
}

#[test]
#[ignore = "needs root"]
fn where_no_served_link_would_show_its_packets_they_are_there_from_the_start() {
    let mut world = World::new();
    world.publish_cluster_ip(at(CLIENT[0], 8080), Protocol::Tcp, locality::OTHER_NODE);
    assert_eq!(world.served(), ["eth0"]);
    world.dataplane.look_for_strays().unwrap();
    assert_eq!(world.served(), ["cni0", "eth0"], "there is no default route");
}

#[test]
#[ignore = "needs root"]
fn what_an_earlier_process_has_attached_stays_and_a_setting_asks_for_all() {
    let world = World::new();
    let (namespace, cgroup) = (NodeNamespace::Named(world.node.clone()), Cgroup::new());
    let detector = LocalDetector::Cidrs(vec!["10.244.0.0/16".parse().unwrap()]);
    let pins = Pins::of(&format!("test-{}", std::process::id()), "pod-links");
    let served = |when| {
        let loaded = Dataplane::load_pinned(cgroup.path(), Limits::default(), &pins);
        let mut dataplane = loaded.unwrap().0;
        dataplane.set_pod_links(when);
        dataplane.set_links(&namespace, &detector, &namespace.links().unwrap()).unwrap();
        dataplane.served_links().len()
    };
    let counts = [PodLinks::WhenNeeded, PodLinks::Always, PodLinks::WhenNeeded].map(served);
    pins.remove().unwrap();
    assert_eq!(counts, [1, 2, 2]);
}

#[test]
#[ignore = "needs root"]
fn a_bridge_is_served_and_its_ports_are_not() {
    let world = World::new();
    let name = world.node.name();
    let script = format!(
        "ip -n {name} link add br0 type bridge
         ip -n {name} link set cni0 master br0
         ip -n {name} address add 198.18.0.1/24 dev br0
         ip -n {name} link set br0 up"
    );
    let made = std::process::Command::new("sh").args(["-ec", &script]).status().unwrap();
    assert!(made.success());
    let namespace = NodeNamespace::Named(world.node.clone());
    let links = namespace.links().unwrap();
    let role = |name: &str| links.iter().find(|link| link.name == name).map(|link| link.role);
    assert_eq!(role("cni0"), Some(LinkRole::Port), "it has its addresses still");
    assert_eq!(role("br0"), Some(LinkRole::Inner));
    let mut world = world;
    world.dataplane.set_links(&namespace, &LocalDetector::None, &links).unwrap();
    assert_eq!(world.served(), ["br0", "eth0"]);
}

const CLUSTER_IP: &str = "10.96.0.1";
