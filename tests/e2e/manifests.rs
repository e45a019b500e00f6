//! What manifests/ installs is what this binary takes.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Stdio;

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use pintle_api::{decode, scheme};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::server::{Server, pintle};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("manifests/scheduler").join(name)
}

fn documents(name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(path(name)).unwrap();
    text.split("\n---\n")
        .map(|text| {
            let document = decode::parse(text.as_bytes(), decode::Syntax::Yaml).unwrap();
            assert_eq!(document.duplicates, Vec::<String>::new());
            document.value
        })
        .collect()
}

fn of_kind<T: DeserializeOwned>(documents: &[Value], kind: &str) -> T {
    let mut found = documents.iter().find(|it| it["kind"] == kind).unwrap().clone();
    for field in ["apiVersion", "kind"] {
        found.as_object_mut().unwrap().remove(field);
    }
    let (typed, unknown) = decode::read(&mut found).unwrap();
    assert_eq!(unknown, Vec::<String>::new(), "{kind}");
    typed
}

/// The objects that the server stores, under strict validation, installed in either way.
#[tokio::test(flavor = "multi_thread")]
async fn the_server_takes_them() {
    for way in ["beside.yaml", "instead.yaml"] {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(&dir.path().join("data"), &["--nodes=0"]).await;
        let client = server.client().await;
        for document in ["rbac.yaml", way, "deployment.yaml"].into_iter().flat_map(documents) {
            if !document["apiVersion"].as_str().unwrap().starts_with("rbac.") {
                create_strictly(&client, &document).await;
            }
        }
        let images = ["-n", "kube-system", "get", "deploy", "-o", "name"];
        assert_eq!(server.kubectl_ok(&images), "deployment.apps/pintle-scheduler\n");
        assert!(server.terminate().await.success());
    }
}

/// Of kubectl only those since 1.25 can ask for this.
async fn create_strictly(client: &kube::Client, object: &Value) {
    let api_version = object["apiVersion"].as_str().unwrap();
    let resource = scheme::by_kind(api_version, object["kind"].as_str().unwrap()).unwrap();
    let root = if resource.group().is_empty() { "api" } else { "apis" };
    let (namespace, plural) = (object["metadata"]["namespace"].as_str().unwrap(), resource.plural);
    let path =
        format!("/{root}/{api_version}/namespaces/{namespace}/{plural}?fieldValidation=Strict");
    let request = http::Request::post(path).header("content-type", "application/json");
    let request = request.body(object.to_string().into_bytes()).unwrap();
    client.request_text(request).await.unwrap();
}

/// All that the scheduler reads and writes, and whom it is allowed to.
#[test]
fn the_role_covers_what_is_done() {
    let documents = documents("rbac.yaml");
    let role: ClusterRole = of_kind(&documents, "ClusterRole");
    let allowed: BTreeSet<(String, String, String)> = role
        .rules
        .unwrap()
        .into_iter()
        .flat_map(|rule| {
            let mut all = Vec::new();
            for group in rule.api_groups.unwrap() {
                for resource in rule.resources.iter().flatten() {
                    let verbs = rule.verbs.iter();
                    all.extend(verbs.map(|it| (group.clone(), resource.clone(), it.clone())));
                }
            }
            all
        })
        .collect();
    let needs = |group: &str, resource: &str, verbs: &[&str]| {
        for verb in verbs {
            let need = (group.to_owned(), resource.to_owned(), (*verb).to_owned());
            assert!(allowed.contains(&need), "{need:?}");
        }
    };
    let read = ["get", "list", "watch"];
    for (group, resources) in [
        ("", &["nodes", "pods", "namespaces", "services", "replicationcontrollers"][..]),
        ("", &["persistentvolumes", "persistentvolumeclaims"]),
        ("apps", &["replicasets", "statefulsets"]),
        ("policy", &["poddisruptionbudgets"]),
        ("resource.k8s.io", &["resourceclaims", "resourceslices", "deviceclasses"]),
        ("scheduling.k8s.io", &["workloads"]),
        ("storage.k8s.io", &["storageclasses", "csinodes", "csidrivers", "csistoragecapacities"]),
        ("storage.k8s.io", &["volumeattachments"]),
    ] {
        resources.iter().for_each(|resource| needs(group, resource, &read));
    }
    needs("", "pods/binding", &["create"]);
    needs("", "pods/status", &["patch"]);
    needs("", "pods", &["delete"]);
    needs("", "events", &["create", "patch"]);
    needs("", "persistentvolumeclaims", &["update"]);
    needs("resource.k8s.io", "resourceclaims/status", &["update"]);
    let lease: Role = of_kind(&documents, "Role");
    let rules = serde_json::to_value(lease.rules).unwrap();
    assert_eq!(rules[0]["verbs"], json!(["create"]));
    assert_eq!(rules[1]["resourceNames"], json!(["pintle-scheduler", "kube-scheduler"]));
    let bound: ClusterRoleBinding = of_kind(&documents, "ClusterRoleBinding");
    let bound_there: RoleBinding = of_kind(&documents, "RoleBinding");
    assert_eq!(bound.role_ref.name, role.metadata.name.unwrap());
    assert_eq!(bound_there.role_ref.name, lease.metadata.name.unwrap());
    assert_eq!(bound.subjects, bound_there.subjects);
}

/// The Deployment's own command line with either ConfigMap's file: all that stops it is that there
/// is no cluster.
#[test]
fn the_command_line_and_the_configuration_are_taken() {
    let dir = tempfile::tempdir().unwrap();
    let deployment = &documents("deployment.yaml")[0];
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["command"], json!(["/pintle", "scheduler"]));
    let mount = container["volumeMounts"][0]["mountPath"].as_str().unwrap();
    for name in ["beside.yaml", "instead.yaml"] {
        let config_map = &documents(name)[0];
        for (file, text) in config_map["data"].as_object().unwrap() {
            std::fs::write(dir.path().join(file), text.as_str().unwrap()).unwrap();
        }
        let args = container["args"]
            .as_array()
            .unwrap()
            .iter()
            .map(|arg| arg.as_str().unwrap().replace(mount, &dir.path().to_string_lossy()));
        let output = pintle()
            .arg("scheduler")
            .args(args)
            .arg("--kubeconfig=/nonexistent/kubeconfig")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{name}: {text}");
        assert!(text.contains("read kubeconfig /nonexistent/kubeconfig"), "{name}: {text}");
    }
}
