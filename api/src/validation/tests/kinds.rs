//! Volumes, devices, budgets, groups and the workloads besides Deployments.

use super::*;

#[expect(clippy::needless_pass_by_value, reason = "reads better below")]
fn cluster(more: Value) -> Value {
    let mut object = json!({"metadata": {"name": "x"}});
    object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    object
}

fn named(more: Value) -> Value {
    with(cluster(more), "/metadata/namespace", json!("default"))
}

fn volume() -> Value {
    cluster(json!({"spec": {
        "accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": "1Gi"},
        "local": {"path": "/mnt"},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
            {"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1"]}]}]}},
    }}))
}

fn claim() -> Value {
    named(json!({"spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "fast",
        "resources": {"requests": {"storage": "1Gi"}}}}))
}

fn resource_claim() -> Value {
    named(json!({"spec": {"devices": {
        "requests": [
            {"name": "gpu", "exactly": {"deviceClassName": "gpu.example.com", "selectors": [
                {"cel": {"expression": "device.driver == 'd'"}}],
                "tolerations": [{"key": "k", "value": "v"}]}},
            {"name": "any", "firstAvailable": [
                {"name": "a", "deviceClassName": "x"}, {"name": "b", "deviceClassName": "y"}]}],
        "constraints": [{"requests": ["gpu", "any/a"], "matchAttribute": "d.example.com/numa"}],
    }}}))
}

fn slice() -> Value {
    cluster(json!({"spec": {"driver": "d.example.com", "nodeName": "n1",
        "pool": {"name": "n1", "generation": 1, "resourceSliceCount": 1},
        "devices": [{"name": "gpu-0", "attributes": {"numa": {"int": 0}},
            "capacity": {"memory": {"value": "40Gi"}}}]}}))
}

fn stateful_set() -> Value {
    with(deployment(), "/spec/serviceName", json!("web"))
}

/// An object of each of these kinds that has much to say.
pub(super) fn rich() -> Vec<(Kind, Value)> {
    let mut controller = deployment();
    controller["spec"]["selector"] = json!({"app": "web"});
    let template = named(json!({"spec": {"spec": resource_claim()["spec"]}}));
    let class = cluster(json!({"provisioner": "csi.example.com", "parameters": {"type": "ssd"},
        "volumeBindingMode": "WaitForFirstConsumer", "allowedTopologies": [
            {"matchLabelExpressions": [{"key": "zone", "values": ["a", "b"]}]}]}));
    let node = cluster(json!({"spec": {"drivers": [{"name": "csi.example.com", "nodeID": "n1",
        "topologyKeys": ["zone"], "allocatable": {"count": 3}}]}}));
    let attachment = cluster(json!({"spec": {"attacher": "csi.example.com", "nodeName": "n1",
        "source": {"persistentVolumeName": "pv"}}}));
    let budget = named(json!({"spec": {"minAvailable": "50%",
        "selector": {"matchLabels": {"app": "web"}}}}));
    let workload = named(json!({"spec": {"podGroups": [
        {"name": "g", "policy": {"gang": {"minCount": 4}}}]}}));
    let device_class = cluster(json!({"spec": {"selectors": [{"cel": {"expression": "true"}}]}}));
    let capacity = named(json!({"storageClassName": "fast", "capacity": "1Gi",
        "nodeTopology": {"matchLabels": {"zone": "a"}}}));
    vec![
        (Kind::PersistentVolume, volume()),
        (Kind::PersistentVolumeClaim, claim()),
        (Kind::ReplicationController, controller),
        (Kind::StatefulSet, stateful_set()),
        (Kind::DaemonSet, deployment()),
        (Kind::StorageClass, class),
        (Kind::CsiNode, node),
        (Kind::CsiDriver, cluster(json!({"spec": {}}))),
        (Kind::CsiStorageCapacity, capacity),
        (Kind::VolumeAttachment, attachment),
        (Kind::PodDisruptionBudget, budget),
        (Kind::DeviceClass, device_class),
        (
            Kind::DeviceTaintRule,
            cluster(json!({"spec": {
                "deviceSelector": {"driver": "d.example.com", "pool": "n1", "device": "gpu-0"},
                "taint": {"key": "example.com/k", "value": "v", "effect": "NoExecute"}}})),
        ),
        (Kind::ResourceClaim, resource_claim()),
        (Kind::ResourceClaimTemplate, template),
        (Kind::ResourceSlice, slice()),
        (Kind::Workload, workload),
    ]
}

fn rich_one(kind: Kind) -> Value {
    rich().into_iter().find(|(it, _)| *it == kind).unwrap().1
}

#[test]
fn rich_objects_may_be_written_again() {
    for (kind, object) in rich() {
        assert_eq!(updated(kind, object.clone(), object), "ok", "{kind:?}");
    }
}

