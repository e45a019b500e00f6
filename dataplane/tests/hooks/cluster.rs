//! Three nodes with the whole daemon each, a pod on each, and a client outside. What the API holds is
//! there before the daemons start.
//!
//! ```text
//!  pod-1 10.244.1.2 ── cni0 node-1 eth0 ─┐ 198.51.100.1, fd51::1
//!  pod-2 10.244.2.2 ── cni0 node-2 eth0 ─┼─ fabric ── outside 198.51.100.100, fd51::100
//!  pod-3 10.244.3.2 ── cni0 node-3 eth0 ─┘
//! ```
//!
//! The client outside sends what is for addresses of Services to node-1. Node-1 is in zone a, the
//! others in zone b.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use aya::maps::{Map, MapData, PerCpuArray};
use pintle_component::Daemon;
use pintle_dataplane::plan::LocalDetector;
use pintle_dataplane::{Config, Express, NodeNamespace, Pins, run};
use pintle_ebpf_common::event;
use pintle_node::NetNs;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::agent::Agent;
use crate::api::Api;
use crate::cgroup::Cgroup;
use crate::express::{ETHTOOL_SGRO as SGRO, set_feature};

pub(crate) struct Cluster {
    // Dropped in this order: processes, daemons, cgroups, namespaces.
    agents: RefCell<Vec<[Agent; 2]>>,
    daemons: Daemons,
    _cgroups: Vec<Cgroup>,
    namespaces: Namespaces,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Client {
    Outside,
    /// A process of the pod on this node, in the node's cgroup.
    Pod(usize),
    /// The same, of which the node sees no more than packets.
    PodsPackets(usize),
    /// A process of the node itself.
    Node(usize),
}

/// An IP family by its place in the constants below.
pub(crate) type Family = usize;
pub(crate) const V4: Family = 0;
pub(crate) const V6: Family = 1;

pub(crate) const OUTSIDE: [&str; 2] = ["198.51.100.100", "fd51::100"];
pub(crate) const TCP: u16 = 8080;
pub(crate) const UDP: u16 = 8053;

pub(crate) fn pod_ip(family: Family, node: usize) -> String {
    [format!("10.244.{node}.2"), format!("fd00:244:{node}::2")][family].clone()
}

/// The node's address on its pods' bridge.
pub(crate) fn gateway(family: Family, node: usize) -> String {
    [format!("10.244.{node}.1"), format!("fd00:244:{node}::1")][family].clone()
}

pub(crate) fn node_ip(family: Family, node: usize) -> String {
    [format!("198.51.100.{node}"), format!("fd51::{node}")][family].clone()
}

/// Where there is no way to before something is translated.
pub(crate) fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse::<IpAddr>().unwrap(), port)
}

/// What runs on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A dataplane whose backends' nodes answer clients from outside.
    Direct,
    /// The same, whose packets for them go on before the kernel sees them.
    Early,
    /// A dataplane that answers them itself.
    Masquerading,
    /// None.
    Without,
}

impl Cluster {
    pub(crate) fn start(services: Vec<Value>, slices: Vec<Value>) -> Self {
        Self::start_with([Mode::Masquerading; NODES], services, slices)
    }

    pub(crate) fn start_with(
        modes: [Mode; NODES],
        services: Vec<Value>,
        slices: Vec<Value>,
    ) -> Self {
        let namespaces = Namespaces::make();
        for node in 1..=NODES {
            serve(&namespaces.pods[node - 1], node);
        }
        let api = Api::default();
        {
            let mut state = api.0.lock();
            (state.services, state.slices) = (services, slices);
            state.nodes = (1..=NODES).map(node_object).collect();
        }
        if modes.contains(&Mode::Early) {
            let take = || (1..=NODES).for_each(|n| set_feature(&format!("node{n}"), SGRO, true));
            namespaces.fabric.run_in(take).unwrap();
        }
        let cgroups: Vec<Cgroup> = (0..NODES).map(|_| Cgroup::new()).collect();
        let daemons = Daemons::start(&api, modes, &namespaces, &cgroups);
        let agents = namespaces.nodes.iter().zip(&namespaces.pods).zip(&cgroups);
        let agents = agents
            .map(|((node, pod), cgroup)| [node, pod].map(|at| Agent::start_in(at, cgroup.path())));
        Self { agents: RefCell::new(agents.collect()), daemons, _cgroups: cgroups, namespaces }
    }

