//! What a kubelet is told at its start.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;

use pintle_node::cgroup::Cgroup;
use pintle_node::{Ipv4Net, NodeNetwork};

/// How containers are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuntimeKind {
    /// Not at all: their status says that they run. For scale.
    Hollow,
    /// Each container's command as a process of this machine; needs root.
    Process,
}

impl FromStr for RuntimeKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "hollow" => Ok(Self::Hollow),
            "process" => Ok(Self::Process),
            other => Err(format!("runtime must be process or hollow, not {other:?}")),
        }
    }
}

/// The resources of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// In thousandths of a CPU.
    pub milli_cpu: u64,
    /// In bytes.
    pub memory_bytes: u64,
    /// Local disk, in bytes.
    pub ephemeral_storage_bytes: u64,
    /// How many pods may be bound to it.
    pub pods: u32,
}

/// What the `process` runtime needs beside the rest.
#[derive(Clone, Debug)]
pub struct ProcessConfig {
    /// The node's network, where pods get their namespaces.
    pub network: NodeNetwork,
    /// The node's cgroup, from [`pintle_node::cgroup::node`]; pods are made below it.
    pub cgroup: Cgroup,
    /// Logs of containers go to `<root_dir>/pods/<namespace>_<name>_<uid>/`.
    pub root_dir: PathBuf,
    /// The `pintle` binary, whose `runtime-exec` starts containers; its directory comes first in
    /// their `PATH`.
    pub executable: PathBuf,
}

/// One kubelet.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of the node, also its `kubernetes.io/hostname`.
    pub node_name: String,
    /// `InternalIP`. With the `process` runtime it is the network's own.
    pub node_ip: Ipv4Addr,
    /// The resources that the node offers.
    pub capacity: Capacity,
    /// Registered as the node's `spec.podCIDR`; `None` leaves it to the node IPAM controller.
    pub pod_cidr: Option<Ipv4Net>,
    /// Labels beside `kubernetes.io/hostname`, `kubernetes.io/os` and `kubernetes.io/arch`.
    pub labels: Vec<(String, String)>,
    /// How containers run.
    pub runtime: Runtime,
}

/// A runtime with what it needs.
#[derive(Clone, Debug)]
pub enum Runtime {
    /// [`RuntimeKind::Hollow`].
    Hollow,
    /// [`RuntimeKind::Process`].
    Process(ProcessConfig),
}

impl Capacity {
    /// What this machine has; pods as Kubernetes' default.
    pub fn of_machine(root_dir: &std::path::Path) -> std::io::Result<Self> {
        let cpus = std::thread::available_parallelism()?.get() as u64;
        let memory_bytes = memory_bytes(&std::fs::read_to_string("/proc/meminfo")?)
            .ok_or_else(|| std::io::Error::other("/proc/meminfo has no MemTotal"))?;
        let disk = nix::sys::statvfs::statvfs(root_dir)?;
        Ok(Self {
            milli_cpu: cpus * 1000,
            memory_bytes,
            ephemeral_storage_bytes: disk.blocks() * disk.fragment_size(),
            pods: PODS_MAX,
        })
    }
}

fn memory_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The kubelet's `maxPods` default.
pub const PODS_MAX: u32 = 110;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        assert_eq!(memory_bytes("MemTotal:       24689268 kB\nMemFree: 1 kB\n"), Some(25281810432));
        assert_eq!(memory_bytes("MemFree: 1 kB\n"), None);
    }
}
