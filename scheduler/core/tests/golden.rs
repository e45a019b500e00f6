//! Every wording of FailedScheduling, each on a small cluster that `pintle simulate` reads too.
//!
//! `golden/NAME.yaml` is the cluster, its first line says where the wording comes from upstream;
//! `golden/NAME.txt` is what is said of each pod that gets no node. With `UPDATE=1` the latter are
//! written anew: read the difference against upstream before it is kept.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use pintle_scheduler_core::explain::{Cluster, Simulation};
use pintle_scheduler_core::framework::{Profile, Profiles};

/// The reasons as kubernetes 1.35 has them, typed off its sources and not off our output.
const WORDINGS: &[&str] = &[
    "no nodes available to schedule pods",
    "Insufficient cpu",
    "Insufficient memory",
    "Insufficient ephemeral-storage",
    "Insufficient example.com/gpu",
    "Too many pods",
    "node(s) were unschedulable",
    "node(s) had untolerated taint(s)",
    "node(s) didn't match Pod's node affinity/selector",
    "node(s) didn't satisfy plugin(s) [NodeAffinity]",
    "pod affinity terms conflict",
    "node(s) didn't have free ports for the requested pod ports",
    "node(s) had no available disk",
    "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode",
    "node(s) exceed max volume count",
    "persistentvolumeclaim \"gone\" not found",
    "pod has unbound immediate PersistentVolumeClaims",
    "node(s) didn't find available persistent volumes to bind",
    "node(s) had volume node affinity conflict",
    "node(s) did not have enough free storage",
    "persistentvolume \"gone\" not found",
    "node(s) had no available volume zone",
    "node(s) didn't match pod topology spread constraints",
    "node(s) didn't match pod topology spread constraints (missing required label)",
    "node(s) didn't match pod affinity rules",
    "node(s) didn't match pod anti-affinity rules",
    "node(s) didn't satisfy existing pods anti-affinity rules",
    "cannot allocate all claims",
    "resourceclaim not available on the node",
    "preemption: not eligible due to preemptionPolicy=Never.",
    "No preemption victims found for incoming pod",
    "Preemption is not helpful for scheduling",
];

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// By name, what is said of the pods of each file.
fn said() -> BTreeMap<String, String> {
    let profiles = Profiles::single(Profile::default_plugins("default-scheduler"));
    let profiles = Arc::new(profiles);
    let mut said = BTreeMap::new();
    for entry in fs::read_dir(golden()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let mut cluster = Cluster::default();
        let read = cluster.read(&fs::read_to_string(&path).unwrap());
        let read = read.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(read, Default::default(), "{name}");
        let explanations = Simulation::new(Arc::clone(&profiles), &cluster, 0).run();
        assert!(!explanations.is_empty(), "{name} has no pending pod");
        let lines = explanations.iter().map(|e| format!("{}\n", e.message));
        said.insert(name, lines.collect());
    }
    said
}

#[test]
fn every_wording_is_upstreams() {
    let said = said();
    for (name, text) in &said {
        assert!(text.len() > 1, "{name}: the pod got a node");
        let path = golden().join(format!("{name}.txt"));
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&path, text).unwrap();
            continue;
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(*text, expected, "{name}; if upstream says so, run again with UPDATE=1");
    }
    for wording in WORDINGS {
        // Followed by what ends a reason, so that no longer one is taken for it.
        let is_there = |text: &String| {
            [",", ".", "\n"].iter().any(|end| text.contains(&format!("{wording}{end}")))
        };
        assert!(said.values().any(is_there), "nothing says {wording:?}");
    }
}
