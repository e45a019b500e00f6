//! Writes of pods without the form of a request: each does what the request does that says the same.

use futures::{AsyncBufReadExt as _, StreamExt as _};
use k8s_openapi::api::core::v1::PodCondition;
use pintle_apiserver::UserInfo;
use pintle_client::{PodBinding, PodDeletion, PodEviction, PodStatusChange, PodWriter as _};
use serde_json::{Value, json};

use crate::cluster::Cluster;

const PODS: &str = "/api/v1/namespaces/default/pods";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

/// A cluster with pods in pairs: what is done to one by a request is done to the other without.
struct Pairs {
    cluster: Cluster,
    made: usize,
}

/// What came of a write: the status code and message of a refusal, and the pod afterwards.
type Outcome = (Option<(u16, String)>, Value);

/// A state to begin in, put into words of requests.
#[derive(Clone, Copy, Debug)]
struct State {
    spec: &'static str,
    metadata: &'static str,
    status: &'static str,
    node: &'static str,
    is_deleted: bool,
}

const PLAIN: State =
    State { spec: "{}", metadata: "{}", status: "{}", node: "", is_deleted: false };

/// States that differ in what the shorter ways look at.
fn states() -> Vec<State> {
    let said = r#"{"nominatedNodeName": "n9", "conditions": [{"type": "Other", "status": "True"},
        {"type": "PodScheduled", "status": "False", "reason": "Old", "message": "é\"\\",
        "lastTransitionTime": "2020-01-01T00:00:00Z", "lastProbeTime": "2020-01-01T00:00:00Z"}]}"#;
    let claims = r#"{"resourceClaimStatuses": [{"name": "c", "resourceClaimName": "x"}]}"#;
    let grace = r#"{"terminationGracePeriodSeconds": 0}"#;
    let claimed = r#"{"resourceClaims": [{"name": "c", "resourceClaimName": "x"}]}"#;
    let held = r#"{"finalizers": ["example.com/held"]}"#;
    vec![
        PLAIN,
        State { status: said, ..PLAIN },
        State { node: "n1", ..PLAIN },
        State { node: "n1", status: said, spec: grace, ..PLAIN },
        State { node: "n1", is_deleted: true, ..PLAIN },
        State { metadata: held, ..PLAIN },
        State { metadata: held, is_deleted: true, ..PLAIN },
        State { metadata: held, node: "n1", spec: grace, ..PLAIN },
        State { status: claims, spec: claimed, ..PLAIN },
        State { status: r#"{"phase": "Succeeded"}"#, node: "n1", ..PLAIN },
        State { spec: r#"{"schedulingGates": [{"name": "g"}]}"#, ..PLAIN },
    ]
}

impl Pairs {
    async fn start() -> Self {
        Self { cluster: Cluster::start().await, made: 0 }
    }

    /// Two pods in the same state; the names, and the versions and uids before the writes.
    async fn pair(&mut self, state: State) -> [(String, Value); 2] {
        self.made += 1;
        let names = ["requested", "direct"].map(|way| format!("{way}-{}", self.made));
        let [first, second] = names;
        [self.pod(first, state).await, self.pod(second, state).await]
    }

    async fn pod(&self, name: String, state: State) -> (String, Value) {
        let value = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let (mut metadata, mut spec) = (value(state.metadata), value(state.spec));
        metadata["name"] = json!(name);
        spec["containers"] = json!([{"name": "c", "image": "i"}]);
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
        let path = format!("{PODS}/{name}");
        self.done("POST", PODS, "application/json", &pod).await;
        if !state.node.is_empty() {
            let binding = json!({"target": {"name": state.node}});
            self.done("POST", &format!("{path}/binding"), "application/json", &binding).await;
        }
        if state.status != "{}" {
            let patch = json!({"status": value(state.status)});
            self.done("PATCH", &format!("{path}/status"), STRATEGIC, &patch).await;
        }
        if state.is_deleted {
            self.done("DELETE", &path, "application/json", &json!({})).await;
        }
        let (_, pod) = self.cluster.get(&path).await;
        (name, pod)
    }

    async fn done(&self, method: &str, path: &str, media_type: &str, body: &Value) {
        let (head, answer) = self.cluster.send_as(method, path, media_type, body.to_string()).await;
        assert!(head.status.is_success(), "{method} {path}: {answer}");
    }

    async fn requested(&self, name: &str, method: &str, part: &str, body: &Value) -> Outcome {
        let path = format!("{PODS}/{name}{part}");
        let media_type = if method == "PATCH" { STRATEGIC } else { "application/json" };
        let (head, answer) =
            self.cluster.send_as(method, &path, media_type, body.to_string()).await;
        let message = answer["message"].as_str().unwrap_or_default().to_owned();
        let refusal = (!head.status.is_success()).then(|| (head.status.as_u16(), message));
        (refusal, self.pod_now(name).await)
    }

    async fn direct(&self, name: &str, written: kube::Result<()>) -> Outcome {
        let refusal = written.err().map(|error| match error {
            kube::Error::Api(status) => (status.code, status.message),
            other => panic!("{other}"),
        });
        (refusal, self.pod_now(name).await)
    }

    async fn pod_now(&self, name: &str) -> Value {
        // Through the cache and its facts, of which each write makes its own.
        let path = format!("{PODS}?fieldSelector=metadata.name={name}");
        let mut listed = self.cluster.get(&path).await.1;
        let listed = listed["items"].get_mut(0).map(Value::take).unwrap_or_default();
        let (code, stored) = self.cluster.get(&format!("{PODS}/{name}")).await;
        assert_eq!(listed.is_null(), code == 404, "{stored}");
        let Some(node) = listed["status"]["nominatedNodeName"].as_str() else { return listed };
        let path = format!("{PODS}?fieldSelector=status.nominatedNodeName={node}");
        let nominated = self.cluster.get(&path).await.1;
        let nominated = nominated["items"].as_array().unwrap();
        assert!(nominated.contains(&listed), "{listed}");
        listed
    }
}

/// The outcome less what differs from pod to pod, and less times of now.
fn alike((refusal, mut pod): Outcome, (name, before): &(String, Value)) -> Outcome {
    let own = |text: String| {
        let uid = before["metadata"]["uid"].as_str().unwrap();
        let version = before["metadata"]["resourceVersion"].as_str().unwrap();
        text.replace(name, "NAME").replace(uid, "UID").replace(version, "VERSION")
    };
    if let Some(metadata) = pod["metadata"].as_object_mut() {
        for field in ["name", "uid", "creationTimestamp", "resourceVersion", "deletionTimestamp"] {
            metadata.remove(field);
        }
    }
    if let Some(conditions) = pod["status"]["conditions"].as_array_mut() {
        for condition in conditions.iter_mut().filter_map(Value::as_object_mut) {
            if condition["status"] == "True" && condition["type"] == "PodScheduled" {
                condition.remove("lastTransitionTime");
            }
            // Null is as good as absent, and both are written.
            condition.retain(|_, value| !value.is_null());
        }
    }
    (refusal.map(|(code, message)| (code, own(message))), pod)
}

fn condition(kind: &str) -> PodCondition {
    serde_json::from_value(json!({
        "type": kind, "status": "False", "reason": "Unschedulable", "message": "0/3 \"é\"",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }))
    .unwrap()
}

#[tokio::test]
async fn a_status_is_changed_as_a_patch_changes_it() {
    let mut pairs = Pairs::start().await;
    let conditions = [None, Some(condition("PodScheduled")), Some(condition("DisruptionTarget"))];
    let nominations = [None, Some(None), Some(Some("n2")), Some(Some("N 2"))];
    let preconditions = [(None, None), (Some(true), Some(true))];
    let failing = [(Some(false), None), (None, Some(false)), (Some(true), None)];
    for state in states() {
        let mut cases: Vec<_> = preconditions
            .iter()
            .flat_map(|pre| conditions.iter().map(move |condition| (*pre, condition)))
            .flat_map(|(pre, condition)| nominations.iter().map(move |n| (pre, condition, *n)))
            .collect();
        cases.extend(failing.map(|pre| (pre, &conditions[1], nominations[2])));
        for ((uid, version), condition, nominated_node) in cases {
            let pair = pairs.pair(state).await;
            let change = |(name, before): &(String, Value), field: &str, right: Option<bool>| {
                let own = before["metadata"][field].as_str().unwrap().to_owned();
                (name.clone(), right.map(|right| if right { own } else { "1".to_owned() }))
            };
            let mut outcomes = Vec::new();
            for (way, pod) in pair.iter().enumerate() {
                let (name, uid) = change(pod, "uid", uid);
                let (_, version) = change(pod, "resourceVersion", version);
                let change = PodStatusChange {
                    namespace: "default",
                    name: &name,
                    uid: uid.as_deref(),
                    resource_version: version.as_deref(),
                    condition: condition.as_ref(),
                    nominated_node,
                };
                let outcome = match way {
                    0 => pairs.requested(&name, "PATCH", "/status", &change.patch()).await,
                    _ => {
                        let written = pairs.cluster.scheduler.change_status(change).await;
                        pairs.direct(&name, written).await
                    }
                };
                outcomes.push(alike(outcome, pod));
            }
            assert_eq!(outcomes[1], outcomes[0], "{state:?} {condition:?} {nominated_node:?}");
        }
    }
}

#[tokio::test]
async fn a_pod_is_bound_and_deleted_as_by_requests() {
    let mut pairs = Pairs::start().await;
    for state in states() {
        for uid in [None, Some(true), Some(false)] {
            for act in ["bind", "delete", "evict"] {
                let pair = pairs.pair(state).await;
                let [requested, direct] = &pair;
                let uid_of = |(_, before): &(String, Value)| {
                    let own = before["metadata"]["uid"].as_str().unwrap().to_owned();
                    uid.map(|right| if right { own } else { "1".to_owned() })
                };
                let (name, uid) = (direct.0.as_str(), uid_of(direct));
                let (namespace, uid) = ("default", uid.as_deref());
                let writer = &pairs.cluster.scheduler;
                let deletion = PodDeletion { namespace, name, uid };
                let body = json!({"preconditions": {"uid": uid_of(requested)}});
                let (first, written) = match act {
                    "delete" => {
                        let first = pairs.requested(&requested.0, "DELETE", "", &body).await;
                        (first, writer.delete(deletion).await)
                    }
                    "evict" => {
                        let condition = &condition("DisruptionTarget");
                        let uid = uid_of(requested);
                        let told = json!({"metadata": uid.map(|uid| json!({"uid": uid})),
                            "status": {"conditions": [condition]}});
                        let name = &requested.0;
                        let mut first = pairs.requested(name, "PATCH", "/status", &told).await;
                        if first.0.is_none() {
                            first = pairs.requested(name, "DELETE", "", &body).await;
                        }
                        (first, writer.evict(PodEviction { deletion, condition }).await)
                    }
                    _ => {
                        let metadata = json!({"name": requested.0, "uid": uid_of(requested)});
                        let body = json!({"metadata": metadata, "target": {"name": "n5"}});
                        let first = pairs.requested(&requested.0, "POST", "/binding", &body).await;
                        let binding = PodBinding { namespace, name, uid, node: "n5" };
                        (first, writer.bind(binding).await)
                    }
                };
                let second = pairs.direct(name, written).await;
                let (first, second) = (alike(first, requested), alike(second, direct));
                assert_eq!(second, first, "{state:?} uid {uid:?}, {act}");
            }
        }
    }
}

#[tokio::test]
async fn missing_pods_and_rights_are_refused() {
    let cluster = Cluster::start().await;
    let (namespace, name, uid) = ("default", "none", None);
    let change = PodStatusChange {
        namespace,
        name,
        uid,
        resource_version: None,
        condition: None,
        nominated_node: Some(Some("n")),
    };
    let nobody = cluster.server.in_process(UserInfo::new("nobody", []));
    let deletion = PodDeletion { namespace, name, uid };
    let condition = &condition("DisruptionTarget");
    for (writer, expected) in [(&cluster.scheduler, 404), (&nobody, 403)] {
        let written = [
            writer.bind(PodBinding { namespace, name, uid, node: "n" }).await,
            writer.change_status(change).await,
            writer.delete(deletion).await,
            writer.evict(PodEviction { deletion, condition }).await,
        ];
        for refused in written {
            let Err(kube::Error::Api(status)) = refused else { panic!("{refused:?}") };
            assert_eq!(status.code, expected, "{}", status.message);
        }
    }
}

#[tokio::test]
async fn who_watches_sees_an_evicted_pod_told_before_it_is_gone() {
    let mut pairs = Pairs::start().await;
    let [_, (name, before)] = pairs.pair(PLAIN).await;
    let revision = before["metadata"]["resourceVersion"].as_str().unwrap();
    let path = format!("{PODS}?watch=true&resourceVersion={revision}&timeoutSeconds=60");
    let request = http::Request::get(path).body(Vec::new()).unwrap();
    let lines = pairs.cluster.client.request_stream(request).await.unwrap().lines();
    let deletion = PodDeletion { namespace: "default", name: &name, uid: None };
    let condition = &condition("DisruptionTarget");
    pairs.cluster.scheduler.evict(PodEviction { deletion, condition }).await.unwrap();
    let mut revisions = vec![revision.parse::<u64>().unwrap()];
    let seen: Vec<Value> =
        lines.take(2).map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect().await;
    for (event, expected) in seen.iter().zip(["MODIFIED", "DELETED"]) {
        assert_eq!(event["type"], expected);
        assert_eq!(event["object"]["status"]["conditions"][0]["type"], "DisruptionTarget");
        let revision = event["object"]["metadata"]["resourceVersion"].as_str().unwrap();
        revisions.push(revision.parse().unwrap());
    }
    assert!(revisions.is_sorted_by(|a, b| a < b), "{revisions:?}");
}
