//! The machine that a result was measured on.

use std::fs;
use std::process::Command;

use serde::Serialize;

/// What the reader of a figure needs to know of the machine.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Host {
    cpu: String,
    cores: usize,
    kernel: String,
    memory_bytes: u64,
}

impl Host {
    /// Read this machine. What cannot be read is empty or 0.
    pub(crate) fn read() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let total = field(&meminfo, "MemTotal").split(' ').next().unwrap_or_default();
        Self {
            cpu: field(&cpuinfo, "model name").to_owned(),
            cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            kernel: kernel.trim().to_owned(),
            memory_bytes: total.parse::<u64>().unwrap_or(0) * 1024,
        }
    }

    /// The machine's own name, for a directory.
    pub(crate) fn name() -> String {
        let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let clean: String = name.trim().chars().filter(char::is_ascii_alphanumeric).collect();
        if clean.is_empty() { "host".to_owned() } else { clean }
    }
}

/// The commit that the binary's directory is at, with `-dirty` where files differ; empty outside of
/// a checkout.
pub(crate) fn commit() -> String {
    let output =
        Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=12"]).output();
    match output {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => String::new(),
    }
}

fn field<'a>(text: &'a str, name: &str) -> &'a str {
    text.lines()
        .find_map(|line| line.split_once(':').filter(|(key, _)| key.trim() == name))
        .map_or("", |(_, value)| value.trim())
}
