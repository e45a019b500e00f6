//! `pintle simulate` and `pintle explain` as their users run them.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use crate::server::{Server, pintle};

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

fn run(args: &[&str]) -> Ran {
    let output = pintle().args(args).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

fn examples() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/simulate");
    let paths = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths.filter(|p| p.extension().is_some_and(|e| e == "yaml")).collect();
    paths.sort();
    paths
}

fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/simulate").join(name);
    path.to_string_lossy().into_owned()
}

fn objects(json_lines: &str) -> Vec<Value> {
    json_lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What the files say of their pods is held beside the scheduler's core; here that every field is
/// there, and that it is the same again.
#[test]
fn every_example_is_explained_in_full_and_the_same_twice() {
    let examples = examples();
    assert!(examples.len() >= 15, "{examples:?}");
    for path in examples {
        let path = path.to_string_lossy();
        let ran = run(&["simulate", "-f", &path, "-o", "json", "--seed", "3"]);
        assert_eq!(ran.err, "", "{path}");
        assert_eq!(run(&["simulate", "-f", &path, "-o", "json", "--seed", "3"]).out, ran.out);
        let pods = objects(&ran.out);
        let all_placed = pods.iter().all(|pod| pod["node"].is_string());
        assert_eq!(ran.code, Some(if all_placed { 0 } else { 3 }), "{path}");
        assert!(!pods.is_empty(), "{path}");
        for pod in pods {
            complete(&pod);
        }
    }
}

fn complete(pod: &Value) {
    let keys: Vec<&str> = pod.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = ["pod", "node", "message", "best", "feasible", "nodes", "nominated", "victims"];
    assert_eq!(keys, expected, "{pod:#}");
    assert_eq!(pod["node"].is_null(), pod["message"] != "", "{pod:#}");
    if pod["node"].is_string() {
        assert!(pod["best"].as_array().unwrap().contains(&pod["node"]), "{pod:#}");
    }
    for node in pod["nodes"].as_array().unwrap() {
        if let Some(scores) = node["scores"].as_object() {
            let points = |score: &Value| {
                assert!(score["raw"].is_i64(), "{pod:#}");
                score["normalized"].as_i64().unwrap() * score["weight"].as_i64().unwrap()
            };
            assert_eq!(scores.values().map(points).sum::<i64>(), node["total"].as_i64().unwrap());
        } else {
            assert!(["rejectedBy", "code", "reason"].iter().all(|key| node[key].is_string()));
        }
    }
}

#[test]
fn tables_are_kubectls() {
    let file = example("node-resources-fit.yaml");
    let ran = run(&["simulate", "-f", &file]);
    let expected = "\
NAMESPACE   POD              NODE     MESSAGE
default     web              empty
default     trainer          gpu
default     second-trainer   <none>   0/3 nodes are available: 3 Insufficient example.com/gpu.";
    assert!(ran.out.starts_with(expected), "{}", ran.out);
    let ran = run(&["simulate", "-f", &file, "--explain", "--pod", "web"]);
    assert_eq!(ran.code, Some(0), "{}", ran.out);
    assert!(ran.out.starts_with("Pod:       default/web\nNode:      empty\n"), "{}", ran.out);
    assert!(ran.out.contains("\nNODE    TOTAL   "), "{}", ran.out);
    assert!(!ran.out.contains("trainer"), "{}", ran.out);
    let wide = run(&["simulate", "-f", &file, "-o", "wide"]).out;
    assert!(wide.contains("FEASIBLE") && wide.contains("NOMINATED"), "{wide}");
    let yaml = run(&["simulate", "-f", &file, "-o", "yaml"]).out;
    assert!(yaml.starts_with("---\npod: default/web\nnode: empty\n"), "{yaml}");
}

#[test]
fn what_if() {
    let file = example("node-resources-fit.yaml");
    let explain = |more: &[&str]| {
        let mut args = vec!["explain", "pod", "web", "-f", &file, "-o", "json"];
        args.extend(more);
        run(&args)
    };
    assert_eq!(objects(&explain(&[]).out)[0]["node"], "empty");
    let without = objects(&explain(&["--without-node", "empty"]).out).remove(0);
    assert_ne!(without["node"], "empty");
    let cordoned = explain(&["--cordon", "empty", "--cordon", "busy", "--cordon", "gpu"]);
    assert_eq!(cordoned.code, Some(3));
    let message = "0/3 nodes are available: 3 node(s) were unschedulable.";
    let said = objects(&cordoned.out).remove(0)["message"].as_str().unwrap().to_owned();
    assert!(said.starts_with(message), "{said}");
    let resident = run(&["explain", "pod", "default/resident", "-f", &file]);
    assert!(resident.out.contains("Node:      busy\n"), "{}", resident.out);
    let top = objects(&explain(&["--top", "1"]).out).remove(0);
    assert_eq!(top["nodes"].as_array().unwrap().len(), 1);
}

/// A pod that nothing schedules, in a cluster that is only read.
#[tokio::test(flavor = "multi_thread")]
async fn a_live_cluster_is_asked_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &["--nodes=2", "--runtime=hollow"]).await;
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    };
    let pods = file(
        "pods.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: big}\nspec: {schedulerName: nobodys, \
         containers: [{name: c, image: i, resources: {requests: {cpu: 5k}}}]}\n---\n\
         apiVersion: v1\nkind: Pod\nmetadata: {name: pinned}\nspec: {schedulerName: nobodys, \
         nodeSelector: {kubernetes.io/hostname: node-1}, containers: [{name: c, image: i}]}\n",
    );
    let configuration = |name: &str, plugins: &str| {
        let text = format!(
            "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n\
             profiles: [{{schedulerName: nobodys{plugins}}}]\n"
        );
        file(name, &text)
    };
    let strict = configuration("strict.yaml", "");
    let disabled = ", plugins: {multiPoint: {disabled: [{name: NodeResourcesFit}]}}";
    let lax = configuration("lax.yaml", disabled);
    server.kubectl_ok(&["wait", "--for=condition=Ready", "node", "--all", "--timeout=60s"]);
    server.kubectl_ok(&["apply", "-f", &pods]);
    let versions = ["get", "pods,nodes", "-o", "jsonpath={.items[*].spec}"];
    let before = server.kubectl_ok(&versions);
    let kubeconfig = server.kubeconfig().to_string_lossy().into_owned();
    let live = ["-o", "json", "--kubeconfig", &kubeconfig, "--config"];

    let why = run(&[&["explain", "pod", "default/big"], &live[..], &[&strict]].concat());
    let message = objects(&why.out).remove(0)["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("0/2 nodes are available: 2 Insufficient cpu."), "{}", why.err);
    assert_eq!(why.code, Some(3), "{}", why.err);
    let what_if = run(&[&["simulate"], &live[..], &[&strict]].concat());
    let nodes = |out: &str| -> Vec<Value> {
        let mut nodes: Vec<_> =
            objects(out).iter().map(|pod| pod["node"].clone()).filter(|it| !it.is_null()).collect();
        nodes.sort_by_key(Value::to_string);
        nodes
    };
    assert_eq!((what_if.code, nodes(&what_if.out)), (Some(3), vec!["node-1".into()]));
    let relaxed = run(&[&["simulate"], &live[..], &[&lax]].concat());
    assert_eq!((relaxed.code, nodes(&relaxed.out).len()), (Some(0), 2), "{}", relaxed.err);
    assert_eq!(server.kubectl_ok(&versions), before);
    assert!(server.terminate().await.success());
}

