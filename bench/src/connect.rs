//! connect() to a cluster IP against connect() straight to its backend, among few and many Services.
//!
//! Both are measured in turn by one thread of this process, which stands for the time in a cgroup
//! and a network namespace of the bench's own, with the dataplane's hooks attached to that cgroup.
//! So the straight connection passes the hook too, as it would from any pod; what that costs is
//! shown by connections made before the hooks are attached. The cluster IP is another one each
//! time, so that the tables are looked up all over. The client resets its connections, which
//! leaves no port in TIME_WAIT.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use indicatif::ProgressBar;
use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt};
use pintle_dataplane::plan::{DesiredPort, DesiredService, Planner, Protocol, ServiceName};
use pintle_dataplane::{Dataplane, Limits};
use pintle_node::cgroup::{self, Cgroup};
use pintle_node::{NetNs, Netlink};

use crate::outcome::Outcome;
use crate::stats::quantile;

/// Measure so many pairs of connections for each number of Services.
pub(crate) async fn run(pairs: usize, progress: &ProgressBar) -> anyhow::Result<Vec<Outcome>> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "the connect bench needs root, to load the dataplane's programs"
    );
    let place = Place::make().await?;
    let mut outcomes = Vec::new();
    for services in [10, 10_000] {
        progress.set_message(format!("connect: {pairs} pairs, {services} Services"));
        let cgroup = place.cgroup.path().to_owned();
        let measured =
            place.namespace.spawn_in(move || measure(&cgroup, services, pairs)).await??;
        outcomes.extend(measured.outcomes(services)?);
    }
    place.remove().await?;
    Ok(outcomes)
}

/// The cgroup and the namespace, and the cgroup to go back to.
struct Place {
    cgroup: Cgroup,
    home: Cgroup,
    namespace: NetNs,
}

impl Place {
    async fn make() -> anyhow::Result<Self> {
        let root = cgroup::find_or_mount()?;
        let name = format!("pintle-bench-{}", std::process::id());
        let home = Cgroup::at(root.join(own_cgroup()?));
        let cgroup = Cgroup::at(root.join(&name));
        let namespace = NetNs::create(&name)?;
        let place = Self { cgroup, home, namespace };
        Netlink::open(Some(&place.namespace)).await?.set_up("lo").await?;
        place.cgroup.create()?;
        place.cgroup.join()?;
        Ok(place)
    }

    async fn remove(self) -> anyhow::Result<()> {
        self.home.join()?;
        self.cgroup.remove_tree().await?;
        self.namespace.delete()?;
        Ok(())
    }
}

impl Drop for Place {
    /// For the way out by an error; after [`Place::remove`] there is nothing left to do.
    fn drop(&mut self) {
        let _ = self.home.join();
        let _ = std::fs::remove_dir(self.cgroup.path());
        let _ = self.namespace.delete();
    }
}

/// This process's cgroup v2, relative to the mount.
fn own_cgroup() -> anyhow::Result<String> {
    let text = std::fs::read_to_string("/proc/self/cgroup").context("read /proc/self/cgroup")?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"));
    Ok(path.context("this process is in no cgroup v2")?.to_owned())
}

/// Microseconds of each connect().
#[derive(Default)]
struct Measured {
    cluster_ip: Vec<f64>,
    direct: Vec<f64>,
    direct_without_hooks: Vec<f64>,
}

impl Measured {
    fn outcomes(mut self, services: usize) -> anyhow::Result<Vec<Outcome>> {
        let case = format!("connect/{services}-services");
        let mut outcomes = Vec::new();
        let mut medians = Vec::new();
        for (mode, samples) in [
            ("cluster-ip", &mut self.cluster_ip),
            ("direct", &mut self.direct),
            ("direct-without-hooks", &mut self.direct_without_hooks),
        ] {
            for (metric, q) in [("latency_p50", 0.5), ("latency_p99", 0.99)] {
                let value = quantile(samples, q).context("nothing was measured")?;
                outcomes.push(Outcome::new(&case, mode, metric, "us", value));
            }
            medians.push(quantile(samples, 0.5).context("nothing was measured")?);
        }
        let ratio = medians[0] / medians[1];
        outcomes.push(Outcome::new(&case, "cluster-ip/direct", "latency_p50_ratio", "x", ratio));
        Ok(outcomes)
    }
}

