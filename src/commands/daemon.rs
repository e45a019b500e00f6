//! The parts that run alone against an API server: controller-manager, kubelet.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use anyhow::{Context as _, anyhow};
use pintle_component::Daemon;
use pintle_kubelet::{Capacity, ProcessConfig, Runtime, RuntimeKind};
use pintle_node::cgroup;
use pintle_node::{ClusterId, NodeNetwork};
use tokio::net::TcpListener;

use crate::cli::{ClientArgs, ControllerManagerArgs, KubeletArgs};
use crate::commands::control_plane::hostname;

pub(crate) async fn controller_manager(args: ControllerManagerArgs) -> anyhow::Result<()> {
    let config = pintle_controllers::Config::default();
    serve(&args.client, args.port, async |client, daemon| {
        Ok(pintle_controllers::run(client, config, daemon).await?)
    })
    .await
}

pub(crate) async fn kubelet(args: KubeletArgs) -> anyhow::Result<()> {
    serve(&args.client, args.port, async |client, daemon| {
        let config = kubelet_config(&args)?;
        Ok(pintle_kubelet::run(client, config, daemon).await?)
    })
    .await
}

fn kubelet_config(args: &KubeletArgs) -> anyhow::Result<pintle_kubelet::Config> {
    let node_name = node_name(args.hostname_override.as_deref())?;
    std::fs::create_dir_all(&args.root_dir)
        .with_context(|| format!("make {}", args.root_dir.display()))?;
    let node_ip = node_ip().context("find this machine's address")?;
    let runtime = match args.runtime {
        RuntimeKind::Hollow => Runtime::Hollow,
        RuntimeKind::Process => {
            let id = ClusterId::derive(&node_name);
            Runtime::Process(ProcessConfig {
                network: NodeNetwork::host(id.clone(), node_ip),
                cgroup: cgroup::node(&id, &node_name)?,
                root_dir: args.root_dir.clone(),
                executable: std::env::current_exe().context("find the running binary")?,
            })
        }
    };
    Ok(pintle_kubelet::Config {
        node_name,
        node_ip,
        capacity: Capacity::of_machine(&args.root_dir).context("read this machine's capacity")?,
        pod_cidr: None,
        labels: Vec::new(),
        runtime,
    })
}

pub(crate) fn node_name(flag: Option<&str>) -> anyhow::Result<String> {
    flag.map(str::to_owned)
        .or_else(hostname)
        .ok_or_else(|| anyhow!("--hostname-override: this machine has no name of its own"))
}

/// The address that this machine would send from: the one of the default route.
fn node_ip() -> anyhow::Result<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // Connecting a datagram socket sends nothing; it only looks the route up.
    if socket.connect((ROUTE_PROBE, 9)).is_err() {
        return Ok(Ipv4Addr::LOCALHOST);
    }
    match socket.local_addr()?.ip() {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(address) => Err(anyhow!("{address} is no IPv4 address")),
    }
}

/// Connect, answer health checks and metrics, and run until a signal or a failure.
async fn serve(
    args: &ClientArgs,
    port: u16,
    run: impl AsyncFnOnce(kube::Client, Daemon) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let client = pintle_client::connect(args.kubeconfig.as_deref()).await?;
    let shutdown = pintle_component::shutdown_on_signal().context("listen for signals")?;
    let daemon = Daemon { shutdown, ..Daemon::default() };
    let address = SocketAddr::new(args.bind_address, port);
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("listen on {address} for health checks and metrics"))?;
    let (health, registry) = (daemon.health.clone(), daemon.registry.clone());
    let endpoints =
        pintle_component::serve(listener, health, registry, daemon.shutdown.child_token());
    let endpoints = tokio::spawn(endpoints);
    let outcome = run(client, daemon.clone()).await;
    daemon.shutdown.cancel();
    endpoints.await.context("serve health checks and metrics")??;
    outcome
}

/// An address that is nobody's (RFC 5737), to ask the routing table with.
const ROUTE_PROBE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
