//! Kernel settings under `/proc/sys/net`, which are the calling thread's namespace's own.

use std::fs;
use std::path::Path;

use crate::{NetNs, NetworkError};

/// Write `value` to `/proc/sys/NAME` (for example `net/ipv4/ip_forward`) as `namespace` sees it, or
/// as this thread does.
pub fn set_sysctl(namespace: Option<&NetNs>, name: &str, value: &str) -> Result<(), NetworkError> {
    let write = || fs::write(Path::new("/proc/sys").join(name), value);
    let written = match namespace {
        Some(namespace) => namespace.run_in(write)?,
        None => write(),
    };
    written.map_err(|source| NetworkError::io(format!("set sysctl {name} to {value}"), source))
}
