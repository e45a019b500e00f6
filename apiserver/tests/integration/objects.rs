//! Objects through the verbs and subresources.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod, Service};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, PropagationPolicy};
use pintle_apiserver::Config;
use serde_json::{Value, json};

use crate::cluster::Cluster;

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": { "containers": [{ "name": "c", "image": "x", "command": ["true"] }] },
    })
}

fn deployment(name: &str) -> Deployment {
    serde_json::from_value(json!({
        "metadata": { "name": name },
        "spec": {
            "replicas": 2,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "c", "image": "x" }] },
            },
        },
    }))
    .unwrap()
}

const PODS: &str = "/api/v1/namespaces/default/pods";

#[tokio::test]
async fn generations_count_specs_and_status_is_its_own() {
    let cluster = Cluster::start().await;
    let api: Api<Deployment> = Api::namespaced(cluster.client.clone(), "default");
    let created = api.create(&PostParams::default(), &deployment("web")).await.unwrap();
    assert_eq!(created.metadata.generation, Some(1));
    let scale = Patch::Merge(json!({ "spec": { "replicas": 5 } }));
    let scaled = api.patch_scale("web", &PatchParams::default(), &scale).await.unwrap();
    assert_eq!(scaled.spec.unwrap().replicas, Some(5));
    let status = Patch::Merge(json!({ "status": { "replicas": 5 }, "spec": { "replicas": 9 } }));
    let after = api.patch_status("web", &PatchParams::default(), &status).await.unwrap();
    assert_eq!(after.metadata.generation, Some(2));
    assert_eq!(after.spec.as_ref().unwrap().replicas, Some(5));
    assert_eq!(after.status.as_ref().unwrap().replicas, Some(5));
    let mut both = after.clone();
    both.spec.as_mut().unwrap().replicas = Some(1);
    both.status.as_mut().unwrap().replicas = Some(7);
    let replaced = api.replace("web", &PostParams::default(), &both).await.unwrap();
    assert_eq!(replaced.status.unwrap().replicas, Some(5));
    assert_eq!(replaced.metadata.generation, Some(3));
    let stale = api.replace("web", &PostParams::default(), &both).await.unwrap_err();
    assert!(matches!(stale, kube::Error::Api(status) if status.code == 409));
}

#[tokio::test]
async fn a_pods_status_is_patched_alone() {
    let cluster = Cluster::start().await;
    let (_, created) = cluster.send("POST", PODS, &pod("a")).await;
    let status = format!("{PODS}/a/status");
    let media_type = "application/strategic-merge-patch+json";
    let patch = async |body: Value| {
        let (head, answer) = cluster.send_as("PATCH", &status, media_type, body.to_string()).await;
        (head.status.as_u16(), answer)
    };
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status});
    let uid = &created["metadata"]["uid"];
    let (code, first) = patch(json!({"metadata": {"uid": uid},
        "status": {"nominatedNodeName": "n", "conditions": [condition("Ready", "False")]}}))
    .await;
    assert_eq!(code, 200, "{first}");
    let revision = &first["metadata"]["resourceVersion"];
    let (code, second) = patch(json!({"metadata": {"resourceVersion": revision},
        "status": {"conditions": [condition("DisruptionTarget", "True")], "phase": "Running"}}))
    .await;
    assert_eq!(code, 200, "{second}");
    assert_eq!(second["status"]["conditions"].as_array().unwrap().len(), 2);
    assert_eq!((&second["spec"], &second["metadata"]["uid"]), (&created["spec"], uid));
    assert_eq!(second["metadata"]["generation"], 1);
    assert_eq!(cluster.get(&format!("{PODS}/a")).await.1, second);
    for selector in ["status.nominatedNodeName=n", "status.phase=Running"] {
        let (_, list) = cluster.get(&format!("{PODS}?fieldSelector={selector}")).await;
        assert_eq!(list["items"].as_array().unwrap().len(), 1, "{selector}");
    }
    // What changes nothing is not written.
    let (_, same) = patch(json!({"status": {"phase": "Running"}})).await;
    assert_eq!(same["metadata"]["resourceVersion"], second["metadata"]["resourceVersion"]);
    let stale = json!({"metadata": {"resourceVersion": revision}, "status": {"phase": "Failed"}});
    assert_eq!(patch(stale).await.0, 409);
    assert_eq!(patch(json!({"metadata": {"uid": "u"}, "status": {"phase": "X"}})).await.0, 409);
    assert_eq!(patch(json!({"status": {"nominatedNodeName": "N!"}})).await.0, 422);
    assert_eq!(patch(json!({"status": {"phase": 7}})).await.0, 400);
    let (code, labelled) =
        patch(json!({"metadata": {"labels": {"a": "b"}}, "status": {"phase": "Pending"}})).await;
    assert_eq!((code, &labelled["metadata"]["labels"]), (200, &json!({"a": "b"})));
}

