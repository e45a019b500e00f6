//! Bad input: each gets its status code and a message that names the thing, and changes nothing.

use pintle_apiserver::Config;
use serde_json::{Value, json};

use crate::cluster::Cluster;

const PODS: &str = "/api/v1/namespaces/default/pods";

#[expect(clippy::needless_pass_by_value, reason = "reads better in the calls below")]
fn pod(spec: Value) -> Value {
    let mut container = json!({ "name": "c", "image": "x" });
    for (key, value) in spec.as_object().unwrap() {
        container[key] = value.clone();
    }
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "a" },
        "spec": { "containers": [container] },
    })
}

#[track_caller]
fn refused(answer: &(u16, Value), code: u16, words: &str) {
    let (got, status) = answer;
    assert_eq!(*got, code, "{status}");
    assert_eq!(status["kind"], "Status");
    assert_eq!(status["code"], code);
    assert!(status["message"].as_str().unwrap().contains(words), "{status}");
}

#[tokio::test]
async fn bodies_that_are_no_objects() {
    let cluster = Cluster::start().await;
    for (media_type, body) in
        [("application/json", "{\"kind\": \"Pod\","), ("application/yaml", "a: b: c: -")]
    {
        let (head, status) = cluster.send_as("POST", PODS, media_type, body).await;
        refused(&(head.status.as_u16(), status), 400, "");
    }
    for (media_type, body) in [
        ("application/cbor", "\u{a0}"),
        ("text/plain", "a pod"),
        ("application/vnd.kubernetes.protobuf", "k8s\0"),
    ] {
        let (head, status) = cluster.send_as("POST", PODS, media_type, body).await;
        refused(&(head.status.as_u16(), status), 415, "application/json");
    }
    let service = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "a" } });
    refused(&cluster.send("POST", PODS, &service).await, 400, "Pod");
    let typed = pod(json!({ "image": 7 }));
    refused(&cluster.send("POST", PODS, &typed).await, 400, "spec.containers[0].image");
    let quantity = pod(json!({ "resources": { "requests": { "cpu": "5Q" } } }));
    let answer = cluster.send("POST", PODS, &quantity).await;
    refused(&answer, answer.0, "5Q");
    assert!(matches!(answer.0, 400 | 422));
    assert_eq!(cluster.get(&format!("{PODS}/a")).await.0, 404);
}

#[tokio::test]
async fn unknown_fields_are_warned_of_or_refused() {
    let cluster = Cluster::start().await;
    let odd = pod(json!({ "bogus": 1 }));
    let strict = format!("{PODS}?fieldValidation=Strict");
    refused(&cluster.send("POST", &strict, &odd).await, 400, "spec.containers[0].bogus");
    let (head, created) = cluster.send_as("POST", PODS, "application/json", odd.to_string()).await;
    assert_eq!(head.status, 201);
    let warning = head.headers.get("warning").unwrap().to_str().unwrap();
    assert!(
        warning.starts_with("299 - \"unknown field \\\"spec.containers[0].bogus\\\"\""),
        "{warning}"
    );
    assert_eq!(created["spec"]["containers"][0].get("bogus"), None);
    let twice = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"b","name":"c"}}"#;
    let (head, status) = cluster.send_as("POST", &strict, "application/json", twice).await;
    refused(&(head.status.as_u16(), status), 400, "duplicate field \"metadata.name\"");
}

#[tokio::test]
async fn invalid_fields_are_named_by_path() {
    let cluster = Cluster::start().await;
    let nameless = pod(json!({ "image": "" }));
    refused(
        &cluster.send("POST", PODS, &nameless).await,
        422,
        "Pod \"a\" is invalid: spec.containers[0].image: Required value",
    );
    let missing = cluster.send("POST", "/api/v1/namespaces/nope/pods", &pod(json!({}))).await;
    refused(&missing, 404, "namespaces \"nope\" not found");
    refused(&cluster.get("/api/v1/pods?labelSelector=a%3D%3D%3Db").await, 400, "");
    refused(&cluster.get("/api/v1/pods?fieldSelector=spec.bogus%3Db").await, 400, "spec.bogus");
    refused(&cluster.get("/api/v1/pods?resourceVersion=x").await, 400, "must be a number");
    refused(&cluster.get("/api/v1/pods?continue=x").await, 400, "continue");
    refused(&cluster.get("/api/v1/bogus").await, 404, "");
    refused(&cluster.send("POST", "/api/v1/pods", &pod(json!({}))).await, 400, "namespace");
}

