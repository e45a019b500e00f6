//! Packets that turn back before the kernel makes anything of them (XDP): what the program takes for one,
//! and how many a second go by it between two namespaces, against the way through the kernel.
//!
//! ```text
//! client 192.0.2.2, backend 192.0.2.3 ── veth ── eth0 192.0.2.1 node
//! ```
//!
//! A namespace of clients and backends on one side of the node, which has nothing else to do: the world of
//! the other modes has its backends on another side than its clients.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use aya::maps::{HashMap, Map, MapData};
use pintle_dataplane::plan::{
    DesiredPort, DesiredService, LocalDetector, Protocol, ServiceName, endpoint,
};
use pintle_dataplane::{Dataplane, Express, Limits, NodeNamespace, PacketHook, Pins};
use pintle_ebpf_common::{Tracked, Tuple, flag, hook, protocol};
use pintle_node::{NetNs, set_sysctl};

use super::feature;
use super::packet;
use super::world::{self, World};
use crate::stats::quantile;

/// What was measured.
pub(super) struct Figures {
    /// Nanoseconds of a packet of a known connection, in and out at once.
    pub(super) packet_ns: f64,
    /// Of a packet for no Service.
    pub(super) packet_of_no_service_ns: f64,
    /// Datagrams a second from one sender by the node to the backend.
    pub(super) packets_per_second: f64,
    /// The same with all packets in the kernel's hands, and so the links' programs'.
    pub(super) packets_per_second_tc: f64,
}

/// Measure, in namespaces beside those of `world`.
pub(super) fn measure(world: &World) -> anyhow::Result<Figures> {
    let place = Place::make(world.node.name())?;
    let by_tc = Served::by(&place, world, Express::Off)?;
    let packets_per_second_tc = by_tc.packets_per_second(&place)?;
    drop(by_tc);
    let served = Served::by(&place, world, Express::Native)?;
    let packets_per_second = served.packets_per_second(&place)?;
    let turned_back = served.dataplane.events()?.turned_back;
    ensure!(turned_back > 0, "no packet was sent back by the program before the kernel");
    Ok(Figures {
        packet_ns: served.packet_ns(&place)?,
        packet_of_no_service_ns: served.packet_of_no_service_ns(&place)?,
        packets_per_second,
        packets_per_second_tc,
    })
}

/// The node, and what is on its one side.
struct Place {
    node: NetNs,
    side: NetNs,
}

impl Place {
    fn make(name: &str) -> anyhow::Result<Self> {
        let (node, side) = (format!("{name}-x"), format!("{name}-y"));
        let place = Self { node: NetNs::create(&node)?, side: NetNs::create(&side)? };
        for namespace in [&place.node, &place.side] {
            set_sysctl(Some(namespace), "net/ipv6/conf/all/disable_ipv6", "1")?;
        }
        for line in LAYOUT.replace("NODE", &node).replace("SIDE", &side).lines() {
            world::ip(line)?;
        }
        set_sysctl(Some(&place.node), "net/ipv4/ip_forward", "1")?;
        set_sysctl(Some(&place.node), "net/ipv4/conf/all/send_redirects", "0")?;
        set_sysctl(Some(&place.node), "net/ipv4/conf/eth0/send_redirects", "0")?;
        // A veth pair hands over what a program sends if its other end takes packets in turns.
        place.side.run_in(|| feature::switch_on("eth0", "rx-gro"))??;
        Ok(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.node.delete();
        let _ = self.side.delete();
    }
}

/// A dataplane that serves the place.
struct Served {
    dataplane: Dataplane,
    link: u32,
    pins: Pins,
}

impl Served {
    fn by(place: &Place, world: &World, express: Express) -> anyhow::Result<Self> {
        let pins = Pins::of("bench", place.node.name());
        let limits = Limits::default();
        let (mut dataplane, mut planner) =
            Dataplane::load_pinned(world.cgroup.path(), limits, &pins)?;
        let namespace = NodeNamespace::Named(place.node.clone());
        let links = namespace.links()?;
        let link = links.iter().find(|link| link.name == "eth0").context("the node has no eth0")?;
        let link = link.index;
        dataplane.set_express(express);
        let mut served = Self { dataplane, link, pins };
        served.dataplane.set_links(&namespace, &LocalDetector::None, &links)?;
        let services = [(SERVICE, "flood"), (BACKEND, "itself")].map(|(at, name)| {
            let mut port = DesiredPort::new(at.into(), Protocol::Udp, &[BACKEND.into()]);
            for frontend in &mut port.frontends {
                frontend.flags = flag::LOAD_BALANCER | flag::MASQUERADE;
            }
            let service = DesiredService { created_ms: 0, ports: vec![Arc::new(port)] };
            (ServiceName::new("bench", name), service)
        });
        let plan = planner.plan(0, services);
        served.dataplane.apply(&plan.ops)?;
        Ok(served)
    }