/// Runs in the namespace, in a process that is in the cgroup.
fn measure(cgroup: &Path, services: usize, pairs: usize) -> anyhow::Result<Measured> {
    let backend = Backend::start()?;
    let mut measured = Measured::default();
    (0..WARM_UP).try_for_each(|_| connect(backend.address).map(drop))?;
    for _ in 0..pairs {
        measured.direct_without_hooks.push(connect(backend.address)?);
    }
    let mut dataplane = Dataplane::load(cgroup, Limits::default())?;
    let frontends: Vec<SocketAddrV4> = (0..services).map(frontend).collect();
    publish(&mut dataplane, &frontends, backend.address)?;
    for pair in 0..WARM_UP + pairs {
        // A stride coprime to both numbers of Services visits all, far apart.
        let frontend = frontends[pair * STRIDE % services];
        let (cluster_ip, direct) = connect_both(frontend, backend.address, pair % 2 == 0)?;
        if pair >= WARM_UP {
            measured.cluster_ip.push(cluster_ip);
            measured.direct.push(direct);
        }
    }
    Ok(measured)
}

fn publish(
    dataplane: &mut Dataplane,
    frontends: &[SocketAddrV4],
    backend: SocketAddrV4,
) -> anyhow::Result<()> {
    let changes = frontends.iter().enumerate().map(|(index, frontend)| {
        let port = DesiredPort::new((*frontend).into(), Protocol::Tcp, &[backend.into()]);
        let service = DesiredService { created_ms: 0, ports: vec![port.into()] };
        (ServiceName::new("bench", &format!("service-{index}")), service)
    });
    let plan = Planner::new(Limits::default()).plan(0, changes);
    ensure!(plan.rejected.is_empty(), "{} Services were rejected", plan.rejected.len());
    Ok(dataplane.apply(&plan.ops)?)
}

/// The cluster IP and port of a Service, in Kubernetes' usual range.
fn frontend(index: usize) -> SocketAddrV4 {
    let first = u32::from(Ipv4Addr::new(10, 96, 0, 1));
    let offset = u32::try_from(index).expect("a number of Services");
    SocketAddrV4::new(Ipv4Addr::from(first + offset), 80)
}

/// How long connect() took to the one and to the other. Who is first alternates, so that neither
/// always finds the caches as the other left them.
fn connect_both(
    one: SocketAddrV4,
    other: SocketAddrV4,
    one_first: bool,
) -> anyhow::Result<(f64, f64)> {
    if one_first {
        return Ok((connect(one)?, connect(other)?));
    }
    let other = connect(other)?;
    Ok((connect(one)?, other))
}

/// How long connect() took, in µs.
fn connect(to: SocketAddrV4) -> anyhow::Result<f64> {
    let address = SocketAddr::V4(to);
    let start = Instant::now();
    let stream = TcpStream::connect(address).with_context(|| format!("connect to {to}"))?;
    let took = start.elapsed().as_secs_f64() * 1e6;
    setsockopt(&stream, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 })?;
    Ok(took)
}

/// A listener that accepts and closes, on a thread of its own.
struct Backend {
    address: SocketAddrV4,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Backend {
    fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let SocketAddr::V4(address) = listener.local_addr()? else { bail!("not IPv4") };
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        // A connection that was reset before it is accepted is accepted all the same.
        let accept = move || while listener.accept().is_ok() && !stop.load(Ordering::Acquire) {};
        let thread = std::thread::Builder::new().name("backend".into()).spawn(accept)?;
        Ok(Self { address, stopping, thread: Some(thread) })
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        // Wakes the listener. If it is refused, the listener is over already.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

const WARM_UP: usize = 1000;
const STRIDE: usize = 7919;
