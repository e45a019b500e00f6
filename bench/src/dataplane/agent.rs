//! The dataplane's daemon in a process of its own: how long it takes to serve all Services from an
//! empty start, from one event to the kernel, and how much memory it has then.
//!
//! The process is this program again. Its daemon is the one of `pintle proxy`, with an API server
//! in the same process ([`super::api`]), so that its times include decoding what the API says, and its
//! memory what it keeps of it. Whether an endpoint's change is in the kernel is read there: from the
//! pinned table of addresses.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use aya::maps::{HashMap, Map, MapData};
use pintle_component::Daemon;
use pintle_dataplane::plan::{Protocol, frontend_key};
use pintle_dataplane::{Config, NodeNamespace, Pins};
use pintle_ebpf_common::{Frontend, FrontendKey};
use pintle_node::NetNs;
use serde::{Deserialize, Serialize};

use super::api::{Api, SliceEvents};
use super::cluster::Cluster;
use super::pintle::NODE;
use super::world::World;

/// What the process is told.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Agent {
    #[arg(long)]
    services: usize,
    #[arg(long)]
    endpoints: usize,
    /// How many endpoints change, one after the other
    #[arg(long)]
    changes: usize,
    #[arg(long)]
    cgroup: PathBuf,
    /// The node's namespace
    #[arg(long)]
    node: String,
}

/// What it says.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Said {
    /// From its start to ready: attached, all listed and in the kernel.
    pub(super) ready_seconds: f64,
    /// From an event's arrival to the kernel.
    pub(super) change_us: Vec<f64>,
    /// Resident, bytes.
    pub(super) memory_user: u64,
    /// Of these, what no file and no map of the kernel's is behind, bytes.
    pub(super) memory_anonymous: u64,
    /// What the kernel has for the maps, bytes.
    pub(super) memory_maps: u64,
}

/// Run the process and hear what it says.
pub(super) fn ask(world: &World, cluster: Cluster, changes: usize) -> anyhow::Result<Said> {
    let mut command = Command::new(std::env::current_exe()?);
    // The bench is a program of its own as well as a part of pintle.
    if std::env::args().any(|argument| argument == "bench") {
        command.arg("bench");
    }
    let output = command
        .arg("dataplane-agent")
        .args(["--services", &cluster.services.to_string()])
        .args(["--endpoints", &cluster.endpoints.to_string()])
        .args(["--changes", &changes.to_string()])
        .args(["--node", world.node.name()])
        .arg("--cgroup")
        .arg(world.cgroup.child("agent").path())
        // As `pintle proxy` has it.
        .env("MIMALLOC_PURGE_DELAY", "0")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .context("start the daemon's process")?;
    // It has removed them itself, unless it was killed.
    Pins::of(PINS, world.node.name()).remove()?;
    let _ = std::fs::remove_dir(world.cgroup.child("agent").path());
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the daemon's process failed: {}", error.trim());
    serde_json::from_slice(&output.stdout).context("read what the daemon's process says")
}

/// The process itself.
pub(crate) async fn run(agent: Agent) -> anyhow::Result<()> {
    // As `pintle proxy` does.
    nix::sys::prctl::set_thp_disable(true).context("ask for no huge pages")?;
    let cluster = Cluster { services: agent.services, endpoints: agent.endpoints };
    let pins = Pins::of(PINS, &agent.node);
    let config = Config {
        node_namespace: NodeNamespace::Named(NetNs::open(&agent.node)?),
        translates_packets: true,
        pins: Some(pins.clone()),
        ..Config::new(NODE, &agent.cgroup)
    };
    let (api, events) = Api::new(cluster);
    let daemon = Daemon::default();
    let start = Instant::now();
    let mut running = tokio::spawn(pintle_dataplane::run(api.client(), config, daemon.clone()));
    // Its check is there once it runs.
    let check = format!("/readyz/dataplane/{NODE}");
    let ready = || daemon.health.answer(&check, "").is_some_and(|reply| reply.status == 200);
    while !ready() {
        tokio::select! {
            ended = &mut running => {
                ended??;
                bail!("the daemon ended before it was ready");
            }
            () = tokio::time::sleep(Duration::from_millis(1)) => {}
        }
    }
    let ready_seconds = start.elapsed().as_secs_f64();
    let path = pins.path().to_owned();
    let changing = tokio::task::spawn_blocking(move || {
        observe()?;
        let change_us = change(&path, cluster, 0..agent.changes, &events)?;
        // An allocator gives back what has been free for a second when it is asked for something then.
        std::thread::sleep(SETTLING);
        change(&path, cluster, agent.changes..agent.changes + 100, &events)?;
        anyhow::Ok(change_us)
    });
    let change_us = changing.await??;
    let [memory_user, memory_anonymous] = resident()?;
    let memory_maps = maps()?;
    let said = Said { ready_seconds, change_us, memory_user, memory_anonymous, memory_maps };
    println!("{}", serde_json::to_string(&said)?);
    daemon.shutdown.cancel();
    running.await??;
    Ok(())
}

