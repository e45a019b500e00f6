use pintle_api::scheme::RESOURCES;
use serde_json::json;

use super::*;

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().unwrap()
}

/// The cells of the one row, texts as they are and numbers printed.
fn printed(kind: Kind, object: &Value) -> Vec<String> {
    let table = render(kind, [object], &json!({}), now(), IncludeObject::None, true);
    let cells = table["rows"][0]["cells"].as_array().unwrap();
    let text = |cell: &Value| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned);
    cells.iter().map(text).collect()
}

fn named(mut object: Value) -> Value {
    object["metadata"]["name"] = json!("x");
    object["metadata"]["creationTimestamp"] = json!("2026-01-01T00:55:00Z");
    object
}

#[test]
fn every_row_has_a_cell_for_each_column() {
    for kind in RESOURCES.iter().map(|resource| resource.kind).chain([Kind::Scale]) {
        for object in [named(json!({})), json!({}), json!(null)] {
            assert_eq!(printed(kind, &object).len(), columns(kind).len(), "{kind:?}");
        }
    }
}

#[test]
fn a_running_pod_prints_as_kubectl_shows_it() {
    let pod = named(json!({
        "spec": {"nodeName": "n1", "containers": [{"name": "a"}, {"name": "b"}]},
        "status": {"phase": "Running", "podIPs": [{"ip": "10.244.0.5"}], "containerStatuses": [
            {"name": "a", "ready": true, "restartCount": 2, "state": {"running": {}},
                "lastState": {"terminated": {"finishedAt": "2026-01-01T00:59:00Z"}}},
            {"name": "b", "ready": false, "restartCount": 0, "state": {"running": {}}}]}}));
    assert_eq!(
        printed(Kind::Pod, &pod),
        ["x", "1/2", "Running", "2 (60s ago)", "5m", "10.244.0.5", "n1", "<none>", "<none>"]
    );
}

