//! What a cluster leaves on a machine, if it leaves anything.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// Everything of the kinds that a cluster makes, at one moment.
pub(crate) struct Footprint {
    names: BTreeSet<String>,
}

impl Footprint {
    pub(crate) fn take() -> anyhow::Result<Self> {
        let mut names = BTreeSet::new();
        let mut add = |kind: &str, dir: &Path| -> anyhow::Result<()> {
            for name in list(dir).with_context(|| format!("list {}", dir.display()))? {
                names.insert(format!("{kind} {name}"));
            }
            Ok(())
        };
        add("network namespace", Path::new("/run/netns"))?;
        add("link", Path::new("/sys/class/net"))?;
        add("pinned BPF object", Path::new("/sys/fs/bpf"))?;
        add("pinned tables", Path::new("/sys/fs/bpf/pintle"))?;
        for mount in cgroup2_mounts()? {
            add("cgroup", &mount.join("pintle"))?;
        }
        let routes = fs::read_to_string("/proc/net/route").context("read the routes")?;
        names.extend(routes.lines().skip(1).map(|route| format!("route {route}")));
        for pid in list(Path::new("/proc"))?.iter().filter(|name| name.parse::<u32>().is_ok()) {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            if is_pintle(&stat) {
                names.insert(format!("process {pid}"));
            }
        }
        names.extend(bpf_objects()?);
        Ok(Self { names })
    }

    /// Fail and name what is there now and was not before.
    pub(crate) fn compare(&self, after: &Self) -> anyhow::Result<()> {
        let left: Vec<&String> = after.names.difference(&self.names).collect();
        if !left.is_empty() {
            bail!("left behind: {left:?}");
        }
        Ok(())
    }
}

/// Whether a process, by its `stat`, is a pintle that runs. One that has ended may wait for its parent's
/// parent to notice.
fn is_pintle(stat: &str) -> bool {
    let words = stat.split_once(" (").and_then(|(_, rest)| rest.rsplit_once(") "));
    words.is_some_and(|(name, rest)| name == "pintle" && !rest.starts_with(['Z', 'X']))
}

fn list(dir: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(dir) {
        Ok(entries) => entries
            .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
            .collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn bpf_objects() -> anyhow::Result<BTreeSet<String>> {
    let mut objects = BTreeSet::new();
    for program in aya::programs::loaded_programs() {
        let id = program.context("list the BPF programs")?.id();
        objects.insert(format!("BPF program {id}"));
    }
    for link in aya::programs::loaded_links() {
        let id = link.context("list the BPF links")?.id();
        objects.insert(format!("BPF link {id}"));
    }
    Ok(objects)
}

fn cgroup2_mounts() -> anyhow::Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/mounts").context("read /proc/mounts")?;
    Ok(mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .filter(|fields| fields.get(2) == Some(&"cgroup2"))
        .filter_map(|fields| fields.get(1).map(PathBuf::from))
        .collect())
}
