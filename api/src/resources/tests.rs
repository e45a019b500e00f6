use serde_json::{Value, json};

use super::*;

fn container(name: &str, cpu: &str, memory: &str) -> Value {
    json!({"name": name, "resources": {"requests": {"cpu": cpu, "memory": memory}}})
}

fn sidecar(name: &str, cpu: &str, memory: &str) -> Value {
    let mut container = container(name, cpu, memory);
    container["restartPolicy"] = json!("Always");
    container
}

fn requests(pod: Value) -> (i64, i64) {
    let pod: Pod = serde_json::from_value(pod).unwrap();
    let requests = pod_requests(&pod);
    (requests.milli_cpu, requests.memory_bytes)
}

#[test]
fn containers_add_up_and_overhead_comes_on_top() {
    let pod = json!({"spec": {
        "containers": [container("a", "250m", "100"), container("b", "1", "28")],
        "overhead": {"cpu": "10m"}}});
    assert_eq!(requests(pod), (1260, 128));
}

#[test]
fn an_init_container_counts_where_it_is_larger() {
    let pod = json!({"spec": {
        "containers": [container("a", "100m", "100")],
        "initContainers": [container("i", "500m", "10"), container("j", "1m", "90")]}});
    assert_eq!(requests(pod), (500, 100));
}

#[test]
fn sidecars_count_beside_later_init_containers_and_containers() {
    // Init 1 alone: 5. Sidecar: 2. Init 2 beside the sidecar: 6. Running: 1 + 2.
    let pod = json!({"spec": {
        "containers": [container("a", "1", "0")],
        "initContainers": [
            container("i", "5", "0"), sidecar("s", "2", "0"), container("j", "4", "0")]}});
    assert_eq!(requests(pod).0, 6000);
    // All sidecars together are a moment of their own.
    let pod = json!({"spec": {
        "containers": [container("a", "1", "0")],
        "initContainers": [sidecar("s", "2", "0"), sidecar("t", "3", "0")]}});
    assert_eq!(requests(pod).0, 6000);
}

#[test]
fn pod_level_resources_replace_the_sum() {
    let pod = json!({"spec": {
        "containers": [container("a", "1", "64")],
        "resources": {"requests": {"cpu": "3", "example.com/gpu": "9"}},
        "overhead": {"cpu": "1"}}});
    assert_eq!(requests(pod), (4000, 64));
}

#[test]
fn scores_assume_something_of_containers_that_ask_nothing() {
    let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [
        {"name": "a"},
        {"name": "b", "resources": {"requests": {"cpu": "0"}}}]}}))
    .unwrap();
    let nonzero = pod_requests_nonzero(&pod);
    assert_eq!(nonzero.milli_cpu, 100, "an explicit zero stays zero");
    assert_eq!(nonzero.memory_bytes, 2 * (200 << 20));
    assert_eq!(pod_requests(&pod), Resources::default());
}

#[test]
fn what_a_pod_asks_as_a_whole_counts_for_scores_once_it_is_placed() {
    let pod = |resources: Value| -> Pod {
        serde_json::from_value(json!({"spec": {"resources": resources, "containers": [
            {"name": "a", "resources": {"requests": {"memory": "64"}}}, {"name": "b"}]}}))
        .unwrap()
    };
    assert_eq!(placed_pod_requests_nonzero(&pod(json!({}))), None);
    assert_eq!(placed_pod_requests_nonzero(&pod(json!({"requests": {"pods": "1"}}))), None);
    let whole = pod(json!({"requests": {"cpu": "1"}}));
    let (waiting, placed) =
        (pod_requests_nonzero(&whole), placed_pod_requests_nonzero(&whole).unwrap());
    assert_eq!((waiting.milli_cpu, waiting.memory_bytes), (200, 64 + (200 << 20)));
    assert_eq!((placed.milli_cpu, placed.memory_bytes), (1000, 64));
    // Of what nobody asks each container counts the default.
    let whole = pod(json!({"requests": {"memory": "1Gi"}}));
    assert_eq!(placed_pod_requests_nonzero(&whole).unwrap().milli_cpu, 200);
}

#[test]
fn a_resize_is_charged_the_most_of_asked_and_given() {
    let mut pod = json!({
        "spec": {"containers": [container("a", "1", "64")]},
        "status": {"containerStatuses": [{
            "name": "a", "image": "", "imageID": "", "ready": true, "restartCount": 0,
            "allocatedResources": {"cpu": "2", "memory": "32"},
            "resources": {"requests": {"cpu": "3", "memory": "16"}}}]}});
    assert_eq!(requests(pod.clone()), (3000, 64));
    pod["status"]["conditions"] =
        json!([{"type": "PodResizePending", "status": "True", "reason": "Infeasible"}]);
    assert_eq!(requests(pod), (3000, 32));
}

#[test]
fn each_container_is_charged_its_own_most() {
    let status = |name: &str, cpu: &str| {
        json!({"name": name, "image": "", "imageID": "", "ready": true, "restartCount": 0,
            "resources": {"requests": {"cpu": cpu}}})
    };
    let pod = json!({
        "spec": {
            "containers": [container("a", "1", "0"), container("b", "4", "0")],
            "initContainers": [sidecar("s", "1", "0"), container("i", "1", "0")]},
        "status": {
            "containerStatuses": [status("a", "3"), status("b", "2")],
            "initContainerStatuses": [status("s", "2"), status("i", "90")]}});
    // 3 of a, 4 of b and 2 of the sidecar; what an ended init container had does not count.
    assert_eq!(requests(pod).0, 9000);
}

#[test]
fn other_resources_keep_their_names() {
    let list = BTreeMap::from([
        ("example.com/gpu".to_owned(), Text("2".into())),
        ("ephemeral-storage".to_owned(), Text("1Ki".into())),
        ("bad".to_owned(), Text("5Q".into())),
    ]);
    let resources = Resources::from_list(Some(&list));
    assert_eq!(resources.ephemeral_storage_bytes, 1024);
    assert_eq!(resources.scalar, BTreeMap::from([("example.com/gpu".to_owned(), 2)]));
}
