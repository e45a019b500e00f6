//! A pod whose body is read once is the pod whose body is read twice: in JSON, which may go the
//! shorter way, and in YAML, which never does.

use pintle_client::{LocalPod, PodFeed as _};
use serde_json::{Value, json};

use crate::cluster::Cluster;

const PODS: &str = "/api/v1/namespaces/default/pods";

/// Specs and metadata: plain ones, and such with something to put right, to warn of or to refuse.
fn bodies() -> Vec<Value> {
    let with = |pointer: &str, value: Value| {
        let mut body = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {"app": "a"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        });
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        body.pointer_mut(parent).unwrap()[field] = value;
        body
    };
    let resources = |value: Value| with("/spec/containers/0/resources", value);
    let probe = json!({"grpc": {"port": 1, "service": null}});
    vec![
        with("/metadata/annotations", json!({"k": "é\"\\"})),
        with("/metadata/creationTimestamp", json!(null)),
        with("/metadata/resourceVersion", json!("1")),
        with("/metadata/labels", json!({"a b": "c"})),
        with("/metadata/labels", json!("text")),
        with("/metadata/namespace", json!("other")),
        with("/metadata", json!(null)),
        with("/kind", json!("Node")),
        with("/apiVersion", json!(null)),
        with("/status", json!({"phase": "Running", "qosClass": "Guaranteed"})),
        with("/unknown", json!(1)),
        with("/spec", json!("text")),
        with("/spec/unknown", json!(1)),
        with("/spec/containers", json!([])),
        with("/spec/containers", json!({"name": "c"})),
        with("/spec/containers", json!([null])),
        with("/spec/tolerations", json!("text")),
        with("/spec/tolerations", json!([{"operator": "Exists"}])),
        with("/spec/tolerations", json!(null)),
        with("/metadata/uid", json!(5)),
        with("/metadata/generation", json!("5")),
        with("/metadata/managedFields", json!("text")),
        with("/metadata/namespace", json!(5)),
        with("/metadata/creationTimestamp", json!("yesterday")),
        with("/metadata/finalizers", json!(["example.com/f", "no domain"])),
        with("/status", json!({})),
        with("/status", json!({"unknown": 1})),
        with("/status", json!("text")),
        with("/spec/serviceAccountName", json!(5)),
        with("/spec/serviceAccount", json!("me")),
        with("/spec/preemptionPolicy", json!(["Never"])),
        with("/spec/priorityClassName", json!({})),
        with("/spec/terminationGracePeriodSeconds", json!("")),
        with("/spec/securityContext", json!("")),
        with("/spec/containers/0/resources", json!("")),
        with("/spec/containers/0/env", json!([{"name": "e", "value": ""}])),
        with("/spec/schedulerName", json!("")),
        with("/spec/nodeName", json!("n1")),
        with("/spec/priority", json!(7)),
        with("/spec/priority", json!("7")),
        with("/spec/priorityClassName", json!("system-node-critical")),
        with("/spec/priorityClassName", json!("none")),
        with("/spec/schedulingGates", json!([{"name": "example.com/g"}])),
        with("/spec/volumes", json!([{"name": "v"}, {"name": "w", "emptyDir": null}])),
        with("/spec/volumes", json!([{"name": "v", "secret": {"secretName": "s"}}])),
        with("/spec/containers/0/livenessProbe", probe),
        with("/spec/containers/0/ports", json!([{"containerPort": 80}])),
        with("/spec/containers/0/ports", json!([{"containerPort": 80_000}])),
        with(
            "/spec/topologySpreadConstraints",
            json!([{"maxSkew": 1, "topologyKey": "zone",
            "whenUnsatisfiable": "DoNotSchedule", "matchLabelKeys": ["app"],
            "labelSelector": {"matchLabels": {"app": "a"}}}]),
        ),
        with("/spec/resources", json!({"limits": {"cpu": "1500m"}})),
        with("/spec/resources", json!({"limits": {"cpu": 2}})),
        resources(json!({"limits": {"cpu": "1000m", "memory": "123000"}})),
        resources(json!({"requests": {"cpu": 0.5, "memory": 1024}})),
        resources(json!({"requests": {"cpu": "1", "memory": null}})),
        resources(json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}})),
        resources(json!({"requests": {"cpu": "much"}})),
        resources(json!({"limits": {"cpu": "1", "memory": "1Gi"},
            "requests": {"cpu": "1.0", "memory": "1024Mi"}})),
    ]
}

