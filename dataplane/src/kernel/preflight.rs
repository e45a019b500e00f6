//! What must be there before anything is loaded, so that what is missing is said in one line.

use std::fs;
use std::path::Path;

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use super::error::LoadError;

/// Check the process's capabilities, the kernel's BTF and the cgroup's file system.
pub(super) fn check(cgroup: &Path) -> Result<(), LoadError> {
    // A process without /proc finds out when it loads.
    if let Ok(status) = fs::read_to_string("/proc/self/status") {
        check_capabilities(&status)?;
    }
    check_btf(Path::new("/sys/kernel/btf/vmlinux"))?;
    check_cgroup(cgroup)
}

/// Make a cgroup, and those above it, if it is not there: the node agent that keeps its pods in it
/// may start later. Makes nothing outside a cgroup2 file system.
pub(crate) fn make_cgroup(path: &Path) -> Result<(), LoadError> {
    if path.exists() {
        return Ok(());
    }
    if let Some(above) = path.ancestors().find(|above| above.exists()) {
        check_cgroup(above)?;
    }
    fs::create_dir_all(path)
        .map_err(|source| LoadError::OpenCgroup { path: path.to_owned(), source })
}

fn check_capabilities(status: &str) -> Result<(), LoadError> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let Some(effective) = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()) else {
        return Ok(());
    };
    let lacks = |capability: u32| effective & (1 << capability) == 0;
    if !lacks(CAP_SYS_ADMIN) {
        return Ok(());
    }
    let needed = [(CAP_BPF, "CAP_BPF"), (CAP_NET_ADMIN, "CAP_NET_ADMIN")];
    let missing: Vec<&str> =
        needed.into_iter().filter(|(number, _)| lacks(*number)).map(|(_, name)| name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(LoadError::NotPermitted { missing: missing.join(" and ") })
}

fn check_btf(path: &Path) -> Result<(), LoadError> {
    if path.exists() { Ok(()) } else { Err(LoadError::NoBtf { path: path.to_owned() }) }
}

fn check_cgroup(path: &Path) -> Result<(), LoadError> {
    let kind = statfs(path)
        .map_err(|error| LoadError::OpenCgroup { path: path.to_owned(), source: error.into() })?;
    if kind.filesystem_type() == CGROUP2_SUPER_MAGIC {
        Ok(())
    } else {
        Err(LoadError::NotCgroup2 { path: path.to_owned() })
    }
}

// linux/capability.h
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_BPF: u32 = 39;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_asked_for_by_name() {
        let check = |hex: &str| check_capabilities(&format!("Name:\tpintle\nCapEff:\t{hex}\n"));
        check("000001ffffffffff").unwrap();
        check("0000008000001000").unwrap();
        assert_eq!(
            check("0000000000000000").unwrap_err().to_string(),
            "not permitted to load eBPF programs: run as root, or with the capabilities \
             CAP_BPF and CAP_NET_ADMIN"
        );
        assert!(check("0000008000000000").unwrap_err().to_string().ends_with("CAP_NET_ADMIN"));
    }

    #[test]
    fn a_kernel_without_btf_is_named() {
        let error = check_btf(Path::new("/nonexistent/vmlinux")).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/vmlinux is missing"), "{error}");
    }

    #[test]
    fn a_cgroup_must_be_on_cgroup2() {
        let directory = tempfile::tempdir().unwrap();
        let error = check_cgroup(directory.path()).unwrap_err();
        assert!(matches!(error, LoadError::NotCgroup2 { .. }), "{error}");
        let error = make_cgroup(&directory.path().join("a/b")).unwrap_err();
        assert!(matches!(error, LoadError::NotCgroup2 { .. }), "{error}");
        assert!(!directory.path().join("a").exists());
        let error = check_cgroup(&directory.path().join("gone")).unwrap_err().to_string();
        assert!(error.starts_with("open cgroup /"), "{error}");
    }
}
