//! Rounds of traffic: in each, every mode in turn does the same, so that what disturbs the machine
//! disturbs all alike and each round compares them by itself.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use super::client;
use super::cluster::Cluster;
use super::mode::Mode;
use super::world::{NODE_ADDRESS, World};

/// How much a mode does in a round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// Calls of connect() to each address.
    pub(super) connects: usize,
    /// How long requests are sent, of either kind.
    pub(super) slice: Duration,
}

/// What one mode did in one round.
#[derive(Clone, Debug, Default)]
pub(super) struct Round {
    /// µs of connect(), for the first, a middle and the last Service.
    pub(super) connects: Vec<Vec<f64>>,
    /// Connections a second, each with a request.
    pub(super) short: f64,
    /// Requests a second on connections that are kept.
    pub(super) kept: f64,
    /// As `connects`, by a client outside to node ports.
    pub(super) node_port_connects: Vec<Vec<f64>>,
    /// As `short`, by a client outside to node ports.
    pub(super) node_port_short: Option<f64>,
}

/// One round of one mode.
pub(super) fn round(
    mode: Mode,
    world: &World,
    cluster: Cluster,
    load: Load,
) -> anyhow::Result<Round> {
    let inside = targets(mode, cluster, |service| Some(cluster.cluster_ip(service)));
    let of_node = |port: u16| SocketAddrV4::new(NODE_ADDRESS, port);
    let outside = targets(mode, cluster, |service| cluster.node_port(service).map(of_node));
    world.enter()?;
    let from_pod = world.pod.run_in(|| {
        client::connects(&inside, WARM_UP)?;
        anyhow::Ok(Round {
            connects: client::connects(&inside, load.connects)?,
            short: client::short_connections(&inside, load.slice)?,
            kept: client::kept_connections(&inside, load.slice)?,
            ..Round::default()
        })
    });
    world.leave()?;
    if !mode.serves_outside() {
        return from_pod?;
    }
    let from_outside = world.outside.run_in(|| {
        client::connects(&outside, WARM_UP)?;
        let connects = client::connects(&outside, load.connects / 2)?;
        anyhow::Ok((connects, client::short_connections(&outside, load.slice / 2)?))
    })?;
    let (node_port_connects, node_port_short) = from_outside?;
    let node_port_short = Some(node_port_short);
    Ok(Round { node_port_connects, node_port_short, ..from_pod?? })
}

/// Where the client connects to: the Services' addresses, or in the mode without them an endpoint of
/// each.
pub(super) fn targets(
    mode: Mode,
    cluster: Cluster,
    address: impl Fn(usize) -> Option<SocketAddrV4>,
) -> Vec<SocketAddrV4> {
    let nowhere = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
    let probes = cluster.probes();
    let target = |service: usize| match mode {
        Mode::Direct => cluster.endpoint(service, 0),
        _ => address(service).unwrap_or(nowhere),
    };
    probes.map(target).to_vec()
}

/// Before each round, to each address: the caches are as the mode leaves them.
const WARM_UP: usize = 20;