#[tokio::test]
async fn an_object_beyond_the_limit_is_too_large() {
    let cluster = Cluster::start().await;
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "big" },
        "data": { "x": "y".repeat(3 << 20) },
    });
    let path = "/api/v1/namespaces/default/configmaps";
    refused(&cluster.send("POST", path, &map).await, 413, "limit is 3145728");
    assert_eq!(cluster.get(path).await.1["items"], json!([]));
}

#[tokio::test]
async fn stale_revisions_conflict() {
    let cluster = Cluster::start().await;
    let (_, created) = cluster.send("POST", PODS, &pod(json!({}))).await;
    let path = format!("{PODS}/a");
    let mut labelled = created.clone();
    labelled["metadata"]["labels"] = json!({ "a": "1" });
    assert_eq!(cluster.send("PUT", &path, &labelled).await.0, 200);
    labelled["metadata"]["labels"] = json!({ "a": "2" });
    let stale = cluster.send("PUT", &path, &labelled).await;
    refused(&stale, 409, "the object has been modified; please apply your changes to the latest");
    assert_eq!(cluster.get(&path).await.1["metadata"]["labels"], json!({ "a": "1" }));
    let (head, status) =
        cluster.send_as("PATCH", &path, "application/apply-patch+yaml", "{}").await;
    refused(&(head.status.as_u16(), status), 415, "application/strategic-merge-patch+json");
}

#[tokio::test]
async fn nobody_is_anonymous_and_components_keep_to_their_roles() {
    let cluster = Cluster::start().await;
    let mut config = kube::Config::new(format!("https://{}", cluster.address).parse().unwrap());
    config.accept_invalid_certs = true;
    let anonymous = kube::Client::try_from(config).unwrap();
    let code = async |client: &kube::Client, path: &str| {
        let request = http::Request::get(path).body(kube::client::Body::empty()).unwrap();
        client.send(request).await.unwrap().status().as_u16()
    };
    assert_eq!(code(&anonymous, "/readyz").await, 200);
    assert_eq!(code(&anonymous, "/version").await, 200);
    for path in ["/api", "/api/v1/pods", "/metrics", "/openapi/v3"] {
        assert_eq!(code(&anonymous, path).await, 401, "{path}");
    }
    let kubeconfig = cluster.pki.component_kubeconfig("kube-proxy");
    let proxy = pintle_client::connect(Some(&kubeconfig)).await.unwrap();
    assert_eq!(code(&proxy, "/api/v1/services").await, 200);
    assert_eq!(code(&proxy, "/api/v1/secrets").await, 403);
    let node = cluster.pki.node_kubeconfig("n1").unwrap();
    let node = pintle_client::connect(Some(&node)).await.unwrap();
    assert_eq!(code(&node, "/api/v1/nodes").await, 200);
}

#[tokio::test]
async fn a_closed_store_is_unavailable_and_loses_nothing() {
    let cluster = Cluster::start().await;
    assert_eq!(cluster.send("POST", PODS, &pod(json!({}))).await.0, 201);
    cluster.store.close();
    let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "m" } });
    let answer = cluster.send("POST", "/api/v1/namespaces/kube-system/configmaps", &map).await;
    refused(&answer, 503, "store");
}

#[tokio::test]
async fn too_much_at_once_is_put_off() {
    let cluster = Cluster::start_with(Config { watches_max: 1, ..Config::default() }).await;
    let path = "/api/v1/pods?watch=true";
    let open = || {
        let request = http::Request::get(path).body(kube::client::Body::empty()).unwrap();
        cluster.client.send(request)
    };
    let first = open().await.unwrap();
    let second = open().await.unwrap();
    assert_eq!((first.status().as_u16(), second.status().as_u16()), (200, 429));
    assert!(second.headers().contains_key("retry-after"));
}
