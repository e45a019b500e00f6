//! The examples for `pintle simulate` do what they say: each pending pod has an annotation
//! `example/nodes` (one of them is chosen) or `example/message` (that is why there is none).

#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use pintle_scheduler_core::explain::{Cluster, Explanation, Simulation};
use pintle_scheduler_core::framework::{Profile, Profiles};

#[test]
fn the_examples_do_what_they_say() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/simulate");
    let mut count = 0;
    for entry in std::fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            check(&path);
            count += 1;
        }
    }
    assert!(count > 0, "there are no examples in {}", directory.display());
}

fn check(path: &Path) {
    let file = path.display();
    let mut cluster = Cluster::default();
    let read = cluster.read(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!((read.warnings, read.left_out.len()), (vec![], 0), "{file}");
    cluster.admit_priorities();
    let profiles = Profiles::single(Profile::default_plugins("default-scheduler"));
    let explanations = Simulation::new(Arc::new(profiles), &cluster, 1).run();
    let pending =
        cluster.pods().iter().filter(|pod| pod.spec.as_ref().unwrap().node_name.is_none());
    let expected: BTreeMap<String, BTreeMap<String, String>> = pending
        .map(|pod| {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
            let name = pod.metadata.name.as_deref().unwrap();
            let annotations = pod.metadata.annotations.clone().unwrap_or_default();
            (format!("{namespace}/{name}"), annotations)
        })
        .collect();
    assert_eq!(explanations.len(), expected.len(), "{file}");
    for explanation in explanations {
        let annotations = &expected[&explanation.pod];
        assert!(as_said(&explanation, annotations), "{file}: {explanation:#?}");
    }
}

/// What preemption adds to the message is left out.
fn as_said(explanation: &Explanation, annotations: &BTreeMap<String, String>) -> bool {
    match (annotations.get("example/nodes"), annotations.get("example/message")) {
        (Some(nodes), None) => {
            explanation.node.as_ref().is_some_and(|node| nodes.split(' ').any(|name| name == node))
        }
        (None, Some(message)) => explanation.message.starts_with(message),
        _ => false,
    }
}