#[test]
fn each_kind_refuses_in_upstreams_words() {
    for (kind, pointer, value, error) in [
        (
            Kind::PersistentVolume,
            "/spec/nodeAffinity",
            Value::Null,
            "spec.nodeAffinity: Required value: Local volume requires node affinity",
        ),
        (
            Kind::PersistentVolume,
            "/spec/local",
            Value::Null,
            "spec: Required value: must specify a volume type",
        ),
        (
            Kind::PersistentVolume,
            "/spec/capacity",
            json!({"storage": "0"}),
            "spec.capacity[storage]: Invalid value: \"0\": must be greater than zero",
        ),
        (
            Kind::PersistentVolume,
            "/spec/accessModes",
            json!(["Any"]),
            "spec.accessModes: Unsupported value: \"Any\": supported values: \"ReadOnlyMany\", \
             \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\"",
        ),
        (
            Kind::PersistentVolumeClaim,
            "/spec/accessModes",
            json!(["ReadWriteOncePod", "ReadWriteOnce"]),
            "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
        ),
        (
            Kind::PersistentVolumeClaim,
            "/spec/resources",
            Value::Null,
            "spec.resources[storage]: Required value",
        ),
        (
            Kind::StatefulSet,
            "/spec/podManagementPolicy",
            json!("Any"),
            "spec.podManagementPolicy: Invalid value: \"Any\": must be 'OrderedReady' or \
             'Parallel'",
        ),
        (
            Kind::DaemonSet,
            "/spec/updateStrategy",
            json!({"rollingUpdate": {"maxUnavailable": 0}}),
            "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: 0: cannot be 0 when \
             maxSurge is 0",
        ),
        (
            Kind::ReplicationController,
            "/spec/selector",
            json!({"app": "other"}),
            "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not \
             match template `labels`",
        ),
        (
            Kind::StorageClass,
            "/volumeBindingMode",
            json!("Later"),
            "volumeBindingMode: Unsupported value: \"Later\": supported values: \"Immediate\", \
             \"WaitForFirstConsumer\"",
        ),
        (Kind::StorageClass, "/provisioner", json!(""), "provisioner: Required value"),
        (
            Kind::CsiNode,
            "/spec/drivers",
            json!([{"name": "d", "nodeID": "n", "allocatable": {"count": -1}}]),
            "spec.drivers[0].allocatable.count: Invalid value: -1: must be greater than or equal",
        ),
        (
            Kind::VolumeAttachment,
            "/spec/source",
            json!({}),
            "spec.source: Required value: must specify exactly one of inlineVolumeSpec and \
             persistentVolumeName",
        ),
        (Kind::PodDisruptionBudget, "/spec/maxUnavailable", json!(1), "spec: Invalid value: {"),
        (
            Kind::PodDisruptionBudget,
            "/spec/minAvailable",
            json!("101%"),
            "spec.minAvailable: Invalid value: \"101%\": must not be greater than 100%",
        ),
        (
            Kind::ResourceClaim,
            "/spec/devices/constraints/0/requests",
            json!(["other"]),
            "spec.devices.constraints[0].requests[0]: Invalid value: \"other\": must be the name",
        ),
        (
            Kind::ResourceClaim,
            "/spec/devices/requests/0/exactly/allocationMode",
            json!("Some"),
            "spec.devices.requests[0].exactly.allocationMode: Unsupported value: \"Some\"",
        ),
        (
            Kind::ResourceSlice,
            "/spec/allNodes",
            json!(true),
            "spec: Invalid value: \"{`nodeName`, `allNodes`}\": exactly one of `nodeName`",
        ),
        (
            Kind::ResourceSlice,
            "/spec/pool/resourceSliceCount",
            json!(0),
            "spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero",
        ),
        (
            Kind::DeviceTaintRule,
            "/spec/taint/effect",
            json!("Never"),
            "spec.taint.effect: Unsupported value: \"Never\"",
        ),
        (
            Kind::DeviceTaintRule,
            "/spec/deviceSelector/pool",
            json!(""),
            "spec.deviceSelector.pool: Required value",
        ),
        (
            Kind::Workload,
            "/spec/podGroups/0/policy",
            json!({}),
            "spec.podGroups[0].policy: Required value: exactly one of `basic`, `gang` is required",
        ),
        (
            Kind::Workload,
            "/spec/podGroups/0/policy/gang/minCount",
            json!(0),
            "spec.podGroups[0].policy.gang.minCount: Invalid value: 0: must be greater than zero",
        ),
    ] {
        let got = created(kind, with(rich_one(kind), pointer, value));
        assert!(got.starts_with(error), "{kind:?} {pointer}: {got}");
    }
}