#[tokio::test]
async fn a_pod_is_bound_once_and_deleted_gracefully() {
    let cluster = Cluster::start().await;
    assert_eq!(cluster.send("POST", PODS, &pod("a")).await.0, 201);
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": { "name": "a" },
        "target": { "kind": "Node", "name": "n1" },
    });
    let path = format!("{PODS}/a/binding");
    assert_eq!(cluster.send("POST", &path, &binding).await.0, 201);
    let (code, status) = cluster.send("POST", &path, &binding).await;
    assert_eq!((code, status["reason"].as_str()), (409, Some("Conflict")));
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), "default");
    let bound = api.get("a").await.unwrap();
    assert_eq!(bound.spec.unwrap().node_name.as_deref(), Some("n1"));
    let scheduled = &bound.status.unwrap().conditions.unwrap()[0];
    assert_eq!((scheduled.type_.as_str(), scheduled.status.as_str()), ("PodScheduled", "True"));
    // Marked first; gone once the node agent says so.
    let marked = api.delete("a", &DeleteParams::default()).await.unwrap().left().unwrap();
    assert_eq!(marked.metadata.deletion_grace_period_seconds, Some(30));
    assert_eq!(cluster.send("POST", PODS, &pod("a")).await.0, 409);
    api.delete("a", &DeleteParams::default().grace_period(0)).await.unwrap();
    assert!(api.get_opt("a").await.unwrap().is_none());
}

#[tokio::test]
async fn finalizers_hold_an_object_until_they_are_gone() {
    let cluster = Cluster::start().await;
    let api: Api<Deployment> = Api::namespaced(cluster.client.clone(), "default");
    api.create(&PostParams::default(), &deployment("web")).await.unwrap();
    let foreground = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Foreground),
        ..DeleteParams::default()
    };
    let marked = api.delete("web", &foreground).await.unwrap().left().unwrap();
    assert_eq!(marked.metadata.finalizers, Some(vec!["foregroundDeletion".to_owned()]));
    assert!(marked.metadata.deletion_timestamp.is_some());
    let release = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    api.patch("web", &PatchParams::default(), &release).await.unwrap();
    assert!(api.get_opt("web").await.unwrap().is_none());
}

#[tokio::test]
async fn a_namespace_goes_by_way_of_finalize() {
    let cluster = Cluster::start().await;
    let team = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "team" } });
    assert_eq!(cluster.send("POST", "/api/v1/namespaces", &team).await.0, 201);
    let (code, marked) = cluster.send("DELETE", "/api/v1/namespaces/team", &Value::Null).await;
    assert_eq!((code, marked["status"]["phase"].as_str()), (200, Some("Terminating")));
    let (code, refused) = cluster.send("POST", "/api/v1/namespaces/team/pods", &pod("a")).await;
    assert_eq!(code, 403, "{refused}");
    assert_eq!(refused["details"]["causes"][0]["reason"], "NamespaceTerminating");
    let mut empty = marked.clone();
    empty["spec"]["finalizers"] = json!([]);
    assert_eq!(cluster.send("PUT", "/api/v1/namespaces/team/finalize", &empty).await.0, 200);
    assert_eq!(cluster.get("/api/v1/namespaces/team").await.0, 404);
    let (code, status) = cluster.send("DELETE", "/api/v1/namespaces/default", &Value::Null).await;
    assert_eq!(code, 403, "{status}");
}