#[test]
fn a_pods_word_says_what_holds_it_up() {
    let container = |state: Value| json!({"name": "a", "ready": false, "state": state});
    let pod = |phase: &str, init: Value, statuses: Value| {
        let init_containers = json!([{"name": "i"}, {"name": "s", "restartPolicy": "Always"}]);
        named(json!({
            "spec": {"containers": [{"name": "a"}], "initContainers": init_containers},
            "status": {"phase": phase, "initContainerStatuses": init,
                "containerStatuses": statuses}}))
    };
    let done = json!({"name": "i", "state": {"terminated": {"exitCode": 0}}});
    let sidecar = json!({"name": "s", "started": true, "ready": true, "state": {"running": {}}});
    let waiting = |reason: &str| container(json!({"waiting": {"reason": reason}}));
    for (what, pod, ready, word) in [
        ("new", pod("Pending", json!([]), json!([])), "0/2", "Pending"),
        (
            "creating",
            pod("Pending", json!([done, sidecar]), json!([waiting("ContainerCreating")])),
            "1/2",
            "ContainerCreating",
        ),
        (
            "first init",
            pod("Pending", json!([{"name": "i", "state": {"running": {}}}]), json!([])),
            "0/2",
            "Init:0/2",
        ),
        (
            "init fails",
            pod(
                "Pending",
                json!([{"name": "i", "state": {"terminated": {"exitCode": 3}}}]),
                json!([]),
            ),
            "0/2",
            "Init:ExitCode:3",
        ),
        (
            "init waits",
            pod(
                "Pending",
                json!([{"name": "i", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]),
                json!([]),
            ),
            "0/2",
            "Init:CrashLoopBackOff",
        ),
        (
            "killed",
            pod(
                "Running",
                json!([done, sidecar]),
                json!([container(json!({"terminated": {"exitCode": 137, "signal": 9}}))]),
            ),
            "1/2",
            "Signal:9",
        ),
        (
            "completed",
            pod(
                "Succeeded",
                json!([done]),
                json!([container(json!({"terminated": {"reason": "Completed"}}))]),
            ),
            "0/2",
            "Completed",
        ),
    ] {
        let cells = printed(Kind::Pod, &pod);
        assert_eq!((cells[1].as_str(), cells[2].as_str()), (ready, word), "{what}");
    }
    let mut leaving = pod("Running", json!([done, sidecar]), json!([]));
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:59:00Z");
    assert_eq!(printed(Kind::Pod, &leaving)[2], "Terminating");
    let gated = named(json!({"status": {"phase": "Pending", "conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}}));
    assert_eq!(printed(Kind::Pod, &gated)[2], "SchedulingGated");
}

#[test]
fn the_other_kinds_print_as_kubectl_shows_them() {
    let template = json!({"spec": {"containers": [
        {"name": "a", "image": "nginx"}, {"name": "b", "image": "redis:7"}]}});
    let selector = json!({"matchLabels": {"app": "web"}});
    let node_info = json!({"kubeletVersion": "v1.35.0", "osImage": "Debian", "kernelVersion": "6.1",
        "containerRuntimeVersion": "process://1"});
    for (kind, object, cells) in [
        (
            Kind::Deployment,
            json!({"spec": {"replicas": 3, "template": template, "selector": selector},
            "status": {"readyReplicas": 1, "updatedReplicas": 2}}),
            vec!["x", "1/3", "2", "0", "5m", "a,b", "nginx,redis:7", "app=web"],
        ),
        (
            Kind::ReplicaSet,
            json!({"spec": {"replicas": 3, "template": template, "selector": selector},
            "status": {"replicas": 2}}),
            vec!["x", "3", "2", "0", "5m", "a,b", "nginx,redis:7", "app=web"],
        ),
        (
            Kind::Node,
            json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}},
            "spec": {"unschedulable": true}, "status": {"conditions": [
            {"type": "Ready", "status": "True"}], "nodeInfo": node_info,
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}}),
            vec![
                "x",
                "Ready,SchedulingDisabled",
                "control-plane",
                "5m",
                "v1.35.0",
                "10.0.0.1",
                "<none>",
                "Debian",
                "6.1",
                "process://1",
            ],
        ),
        (
            Kind::Service,
            json!({"spec": {"type": "NodePort", "clusterIP": "10.96.0.1",
            "clusterIPs": ["10.96.0.1"], "selector": {"b": "2", "a": "1"}, "ports": [
            {"port": 80, "nodePort": 30000, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}}),
            vec!["x", "NodePort", "10.96.0.1", "<none>", "80:30000/TCP,53/UDP", "5m", "a=1,b=2"],
        ),
        (
            Kind::Service,
            json!({"spec": {"type": "LoadBalancer"}}),
            vec!["x", "LoadBalancer", "<none>", "<pending>", "<none>", "5m", "<none>"],
        ),
        (
            Kind::EndpointSlice,
            json!({"addressType": "IPv4", "ports": [{"port": 80}], "endpoints": [
            {"addresses": ["1.1.1.1"]}, {"addresses": ["1.1.1.2"]}, {"addresses": ["1.1.1.3"]},
            {"addresses": ["1.1.1.4"]}]}),
            vec!["x", "IPv4", "80", "1.1.1.1,1.1.1.2,1.1.1.3 + 1 more...", "5m"],
        ),
        (
            Kind::EndpointSlice,
            json!({"addressType": "IPv4"}),
            vec!["x", "IPv4", "<unset>", "<unset>", "5m"],
        ),
        (
            Kind::Event,
            json!({"type": "Warning", "reason": "FailedScheduling", "message": "no\n",
            "involvedObject": {"kind": "Pod", "name": "p"}, "source": {"component": "scheduler"},
            "firstTimestamp": "2026-01-01T00:58:00Z", "lastTimestamp": "2026-01-01T00:59:30Z",
            "count": 3}),
            vec![
                "30s",
                "Warning",
                "FailedScheduling",
                "pod/p",
                "",
                "scheduler",
                "no",
                "2m",
                "3",
                "x",
            ],
        ),
        (Kind::Namespace, json!({"status": {"phase": "Active"}}), vec!["x", "Active", "5m"]),
        (Kind::Lease, json!({"spec": {"holderIdentity": "n1"}}), vec!["x", "n1", "5m"]),
        (
            Kind::ConfigMap,
            json!({"data": {"a": "b"}, "binaryData": {"c": ""}}),
            vec!["x", "2", "5m"],
        ),
        (
            Kind::Secret,
            json!({"type": "Opaque", "data": {"a": ""}}),
            vec!["x", "Opaque", "1", "5m"],
        ),
        (Kind::ServiceAccount, json!({}), vec!["x", "0", "5m"]),
        (
            Kind::PersistentVolume,
            json!({"spec": {"capacity": {"storage": "1Gi"}, "storageClassName": "fast",
            "accessModes": ["ReadWriteMany", "ReadWriteOnce"], "volumeMode": "Filesystem",
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"namespace": "d", "name": "c"}}, "status": {"phase": "Bound"}}),
            vec![
                "x",
                "1Gi",
                "RWO,RWX",
                "Retain",
                "Bound",
                "d/c",
                "fast",
                "<unset>",
                "",
                "5m",
                "Filesystem",
            ],
        ),
        (
            Kind::PersistentVolumeClaim,
            json!({"spec": {"storageClassName": "fast", "accessModes": ["ReadWriteOnce"]},
            "status": {"phase": "Pending"}}),
            vec!["x", "Pending", "", "", "", "fast", "<unset>", "5m", "<unset>"],
        ),
        (
            Kind::StorageClass,
            json!({"provisioner": "p", "metadata": {"annotations": {
            "storageclass.kubernetes.io/is-default-class": "true"}}}),
            vec!["x (default)", "p", "Delete", "Immediate", "false", "5m"],
        ),
        (Kind::CsiNode, json!({"spec": {"drivers": [{}, {}]}}), vec!["x", "2", "5m"]),
        (
            Kind::VolumeAttachment,
            json!({"spec": {"attacher": "d", "nodeName": "n",
            "source": {"persistentVolumeName": "pv"}}, "status": {"attached": true}}),
            vec!["x", "d", "pv", "n", "true", "5m"],
        ),
        (
            Kind::PodDisruptionBudget,
            json!({"spec": {"minAvailable": "50%"}, "status": {"disruptionsAllowed": 2}}),
            vec!["x", "50%", "N/A", "2", "5m"],
        ),
        (
            Kind::ResourceClaim,
            json!({"status": {"allocation": {}, "reservedFor": [{}]}}),
            vec!["x", "allocated,reserved", "5m"],
        ),
        (
            Kind::ResourceSlice,
            json!({"spec": {"driver": "d", "nodeName": "n", "pool": {"name": "p"}}}),
            vec!["x", "n", "d", "p", "5m"],
        ),
        (
            Kind::StatefulSet,
            json!({"spec": {"replicas": 3, "template": template, "selector": selector},
            "status": {"readyReplicas": 1}}),
            vec!["x", "1/3", "5m", "a,b", "nginx,redis:7"],
        ),
        (
            Kind::ReplicationController,
            json!({"spec": {"replicas": 3, "template": template, "selector": {"app": "web"}}}),
            vec!["x", "3", "0", "0", "5m", "a,b", "nginx,redis:7", "app=web"],
        ),
        (
            Kind::PriorityClass,
            json!({"value": 7}),
            vec!["x", "7", "false", "5m", "PreemptLowerPriority"],
        ),
    ] {
        assert_eq!(printed(kind, &named(object)), cells, "{kind:?}");
    }
}

#[test]
fn rows_carry_what_was_asked_for() {
    let pod = named(json!({"spec": {"nodeName": "n"}, "status": {"phase": "Failed"}}));
    let table = |include| {
        let list = json!({"resourceVersion": "7"});
        render(Kind::Pod, [&pod], &list, now(), include, false)
    };
    let partial = table(IncludeObject::Metadata);
    assert_eq!(partial["metadata"]["resourceVersion"], "7");
    assert_eq!(partial["columnDefinitions"], json!([]));
    assert_eq!(
        partial["rows"][0]["object"],
        json!({"kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1", "metadata": pod["metadata"]})
    );
    assert_eq!(partial["rows"][0]["conditions"][0]["reason"], "Failed");
    assert_eq!(table(IncludeObject::Object)["rows"][0]["object"], pod);
    assert_eq!(table(IncludeObject::None)["rows"][0].get("object"), None);
    assert_eq!("".parse(), Ok(IncludeObject::Metadata));
    assert!("All".parse::<IncludeObject>().is_err());
}
