//! The nodes of a `standalone`: a network namespace and a cgroup each, with a kubelet and a
//! dataplane; or hollow ones, which are nothing but their status.

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::Context as _;
use ipnet::{IpNet, Ipv4Net};
use pintle_apiserver::UserInfo;
use pintle_dataplane::plan::LocalDetector;
use pintle_dataplane::{NodeNamespace, Pins};
use pintle_kubelet::{Capacity, Config, ProcessConfig, Runtime, RuntimeKind};
use pintle_node::cgroup::{self, Cgroup};
use pintle_node::{ClusterId, ClusterNetwork, ClusterNetworkConfig, NodeNetwork};

use super::parts::Parts;
use crate::cli::StandaloneArgs;
use crate::commands::control_plane::ControlPlane;

/// What the nodes made on this machine.
pub(crate) enum Nodes {
    /// Nothing.
    Hollow,
    /// Namespaces, links, routes and cgroups that carry the cluster's id.
    Process { id: ClusterId, network: ClusterNetwork },
}

impl Nodes {
    /// Make the nodes and start what runs on them. On failure nothing that was made is left.
    pub(crate) async fn start(
        args: &StandaloneArgs,
        plane: &ControlPlane,
        parts: &mut Parts,
    ) -> anyhow::Result<Self> {
        match args.runtime {
            RuntimeKind::Hollow => {
                start_hollow(args, plane, parts)?;
                Ok(Self::Hollow)
            }
            RuntimeKind::Process if args.nodes == 0 => Ok(Self::Hollow),
            RuntimeKind::Process => start_processes(args, plane, parts).await,
        }
    }

    /// Remove what was made. The parts must have stopped.
    pub(crate) async fn remove(self) -> anyhow::Result<()> {
        let Self::Process { id, network } = self else { return Ok(()) };
        // Each node's part removes its own, unless it failed or was not waited for.
        let pins = Pins::remove_cluster(id.as_str()).context("remove the pinned maps and links");
        let cgroups = cgroup::remove_cluster(&id).await.map(drop).context("remove the cgroups");
        let networks = network.teardown().await.context("remove the nodes' network");
        pins.and(cgroups).and(networks)
    }
}

/// The range of the pods' addresses: Kubernetes' usual one, or a larger one that holds it where the
/// nodes are more than it has /24 for.
pub(crate) fn cluster_cidr(nodes: u32) -> IpNet {
    let usual = Ipv4Net::new_assert(Ipv4Addr::new(10, 244, 0, 0), 16);
    let large = Ipv4Net::new_assert(Ipv4Addr::new(10, 128, 0, 0), 9);
    IpNet::V4(if nodes <= 1 << (24 - usual.prefix_len()) { usual } else { large })
}

fn start_hollow(
    args: &StandaloneArgs,
    plane: &ControlPlane,
    parts: &mut Parts,
) -> anyhow::Result<()> {
    if args.nodes == 0 {
        return Ok(());
    }
    let capacity = capacity(&args.server.data_dir)?;
    let configs = (0..args.nodes)
        .map(|index| Config {
            node_name: node_name(index),
            node_ip: Ipv4Addr::from(u32::from(HOLLOW_ADDRESS_FIRST) + index),
            capacity,
            pod_cidr: None,
            labels: Vec::new(),
            runtime: Runtime::Hollow,
        })
        .collect();
    let client = plane.client(UserInfo::new("system:node:hollow", ["system:nodes"]));
    parts.start("hollow kubelet", |daemon| pintle_kubelet::run_hollow(client, configs, daemon));
    Ok(())
}

async fn start_processes(
    args: &StandaloneArgs,
    plane: &ControlPlane,
    parts: &mut Parts,
) -> anyhow::Result<Nodes> {
    let data_dir = std::fs::canonicalize(&args.server.data_dir)
        .with_context(|| format!("find {}", args.server.data_dir.display()))?;
    let id = ClusterId::derive(&data_dir.to_string_lossy());
    // What a killed predecessor left: first its processes, then the namespaces they were in.
    cgroup::remove_cluster(&id).await.context("remove the cgroups of an earlier run")?;
    Pins::remove_cluster(id.as_str()).context("remove the pinned maps of an earlier run")?;
    let network = ClusterNetworkConfig { id: id.clone(), nodes: args.nodes as usize, subnet: None };
    let network = ClusterNetwork::create(network).await.context("make the nodes' network")?;
    let nodes = Nodes::Process { id: id.clone(), network };
    let started = start_node_parts(&data_dir, &id, &nodes, plane, parts);
    match started {
        Ok(()) => Ok(nodes),
        Err(error) => {
            if let Err(error) = nodes.remove().await {
                tracing::error!(error = format!("{error:#}"), "remains of the nodes are left");
            }
            Err(error)
        }
    }
}

fn start_node_parts(
    data_dir: &Path,
    id: &ClusterId,
    nodes: &Nodes,
    plane: &ControlPlane,
    parts: &mut Parts,
) -> anyhow::Result<()> {
    let Nodes::Process { network, .. } = nodes else { return Ok(()) };
    let capacity = capacity(data_dir)?;
    let executable = std::env::current_exe().context("find the running binary")?;
    for (index, network) in (0..).zip(network.nodes()) {
        let name = node_name(index);
        let cgroup: Cgroup = cgroup::node(id, &name)?;
        let proxy = proxy_config(id, &name, network, &cgroup);
        let process = ProcessConfig {
            network: network.clone(),
            cgroup,
            root_dir: data_dir.join("nodes").join(&name),
            executable: executable.clone(),
        };
        let kubelet = Config {
            node_name: name.clone(),
            node_ip: network.address(),
            capacity,
            pod_cidr: None,
            labels: Vec::new(),
            runtime: Runtime::Process(process),
        };
        let client = plane.client(UserInfo::new(&format!("system:node:{name}"), ["system:nodes"]));
        parts.start("kubelet", |daemon| pintle_kubelet::run(client, kubelet, daemon));
        let client = plane.client(UserInfo::new("system:kube-proxy", []));
        parts.start("proxy", |daemon| pintle_dataplane::run(client, proxy, daemon));
    }
    Ok(())
}

/// The dataplane of one node among several on this machine. Its pins are for tools that look into the
/// tables; they go when it stops.
fn proxy_config(
    id: &ClusterId,
    name: &str,
    network: &NodeNetwork,
    cgroup: &Cgroup,
) -> pintle_dataplane::Config {
    let namespace = network.namespace().cloned();
    pintle_dataplane::Config {
        node_namespace: namespace.map_or(NodeNamespace::Own, NodeNamespace::Named),
        local_detector: LocalDetector::Cidrs(vec![cluster_cidr(1)]),
        translates_packets: true,
        pins: Some(Pins::of(id.as_str(), name)),
        ..pintle_dataplane::Config::new(name, cgroup.path())
    }
}

fn node_name(index: u32) -> String {
    format!("node-{index}")
}

fn capacity(data_dir: &Path) -> anyhow::Result<Capacity> {
    Capacity::of_machine(data_dir).context("read this machine's capacity")
}

/// Hollow nodes count up from here; nothing answers at these addresses (RFC 2544's range).
const HOLLOW_ADDRESS_FIRST: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
