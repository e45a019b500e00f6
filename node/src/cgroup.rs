//! Control groups, version 2 (the kernel's Documentation/admin-guide/cgroup-v2.rst).
//!
//! A machine may keep its controllers in version 1 and mount version 2 beside it without any: then
//! processes are grouped, killed and matched by eBPF hooks all the same, but not limited.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::mount::{MsFlags, mount, umount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::ClusterId;

/// Why a cgroup could not be made, changed or removed.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// Processes would not die.
    #[error("remove cgroup {}: {processes} processes in it do not die", path.display())]
    Busy {
        /// The cgroup.
        path: PathBuf,
        /// How many are left.
        processes: usize,
    },
    /// A file of the cgroup file system refused.
    #[error("{act} cgroup {}", path.display())]
    Io {
        /// What was tried.
        act: String,
        /// The cgroup.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The limit needs a controller that this cgroup does not have.
    #[error(
        "limit {controller} of cgroup {}: cgroup2 has no {controller} controller here",
        path.display()
    )]
    NoController {
        /// `cpu` or `memory`.
        controller: &'static str,
        /// The cgroup.
        path: PathBuf,
    },
    /// There is no cgroup2 file system, and none could be mounted.
    #[error("mount cgroup2 at {}: none is mounted on this machine", path.display())]
    NoMount {
        /// Where it was tried.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// A directory of the cgroup2 file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    path: PathBuf,
}

/// Where the cgroup2 file system is mounted; mounts it where there is none, and says so.
pub fn find_or_mount() -> Result<PathBuf, CgroupError> {
    if let Some(path) = find() {
        return Ok(path);
    }
    let path = PathBuf::from(OWN_MOUNT);
    let failed = |source: io::Error| CgroupError::NoMount { path: path.clone(), source };
    fs::create_dir_all(&path).map_err(failed)?;
    mount(Some("cgroup2"), &path, Some("cgroup2"), MsFlags::empty(), None::<&str>)
        .map_err(|errno| failed(errno.into()))?;
    tracing::info!(path = %path.display(), "mounted cgroup2, which this machine had nowhere");
    Ok(path)
}

/// Where the cgroup2 file system is mounted, if it is.
#[must_use]
pub fn find() -> Option<PathBuf> {
    parse_mounts(&fs::read_to_string("/proc/mounts").ok()?)
}

fn parse_mounts(mounts: &str) -> Option<PathBuf> {
    let mut found = None;
    for line in mounts.lines() {
        let mut fields = line.split(' ');
        let (Some(_), Some(target), Some("cgroup2")) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        // A blank in a path is written as \040.
        let path = PathBuf::from(target.replace("\\040", " "));
        if path.starts_with("/sys/fs/cgroup") {
            return Some(path);
        }
        found.get_or_insert(path);
    }
    found
}

/// The cgroup of a node: `<cgroup2>/pintle/<cluster-id>/<node-name>`. Made if it is not there; its
/// children may be limited as far as the controllers are there.
pub fn node(id: &ClusterId, node_name: &str) -> Result<Cgroup, CgroupError> {
    let root = find_or_mount()?;
    let own = Cgroup { path: root.join(OWN_NAME) };
    let cluster = own.child(id.as_str());
    let node = cluster.child(node_name);
    Cgroup { path: root }.delegate();
    for cgroup in [&own, &cluster, &node] {
        cgroup.create()?;
        cgroup.delegate();
    }
    Ok(node)
}

/// Kill the processes of all nodes of a cluster and remove their cgroups; how many there were.
pub async fn remove_cluster(id: &ClusterId) -> Result<usize, CgroupError> {
    let Some(root) = find() else { return Ok(0) };
    let own = Cgroup { path: root.join(OWN_NAME) };
    let removed = own.child(id.as_str()).remove_tree().await?;
    // Another cluster may live on beside it; the last one takes the mount away that was made here.
    if fs::remove_dir(own.path()).is_ok() && root == Path::new(OWN_MOUNT) {
        let _ = umount(&root);
    }
    Ok(removed)
}