#[test]
fn bad_input_is_one_line_that_names_file_document_and_field() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    };
    let wrong_type = file(
        "type.yaml",
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\napiVersion: v1\nkind: Pod\n\
         metadata: {name: p}\nspec: {containers: 5}\n",
    );
    let syntax = file("syntax.yaml", "apiVersion: v1\nkind: [Pod\n");
    let nothing = dir.path().join("gone.yaml").to_string_lossy().into_owned();
    let pods = example("priority.yaml");
    for (args, code, names) in [
        (
            vec!["simulate", "-f", &wrong_type],
            1,
            vec!["type.yaml: document 2: Pod default/p: ", "spec.containers"],
        ),
        (vec!["simulate", "-f", &syntax], 1, vec!["syntax.yaml: document 1: "]),
        (vec!["simulate", "-f", &nothing], 1, vec!["gone.yaml"]),
        (vec!["explain", "pod", "nobody", "-f", &pods], 1, vec!["pod default/nobody not found"]),
        (vec!["simulate", "-f", &pods, "--cordon", "z"], 64, vec!["--cordon z"]),
        (vec!["simulate", "-f", &pods, "-o", "xml"], 2, vec!["xml"]),
        (vec!["simulate", "-f", &pods, "--kubeconfig", &nothing], 1, vec!["gone.yaml"]),
    ] {
        let ran = run(&args);
        assert_eq!(ran.code, Some(code), "{args:?}: {}", ran.err);
        assert_eq!(ran.out, "", "{args:?}");
        assert!(names.iter().all(|name| ran.err.contains(name)), "{args:?}: {}", ran.err);
        assert!(code == 2 || ran.err.lines().count() == 1, "{args:?}: {}", ran.err);
    }
}