#[tokio::test]
async fn generated_names_dry_runs_and_preconditions() {
    let cluster = Cluster::start().await;
    let api: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), "default");
    let mut map = ConfigMap::default();
    map.metadata.generate_name = Some("made-".to_owned());
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    api.create(&dry, &map).await.unwrap();
    assert!(api.list(&ListParams::default()).await.unwrap().items.is_empty());
    let made = api.create(&PostParams::default(), &map).await.unwrap();
    let name = made.metadata.name.unwrap();
    assert!(name.starts_with("made-") && name.len() == 10, "{name}");
    let path = format!("/api/v1/namespaces/default/configmaps/{name}");
    let wrong = json!({ "preconditions": { "uid": "someone-else" } });
    assert_eq!(cluster.send("DELETE", &path, &wrong).await.0, 409);
    let right = json!({ "preconditions": { "uid": made.metadata.uid } });
    assert_eq!(cluster.send("DELETE", &path, &right).await.0, 200);
}

#[tokio::test]
async fn services_get_addresses_that_nobody_else_has() {
    let cluster = Cluster::start().await;
    let api: Api<Service> = Api::namespaced(cluster.client.clone(), "default");
    let kubernetes = api.get("kubernetes").await.unwrap().spec.unwrap();
    assert_eq!(kubernetes.cluster_ip.as_deref(), Some("10.96.0.1"));
    let service = |name: &str, address: Option<&str>| -> Service {
        serde_json::from_value(json!({
            "metadata": { "name": name },
            "spec": { "clusterIP": address, "ports": [{ "port": 80 }] },
        }))
        .unwrap()
    };
    let create = async |name: &str, address: Option<&str>| {
        api.create(&PostParams::default(), &service(name, address)).await
    };
    let first = create("a", None).await.unwrap().spec.unwrap().cluster_ip.unwrap();
    let kube::Error::Api(taken) = create("b", Some(&first)).await.unwrap_err() else { panic!() };
    assert_eq!(taken.code, 422);
    assert!(taken.message.contains("provided IP is already allocated"), "{}", taken.message);
    api.delete("a", &DeleteParams::default()).await.unwrap();
    create("b", Some(&first)).await.unwrap();
}

#[tokio::test]
async fn lists_are_cut_into_pages_of_one_revision() {
    let cluster = Cluster::start().await;
    let api: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), "default");
    for index in 0..5 {
        let mut map = ConfigMap::default();
        map.metadata.name = Some(format!("m{index}"));
        map.metadata.labels = Some([("odd".to_owned(), (index % 2).to_string())].into());
        api.create(&PostParams::default(), &map).await.unwrap();
    }
    let first = api.list(&ListParams::default().limit(2)).await.unwrap();
    assert_eq!(first.metadata.remaining_item_count, Some(3));
    // What happens after the first page is not seen by the next ones.
    api.delete("m3", &DeleteParams::default()).await.unwrap();
    let mut names: Vec<String> = Vec::new();
    let mut page = first;
    loop {
        names.extend(page.items.iter().filter_map(|map| map.metadata.name.clone()));
        let Some(token) = page.metadata.continue_.clone().filter(|token| !token.is_empty()) else {
            break;
        };
        page = api.list(&ListParams::default().limit(2).continue_token(&token)).await.unwrap();
    }
    assert_eq!(names, ["m0", "m1", "m2", "m3", "m4"]);
    let odd = api.list(&ListParams::default().labels("odd=1").limit(1)).await.unwrap();
    assert_eq!(odd.items.len(), 1);
    let named = api.list(&ListParams::default().fields("metadata.name=m4")).await.unwrap();
    assert_eq!(named.items.len(), 1);
    api.delete_collection(&DeleteParams::default(), &ListParams::default().labels("odd=0"))
        .await
        .unwrap();
    assert_eq!(api.list(&ListParams::default()).await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn forms_other_than_the_object() {
    let cluster = Cluster::start().await;
    let api: Api<Service> = Api::namespaced(cluster.client.clone(), "default");
    let meta = api.list_metadata(&ListParams::default()).await.unwrap();
    assert_eq!(meta.items[0].metadata.name.as_deref(), Some("kubernetes"));
    let request = http::Request::get("/api/v1/namespaces/default/services")
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")
        .body(Vec::new())
        .unwrap();
    let table: Value = cluster.client.request(request).await.unwrap();
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["rows"][0]["cells"][0], "kubernetes");
}