    /// Who answered, and as whom they saw the client, over many connections. What fails is said
    /// instead: `refused`, `unreachable` or `silent`.
    pub(crate) fn tcp(&self, client: Client, to: SocketAddr) -> BTreeSet<String> {
        self.many(|| self.ask(client, "tcp", to))
    }

    /// The same over datagrams, each of a socket of its own.
    pub(crate) fn udp(&self, client: Client, to: SocketAddr) -> BTreeSet<String> {
        self.many(|| self.ask(client, "udp-connected", to))
    }

    /// Where the client outside is.
    pub(crate) fn outside(&self) -> &NetNs {
        &self.namespaces.outside
    }

    /// How many packets a node of [`Mode::Early`] has sent on before its kernel saw them.
    pub(crate) fn turned_back(&self, node: usize) -> u64 {
        let layout = std::fs::read_dir(pins(node).path()).unwrap().next().unwrap().unwrap();
        let map = Map::PerCpuArray(MapData::from_pin(layout.path().join("EVENTS")).unwrap());
        let events = PerCpuArray::<_, u64>::try_from(map).unwrap();
        events.get(&event::TURNED_BACK, 0).unwrap().iter().sum()
    }

    /// Where the pod of a node is.
    pub(crate) fn pod(&self, node: usize) -> &NetNs {
        &self.namespaces.pods[node - 1]
    }

    /// The status and body of an HTTP server of a node.
    pub(crate) fn http(&self, family: Family, node: usize, port: u16) -> (u16, Value) {
        let to = at(&node_ip(family, node), port);
        let ask = move || {
            let mut stream = TcpStream::connect(to).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
            std::io::read_to_string(stream).unwrap()
        };
        let text = self.namespaces.outside.run_in(ask).unwrap();
        let status = text.split(' ').nth(1).unwrap().parse().unwrap();
        let body = text.split_once("\r\n\r\n").unwrap().1;
        (status, serde_json::from_str(body).unwrap())
    }

    /// How many of so many connections go to the pod of this node.
    pub(crate) fn share(&self, client: Client, to: SocketAddr, node: usize, of: usize) -> usize {
        let pod = format!("pod-{node} ");
        (0..of).filter(|_| self.ask(client, "tcp", to).starts_with(&pod)).count()
    }

    fn many(&self, ask: impl Fn() -> String) -> BTreeSet<String> {
        let mut answers = BTreeSet::from([ask()]);
        // Silence takes its time to be told; one is enough.
        if !answers.contains(SILENT) {
            answers.extend((0..TRIES).map(|_| ask()));
        }
        answers
    }

