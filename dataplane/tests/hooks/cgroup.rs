//! A cgroup of one test, removed at its end.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A new, empty cgroup v2 directory.
pub(crate) struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Make one below the cgroup2 mount's root.
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("pintle-dataplane-test-{}-{number}", std::process::id());
        Self::at(&pintle_node::cgroup::find_or_mount().unwrap().join(name))
    }

    /// Make one below this one.
    pub(crate) fn child(&self, name: &str) -> Self {
        Self::at(&self.path.join(name))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn at(path: &Path) -> Self {
        fs::create_dir(path).unwrap_or_else(|error| panic!("make {}: {error}", path.display()));
        Self { path: path.to_owned() }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A process that was killed leaves its cgroup a moment later.
        for _ in 0..100 {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        eprintln!("left behind: {}", self.path.display());
    }
}