#[tokio::test]
async fn discovery_finds_what_is_served() {
    let cluster = Cluster::start().await;
    for aggregated in [false, true] {
        let discovery = kube::Discovery::new(cluster.client.clone());
        let discovery = match aggregated {
            true => discovery.run_aggregated().await.unwrap(),
            false => discovery.run().await.unwrap(),
        };
        let apps = discovery.get("apps").unwrap();
        let (resource, capabilities) = apps.recommended_kind("Deployment").unwrap();
        assert_eq!(resource.plural, "deployments");
        assert!(capabilities.supports_operation("watch"));
        assert!(
            capabilities.subresources.iter().any(|(sub, _)| sub.plural == "scale"),
            "{aggregated}"
        );
    }
    let version = cluster.client.apiserver_version().await.unwrap();
    assert_eq!(version.git_version, "v1.35.0+pintle");
}

#[tokio::test]
async fn a_budget_holds_evictions_back() {
    let cluster = Cluster::start().await;
    for name in ["a", "b"] {
        let mut pod = pod(name);
        pod["metadata"]["labels"] = json!({ "app": "x" });
        pod["spec"]["nodeName"] = json!("n");
        assert_eq!(cluster.send("POST", PODS, &pod).await.0, 201);
        let running = json!({ "status": { "phase": "Running", "conditions": [
            { "type": "Ready", "status": "True" }] } });
        let api: Api<Pod> = Api::namespaced(cluster.client.clone(), "default");
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(running)).await.unwrap();
    }
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let budget = json!({ "metadata": { "name": "x" },
        "spec": { "minAvailable": 1, "selector": { "matchLabels": { "app": "x" } } } });
    assert_eq!(cluster.send("POST", budgets, &budget).await.0, 201);
    let evict = async |name: &str| {
        let eviction = json!({ "metadata": { "name": name } });
        cluster.send("POST", &format!("{PODS}/{name}/eviction"), &eviction).await
    };
    let mut status = cluster.get(&format!("{budgets}/x")).await.1;
    status["status"] = json!({ "observedGeneration": 1, "disruptionsAllowed": 1,
        "desiredHealthy": 1, "currentHealthy": 2, "expectedPods": 2 });
    let (code, written) = cluster.send("PUT", &format!("{budgets}/x/status"), &status).await;
    assert_eq!(code, 200, "{written}");
    // Lists are answered from the cache that evictions read.
    while cluster.get(budgets).await.1["items"][0]["status"]["observedGeneration"] != 1 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(evict("a").await.0, 201);
    let (code, refused) = evict("b").await;
    assert_eq!(code, 429);
    assert_eq!(
        refused["message"],
        "Cannot evict pod as it would violate the pod's disruption budget."
    );
    let cause = &refused["details"]["causes"][0];
    assert_eq!(cause["reason"], "DisruptionBudget");
    assert_eq!(
        cause["message"],
        "The disruption budget x needs 1 healthy pods and has 2 currently"
    );
    let gone = cluster.get(&format!("{PODS}/a")).await.1;
    assert_eq!(gone["status"]["conditions"][1]["reason"], "EvictionByEvictionAPI");
    // A pod that never ran is nobody's disruption.
    let mut pending = pod("c");
    pending["metadata"]["labels"] = json!({ "app": "x" });
    assert_eq!(cluster.send("POST", PODS, &pending).await.0, 201);
    assert_eq!(evict("c").await.0, 201);
}

#[tokio::test]
async fn an_event_ends_and_other_objects_stay() {
    let event_ttl = Duration::from_millis(100);
    let cluster = Cluster::start_with(Config { event_ttl, ..Config::default() }).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client.clone());
    let map = serde_json::from_value(json!({ "metadata": { "name": "a" } })).unwrap();
    maps.create(&PostParams::default(), &map).await.unwrap();
    let events: Api<Event> = Api::default_namespaced(cluster.client.clone());
    let event = serde_json::from_value(json!({
        "metadata": { "name": "a.1" },
        "involvedObject": { "kind": "ConfigMap", "name": "a", "namespace": "default" },
    }));
    events.create(&PostParams::default(), &event.unwrap()).await.unwrap();
    let gone = async {
        while events.get_opt("a.1").await.unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), gone).await.expect("the Event ends");
    assert!(maps.get_opt("a").await.unwrap().is_some());
}
