//! Pods whose bodies differ in name alone: what comes of the third is what came of the first.

use serde_json::{Value, json};

use crate::cluster::Cluster;

const PODS: &str = "/api/v1/namespaces/default/pods";

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "creationTimestamp": null, "annotations": {"note": "é\"\\"},
            "labels": {"app": "web"}, "generateName": "web-",
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web",
                "uid": "5f0c9ab0-7a2b-4c3d-8e4f-5a6b7c8d9e0f", "controller": true}],
        },
        "spec": {
            "containers": [{"name": "c", "image": "x",
                "resources": {"requests": {"cpu": "0.5", "memory": "1024Mi"}}}],
            "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone",
                "whenUnsatisfiable": "ScheduleAnyway", "matchLabelKeys": ["app"],
                "labelSelector": {"matchLabels": {"app": "web"}}}],
        },
        "status": {},
    })
}

/// Less what is each pod's own.
fn alike(mut pod: Value) -> Value {
    for field in ["name", "uid", "creationTimestamp", "resourceVersion"] {
        assert!(pod["metadata"].as_object_mut().unwrap().remove(field).is_some(), "{field}: {pod}");
    }
    pod
}

#[tokio::test]
async fn a_pod_that_recurs_is_as_the_first_one() {
    let cluster = Cluster::start().await;
    let mut created = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let (code, answer) = cluster.send("POST", PODS, &pod(name)).await;
        assert_eq!(code, 201, "{answer}");
        assert_eq!(answer["metadata"]["name"], name);
        let (_, stored) = cluster.get(&format!("{PODS}/{name}")).await;
        assert_eq!(stored, answer);
        let (_, listed) = cluster.get(&format!("{PODS}?fieldSelector=metadata.name={name}")).await;
        assert_eq!(listed["items"].as_array().unwrap().len(), 1);
        created.push(answer);
    }
    for other in &created[1..] {
        assert_eq!(alike(other.clone()), alike(created[0].clone()));
        assert_ne!(other["metadata"]["uid"], created[0]["metadata"]["uid"]);
    }
    let (_, labelled) = cluster.get(&format!("{PODS}?labelSelector=app%3Dweb")).await;
    assert_eq!(labelled["items"].as_array().unwrap().len(), 4);
    let (code, refused) = cluster.send("POST", PODS, &pod("d")).await;
    assert_eq!((code, &refused["reason"]), (409, &json!("AlreadyExists")));
    let (code, refused) = cluster.send("POST", PODS, &pod("D")).await;
    assert_eq!((code, &refused["reason"]), (422, &json!("Invalid")));
    let elsewhere = "/api/v1/namespaces/nowhere/pods";
    assert_eq!(cluster.send("POST", elsewhere, &pod("e")).await.0, 404);
    let (code, dry) = cluster.send("POST", &format!("{PODS}?dryRun=All"), &pod("e")).await;
    assert_eq!((code, &dry["metadata"]["name"]), (201, &json!("e")));
    assert_eq!(cluster.get(&format!("{PODS}/e")).await.0, 404);
}

#[tokio::test]
async fn names_are_generated_for_pods_that_recur() {
    let cluster = Cluster::start().await;
    let mut names = std::collections::BTreeSet::new();
    for _ in 0..5 {
        let (code, answer) = cluster.send("POST", PODS, &pod("")).await;
        assert_eq!(code, 201, "{answer}");
        assert!(answer["metadata"]["name"].as_str().unwrap().starts_with("web-"), "{answer}");
        names.insert(answer["metadata"]["name"].to_string());
    }
    assert_eq!(names.len(), 5);
}

#[tokio::test]
async fn findings_are_told_each_time() {
    let cluster = Cluster::start().await;
    let with_unknown = |name: &str| {
        let mut pod = pod(name);
        pod["spec"]["unknown"] = json!(1);
        pod.to_string()
    };
    for name in ["a", "b", "c"] {
        let path = format!("{PODS}?fieldValidation=Ignore");
        let sent = cluster.send_as("POST", &path, "application/json", with_unknown(name)).await;
        assert_eq!(sent.0.status, 201);
        assert!(!sent.0.headers.contains_key("warning"));
    }
    for name in ["d", "e", "f"] {
        let sent = cluster.send_as("POST", PODS, "application/json", with_unknown(name)).await;
        assert!(sent.0.headers.contains_key("warning"));
    }
    let path = format!("{PODS}?fieldValidation=Strict");
    let sent = cluster.send_as("POST", &path, "application/json", with_unknown("g")).await;
    assert_eq!(sent.0.status, 400);
}

#[tokio::test]
async fn a_new_default_class_counts_from_then_on() {
    let cluster = Cluster::start().await;
    let create = async |name: &str| cluster.send("POST", PODS, &pod(name)).await.1;
    for name in ["a", "b", "c"] {
        assert_eq!(create(name).await["spec"]["priority"], 0);
    }
    let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
        "metadata": {"name": "high"}, "value": 7, "globalDefault": true});
    let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
    assert_eq!(cluster.send("POST", classes, &class).await.0, 201);
    // A list waits until the cache has the class, which admission reads from there.
    assert_eq!(cluster.get(classes).await.0, 200);
    for name in ["d", "e", "f"] {
        let created = create(name).await;
        assert_eq!(
            (&created["spec"]["priority"], created["spec"]["priorityClassName"].as_str()),
            (&json!(7), Some("high"))
        );
    }
}