    fn ask(&self, client: Client, order: &str, to: SocketAddr) -> String {
        let (place, node) = match client {
            Client::Outside => return packets(&self.namespaces.outside, order, to),
            Client::PodsPackets(node) => {
                return packets(&self.namespaces.pods[node - 1], order, to);
            }
            Client::Node(node) => (0, node),
            Client::Pod(node) => (1, node),
        };
        let answer = self.agents.borrow_mut()[node - 1][place].ask(format!("{order} {to}"));
        match answer.strip_prefix("errno ") {
            Some("111") => REFUSED.to_owned(),
            Some("101" | "113") => UNREACHABLE.to_owned(),
            Some("11" | "110") => SILENT.to_owned(),
            Some(_) => answer,
            None => answer.split(" peer ").next().unwrap_or_default().to_owned(),
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.agents.borrow_mut().clear();
        self.daemons.stop();
    }
}

pub(crate) const REFUSED: &str = "refused";
pub(crate) const UNREACHABLE: &str = "unreachable";
pub(crate) const SILENT: &str = "silent";
const NODES: usize = 3;
/// One of three equal backends is missed by as many once in ten million times.
const TRIES: usize = 40;

struct Daemons {
    runtime: Runtime,
    daemon: Daemon,
    running: Vec<tokio::task::JoinHandle<()>>,
}

impl Daemons {
    fn start(api: &Api, modes: [Mode; NODES], namespaces: &Namespaces, cgroups: &[Cgroup]) -> Self {
        let (runtime, daemon) = (Runtime::new().unwrap(), Daemon::default());
        let networks = ["10.244.0.0/16", "fd00:244::/32"].map(|network| network.parse().unwrap());
        let mut running = Vec::new();
        let with = |number: &usize| modes[*number] != Mode::Without;
        for (number, cgroup) in cgroups.iter().enumerate().filter(|(number, _)| with(number)) {
            let is_early = modes[number] == Mode::Early;
            let config = Config {
                node_namespace: NodeNamespace::Named(namespaces.nodes[number].clone()),
                local_detector: LocalDetector::Cidrs(networks.into()),
                translates_packets: true,
                direct_return: matches!(modes[number], Mode::Direct | Mode::Early),
                express: if is_early { Express::Native } else { Express::Off },
                pins: is_early.then(|| pins(number + 1)),
                ..Config::new(format!("node-{}", number + 1), cgroup.path())
            };
            let _inside = runtime.enter();
            let (client, daemon) = (api.client(), daemon.clone());
            running.push(runtime.spawn(async move { run(client, config, daemon).await.unwrap() }));
        }
        let ready = |node| {
            let reply = daemon.health.answer(&format!("/readyz/dataplane/node-{node}"), "");
            reply.is_some_and(|reply| reply.status == 200)
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        while !(0..NODES).filter(with).all(|number| ready(number + 1)) {
            assert!(Instant::now() < deadline, "a dataplane is not ready");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { runtime, daemon, running }
    }

    fn stop(&mut self) {
        self.daemon.shutdown.cancel();
        for running in self.running.drain(..) {
            let _ = self.runtime.block_on(running);
        }
    }
}

fn pins(node: usize) -> Pins {
    Pins::of(&format!("test-c{}", std::process::id()), &format!("node-{node}"))
}

fn node_object(number: usize) -> Value {
    let zone = if number == 1 { "a" } else { "b" };
    let addresses = [V4, V6].map(|family| {
        json!({
            "type": "InternalIP", "address": node_ip(family, number),
        })
    });
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {
            "name": format!("node-{number}"), "resourceVersion": "1",
            "labels": { "topology.kubernetes.io/zone": zone },
        },
        "status": { "addresses": addresses },
    })
}

/// Removed when dropped.
struct Namespaces {
    fabric: NetNs,
    outside: NetNs,
    nodes: Vec<NetNs>,
    pods: Vec<NetNs>,
}

impl Namespaces {
    fn make() -> Self {
        let make =
            |what: &str| NetNs::create(&format!("pintle-t{}-{what}", std::process::id())).unwrap();
        let each = |what: &str| (1..=NODES).map(|node| make(&format!("{what}{node}"))).collect();
        let made = Self {
            fabric: make("fabric"),
            outside: make("outside"),
            nodes: each("node"),
            pods: each("pod"),
        };
        let mut script = String::from(FABRIC);
        for node in 1..=NODES {
            script += &NODE.replace('#', &node.to_string());
            for other in (1..=NODES).filter(|other| *other != node) {
                script += &WAY.replace('#', &node.to_string()).replace('@', &other.to_string());
            }
        }
        let prefix = format!("pintle-t{}-", std::process::id());
        let script = format!("P={prefix}\n{script}");
        assert!(Command::new("sh").args(["-ec", &script]).status().unwrap().success());
        made.wait_for_the_ways();
        made
    }

