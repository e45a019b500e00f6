//! The controllers over a real API server and store, in process. The tests play scheduler and
//! kubelet: they bind pods, make them ready, and end those that are deleted.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cluster {
    pub(crate) mod harness;
}

use cluster::harness::{Cluster, condition, wait_for};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Node, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceClaimTemplate};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

fn deployment(replicas: i32, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": image}]},
            },
        },
    })
}

fn image_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.containers.first()?.image.as_deref()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_comes_up_rolls_scales_and_goes() {
    let cluster = Cluster::start().await;
    let deployments = cluster.api::<Deployment>();
    let pods = cluster.api::<Pod>();
    cluster.create::<Deployment>(deployment(3, "v1")).await;
    let kubelet = cluster.play_kubelet();

    wait_for("the first rollout", || async {
        let web = deployments.get("web").await.ok()?;
        (condition(&web, "Progressing")? == ("True", "NewReplicaSetAvailable")).then_some(())
    })
    .await;
    let web = deployments.get("web").await.unwrap();
    let status = web.status.as_ref().unwrap();
    assert_eq!((status.replicas, status.available_replicas), (Some(3), Some(3)));
    assert_eq!(status.observed_generation, web.metadata.generation);
    assert_eq!(web.metadata.annotations.unwrap()["deployment.kubernetes.io/revision"], "1");

    let patch =
        json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "v2"}]}}}});
    deployments.patch("web", &PatchParams::default(), &Patch::Strategic(patch)).await.unwrap();
    wait_for("the second rollout", || async {
        let all = pods.list(&ListParams::default()).await.ok()?.items;
        (all.len() == 3 && all.iter().all(|pod| image_of(pod) == Some("v2"))).then_some(())
    })
    .await;
    wait_for("the second revision", || async {
        let web = deployments.get("web").await.ok()?;
        let revision =
            web.metadata.annotations.as_ref()?["deployment.kubernetes.io/revision"] == "2";
        (revision && condition(&web, "Progressing")? == ("True", "NewReplicaSetAvailable"))
            .then_some(())
    })
    .await;
    let sets = cluster.api::<ReplicaSet>().list(&ListParams::default()).await.unwrap().items;
    assert_eq!(sets.len(), 2, "the old one is kept for undo");

    let patch = json!({"spec": {"replicas": 5}});
    deployments.patch("web", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    wait_for("five replicas", || async {
        let status = deployments.get("web").await.ok()?.status?;
        (status.available_replicas == Some(5)).then_some(())
    })
    .await;

    let events = cluster.api::<Event>();
    wait_for("the scaling events", || async {
        let all = events.list(&ListParams::default()).await.ok()?.items;
        let has = |reason: &str| all.iter().any(|event| event.reason.as_deref() == Some(reason));
        (has("ScalingReplicaSet") && has("SuccessfulCreate") && has("SuccessfulDelete"))
            .then_some(())
    })
    .await;

    deployments.delete("web", &DeleteParams::background()).await.unwrap();
    wait_for("the cascade", || async {
        let sets = cluster.api::<ReplicaSet>().list(&ListParams::default()).await.ok()?.items;
        let pods = pods.list(&ListParams::default()).await.ok()?.items;
        (sets.is_empty() && pods.is_empty()).then_some(())
    })
    .await;
    kubelet.abort();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn foreground_deletion_waits_for_the_dependents() {
    let cluster = Cluster::start().await;
    cluster.create::<Deployment>(deployment(2, "v1")).await;
    let kubelet = cluster.play_kubelet();
    let deployments = cluster.api::<Deployment>();
    wait_for("two replicas", || async {
        (deployments.get("web").await.ok()?.status?.available_replicas == Some(2)).then_some(())
    })
    .await;
    kubelet.abort();
    deployments.delete("web", &DeleteParams::foreground()).await.unwrap();
    let pods = cluster.api::<Pod>();
    wait_for("pods that are being deleted", || async {
        let all = pods.list(&ListParams::default()).await.ok()?.items;
        let going = all.iter().filter(|pod| pod.metadata.deletion_timestamp.is_some()).count();
        (going == 2).then_some(())
    })
    .await;
    // No kubelet has ended them: the owner is still there.
    let web = deployments.get("web").await.unwrap();
    assert!(web.metadata.deletion_timestamp.is_some());
    let kubelet = cluster.play_kubelet();
    wait_for("the end", || async {
        deployments.get_opt("web").await.ok()?.is_none().then_some(())
    })
    .await;
    assert!(pods.list(&ListParams::default()).await.unwrap().items.is_empty());
    kubelet.abort();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_stay_and_are_adopted_and_an_undo_reuses_them() {
    let cluster = Cluster::start().await;
    cluster.create::<Deployment>(deployment(2, "v1")).await;
    let kubelet = cluster.play_kubelet();
    let deployments = cluster.api::<Deployment>();
    let sets = cluster.api::<ReplicaSet>();
    // As `kubectl rollout status` has it: after an undo the condition is the last rollout's for a moment.
    let complete = || async {
        let web = deployments.get("web").await.ok()?;
        let status = web.status.as_ref()?;
        let counts = [status.replicas, status.updated_replicas, status.available_replicas];
        let observed = status.observed_generation == web.metadata.generation;
        (observed && counts == [Some(2); 3]).then_some(web)
    };
    wait_for("the first rollout", complete).await;
    let first = sets.list(&ListParams::default()).await.unwrap().items.remove(0);
    let uids = || async {
        let all = cluster.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
        all.into_iter().map(|pod| pod.metadata.uid).collect::<Vec<_>>()
    };
    let pods = uids().await;

    deployments.delete("web", &DeleteParams::orphan()).await.unwrap();
    wait_for("the orphan", || async {
        let gone = deployments.get_opt("web").await.ok()?.is_none();
        let set = sets.get(first.metadata.name.as_deref()?).await.ok()?;
        (gone && set.metadata.owner_references.is_none_or(|owners| owners.is_empty())).then_some(())
    })
    .await;
    cluster.create::<Deployment>(deployment(2, "v1")).await;
    wait_for("the adoption", complete).await;
    let all = sets.list(&ListParams::default()).await.unwrap().items;
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].metadata.uid, first.metadata.uid);
    assert_eq!(uids().await, pods, "no pod was replaced");

    for (image, revision) in [("v2", "2"), ("v1", "3")] {
        let containers = json!([{"name": "c", "image": image}]);
        let patch = json!({"spec": {"template": {"spec": {"containers": containers}}}});
        deployments.patch("web", &PatchParams::default(), &Patch::Strategic(patch)).await.unwrap();
        wait_for("the revision", || async {
            let annotations = complete().await?.metadata.annotations?;
            (annotations["deployment.kubernetes.io/revision"] == revision).then_some(())
        })
        .await;
    }
    let all = sets.list(&ListParams::default()).await.unwrap().items;
    assert_eq!(all.len(), 2);
    let back = all.iter().find(|set| set.metadata.uid == first.metadata.uid).unwrap();
    assert_eq!(back.spec.as_ref().unwrap().replicas, Some(2));
    kubelet.abort();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slices_follow_the_readiness_of_pods() {
    let cluster = Cluster::start().await;
    cluster.create::<Deployment>(deployment(2, "v1")).await;
    cluster
        .create::<Service>(json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
        }))
        .await;
    let kubelet = cluster.play_kubelet();
    wait_for("two ready endpoints", || async {
        (cluster.ready_addresses("web").await?.len() == 2).then_some(())
    })
    .await;
    kubelet.abort();

    let pods = cluster.api::<Pod>();
    let pod = pods.list(&ListParams::default()).await.unwrap().items.remove(0);
    cluster.set_ready(&pod, false).await;
    wait_for("one ready endpoint", || async {
        (cluster.ready_addresses("web").await?.len() == 1).then_some(())
    })
    .await;
    cluster.set_ready(&pod, true).await;
    wait_for("two ready endpoints again", || async {
        (cluster.ready_addresses("web").await?.len() == 2).then_some(())
    })
    .await;
    cluster.api::<Service>().delete("web", &DeleteParams::default()).await.unwrap();
    let slices = cluster.api::<EndpointSlice>();
    wait_for("no slice of the Service", || async {
        let labelled = ListParams::default().labels("kubernetes.io/service-name=web");
        slices.list(&labelled).await.ok()?.items.is_empty().then_some(())
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_goes_with_all_it_holds() {
    let cluster = Cluster::start().await;
    let namespaces: kube::Api<Namespace> = kube::Api::all(cluster.client.clone());
    let namespace: Namespace =
        serde_json::from_value(json!({"metadata": {"name": "team"}})).unwrap();
    namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    let accounts: kube::Api<ServiceAccount> = kube::Api::namespaced(cluster.client.clone(), "team");
    wait_for("the default service account", || async { accounts.get("default").await.ok() }).await;
    let maps: kube::Api<ConfigMap> = kube::Api::namespaced(cluster.client.clone(), "team");
    let map = |meta: Value| serde_json::from_value(json!({"metadata": meta})).unwrap();
    maps.create(&PostParams::default(), &map(json!({"name": "plain"}))).await.unwrap();
    let held = map(json!({"name": "held", "finalizers": ["example.com/hold"]}));
    maps.create(&PostParams::default(), &held).await.unwrap();

    namespaces.delete("team", &DeleteParams::default()).await.unwrap();
    wait_for("the held map to be told", || async {
        let team = namespaces.get("team").await.ok()?;
        let conditions = team.status?.conditions?;
        let told = conditions.iter().find(|c| c.type_ == "NamespaceFinalizersRemaining")?;
        told.message.as_deref()?.contains("example.com/hold").then_some(())
    })
    .await;
    assert!(maps.get_opt("plain").await.unwrap().is_none());
    let release = json!({"metadata": {"finalizers": null}});
    maps.patch("held", &PatchParams::default(), &Patch::Merge(release)).await.unwrap();
    wait_for("the end of the namespace", || async {
        namespaces.get_opt("team").await.ok()?.is_none().then_some(())
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_get_ranges_and_silent_ones_are_tainted() {
    let cluster = Cluster::start().await;
    let nodes: kube::Api<Node> = kube::Api::all(cluster.client.clone());
    for name in ["one", "two"] {
        let node = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        nodes.create(&PostParams::default(), &node).await.unwrap();
        cluster.report_ready(name).await;
    }
    let mut ranges: Vec<String> = Vec::new();
    for name in ["one", "two"] {
        let find = || async { nodes.get(name).await.ok()?.spec?.pod_cidr };
        ranges.push(wait_for("a pod range", find).await);
    }
    ranges.sort_unstable();
    assert_eq!(ranges, ["10.244.0.0/24", "10.244.1.0/24"]);

    // Node one keeps reporting, node two does not.
    let heartbeat = cluster.keep_alive("one");
    wait_for("node two to be unreachable", || async {
        let two = nodes.get("two").await.ok()?;
        let conditions = two.status?.conditions?;
        let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready")?;
        let taints = two.spec?.taints?;
        let tainted = |effect: &str| {
            taints.iter().any(|t| t.key == "node.kubernetes.io/unreachable" && t.effect == effect)
        };
        (ready.reason.as_deref() == Some("NodeStatusUnknown")
            && tainted("NoSchedule")
            && tainted("NoExecute"))
        .then_some(())
    })
    .await;
    cluster.report_ready("two").await;
    wait_for("node two to recover", || async {
        nodes.get("two").await.ok()?.spec?.taints.is_none_or(|t| t.is_empty()).then_some(())
    })
    .await;
    let one = nodes.get("one").await.unwrap();
    assert!(one.spec.unwrap().taints.is_none_or(|taints| taints.is_empty()));
    heartbeat.abort();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_are_made_for_pods_and_go_with_them() {
    let cluster = Cluster::start().await;
    let (pods, claims) = (cluster.api::<Pod>(), cluster.api::<ResourceClaim>());
    let uses = json!([{"name": "gpu", "resourceClaimTemplateName": "t"}]);
    cluster
        .create::<Pod>(
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {
            "containers": [{"name": "c", "image": "i"}], "resourceClaims": uses}}),
        )
        .await;
    cluster
        .create::<ResourceClaimTemplate>(json!({"apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaimTemplate", "metadata": {"name": "t"}, "spec": {"spec": {"devices":
                {"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu"}}]}}}}))
        .await;
    let (pod, name) = wait_for("the pod's claim", || async {
        let pod = pods.get("p").await.ok()?;
        let name = pod.status.as_ref()?.resource_claim_statuses.as_ref()?[0].clone();
        Some((pod.clone(), name.resource_claim_name?))
    })
    .await;
    assert!(name.starts_with("p-gpu-"), "{name}");
    let claim = claims.get(&name).await.unwrap();
    assert_eq!(claim.metadata.owner_references.unwrap()[0].uid, pod.metadata.uid.clone().unwrap());
    assert_eq!(claims.list(&ListParams::default()).await.unwrap().items.len(), 1);

    // As the scheduler leaves it.
    let finalizers =
        json!({"metadata": {"finalizers": ["resource.kubernetes.io/delete-protection"]}});
    claims.patch(&name, &PatchParams::default(), &Patch::Merge(finalizers)).await.unwrap();
    let status = json!({"status": {
        "allocation": {"devices": {"results": [
            {"request": "r", "driver": "d.example.com", "pool": "p", "device": "x"}]}},
        "reservedFor": [{"resource": "pods", "name": "p", "uid": pod.metadata.uid}]}});
    claims.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    pods.delete("p", &DeleteParams::default().grace_period(0)).await.unwrap();
    wait_for("the claim's end", || async {
        claims.get_opt(&name).await.ok()?.is_none().then_some(())
    })
    .await;
    cluster.stop().await;
}