    /// Datagrams of one sender that leave the node to the backend, which takes no more of them than it
    /// has room for.
    fn packets_per_second(&self, place: &Place) -> anyhow::Result<f64> {
        let (backend, client) = place.side.run_in(|| {
            let backend = UdpSocket::bind(BACKEND)?;
            let client = UdpSocket::bind(CLIENT)?;
            client.connect(SERVICE)?;
            anyhow::Ok((backend, client))
        })??;
        let flood = || {
            let start = Instant::now();
            while start.elapsed() < FLOOD {
                for _ in 0..256 {
                    client.send(&[b'r'; 18])?;
                }
            }
            anyhow::Ok(start.elapsed().as_secs_f64())
        };
        flood()?;
        let before = received(place)?;
        let rate = flood().and_then(|took| Ok((received(place)? - before) / took));
        drop(backend);
        rate
    }

    /// A connection that is translated to itself, so that each turn has the whole work.
    fn packet_ns(&self, place: &Place) -> anyhow::Result<f64> {
        let mut sent = packet::udp(CLIENT, BACKEND);
        for hook in [PacketHook::Ingress, PacketHook::Egress] {
            self.run(place, hook, &sent, 1)?;
        }
        self.keep()?;
        // Turns enough for all hops that a packet may make.
        sent[22] = 255;
        let mut samples = Vec::new();
        for _ in 0..SAMPLES {
            let result = self.run(place, PacketHook::Express, &sent, 250)?;
            // Once in a while it is the kernel's turn.
            if result.sent_back {
                samples.push(result.duration.as_nanos() as f64);
            } else {
                self.run(place, PacketHook::Ingress, &sent, 1)?;
                self.run(place, PacketHook::Egress, &sent, 1)?;
            }
        }
        quantile(&mut samples, 0.5).context("no packet was sent back")
    }

    fn packet_of_no_service_ns(&self, place: &Place) -> anyhow::Result<f64> {
        let result =
            self.run(place, PacketHook::Express, &packet::udp(CLIENT, NOBODY), 1_000_000)?;
        ensure!(result.passed, "a packet of no Service was sent back");
        Ok(result.duration.as_nanos() as f64)
    }

    fn run(
        &self,
        place: &Place,
        hook: PacketHook,
        packet: &[u8],
        turns: u32,
    ) -> anyhow::Result<pintle_dataplane::DryRun> {
        let node = NodeNamespace::Named(place.node.clone());
        Ok(self.dataplane.dry_run_at(&node, self.link, hook, packet, turns)?)
    }

    /// Let the masqueraded connection keep its client's address and port.
    fn keep(&self) -> anyhow::Result<()> {
        let layout = std::fs::read_dir(self.pins.path())?.next().context("nothing is pinned")??;
        let map = Map::LruHashMap(MapData::from_pin(layout.path().join("TRACKED"))?);
        let mut map = HashMap::<_, Tuple, Tracked>::try_from(map)?;
        let (client, backend) = (endpoint(CLIENT.into()), endpoint(BACKEND.into()));
        let key = Tuple {
            source: client.address,
            destination: backend.address,
            source_port_be: client.port_be,
            destination_port_be: backend.port_be,
            protocol: protocol::UDP,
            hook: hook::EGRESS,
            padding: [0; 2],
        };
        let entry = map.get(&key, 0)?;
        Ok(map.insert(key, Tracked { to: key, ..entry }, 0)?)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.pins.remove();
    }
}

/// Packets that the side has received by its link.
fn received(place: &Place) -> anyhow::Result<f64> {
    let text = place.side.run_in(|| std::fs::read_to_string("/proc/thread-self/net/dev"))??;
    let line = text.lines().find_map(|line| line.trim().strip_prefix("eth0:"));
    let packets = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(packets.context("eth0 has no count of packets")?.parse()?)
}

const CLIENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 2), 5555);
const BACKEND: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 3), 8080);
const SERVICE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 1), 80);
const NOBODY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 2), 80);
/// Once to warm up, once to measure.
const FLOOD: Duration = Duration::from_secs(1);
const SAMPLES: usize = 400;

const LAYOUT: &str = "-n NODE link set lo up
-n SIDE link set lo up
-n SIDE link add eth0 address 02:00:00:00:00:03 type veth peer name eth0 address 02:00:00:00:00:01 netns NODE
-n SIDE address add 192.0.2.2/24 dev eth0
-n SIDE address add 192.0.2.3/24 dev eth0
-n NODE address add 192.0.2.1/24 dev eth0
-n SIDE link set eth0 up
-n NODE link set eth0 up
-n SIDE route add default via 192.0.2.1
-n NODE neighbour replace 192.0.2.2 lladdr 02:00:00:00:00:03 dev eth0 nud permanent
-n NODE neighbour replace 192.0.2.3 lladdr 02:00:00:00:00:03 dev eth0 nud permanent
-n SIDE neighbour replace 192.0.2.1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent";
