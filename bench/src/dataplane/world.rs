//! Where a mode is measured: a pod, its node, a node of peers with all endpoints, and a client outside.
//!
//! ```text
//! pod 10.244.0.2 ── cni0 ┐
//!             10.244.0.1 │ node ── eth0 198.51.100.1 ── 198.51.100.2 peer, endpoints 10.128.0.0/10
//! outside 192.0.2.2 ─────┘
//!    eth1 192.0.2.1
//! ```
//!
//! Each mode has a world of its own, so that nothing of one is in the way of another and they can be
//! measured in turn. They differ in nothing but the mode.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use pintle_node::cgroup::{self, Cgroup};
use pintle_node::{NetNs, set_sysctl};

use super::cluster::{ENDPOINT_PORT, ENDPOINTS};
use super::server::Server;

/// A mode's namespaces, cgroup and server. Dropping it removes them.
pub(super) struct World {
    pub(super) node: NetNs,
    pub(super) pod: NetNs,
    pub(super) outside: NetNs,
    peer: NetNs,
    /// Of the processes that the Services are for.
    pub(super) cgroup: Cgroup,
    home: Cgroup,
    server: Option<Server>,
}

impl World {
    /// `name` tells it from the others of this process.
    pub(super) fn make(name: &str) -> anyhow::Result<Self> {
        let prefix = format!("{PREFIX}{}-{name}", std::process::id());
        let root = cgroup::find_or_mount()?;
        let namespace = |role: &str| NetNs::create(&format!("{prefix}-{role}"));
        let mut world = Self {
            node: namespace("node")?,
            pod: namespace("pod")?,
            outside: namespace("outside")?,
            peer: namespace("peer")?,
            cgroup: Cgroup::at(root.join(&prefix)),
            home: Cgroup::at(root.join(own_cgroup()?)),
            server: None,
        };
        world.cgroup.create()?;
        world.lay_out().context("lay out the network")?;
        world.server = Some(Server::start(&world.peer, ENDPOINT_PORT)?);
        Ok(world)
    }

    /// From now on this process's sockets are those of a pod.
    pub(super) fn enter(&self) -> anyhow::Result<()> {
        Ok(self.cgroup.join()?)
    }

    /// Go back to where this process came from.
    pub(super) fn leave(&self) -> anyhow::Result<()> {
        Ok(self.home.join()?)
    }

    fn namespaces(&self) -> [&NetNs; 4] {
        [&self.node, &self.pod, &self.outside, &self.peer]
    }

    fn lay_out(&self) -> anyhow::Result<()> {
        for namespace in self.namespaces() {
            // What it sends of itself is noise.
            set_sysctl(Some(namespace), "net/ipv6/conf/all/disable_ipv6", "1")?;
            set_sysctl(Some(namespace), "net/ipv6/conf/default/disable_ipv6", "1")?;
        }
        set_sysctl(Some(&self.node), "net/ipv4/ip_forward", "1")?;
        // The clients reset their connections; conntrack would keep each for ten seconds more.
        set_sysctl(Some(&self.node), "net/netfilter/nf_conntrack_tcp_timeout_close", "1")?;
        let [node, pod, outside, peer] = self.namespaces().map(NetNs::name);
        let lines = LAYOUT
            .replace("NODE", node)
            .replace("POD", pod)
            .replace("OUTSIDE", outside)
            .replace("PEER", peer)
            .replace("ENDPOINTS", ENDPOINTS);
        for line in lines.lines().filter(|line| !line.is_empty()) {
            ip(line)?;
        }
        Ok(())
    }
}

impl Drop for World {
    /// Nothing more can be done about what cannot be removed; the next run's [`sweep`] tries again.
    fn drop(&mut self) {
        let _ = self.home.join();
        drop(self.server.take());
        let _ = std::fs::remove_dir(self.cgroup.path());
        for namespace in self.namespaces() {
            let _ = namespace.delete();
        }
    }
}

/// Remove what runs that were killed have left.
pub(super) fn sweep() -> anyhow::Result<()> {
    let is_over = |name: &str| {
        let number = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        number.is_some_and(|number| !PathBuf::from("/proc").join(number).exists())
    };
    for namespace in NetNs::list(PREFIX)?.into_iter().filter(|one| is_over(one.name())) {
        namespace.delete()?;
    }
    let Some(root) = cgroup::find() else { return Ok(()) };
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(is_over) {
            // It fails while something is in it, which then is still at work.
            let _ = std::fs::remove_dir(entry.path());
        }
    }
    Ok(())
}

pub(super) fn ip(arguments: &str) -> anyhow::Result<()> {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .stdin(Stdio::null())
        .output()
        .context("run ip (of iproute2)")?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {arguments}: {}", error.trim());
    Ok(())
}

/// This process's cgroup v2, relative to the mount.
fn own_cgroup() -> anyhow::Result<String> {
    let text = std::fs::read_to_string("/proc/self/cgroup").context("read /proc/self/cgroup")?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"));
    Ok(path.context("this process is in no cgroup v2")?.to_owned())
}

/// The node's address towards the client outside.
pub(super) const NODE_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The pods of the cluster that are not on the peer.
pub(super) const POD_CIDR: &str = "10.244.0.0/16";
const PREFIX: &str = "pintle-bench-";

const LAYOUT: &str = "
-n NODE link set lo up
-n NODE link add cni0 type bridge
-n NODE address add 10.244.0.1/24 dev cni0
-n NODE link add veth0 type veth peer name eth0 netns POD
-n NODE link add eth0 type veth peer name eth0 netns PEER
-n NODE link add eth1 type veth peer name eth0 netns OUTSIDE
-n NODE address add 198.51.100.1/24 dev eth0
-n NODE address add 192.0.2.1/24 dev eth1
-n NODE link set veth0 master cni0
-n NODE link set cni0 up
-n NODE link set veth0 up
-n NODE link set eth0 up
-n NODE link set eth1 up
-n POD link set lo up
-n POD address add 10.244.0.2/24 dev eth0
-n POD link set eth0 up
-n POD route add default via 10.244.0.1
-n OUTSIDE link set lo up
-n OUTSIDE address add 192.0.2.2/24 dev eth0
-n OUTSIDE link set eth0 up
-n OUTSIDE route add default via 192.0.2.1
-n PEER link set lo up
-n PEER address add 198.51.100.2/24 dev eth0
-n PEER link set eth0 up
-n PEER route add default via 198.51.100.1
-n PEER route add local ENDPOINTS dev lo
-n NODE route add ENDPOINTS via 198.51.100.2
-n NODE route add default via 198.51.100.2
";
