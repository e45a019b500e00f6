//! `pintle bench agreement`: the scheduler of the daemon, over the API, held to the reference.

use std::process::Stdio;

use serde_json::Value;

use crate::server::pintle;

#[test]
fn the_daemons_scheduler_decides_as_the_reference_does() {
    let output = pintle()
        .args(["bench", "agreement", "--seed=7", "--clusters=3", "--pods=30", "-o", "json"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let count = |metric: &str| {
        let results = report["results"].as_array().unwrap();
        let of_metric = results.iter().find(|outcome| outcome["metric"] == metric);
        of_metric.unwrap_or_else(|| panic!("no {metric}: {report}"))["value"].as_f64().unwrap()
    };
    assert!(count("bound_to_a_best_node") > 20.0, "{report}");
    assert!(count("unschedulable_in_the_same_words") > 5.0, "{report}");
    assert_eq!(count("differ"), 0.0, "{report}\n{said}");
}

/// A scheduler that is none: every decision is missing, and that is said.
#[test]
fn a_scheduler_that_ends_is_an_error() {
    let output = pintle()
        .args(["bench", "agreement", "--clusters=1", "--pods=1"])
        .args(["--scheduler-command", "echo no such profile; exit 3"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("the scheduler ended") && said.contains("no such profile"), "{said}");
}