#[test]
fn what_is_fixed_stays() {
    for (kind, pointer, value, error) in [
        (
            Kind::PersistentVolume,
            "/spec/local/path",
            json!("/other"),
            "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable",
        ),
        (Kind::PersistentVolume, "/spec/claimRef", json!({"name": "c", "namespace": "d"}), "ok"),
        (Kind::PersistentVolumeClaim, "/spec/volumeName", json!("pv"), "ok"),
        (
            Kind::PersistentVolumeClaim,
            "/spec/accessModes",
            json!(["ReadWriteMany"]),
            "spec: Forbidden: spec is immutable after creation except resources.requests",
        ),
        (Kind::StatefulSet, "/spec/replicas", json!(3), "ok"),
        (
            Kind::StatefulSet,
            "/spec/serviceName",
            json!("other"),
            "spec: Forbidden: updates to statefulset spec for fields other than 'replicas'",
        ),
        (
            Kind::StorageClass,
            "/parameters",
            json!({}),
            "parameters: Forbidden: updates to parameters are forbidden.",
        ),
        (Kind::CsiNode, "/spec/drivers/0/allocatable/count", json!(9), "ok"),
        (Kind::CsiNode, "/spec/drivers/0/nodeID", json!("n2"), "spec.drivers: Invalid value: {"),
        (Kind::ResourceClaim, "/spec", json!({}), "spec: Invalid value: {}: field is immutable"),
        (
            Kind::ResourceSlice,
            "/spec/nodeName",
            json!("n2"),
            "spec.nodeName: Invalid value: \"n2\": field is immutable",
        ),
        (Kind::Workload, "/spec/podGroups/0/name", json!("h"), "podGroups: Invalid value: ["),
    ] {
        let old = rich_one(kind);
        let got = updated(kind, with(old.clone(), pointer, value), old);
        assert!(got.starts_with(error), "{kind:?} {pointer}: {got}");
    }
}

#[test]
fn a_claims_reservations_need_an_allocation() {
    let old = admitted(Kind::ResourceClaim, resource_claim());
    let consumer = json!({"resource": "pods", "name": "p", "uid": "u"});
    let mut new = old.clone();
    new["status"] = json!({"reservedFor": [consumer]});
    assert_eq!(
        update_status(Kind::ResourceClaim, &new, &old).to_string(),
        "status.reservedFor: Forbidden: may not be specified when `allocated` is not set"
    );
    new["status"]["allocation"] = json!({});
    assert!(update_status(Kind::ResourceClaim, &new, &old).is_empty());
    let mut moved = new.clone();
    moved["status"]["allocation"] = json!({"nodeSelector": {"nodeSelectorTerms": []}});
    let errors = update_status(Kind::ResourceClaim, &moved, &new);
    assert!(errors.to_string().starts_with("status.allocation: Invalid value"), "{errors}");
}

#[test]
fn a_pods_claims_come_from_one_place_each() {
    for (claims, error) in [
        (json!([{"name": "a", "resourceClaimName": "c"}]), "ok"),
        (
            json!([{"name": "a"}]),
            "spec.resourceClaims[0]: Invalid value: \"a\": must specify one of: \
             `resourceClaimName`, `resourceClaimTemplateName`",
        ),
    ] {
        assert_eq!(created(Kind::Pod, with(pod(), "/spec/resourceClaims", claims)), error);
    }
}

#[test]
fn what_the_scheduler_writes_to_a_pod_is_checked() {
    let pod = with(
        pod(),
        "/spec/resourceClaims",
        json!([
        {"name": "gpu", "resourceClaimTemplateName": "t"}]),
    );
    let old = admitted(Kind::Pod, pod);
    let written = |status: Value| {
        let errors = update_status(Kind::Pod, &with(old.clone(), "/status", status), &old);
        if errors.is_empty() { "ok".to_owned() } else { errors.to_string() }
    };
    for (status, error) in [
        (
            json!({"nominatedNodeName": "n1", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]}),
            "ok",
        ),
        (json!({"nominatedNodeName": "N 1"}), "status.nominatedNodeName: Invalid value: \"N 1\""),
        (json!({"resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": "p-gpu-x"}]}), "ok"),
        (
            json!({"resourceClaimStatuses": [{"name": "other"}]}),
            "status.resourceClaimStatuses[0].name: Invalid value: \"other\": must match the name",
        ),
        (
            json!({"resourceClaimStatuses": [{"name": "gpu"}, {"name": "gpu"}]}),
            "status.resourceClaimStatuses[1].name: Duplicate value: \"gpu\"",
        ),
    ] {
        let got = written(status);
        assert!(got.starts_with(error), "{got}");
    }
    let reference = json!({"name": "w", "podGroup": "a.b"});
    let pod = with(super::pod(), "/spec/workloadRef", reference);
    let got = created(Kind::Pod, pod);
    assert!(got.starts_with("spec.workloadRef.podGroup: Invalid value: \"a.b\""), "{got}");
}

#[test]
fn pods_are_resized_in_cpu_and_memory_alone() {
    let resized = |name: &str, amount: &str| {
        let resources = json!({"requests": {"cpu": "1", "example.com/gpu": "1"},
            "limits": {"example.com/gpu": "1"}});
        let old = admitted(Kind::Pod, with(pod(), "/spec/containers/0/resources", resources));
        let mut new = old.clone();
        for kind in ["limits", "requests"] {
            new["spec"]["containers"][0]["resources"][kind][name] = json!(amount);
        }
        let errors = resize(&new, &old);
        if errors.is_empty() { "ok".to_owned() } else { errors.to_string() }
    };
    assert_eq!(resized("cpu", "2"), "ok");
    assert_eq!(resized("memory", "2Gi"), "ok");
    let refused = "spec.containers[0].resources: Forbidden: only cpu and memory";
    let got = resized("example.com/gpu", "2");
    assert!(got.starts_with(refused), "{got}");
}
