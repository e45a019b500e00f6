//! `make demo` twice in a row: it succeeds, and the machine is as it was.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::server::pintle;

#[test]
#[ignore = "needs root"]
fn two_demos_succeed_and_leave_nothing_behind() {
    let before = machine();
    for run in 1..=2 {
        let outcome = demo(pintle().get_program());
        // What is left behind counts first: a failed run has to clean up too.
        assert_eq!(machine(), before, "run {run} left something behind");
        outcome.unwrap();
    }
}

/// The cluster is killed while it has pods and Services.
#[test]
#[ignore = "needs root"]
fn a_demo_whose_cluster_is_killed_leaves_nothing_behind() {
    let before = machine();
    let dir = tempfile::tempdir().unwrap();
    let wrapper = dir.path().join("pintle");
    let script = "#!/bin/sh
        PINTLE \"$@\" &
        cluster=$!
        n=0
        until grep -q 'packets of the link are translated' \"$9/pintle.log\" 2>/dev/null; do
            n=$((n + 1)); test $n -lt 600 || break; sleep 0.1
        done
        sleep 1
        kill -9 $cluster
        wait $cluster
        ls -d /sys/fs/bpf/pintle/*/node-0 >&2
        exit 1";
    let script = script.replace("PINTLE", &pintle().get_program().to_string_lossy());
    std::fs::write(&wrapper, script).unwrap();
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let error = demo(wrapper.as_os_str()).unwrap_err();
    assert_eq!(machine(), before);
    assert!(!error.contains("left behind"), "{error}");
    // It was there, or there would have been nothing to clean up.
    assert!(error.contains("demo failed") && error.contains("/node-0"), "{error}");
}

/// Run the demo to its end; what it printed, if it failed.
fn demo(pintle: &OsStr) -> Result<(), String> {
    let output = Command::new(demo_binary())
        .arg("--pintle")
        .arg(pintle)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    if output.status.success() && text.contains("connections failed") {
        return Ok(());
    }
    Err(format!("{}\n{text}\n{}", output.status, String::from_utf8_lossy(&output.stderr)))
}

/// Cargo builds the examples with the tests, next to the binary.
fn demo_binary() -> PathBuf {
    Path::new(pintle().get_program()).parent().unwrap().join("examples/demo")
}

/// What the tools of iproute2 show, without counters and ages.
fn machine() -> Vec<String> {
    [&["netns", "list"][..], &["-brief", "link"], &["route", "show", "table", "all"]]
        .iter()
        .map(|args| {
            let output = Command::new("ip").args(*args).output().unwrap();
            assert!(output.status.success(), "ip {args:?}: {output:?}");
            String::from_utf8_lossy(&output.stdout).into_owned()
        })
        .collect()
}
