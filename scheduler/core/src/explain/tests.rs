use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::cache::Cache;
use crate::framework::Profiles;
use crate::testing;

const THREE: &str = r#"
# A comment before the first document.
---
apiVersion: v1
kind: Node
metadata: {name: big}
status: {allocatable: {cpu: 8, memory: 16Gi, pods: "110"}}
---
apiVersion: v1
kind: NodeList
items:
- metadata: {name: small}
  status: {allocatable: {cpu: "1", memory: 16Gi, pods: "110"}}
---
---
{"apiVersion": "v1", "kind": "List", "items": [
  {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "low"}, "spec": {"containers": [
    {"name": "c", "resources": {"requests": {"cpu": "6"}}}]}},
  {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "high", "namespace": "prod"},
   "spec": {"priorityClassName": "first", "containers": [
    {"name": "c", "resources": {"requests": {"cpu": "6"}}}]}},
  {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "first"},
   "value": 10},
  {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "left-out"}}]}
"#;

fn profiles() -> Arc<Profiles> {
    Arc::new(Profiles::single(Profile::default_plugins("default-scheduler")))
}

fn cluster(text: &str) -> Cluster {
    let mut cluster = Cluster::default();
    let read = cluster.read(text).unwrap();
    assert_eq!(read.warnings, Vec::<String>::new());
    assert_eq!(cluster.admit_priorities(), Vec::<String>::new());
    cluster
}

fn simulate(text: &str, seed: u64) -> Vec<Explanation> {
    Simulation::new(profiles(), &cluster(text), seed).run()
}

#[test]
fn streams_lists_and_json_are_read_and_pods_go_in_queue_order() {
    let mut read = Cluster::default();
    let odd = read.read(THREE).unwrap();
    assert_eq!(odd.left_out.into_iter().collect::<Vec<_>>(), ["v1 Secret"]);
    let all = simulate(THREE, 0);
    let outcomes: Vec<_> =
        all.iter().map(|e| (e.pod.as_str(), e.node.as_deref(), e.message.as_str())).collect();
    assert_eq!(outcomes[0], ("prod/high", Some("big"), ""));
    assert_eq!((outcomes[1].0, outcomes[1].1), ("default/low", None));
    assert!(
        outcomes[1].2.starts_with("0/2 nodes are available: 2 Insufficient cpu."),
        "{}",
        outcomes[1].2
    );
    assert_eq!(outcomes.len(), 2);
}

#[test]
fn the_machine_readable_form_is_as_documented() {
    let all = simulate(THREE, 0);
    let value = serde_json::to_value(&all[0]).unwrap();
    assert_eq!(
        value,
        serde_json::json!({
            "pod": "prod/high", "node": "big", "message": "", "best": ["big"],
            "feasible": ["big"], "nominated": null, "victims": [],
            "nodes": [
                {"name": "big", "total": 300 + 61 + 62, "scores": {
                    "TaintToleration": {"raw": 0, "normalized": 100, "weight": 3},
                    "NodeResourcesFit": {"raw": 61, "normalized": 61, "weight": 1},
                    "NodeResourcesBalancedAllocation": {"raw": 62, "normalized": 62, "weight": 1},
                    "ImageLocality": {"raw": 0, "normalized": 0, "weight": 1}}},
                {"name": "small", "rejectedBy": "NodeResourcesFit",
                 "code": "UnschedulableAndUnresolvable", "reason": "Insufficient cpu"}],
        })
    );
}

#[test]
fn one_seed_one_outcome_and_other_seeds_choose_otherwise() {
    let mut text = String::new();
    for name in ["a", "b", "c", "d"] {
        text.push_str(&format!(
            "---\napiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\nstatus: {{allocatable: \
             {{cpu: 8, memory: 16Gi, pods: 110}}}}\n"
        ));
    }
    for name in ["p", "q", "r", "s", "t", "u"] {
        text.push_str(&format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: []}}\n"
        ));
    }
    assert_eq!(simulate(&text, 7), simulate(&text, 7));
    let chosen = |seed| simulate(&text, seed).into_iter().map(|e| e.node).collect::<Vec<_>>();
    assert!((0..20).any(|seed| chosen(seed) != chosen(7)));
    for explanation in simulate(&text, 7) {
        assert!(explanation.best.contains(&explanation.node.unwrap()));
    }
}

#[test]
fn pods_without_a_turn_say_why() {
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: gated}
spec: {containers: [], schedulingGates: [{name: example.com/wait}]}
---
apiVersion: v1
kind: Pod
metadata: {name: foreign}
spec: {containers: [], schedulerName: other}
---
apiVersion: v1
kind: Pod
metadata: {name: leaving, deletionTimestamp: '2026-01-01T00:00:00Z'}
spec: {containers: []}
---
apiVersion: v1
kind: Pod
metadata: {name: done}
spec: {containers: []}
status: {phase: Succeeded}
";
    let mut said: Vec<_> = simulate(text, 0).into_iter().map(|e| (e.pod, e.message)).collect();
    said.sort();
    let expected = [
        ("default/foreign", "profile not found for scheduler name \"other\""),
        ("default/gated", "waiting for scheduling gates: [example.com/wait]"),
        ("default/leaving", "skip schedule deleting pod: default/leaving"),
    ];
    assert_eq!(said, expected.map(|(pod, message)| (pod.to_owned(), message.to_owned())));
}

