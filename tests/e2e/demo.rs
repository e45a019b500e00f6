//! `make demo` twice in a row: it succeeds, and the machine is as it was.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::server::pintle;

#[test]
#[ignore = "needs root"]
fn two_demos_succeed_and_leave_nothing_behind() {
    let before = machine();
    for run in 1..=2 {
        let output = Command::new(demo_binary())
            .arg("--pintle")
            .arg(pintle().get_program())
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "run {run}: {}\n{text}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(text.contains("connections failed"), "run {run} printed no table:\n{text}");
        assert_eq!(machine(), before, "run {run} left something behind");
    }
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