/// Change one endpoint after the other, each of another Service, and wait until the kernel has it.
fn change(
    pins: &std::path::Path,
    cluster: Cluster,
    turns: std::ops::Range<usize>,
    events: &SliceEvents,
) -> anyhow::Result<Vec<f64>> {
    let layout = std::fs::read_dir(pins)?.next().context("the daemon has pinned nothing")??;
    let data = MapData::from_pin(layout.path().join("FRONTENDS"))?;
    let frontends: HashMap<_, FrontendKey, Frontend> = Map::HashMap(data).try_into()?;
    // The kernel's own look may find neither where an element is being replaced, so a miss is looked at
    // again, as the programs do.
    let look = |key: &FrontendKey| frontends.get(key, 0).map(|frontend| frontend.table);
    let table = |key: &FrontendKey| look(key).or_else(|_| look(key)).or_else(|_| look(key));
    let mut samples = Vec::with_capacity(turns.len());
    for turn in turns {
        // Coprime to the usual numbers of Services: all over the tables.
        let service = turn * STRIDE % cluster.services;
        let key = frontend_key(cluster.cluster_ip(service).into(), Protocol::Tcp);
        let mut endpoints = cluster.endpoints_of(service);
        endpoints[0] = cluster.replacement(turn);
        let event = SliceEvents::modified(&cluster.slice_of(service, &endpoints));
        let before = table(&key)?;
        let start = Instant::now();
        events.send(event);
        while table(&key)? == before {
            ensure!(start.elapsed() < CHANGE_TIMEOUT, "a change does not reach the kernel");
        }
        samples.push(start.elapsed().as_secs_f64() * 1e6);
        // Not while the daemon still tidies up after the last one: a change in a cluster at rest.
        std::thread::sleep(REST);
    }
    Ok(samples)
}

/// From now on this thread runs when nobody else wants to: it looks without a pause, and whom it looks
/// at has two processors at most.
fn observe() -> anyhow::Result<()> {
    let thread = nix::unistd::gettid().to_string();
    let output = Command::new("chrt")
        .args(["--idle", "--pid", "0", &thread])
        .stdin(Stdio::null())
        .output()
        .context("run chrt (of util-linux)")?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "chrt --idle --pid 0 {thread}: {}", error.trim());
    Ok(())
}

/// This process's resident memory, and its anonymous part.
fn resident() -> anyhow::Result<[u64; 2]> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kilobytes = line.and_then(|line| line.trim_start_matches(':').trim().split(' ').next());
        let kilobytes: u64 = kilobytes.context("no such field in /proc/self/status")?.parse()?;
        anyhow::Ok(kilobytes * 1024)
    };
    Ok([field("VmRSS")?, field("RssAnon")?])
}

/// The memory of all maps that this process has open, each counted once.
fn maps() -> anyhow::Result<u64> {
    let mut sizes = std::collections::BTreeMap::new();
    for entry in std::fs::read_dir("/proc/self/fdinfo")?.flatten() {
        let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|value| value.trim().parse::<u64>().ok())
        };
        if let (Some(map), Some(bytes)) = (field("map_id:"), field("memlock:")) {
            sizes.insert(map, bytes);
        }
    }
    Ok(sizes.values().sum())
}

/// In the place of a cluster's name.
const PINS: &str = "bench";
const STRIDE: usize = 7919;
const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);
const SETTLING: Duration = Duration::from_millis(1500);
const REST: Duration = Duration::from_micros(300);