#[test]
fn an_object_read_again_replaces_the_one_before() {
    let node = |cpu: u32| {
        format!(
            "apiVersion: v1\nkind: Node\nmetadata: {{name: a}}\nstatus: {{allocatable: {{cpu: \
             {cpu}, memory: 1Gi, pods: 1}}}}\n"
        )
    };
    let mut cluster = Cluster::default();
    cluster.read(&node(1)).unwrap();
    cluster.read(&node(2)).unwrap();
    assert_eq!(cluster.nodes().len(), 1);
    assert!(cluster.cordon("a") && !cluster.cordon("b"));
    assert_eq!(cluster.node("a").unwrap().spec.as_ref().unwrap().unschedulable, Some(true));
    assert!(cluster.remove_node("a").is_some() && cluster.nodes().is_empty());
}

#[test]
fn what_is_wrong_with_a_file_names_document_object_and_field() {
    for (text, expected) in [
        ("kind: Pod\n---\nx: 1", "document 1: object: apiVersion: Required value"),
        ("- 1", "document 1: object: is not a mapping"),
        ("apiVersion: v1\nkind: Pod", "document 1: Pod: metadata.name: Required value"),
        (
            "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\napiVersion: v1\nkind: \
             Pod\nmetadata: {name: p}\nspec: {containers: 5}",
            "document 2: Pod default/p: json: cannot unmarshal number into Go struct field \
             PodSpec.spec.containers of type array",
        ),
        (
            "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Node\n  metadata: \
             {name: a}\n  status: {allocatable: {cpu: many}}",
            "document 1: items[0]: Node a: status.allocatable.cpu: Invalid value: \"many\": ",
        ),
    ] {
        let error = Cluster::default().read(text).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
    let error = documents("a: 1\n---\nb: 1\nb: 2\n").unwrap_err().to_string();
    assert!(error.starts_with("document 2: ") && error.contains("line 4, column 1"), "{error}");
    let typo = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {nodeSelecter: {a: b}}";
    let read = Cluster::default().read(typo).unwrap();
    assert_eq!(read.warnings, ["document 1: Pod default/p: unknown field \"spec.nodeSelecter\""]);
}

proptest! {
    /// A cluster that a property test prints is, read again, the same to every plugin.
    #[test]
    fn printed_clusters_read_back(
        nodes in vec((0..6).prop_flat_map(|n| testing::node(format!("n{n}"))), 0..5),
        others in vec(testing::other(), 0..16),
        residents in vec((0..6).prop_flat_map(|n| testing::pod(format!("p{n}"))), 0..4),
        pod in testing::pod("pending".to_owned()),
    ) {
        let mut cache = Cache::default();
        nodes.into_iter().for_each(|node| cache.set_node(node));
        others.iter().for_each(|object| cache.apply(object));
        for (resident, node) in residents.iter().zip(["n0", "n1", "n2", "n3"]) {
            if cache.snapshot().get(node).is_some() {
                cache.set_pod(testing::bound(resident, node));
            }
        }
        let pod = Arc::new(PodInfo::new(Arc::new(pod)));
        let profile = Profile::default_plugins("default-scheduler");
        let expected = explain(&profile, cache.snapshot(), &pod);
        let printed = Cluster::of(cache.snapshot(), &pod).to_yaml();
        let mut read = Cluster::default();
        prop_assert_eq!(read.read(&printed).unwrap(), Read::default());
        let reread = read.pod(pod.namespace(), pod.name()).unwrap();
        let reread = Arc::new(PodInfo::new(Arc::clone(reread)));
        let actual = Simulation::new(profiles(), &read, 1).explain(&reread);
        prop_assert_eq!(actual.nodes, expected.nodes, "{}", printed);
        prop_assert_eq!(actual.best, expected.best, "{}", printed);
    }
}

/// A file has what the API server has not seen yet.
#[test]
fn label_keys_count_in_pods_that_were_never_created() {
    let pods = |keys: &str| {
        const FILE: &str = r#"
apiVersion: v1
kind: Node
metadata: {name: m, labels: {kubernetes.io/hostname: m}}
status: {allocatable: {cpu: 8, memory: 8Gi, pods: 9}}
---
apiVersion: v1
kind: Pod
metadata: {name: old, labels: {app: a, hash: h1}}
spec: {nodeName: m, containers: [{name: c}]}
---
apiVersion: v1
kind: Pod
metadata: {name: new, labels: {app: a, hash: h2}}
spec:
  containers: [{name: c}]
  affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [
    {topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: a}}KEYS}]}}
"#;
        FILE.replace("KEYS", keys)
    };
    let node = |keys: &str| simulate(&pods(keys), 0).remove(0).node;
    assert_eq!(node(""), None);
    assert_eq!(node(", matchLabelKeys: [hash]").as_deref(), Some("m"));
    assert_eq!(node(", mismatchLabelKeys: [app]").as_deref(), Some("m"));
}