/// What came of it: code, warnings, and the object less what is each pod's own, or the refusal.
async fn created(cluster: &Cluster, query: &str, body: &str, media_type: &str) -> [Value; 3] {
    let path = format!("{PODS}?{query}");
    let (head, mut answer) = cluster.send_as("POST", &path, media_type, body).await;
    if let Some(metadata) = answer["metadata"].as_object_mut() {
        for field in ["uid", "creationTimestamp", "resourceVersion"] {
            metadata.remove(field);
        }
    }
    let warnings = head.headers.get_all("warning").iter();
    let warnings: Vec<_> = warnings.map(|warning| warning.to_str().unwrap().to_owned()).collect();
    [json!(head.status.as_u16()), json!(warnings), answer]
}

#[tokio::test]
async fn one_pass_makes_what_two_make() {
    let cluster = Cluster::start().await;
    for (nth, mut body) in bodies().into_iter().enumerate() {
        for query in ["fieldValidation=Strict", "fieldValidation=Sure", ""] {
            let mut outcomes = Vec::new();
            for (way, media_type) in [(1, "application/json"), (2, "application/yaml")] {
                let name = format!("p{nth}-{}-{way}", query.len());
                if let Some(metadata) = body["metadata"].as_object_mut() {
                    metadata.insert("name".to_owned(), json!(name));
                }
                let made = created(&cluster, query, &body.to_string(), media_type).await;
                if made[0] == 201 {
                    let (_, stored) = cluster.get(&format!("{PODS}/{name}")).await;
                    assert_eq!(stored["spec"], made[2]["spec"]);
                    let taken = created(&cluster, query, &body.to_string(), media_type).await;
                    assert_eq!(taken[0], 409, "{body}");
                }
                let text = json!(made).to_string().replace(&name, "NAME");
                outcomes.push(serde_json::from_str::<Value>(&text).unwrap());
            }
            assert_eq!(outcomes[0], outcomes[1], "{query} {body}");
        }
    }
    let body = r#"{"metadata": {"name": "twice"}, "spec": {"containers": [{"name": "c",
        "image": "i", "image": "j"}]}}"#;
    let [code, warnings, answer] = created(&cluster, "", body, "application/json").await;
    assert_eq!((code, warnings.as_array().unwrap().len()), (json!(201), 1), "{answer}");
}

#[tokio::test]
async fn what_was_read_goes_along_with_what_is_stored() {
    use futures::StreamExt as _;
    use k8s_openapi::api::core::v1::Pod;
    use kube::runtime::watcher::Event;

    let cluster = Cluster::start().await;
    let mut events = cluster.scheduler.follow("status.phase!=Succeeded");
    let mut next = async || {
        let next = tokio::time::timeout(std::time::Duration::from_secs(60), events.next()).await;
        next.expect("an event within a minute").unwrap().unwrap()
    };
    assert!(matches!(next().await, Event::Init));
    assert!(matches!(next().await, Event::InitDone));
    for (nth, mut body) in bodies().into_iter().enumerate() {
        let name = format!("p{nth}");
        if let Some(metadata) = body["metadata"].as_object_mut() {
            metadata.insert("name".to_owned(), json!(name));
        }
        let (code, answer) = cluster.send("POST", PODS, &body).await;
        if code != 201 {
            continue;
        }
        let Event::Apply(LocalPod { json, resource_version, read }) = next().await else {
            panic!("no event of {name}")
        };
        let mut stored: Value = serde_json::from_slice(&json).unwrap();
        if let Some(read) = read {
            let decoded: Pod = serde_json::from_value(stored.clone()).unwrap();
            assert_eq!(*read, decoded, "{body}");
        }
        stored["metadata"]["resourceVersion"] = json!(resource_version.to_string());
        assert_eq!(stored, answer);
        // What leaves the selection is as good as deleted.
        let path = format!("{PODS}/{name}/status");
        cluster
            .send_as(
                "PATCH",
                &path,
                "application/merge-patch+json",
                r#"{"status": {"phase": "Succeeded"}}"#,
            )
            .await;
        let Event::Delete(gone) = next().await else { panic!("{name} is still selected") };
        assert!(gone.resource_version > resource_version && gone.json == json);
    }
}