impl Cgroup {
    /// The cgroup at a path, whether or not it is there.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The cgroup of that name in this one, whether or not it is there.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        Self { path: self.path.join(name) }
    }

    /// Make it, if it is not there.
    pub fn create(&self) -> Result<(), CgroupError> {
        fs::create_dir_all(&self.path).map_err(|source| self.failed("create", source))
    }

    /// Let children be limited by `cpu` and `memory`, as far as this cgroup has the controllers.
    pub fn delegate(&self) {
        for controller in self.controllers().iter().filter(|it| LIMITED.contains(&it.as_str())) {
            let file = self.path.join("cgroup.subtree_control");
            if let Err(error) = fs::write(&file, format!("+{controller}")) {
                tracing::debug!(path = %file.display(), controller, %error, "not delegated");
            }
        }
    }

    /// The controllers that may be used in this cgroup.
    #[must_use]
    pub fn controllers(&self) -> BTreeSet<String> {
        let text = self.read("cgroup.controllers").unwrap_or_default();
        text.split_whitespace().map(str::to_owned).collect()
    }

    /// Move a process into it.
    pub fn add(&self, pid: u32) -> Result<(), CgroupError> {
        self.write(&format!("move process {pid} to"), "cgroup.procs", &pid.to_string())
    }

    /// Move the calling process into it.
    pub fn join(&self) -> Result<(), CgroupError> {
        self.write("join", "cgroup.procs", "0")
    }

    /// The most memory its processes may hold, in bytes.
    pub fn set_memory_max(&self, bytes: u64) -> Result<(), CgroupError> {
        self.limit("memory", "memory.max", &bytes.to_string())
    }

    /// The most CPU time its processes may use together, in thousandths of a CPU.
    pub fn set_cpu_max(&self, milli_cpu: u64) -> Result<(), CgroupError> {
        // The kernel takes no quota under 1 ms.
        let quota_us = (milli_cpu * CPU_PERIOD_US / 1000).max(1000);
        self.limit("cpu", "cpu.max", &format!("{quota_us} {CPU_PERIOD_US}"))
    }

    /// Their share of the CPU when it is short, 1 to 10000 (100 is the kernel's default).
    pub fn set_cpu_weight(&self, weight: u64) -> Result<(), CgroupError> {
        self.limit("cpu", "cpu.weight", &weight.clamp(1, 10_000).to_string())
    }

    fn limit(&self, controller: &'static str, file: &str, value: &str) -> Result<(), CgroupError> {
        if !self.path.join(file).exists() {
            return Err(CgroupError::NoController { controller, path: self.path.clone() });
        }
        self.write(&format!("set {file} to {value} in"), file, value)
    }

    /// How often the kernel killed a process of it for lack of memory; 0 without the controller.
    #[must_use]
    pub fn oom_kills(&self) -> u64 {
        let events = self.read("memory.events").unwrap_or_default();
        let count = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    }

    /// The processes in it and below; a cgroup that is not there has none.
    #[must_use]
    pub fn processes(&self) -> Vec<i32> {
        let mut found = Vec::new();
        for cgroup in self.descendants() {
            let text = cgroup.read("cgroup.procs").unwrap_or_default();
            // 0 is a process of another pid namespace, which cannot be named here.
            let pids = text.lines().filter_map(|line| line.parse::<i32>().ok());
            found.extend(pids.filter(|&pid| pid > 0));
        }
        found
    }

    /// Send SIGKILL to every process in it and below.
    pub fn kill(&self) -> Result<(), CgroupError> {
        match fs::write(self.path.join("cgroup.kill"), "1") {
            Ok(()) => Ok(()),
            // Before Linux 5.14 there is no cgroup.kill; and none where the cgroup is gone.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.kill_each();
                Ok(())
            }
            Err(source) => Err(self.failed("kill the processes of", source)),
        }
    }

    fn kill_each(&self) {
        for pid in self.processes() {
            // ESRCH: it died on its own in the meantime.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }

    /// Kill its processes and remove it with all below; how many cgroups there were.
    pub async fn remove_tree(&self) -> Result<usize, CgroupError> {
        if !self.path.exists() {
            return Ok(0);
        }
        self.kill()?;
        let mut waited = Duration::ZERO;
        loop {
            let tree = self.descendants();
            let blocked = tree.iter().rev().find_map(|cgroup| remove_dir(&cgroup.path).err());
            let Some(error) = blocked else { return Ok(tree.len()) };
            // EBUSY: killed processes leave a moment after the signal; new ones may be there.
            if error.raw_os_error() != Some(nix::errno::Errno::EBUSY as i32) {
                return Err(self.failed("remove", error));
            }
            if waited >= REMOVE_TIMEOUT {
                let processes = self.processes().len();
                return Err(CgroupError::Busy { path: self.path.clone(), processes });
            }
            tokio::time::sleep(REMOVE_POLL).await;
            waited += REMOVE_POLL;
            self.kill()?;
        }
    }

    /// This cgroup and all below it, parents first.
    fn descendants(&self) -> Vec<Self> {
        let mut found = vec![self.clone()];
        let mut next = 0;
        while let Some(cgroup) = found.get(next) {
            let entries = fs::read_dir(&cgroup.path).into_iter().flatten().flatten();
            let children: Vec<_> = entries
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| Self { path: entry.path() })
                .collect();
            found.extend(children);
            next += 1;
        }
        found
    }

    fn read(&self, file: &str) -> io::Result<String> {
        fs::read_to_string(self.path.join(file))
    }

    fn write(&self, act: &str, file: &str, value: &str) -> Result<(), CgroupError> {
        fs::write(self.path.join(file), value).map_err(|source| self.failed(act, source))
    }

    fn failed(&self, act: &str, source: io::Error) -> CgroupError {
        CgroupError::Io { act: act.to_owned(), path: self.path.clone(), source }
    }
}

fn remove_dir(path: &Path) -> io::Result<()> {
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What our own part of the tree is called.
const OWN_NAME: &str = "pintle";
/// Where cgroup2 is mounted if it is nowhere.
const OWN_MOUNT: &str = "/run/pintle/cgroup2";
/// The controllers whose limits are used.
const LIMITED: [&str; 2] = ["cpu", "memory"];
/// The kubelet's `cpuCFSQuotaPeriod` default, 100 ms.
const CPU_PERIOD_US: u64 = 100_000;
/// A process in uninterruptible sleep may take long to die; longer than this needs a person.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(10);
const REMOVE_POLL: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests;
