//! The ways in which Services are served, side by side.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use clap::ValueEnum;

use super::agent;
use super::cluster::Cluster;
use super::express;
use super::netfilter::{self, Kind, Netfilter};
use super::packet;
use super::pintle::Pintle;
use super::world::World;
use crate::outcome::Outcome;
use crate::stats::quantile;

/// Who serves the Services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum Mode {
    /// Nobody: the client names the endpoint itself
    Direct,
    /// pintle as it runs on a node: in the socket calls, and on the links for clients outside
    Pintle,
    /// pintle in the socket calls alone; clients outside are not served
    PintleSockets,
    /// pintle on the node's links alone, for clients whose socket calls it does not see
    PintleTc,
    /// pintle before the node's network stack
    PintleXdp,
    /// The rules that kube-proxy writes in its mode iptables
    Iptables,
    /// The rules and verdict maps that kube-proxy writes in its mode nftables
    Nftables,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::Pintle => "pintle",
            Self::PintleSockets => "pintle-sockets",
            Self::PintleTc => "pintle-tc",
            Self::PintleXdp => "pintle-xdp",
            Self::Iptables => "iptables",
            Self::Nftables => "nftables",
        })
    }
}

impl Mode {
    /// Whether clients outside are served.
    pub(super) fn serves_outside(self) -> bool {
        self != Self::PintleSockets
    }

    /// What keeps this machine from measuring it, in a line.
    pub(super) fn missing(self) -> Option<String> {
        match self {
            Self::Direct
            | Self::Pintle
            | Self::PintleSockets
            | Self::PintleTc
            | Self::PintleXdp => None,
            Self::Iptables => netfilter::missing(netfilter::IPTABLES, "iptables"),
            Self::Nftables => netfilter::missing(netfilter::NFT, "nftables"),
        }
    }
}

/// A mode at work in a world.
pub(super) enum Proxy {
    Direct,
    Pintle(Box<Pintle>),
    Netfilter(Netfilter),
}

/// What it took to make all Services known.
pub(super) struct Programmed {
    pub(super) proxy: Proxy,
    pub(super) took: Duration,
}

impl Proxy {
    /// Serve the Services of `cluster` in `world`; `None` if that is not done within `limit`.
    pub(super) fn program(
        mode: Mode,
        world: &World,
        cluster: Cluster,
        limit: Duration,
    ) -> anyhow::Result<Option<Programmed>> {
        let kind = match mode {
            Mode::Iptables => Kind::Iptables,
            _ => Kind::Nftables,
        };
        let (proxy, took) = match mode {
            Mode::Direct => (Self::Direct, Duration::ZERO),
            Mode::Pintle | Mode::PintleSockets | Mode::PintleTc | Mode::PintleXdp => {
                let mut pintle = Pintle::attach(mode, world, cluster)?;
                let objects = super::pintle::objects(cluster);
                let start = Instant::now();
                pintle.program(objects)?;
                let took = start.elapsed();
                pintle.add(packet::services())?;
                (Self::Pintle(Box::new(pintle)), took)
            }
            Mode::Iptables | Mode::Nftables => {
                match Netfilter::program(kind, &world.node, cluster, limit)? {
                    Some((netfilter, took)) => (Self::Netfilter(netfilter), took),
                    None => return Ok(None),
                }
            }
        };
        Ok(Some(Programmed { proxy, took }))
    }
}

impl Proxy {
    /// What is measured apart from traffic: changes of endpoints, memory, the programs' own time.
    pub(super) fn figures(
        &self,
        case: &str,
        mode: Mode,
        world: &World,
        cluster: Cluster,
        changes: usize,
    ) -> anyhow::Result<Vec<Outcome>> {
        let of = |metric: &str, unit: &str, value| {
            Outcome::new(case, &mode.to_string(), metric, unit, value)
        };
        let mut outcomes = Vec::new();
        let mut samples = Vec::new();
        match self {
            Self::Netfilter(netfilter) => {
                let end = Instant::now() + CHANGES_TIME;
                while samples.len() < changes && (samples.len() < 3 || Instant::now() < end) {
                    let turn = samples.len();
                    let service = turn * STRIDE % cluster.services;
                    match netfilter.change(service, turn, CHANGE_LIMIT)? {
                        Some(took) => samples.push(took.as_secs_f64() * 1e3),
                        None => break,
                    }
                }
            }
            Self::Pintle(_) if mode == Mode::Pintle => {
                let said = agent::ask(world, cluster, changes)?;
                samples = said.change_us.iter().map(|us| us / 1e3).collect();
                let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
                outcomes.extend([
                    of("ready_seconds", "s", said.ready_seconds),
                    of("memory_user", "MiB", mebibytes(said.memory_user)),
                    of("memory_user_anonymous", "MiB", mebibytes(said.memory_anonymous)),
                    of("memory_maps", "MiB", mebibytes(said.memory_maps)),
                ]);
            }
            Self::Pintle(pintle) if mode == Mode::PintleTc => {
                let [translated, other] = packet::nanoseconds(&pintle.dataplane)?;
                outcomes.push(of("packet_ns", "ns", translated));
                outcomes.push(of("packet_of_no_service_ns", "ns", other));
            }
            Self::Pintle(_) if mode == Mode::PintleXdp => {
                let figures = express::measure(world)?;
                outcomes.extend([
                    of("packet_ns", "ns", figures.packet_ns),
                    of("packet_of_no_service_ns", "ns", figures.packet_of_no_service_ns),
                    of("packets_per_second", "1/s", figures.packets_per_second),
                    of("packets_per_second_tc", "1/s", figures.packets_per_second_tc),
                ]);
            }
            Self::Direct | Self::Pintle(_) => {}
        }
        if !samples.is_empty() {
            outcomes.push(of("endpoint_changes", "", samples.len() as f64));
            for (name, q) in [("p50", 0.5), ("p99", 0.99)] {
                let value = quantile(&mut samples, q).context("nothing was changed")?;
                outcomes.push(of(&format!("endpoint_change_{name}"), "ms", value));
            }
        }
        Ok(outcomes)
    }
}

/// For how long kube-proxy's rules are changed: one change may take minutes.
const CHANGES_TIME: Duration = Duration::from_secs(2);
const CHANGE_LIMIT: Duration = Duration::from_secs(30);
/// Coprime to the usual numbers of Services: all over the tables.
const STRIDE: usize = 7919;
