//! `make demo` twice in a row: it succeeds, and the machine is as it was.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::server::pintle;

#[test]
#[ignore = "needs root"]
fn two_demos_succeed_and_leave_nothing_behind() {
    let before = machine();
    for run in 1..=2 {
        let outcome = demo();
        // What is left behind counts first: a failed run has to clean up too.
        assert_eq!(machine(), before, "run {run} left something behind");
        outcome.unwrap();
    }
}

/// Run the demo to its end; what it printed, if it failed.
fn demo() -> Result<(), String> {
    let output = Command::new(demo_binary())
        .arg("--pintle")
        .arg(pintle().get_program())
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
