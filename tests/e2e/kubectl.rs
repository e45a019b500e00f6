//! A real kubectl against the API server: get, apply, describe, delete, scale, rollout status.

use std::time::Duration;

use crate::server::Server;

async fn cluster(dir: &std::path::Path) -> Server {
    Server::start(&dir.join("data"), &["--nodes=3", "--runtime=hollow"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_six_verbs() {
    let dir = tempfile::tempdir().unwrap();
    let server = cluster(dir.path()).await;
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/hello.yaml");

    let applied = server.kubectl_ok(&["apply", "-f", manifest]);
    assert_eq!(applied, "deployment.apps/hello created\nservice/hello created\n");

    let rolled = server.kubectl_ok(&["rollout", "status", "deployment/hello", "--timeout=60s"]);
    assert!(rolled.ends_with("deployment \"hello\" successfully rolled out\n"), "{rolled}");

    let pods = server.kubectl_ok(&["get", "pods", "-o", "wide"]);
    let header: Vec<&str> = pods.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(&header[..6], ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP"], "{pods}");
    assert_eq!(pods.matches(" Running ").count(), 6, "{pods}");

    let described = server.kubectl_ok(&["describe", "deployment", "hello"]);
    assert!(described.contains("6 desired | 6 updated | 6 total | 6 available"), "{described}");
    assert!(described.contains("ScalingReplicaSet"), "{described}");
    let pod = pods.lines().nth(1).unwrap().split_whitespace().next().unwrap();
    let described = server.kubectl_ok(&["describe", "pod", pod]);
    assert!(described.contains("Successfully assigned default/hello-"), "{described}");

    let scaled = server.kubectl_ok(&["scale", "deployment/hello", "--replicas=2"]);
    assert_eq!(scaled, "deployment.apps/hello scaled\n");
    server.kubectl_ok(&["rollout", "status", "deployment/hello", "--timeout=60s"]);
    let ready = ["get", "deploy", "hello", "-o", "jsonpath={.status.readyReplicas}"];
    assert_eq!(server.kubectl_ok(&ready), "2");

    let image = ["set", "image", "deployment/hello", "hello=registry.k8s.io/agnhost:2.54"];
    server.kubectl_ok(&image);
    server.kubectl_ok(&["rollout", "status", "deployment/hello", "--timeout=60s"]);
    let again = server.kubectl_ok(&["apply", "-f", manifest]);
    assert_eq!(again, "deployment.apps/hello configured\nservice/hello unchanged\n");

    let deleted = server.kubectl_ok(&["delete", "-f", manifest, "--timeout=60s"]);
    assert!(deleted.contains("deployment.apps \"hello\" deleted"), "{deleted}");
    wait_gone(&server).await;
    assert!(server.terminate().await.success());
}

/// The garbage collector takes the ReplicaSets and pods after their Deployment.
async fn wait_gone(server: &Server) {
    for _ in 0..300 {
        let left = server.kubectl_ok(&["get", "rs,pods", "-o", "name"]);
        if left.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("left: {}", server.kubectl_ok(&["get", "rs,pods", "-o", "wide"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_too_big_says_why_it_is_pending() {
    let dir = tempfile::tempdir().unwrap();
    let server = cluster(dir.path()).await;
    let manifest = dir.path().join("big.yaml");
    std::fs::write(
        &manifest,
        "apiVersion: v1\nkind: Pod\nmetadata: {name: big}\nspec:\n  containers:\n  - name: c\n    \
         image: i\n    command: [sleep]\n    resources: {requests: {cpu: 100k}}\n",
    )
    .unwrap();
    server.kubectl_ok(&["apply", "-f", &manifest.to_string_lossy()]);
    let wording = "0/3 nodes are available: 3 Insufficient cpu.";
    for _ in 0..100 {
        let events = server.kubectl_ok(&["get", "events", "-o", "jsonpath={..message}"]);
        if events.contains(wording) {
            let described = server.kubectl_ok(&["describe", "pod", "big"]);
            assert!(described.contains("FailedScheduling"), "{described}");
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("no FailedScheduling: {}", server.kubectl_ok(&["get", "events"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_is_deleted_with_what_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &["--nodes=0"]).await;
    server.kubectl_ok(&["apply", "-f", &{
        let manifest = dir.path().join("ns.yaml");
        std::fs::write(
            &manifest,
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: team}\n---\napiVersion: v1\n\
             kind: ConfigMap\nmetadata: {name: settings, namespace: team}\ndata: {a: b}\n",
        )
        .unwrap();
        manifest.to_string_lossy().into_owned()
    }]);
    server.kubectl_ok(&["get", "configmap", "-n", "team", "settings"]);
    server.kubectl_ok(&["delete", "namespace", "team", "--timeout=60s"]);
    let gone = server.kubectl(&["get", "configmap", "-n", "team", "settings"]);
    assert!(!gone.status.success());
    assert!(String::from_utf8_lossy(&gone.stderr).contains("NotFound"));
}
