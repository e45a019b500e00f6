//! kube-proxy's modes: the rules it writes, loaded by the tools it loads them with.
//!
//! The rules are those of `pkg/proxy/iptables` and `pkg/proxy/nftables` of Kubernetes 1.35 for Services
//! of the policy Cluster, without comments, as kube-proxy writes them in large clusters. kube-proxy's
//! own work (to list, compute and format) is left out of the times, in its favour.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use pintle_node::NetNs;

use super::cluster::Cluster;
use super::{iptables, nftables};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Iptables,
    Nftables,
}

/// Rules in a node's namespace. They go with it.
pub(super) struct Netfilter {
    kind: Kind,
    node: NetNs,
    cluster: Cluster,
}

impl Netfilter {
    /// Load the rules for all Services; `None` if that takes longer than `limit`.
    pub(super) fn program(
        kind: Kind,
        node: &NetNs,
        cluster: Cluster,
        limit: Duration,
    ) -> anyhow::Result<Option<(Self, Duration)>> {
        let rules = match kind {
            Kind::Iptables => iptables::all(cluster),
            Kind::Nftables => nftables::all(cluster),
        };
        let netfilter = Self { kind, node: node.clone(), cluster };
        let took = netfilter.load(rules, limit)?;
        Ok(took.map(|took| (netfilter, took)))
    }

    /// One Service's first endpoint is another one; `None` if that takes longer than `limit`.
    pub(super) fn change(
        &self,
        service: usize,
        turn: usize,
        limit: Duration,
    ) -> anyhow::Result<Option<Duration>> {
        let rules = match self.kind {
            Kind::Iptables => iptables::change(self.cluster, service, turn),
            Kind::Nftables => nftables::change(self.cluster, service, turn),
        };
        self.load(rules, limit)
    }

    /// Give rules to the tool, and wait until it is done.
    fn load(&self, rules: String, limit: Duration) -> anyhow::Result<Option<Duration>> {
        let (tool, arguments): (_, &[&str]) = match self.kind {
            Kind::Iptables => (find(IPTABLES), &["--noflush"]),
            Kind::Nftables => (find(NFT), &["-f", "-"]),
        };
        let tool = tool.context("the tool that was there is gone")?;
        let start = Instant::now();
        let mut child = self.node.run_in(|| {
            Command::new(&tool)
                .args(arguments)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
        })??;
        let mut stdin = child.stdin.take().context("the tool reads no rules")?;
        // If it ends before it has read them, its own words say why.
        let writer = std::thread::spawn(move || stdin.write_all(rules.as_bytes()));
        let done = wait(&mut child, start + limit);
        let _ = writer.join();
        let took = start.elapsed();
        match done? {
            None => Ok(None),
            Some(true) => Ok(Some(took)),
            Some(false) => {
                let mut said = String::new();
                child.stderr.take().map(|mut stderr| stderr.read_to_string(&mut said));
                let said = said.lines().next().unwrap_or_default();
                bail!("{} refused the rules: {said}", tool.display())
            }
        }
    }
}

/// Whether it succeeded; `None` if it was not done in time, and was killed.
fn wait(child: &mut Child, until: Instant) -> anyhow::Result<Option<bool>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status.success()));
        }
        if Instant::now() > until {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// What is to be installed, if no tool is there.
pub(super) fn missing(tools: &[&str], package: &str) -> Option<String> {
    let tool = tools.first().copied().unwrap_or_default();
    find(tools).is_none().then(|| format!("{tool} is not installed (package {package})"))
}

/// The first of them that is installed.
pub(super) fn find(tools: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    places.extend(["/usr/sbin", "/sbin"].map(|place| Path::new(place).to_owned()));
    let at = |tool: &&str| places.iter().map(|place| place.join(tool)).find(|path| path.exists());
    tools.iter().find_map(at)
}

/// The kernel's own iptables before the one that is translated to nftables: it loads many rules in
/// seconds where the other takes minutes, and looks them up no slower.
pub(super) const IPTABLES: &[&str] = &["iptables-legacy-restore", "iptables-restore"];
pub(super) const NFT: &[&str] = &["nft"];
