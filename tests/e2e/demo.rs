//! `make demo` twice in a row: it succeeds, and the machine is as it was.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::server::pintle;

#[test]
#[ignore = "needs root"]
fn two_demos_succeed_and_leave_nothing_behind() {
    let before = machine();
    for run in 1..=2 {
        // Known fault: in about one run of fifteen a node goes on sending some connections to the
        // deleted pod's address for up to a minute. Until that is mended a run may be repeated once;
        // what it leaves behind is never excused.
        let first = demo();
        assert_eq!(machine(), before, "run {run} left something behind");
        if let Err(text) = first {
            eprintln!("run {run} is repeated, because it failed:\n{text}");
            let second = demo();
            assert_eq!(machine(), before, "run {run}, repeated, left something behind");
            second.unwrap();
        }
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
