//! Volumes, devices and the workloads besides Deployments, over the socket.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::cluster::Cluster;

fn objects() -> Vec<(&'static str, Value)> {
    let template = json!({
        "metadata": { "labels": { "app": "a" } },
        "spec": { "containers": [{ "name": "c", "image": "x" }] },
    });
    let selector = json!({ "matchLabels": { "app": "a" } });
    let devices = json!({ "requests": [{ "name": "r", "exactly": { "deviceClassName": "c" } }] });
    vec![
        ("/api/v1/persistentvolumes", volume()),
        (
            "/api/v1/namespaces/default/persistentvolumeclaims",
            json!({ "spec": { "accessModes": ["ReadWriteOnce"],
                "resources": { "requests": { "storage": "1Gi" } } } }),
        ),
        (
            "/api/v1/namespaces/default/replicationcontrollers",
            json!({ "spec": { "template": template } }),
        ),
        (
            "/apis/apps/v1/namespaces/default/statefulsets",
            json!({ "spec": { "selector": selector, "template": template } }),
        ),
        (
            "/apis/apps/v1/namespaces/default/daemonsets",
            json!({ "spec": { "selector": selector, "template": template } }),
        ),
        ("/apis/storage.k8s.io/v1/storageclasses", json!({ "provisioner": "csi.example.com" })),
        (
            "/apis/storage.k8s.io/v1/csinodes",
            json!({ "spec": { "drivers": [{ "name": "csi.example.com", "nodeID": "n" }] } }),
        ),
        ("/apis/storage.k8s.io/v1/csidrivers", json!({ "spec": {} })),
        (
            "/apis/storage.k8s.io/v1/namespaces/default/csistoragecapacities",
            json!({ "storageClassName": "fast" }),
        ),
        (
            "/apis/storage.k8s.io/v1/volumeattachments",
            json!({ "spec": { "attacher": "csi.example.com", "nodeName": "n",
                "source": { "persistentVolumeName": "pv" } } }),
        ),
        (
            "/apis/policy/v1/namespaces/default/poddisruptionbudgets",
            json!({ "spec": { "minAvailable": 1, "selector": selector } }),
        ),
        ("/apis/resource.k8s.io/v1/deviceclasses", json!({ "spec": {} })),
        (
            "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims",
            json!({ "spec": { "devices": devices } }),
        ),
        (
            "/apis/resource.k8s.io/v1/namespaces/default/resourceclaimtemplates",
            json!({ "spec": { "spec": { "devices": devices } } }),
        ),
        (
            "/apis/resource.k8s.io/v1/resourceslices",
            json!({ "spec": { "driver": "d.example.com", "allNodes": true,
                "pool": { "name": "p", "generation": 1, "resourceSliceCount": 1 } } }),
        ),
        (
            "/apis/scheduling.k8s.io/v1alpha1/namespaces/default/workloads",
            json!({ "spec": { "podGroups": [{ "name": "g", "policy": { "basic": {} } }] } }),
        ),
    ]
}

fn volume() -> Value {
    json!({ "spec": { "accessModes": ["ReadWriteOnce"], "capacity": { "storage": "1Gi" },
        "csi": { "driver": "csi.example.com", "volumeHandle": "h" } } })
}

#[tokio::test]
async fn each_kind_is_created_listed_and_deleted() {
    let cluster = Cluster::start().await;
    for (path, mut object) in objects() {
        object["metadata"] = json!({ "name": "x" });
        let (code, created) = cluster.send("POST", path, &object).await;
        assert_eq!(code, 201, "{path}: {created}");
        let (code, list) = cluster.send("GET", path, &Value::Null).await;
        assert_eq!((code, list["items"].as_array().unwrap().len()), (200, 1), "{path}");
        let strict = format!("{path}?fieldValidation=Strict");
        object["metadata"]["name"] = json!("y");
        object["nonsense"] = json!(1);
        let (code, status) = cluster.send("POST", &strict, &object).await;
        assert_eq!(code, 400, "{path}");
        assert!(status["message"].as_str().unwrap().contains("unknown field \"nonsense\""));
        let (code, _) = cluster.send("DELETE", &format!("{path}/x"), &Value::Null).await;
        assert_eq!(code, 200, "{path}");
    }
}

#[tokio::test]
async fn a_group_with_two_versions_is_announced_once() {
    let cluster = Cluster::start().await;
    let (_, groups) = cluster.send("GET", "/apis", &Value::Null).await;
    let groups = groups["groups"].as_array().unwrap();
    let scheduling: Vec<_> = groups.iter().filter(|g| g["name"] == "scheduling.k8s.io").collect();
    assert_eq!(scheduling.len(), 1);
    assert_eq!(scheduling[0]["versions"].as_array().unwrap().len(), 2);
    assert_eq!(scheduling[0]["preferredVersion"]["version"], "v1");
    let path = "/apis/scheduling.k8s.io/v1alpha1";
    let (code, resources) = cluster.send("GET", path, &Value::Null).await;
    assert_eq!((code, resources["resources"][0]["name"].as_str()), (200, Some("workloads")));
}

#[tokio::test]
async fn a_volume_is_bound_to_a_claim_and_both_have_a_status_of_their_own() {
    let cluster = Cluster::start().await;
    let mut object = volume();
    object["metadata"] = json!({ "name": "pv" });
    assert_eq!(cluster.send("POST", "/api/v1/persistentvolumes", &object).await.0, 201);
    let volumes: Api<PersistentVolume> = Api::all(cluster.client.clone());
    let mut volume = volumes.get("pv").await.unwrap();
    assert_eq!(volume.status.as_ref().unwrap().phase.as_deref(), Some("Pending"));
    let spec = volume.spec.as_mut().unwrap();
    assert_eq!(spec.persistent_volume_reclaim_policy.as_deref(), Some("Retain"));
    spec.claim_ref = Some(k8s_openapi::api::core::v1::ObjectReference {
        kind: Some("PersistentVolumeClaim".into()),
        name: Some("c".into()),
        namespace: Some("default".into()),
        ..Default::default()
    });
    volume.status.as_mut().unwrap().phase = Some("Bound".into());
    let written = volumes.replace("pv", &PostParams::default(), &volume).await.unwrap();
    assert_eq!(written.status.unwrap().phase.as_deref(), Some("Pending"));
    let stale = volumes.replace("pv", &PostParams::default(), &volume).await.unwrap_err();
    assert!(matches!(stale, kube::Error::Api(status) if status.code == 409));

    let claims: Api<PersistentVolumeClaim> = Api::default_namespaced(cluster.client.clone());
    let claim = serde_json::from_value(json!({ "metadata": { "name": "c" }, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } } }));
    claims.create(&PostParams::default(), &claim.unwrap()).await.unwrap();
    let bound = Patch::Merge(json!({ "status": { "phase": "Bound" } }));
    let claim = claims.patch_status("c", &PatchParams::default(), &bound).await.unwrap();
    assert_eq!(claim.status.unwrap().phase.as_deref(), Some("Bound"));
}