    /// The kernel takes up to a second to make use of IPv6 on a link that came up.
    fn wait_for_the_ways(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        for (family, node) in [V4, V6].into_iter().flat_map(|f| (1..=NODES).map(move |n| (f, n))) {
            for (from, to) in [
                (&self.outside, node_ip(family, node)),
                (&self.pods[0], pod_ip(family, node)),
                (&self.pods[1], pod_ip(family, node)),
                (&self.pods[2], pod_ip(family, node)),
            ] {
                while packets(from, "tcp", at(&to, UNUSED_PORT)) != REFUSED {
                    assert!(Instant::now() < deadline, "no way to {to}");
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        }
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        let all = [&self.fabric, &self.outside].into_iter().chain(&self.nodes).chain(&self.pods);
        for namespace in all {
            if let Err(error) = namespace.delete() {
                eprintln!("left behind: {error}");
            }
        }
    }
}

/// Tells each client the pod's name and as whom it sees the client, over TCP and UDP.
fn serve(namespace: &NetNs, number: usize) {
    let tcp = namespace.run_in(|| TcpListener::bind(at("::", TCP))).unwrap().unwrap();
    let udp = namespace.run_in(|| UdpSocket::bind(at("::", UDP))).unwrap().unwrap();
    let answer = move |client: SocketAddr| {
        format!("pod-{number} saw {}", client.ip().to_canonical()).into_bytes()
    };
    std::thread::spawn(move || {
        for stream in tcp.incoming() {
            let Ok(mut stream) = stream else { continue };
            let Ok(client) = stream.peer_addr() else { continue };
            let _ = stream.write_all(&answer(client));
        }
    });
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, client)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(&answer(client), client);
        }
    });
}

/// Asks from a namespace, by a process that no hook sees.
fn packets(from: &NetNs, order: &str, to: SocketAddr) -> String {
    let ask = if order == "tcp" { ask_tcp } else { ask_udp };
    from.run_in(move || ask(to)).unwrap().unwrap_or_else(|error| {
        let said = match error.kind() {
            ErrorKind::ConnectionRefused => REFUSED,
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => UNREACHABLE,
            ErrorKind::TimedOut | ErrorKind::WouldBlock => SILENT,
            _ => return error.to_string(),
        };
        said.to_owned()
    })
}

fn ask_tcp(to: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn ask_udp(to: SocketAddr) -> std::io::Result<String> {
    let socket = UdpSocket::bind(at(if to.is_ipv4() { "0.0.0.0" } else { "::" }, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(to)?;
    socket.send(b"hello")?;
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

const PATIENCE: Duration = Duration::from_secs(1);
/// Where no server listens.
const UNUSED_PORT: u16 = 9;

const FABRIC: &str = "
ip -n ${P}fabric link add br0 type bridge
ip -n ${P}fabric link set br0 up
ip -n ${P}outside link set lo up
ip -n ${P}outside link add eth0 type veth peer name outside netns ${P}fabric
ip -n ${P}fabric link set outside master br0 up
ip -n ${P}outside address add 198.51.100.100/24 dev eth0
ip -n ${P}outside address add fd51::100/64 dev eth0 nodad
ip -n ${P}outside link set eth0 up
ip -n ${P}outside route add 10.96.0.0/16 via 198.51.100.1
ip -n ${P}outside route add 203.0.113.0/24 via 198.51.100.1
ip -n ${P}outside route add fd96::/64 via fd51::1
ip -n ${P}outside route add 2001:db8::/32 via fd51::1
";

const NODE: &str = "
ip -n ${P}node# link set lo up
ip -n ${P}pod# link set lo up
ip -n ${P}node# link add eth0 type veth peer name node# netns ${P}fabric
ip -n ${P}fabric link set node# master br0 up
ip -n ${P}node# address add 198.51.100.#/24 dev eth0
ip -n ${P}node# address add fd51::#/64 dev eth0 nodad
ip -n ${P}node# link set eth0 up
ip -n ${P}node# link add cni0 type veth peer name eth0 netns ${P}pod#
ip -n ${P}node# address add 10.244.#.1/24 dev cni0
ip -n ${P}node# address add fd00:244:#::1/64 dev cni0 nodad
ip -n ${P}pod# address add 10.244.#.2/24 dev eth0
ip -n ${P}pod# address add fd00:244:#::2/64 dev eth0 nodad
ip -n ${P}node# link set cni0 up
ip -n ${P}pod# link set eth0 up
ip -n ${P}pod# route add default via 10.244.#.1
ip -n ${P}pod# route add default via fd00:244:#::1
ip netns exec ${P}node# sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding'
";

const WAY: &str = "
ip -n ${P}node# route add 10.244.@.0/24 via 198.51.100.@
ip -n ${P}node# route add fd00:244:@::/64 via fd51::@
";
