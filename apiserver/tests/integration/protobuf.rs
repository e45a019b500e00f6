//! What kube-scheduler and `kubectl create` send: protobuf bodies, with answers in JSON.

use serde_json::{Value, json};

use crate::cluster::Cluster;

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const PODS: &str = "/api/v1/namespaces/default/pods";

/// The bytes of a field that is a text or a message.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).unwrap();
    assert!(length < 0x80, "one byte of length");
    [&[number << 3 | 2, length], content].concat()
}

fn message(fields: &[(u8, &[u8])]) -> Vec<u8> {
    fields.iter().flat_map(|(number, content)| field(*number, content)).collect()
}

/// An object in its envelope. Texts that Go always writes are in it empty, as Go has them.
fn object(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let types = message(&[(1, api_version.as_bytes()), (2, kind.as_bytes())]);
    [b"k8s\0".to_vec(), message(&[(1, &types), (2, raw), (3, b""), (4, b"")])].concat()
}

fn metadata(name: &str) -> Vec<u8> {
    message(&[(1, name.as_bytes()), (2, b""), (3, b"default"), (4, b""), (5, b""), (8, b"")])
}

async fn send(cluster: &Cluster, method: &str, path: &str, body: Vec<u8>) -> (u16, Value) {
    let (head, value) = cluster.send_as(method, path, PROTOBUF, body).await;
    assert_eq!(head.headers["content-type"], "application/json");
    (head.status.as_u16(), value)
}

async fn create_node_and_pod(cluster: &Cluster) {
    let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "node-1" } });
    assert_eq!(cluster.send("POST", "/api/v1/nodes", &node).await.0, 201);
    let container = message(&[(1, b"c"), (2, b"x"), (5, b""), (8, b""), (13, b""), (14, b"")]);
    let pod = message(&[(1, &metadata("a")), (2, &field(2, &container)), (3, b"")]);
    let (code, pod) = send(cluster, "POST", PODS, object("v1", "Pod", &pod)).await;
    assert_eq!(code, 201, "{pod}");
    assert_eq!(pod["spec"]["containers"][0]["imagePullPolicy"], "Always");
}

#[tokio::test]
async fn a_scheduler_binds_and_tells_of_it_in_protobuf() {
    let cluster = Cluster::start().await;
    create_node_and_pod(&cluster).await;
    let target = message(&[(1, b"Node"), (2, b""), (3, b"node-1"), (4, b""), (5, b"")]);
    let binding = message(&[(1, &metadata("a")), (2, &target)]);
    let path = format!("{PODS}/a/binding");
    let (code, answer) = send(&cluster, "POST", &path, object("v1", "Binding", &binding)).await;
    assert_eq!(code, 201, "{answer}");
    assert_eq!(cluster.get(&format!("{PODS}/a")).await.1["spec"]["nodeName"], "node-1");
    let about = message(&[(1, b"Pod"), (2, b"default"), (3, b"a")]);
    let source = field(1, b"default-scheduler");
    let seconds = [8, 0x80, 0xe5, 0x92, 0xce, 0x06, 0x10, 0];
    let event = message(&[
        (1, &metadata("a.1")),
        (2, &about),
        (3, b"Scheduled"),
        (5, &source),
        (6, &seconds),
        (10, b""),
    ]);
    let events = "/api/v1/namespaces/default/events";
    let (code, event) = send(&cluster, "POST", events, object("v1", "Event", &event)).await;
    assert_eq!(code, 201, "{event}");
    assert_eq!(event["firstTimestamp"], "2026-03-26T04:13:52Z");
    assert_eq!(event["source"]["component"], "default-scheduler");
}

#[tokio::test]
async fn options_of_a_delete_come_in_the_version_of_the_resource() {
    let cluster = Cluster::start().await;
    for version in ["v1", "meta.k8s.io/v1", "apps/v1"] {
        create_node_and_pod(&cluster).await;
        let wrong = field(2, &field(1, b"another"));
        let body = object(version, "DeleteOptions", &wrong);
        let (code, status) = send(&cluster, "DELETE", &format!("{PODS}/a"), body).await;
        assert_eq!(code, 409, "{status}");
        // gracePeriodSeconds, a pointer, is there as zero.
        let body = object(version, "DeleteOptions", &[8, 0]);
        let (code, status) = send(&cluster, "DELETE", &format!("{PODS}/a"), body).await;
        assert_eq!(code, 200, "{status}");
        assert_eq!(cluster.get(&format!("{PODS}/a")).await.0, 404);
        assert_eq!(cluster.send("DELETE", "/api/v1/nodes/node-1", &Value::Null).await.0, 200);
    }
}

#[tokio::test]
async fn a_body_of_another_kind_or_broken_is_refused() {
    let cluster = Cluster::start().await;
    let (code, status) = send(&cluster, "POST", PODS, object("v1", "Service", &[])).await;
    assert_eq!(code, 400, "{status}");
    let (code, status) = send(&cluster, "POST", PODS, object("example.com/v1", "A", &[])).await;
    assert_eq!(code, 415, "{status}");
    let jobs = "/apis/batch/v1/namespaces/default/jobs";
    let (code, status) = send(&cluster, "POST", jobs, object("batch/v1", "Job", &[])).await;
    assert_eq!(code, 404, "{status}");
    let (code, status) = send(&cluster, "POST", PODS, object("v1", "Pod", &[10, 9])).await;
    assert_eq!((code, status["reason"].as_str()), (400, Some("BadRequest")), "{status}");
    assert!(status["message"].as_str().unwrap().contains("Pod"), "{status}");
    assert_eq!(cluster.get(PODS).await.1["items"], json!([]));
}
