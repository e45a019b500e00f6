//! Maps and links that outlive the process: pinned in a directory of a bpf file system.
//!
//! ```text
//! /sys/fs/bpf/pintle/CLUSTER/NODE/v5/FRONTENDS, SLOTS, ...     the maps
//!                                   /link_pintle_connect4, ... the attachments
//! ```
//!
//! While a directory is there its programs run, whether or not a process keeps its tables. A process
//! that starts takes over the maps and lets the links run its own programs, one by one and each in
//! one step, so that no socket call finds no program. The name of the last directory is the layout
//! of the maps: after an upgrade that changes it the new process fills maps of its own, attaches,
//! and removes the old directory when its tables are whole.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount, umount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

/// Where one node's maps and links are pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pins {
    node: PathBuf,
}

/// The pins could not be reached.
#[derive(Debug, thiserror::Error)]
#[error("{act} {}", path.display())]
pub struct PinsError {
    act: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl Pins {
    /// The pins of `node`, a node of `cluster`: each name a file name of its own.
    #[must_use]
    pub fn of(cluster: &str, node: &str) -> Self {
        Self { node: Path::new(BPF_FS).join(DIRECTORY).join(cluster).join(node) }
    }

    /// All nodes that have pins on this machine; none if this process may not look.
    #[must_use]
    pub fn list() -> Vec<Self> {
        Self::try_list().unwrap_or_default()
    }

    /// All nodes that have pins on this machine.
    pub fn try_list() -> Result<Vec<Self>, PinsError> {
        let list = |path: &Path| match fs::read_dir(path) {
            Ok(entries) => {
                let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
                paths.sort();
                Ok(paths)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(failed("look into", path)(error)),
        };
        let mut nodes = Vec::new();
        for cluster in list(&Path::new(BPF_FS).join(DIRECTORY))? {
            nodes.extend(list(&cluster)?.into_iter().map(|node| Self { node }));
        }
        Ok(nodes)
    }

    /// Remove those of all nodes of `cluster`, as [`Pins::remove`] does.
    pub fn remove_cluster(cluster: &str) -> Result<(), PinsError> {
        let nodes = Self::try_list()?.into_iter().filter(|pins| pins.names().0 == cluster);
        nodes.map(|pins| pins.remove()).fold(Ok(()), Result::and)
    }

    /// The directory of the node.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.node
    }

    /// The cluster's and the node's name.
    #[must_use]
    pub fn names(&self) -> (String, String) {
        let name = |path: Option<&Path>| {
            let name = path.and_then(Path::file_name).unwrap_or_default();
            name.to_string_lossy().into_owned()
        };
        (name(self.node.parent()), name(Some(&self.node)))
    }

    /// Whether there is anything of this layout.
    #[must_use]
    pub fn exist(&self) -> bool {
        self.layout().join("FRONTENDS").exists()
    }

    /// Remove them: the links detach their programs, and with the last user the maps go. Removes the
    /// directories above too if they are empty then. What is not there is fine.
    pub fn remove(&self) -> Result<(), PinsError> {
        remove_tree(&self.node)?;
        for above in self.node.ancestors().skip(1).take_while(|path| *path != Path::new(BPF_FS)) {
            if fs::remove_dir(above).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Unmount the bpf file system if an earlier [`Pins`] mounted it and nothing is pinned in it. Returns
    /// whether it was.
    pub fn unmount() -> Result<bool, PinsError> {
        let path = Path::new(BPF_FS);
        let mounts = fs::read_to_string("/proc/self/mountinfo")
            .map_err(failed("read", Path::new("/proc/self/mountinfo")))?;
        // The kernel itself may put two files there when it is mounted (CONFIG_BPF_PRELOAD).
        let is_preloaded = |entry: &fs::DirEntry| {
            ["maps.debug", "progs.debug"].iter().any(|name| entry.file_name() == *name)
        };
        let is_empty = fs::read_dir(path)
            .is_ok_and(|entries| entries.flatten().all(|entry| is_preloaded(&entry)));
        if !is_empty || !is_mounted_by_us(&mounts) {
            return Ok(false);
        }
        umount(path).map_err(|error| failed("unmount", path)(error.into()))?;
        Ok(true)
    }

    /// The directory of this layout, made if need be, on a file system that can hold it.
    pub(super) fn make(&self) -> Result<PathBuf, PinsError> {
        mount_bpf_fs()?;
        let path = self.layout();
        fs::create_dir_all(&path).map_err(failed("make", &path))?;
        Ok(path)
    }

    pub(super) fn layout(&self) -> PathBuf {
        self.node.join(LAYOUT)
    }

    /// Remove what other versions of this program have left, now that this one does their work.
    pub(super) fn remove_other_layouts(&self) -> Result<(), PinsError> {
        let entries = fs::read_dir(&self.node).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()).filter(|path| !path.ends_with(LAYOUT)) {
            tracing::info!(path = %path.display(), "removing the pins of another version");
            remove_tree(&path)?;
        }
        Ok(())
    }
}

fn remove_tree(path: &Path) -> Result<(), PinsError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

fn mount_bpf_fs() -> Result<(), PinsError> {
    let path = Path::new(BPF_FS);
    let kind = statfs(path).map_err(|error| failed("look at", path)(error.into()))?;
    if kind.filesystem_type() == BPF_FS_MAGIC {
        return Ok(());
    }
    mount(Some(MOUNT_SOURCE), path, Some("bpf"), MsFlags::empty(), Some("mode=700"))
        .map_err(|error| failed("mount a bpf file system at", path)(error.into()))?;
    tracing::info!(path = BPF_FS, "mounted a bpf file system, of which there was none");
    Ok(())
}

/// Whether the mount on top at [`BPF_FS`] bears our name.
fn is_mounted_by_us(mountinfo: &str) -> bool {
    let on_top = mountinfo.lines().rfind(|line| line.split(' ').nth(4) == Some(BPF_FS));
    let kind = on_top.and_then(|line| line.split_once(" - "));
    kind.is_some_and(|(_, kind)| kind.split(' ').take(2).eq(["bpf", MOUNT_SOURCE]))
}

fn failed(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PinsError {
    let path = path.to_owned();
    move |source| PinsError { act, path, source }
}

/// Where bpf file systems are mounted by convention.
const BPF_FS: &str = "/sys/fs/bpf";
const DIRECTORY: &str = "pintle";
/// What a file system that we have mounted calls its device, so that it is known as ours.
const MOUNT_SOURCE: &str = "pintle";

/// Changes with any key or value of a map.
const LAYOUT: &str = "v5";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_of_ours_is_known_by_its_name() {
        let line = |path: &str, kind: &str, source: &str| {
            format!("52 29 0:40 / {path} rw,relatime shared:1 - {kind} {source} rw,mode=700\n")
        };
        let ours = line(BPF_FS, "bpf", MOUNT_SOURCE);
        assert!(is_mounted_by_us(&ours));
        let theirs = line(BPF_FS, "bpf", "bpf");
        assert!(!is_mounted_by_us(&theirs));
        assert!(!is_mounted_by_us(&format!("{ours}{theirs}")), "the one on top counts");
        assert!(is_mounted_by_us(&format!("{theirs}{ours}{}", line("/sys", "sysfs", "sysfs"))));
        assert!(!is_mounted_by_us(&line("/mnt", "bpf", MOUNT_SOURCE)));
        assert!(!is_mounted_by_us(""));
    }
}
