use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{decode, defaults};

mod kinds;

/// The object as it reaches validation: decoded and defaulted.
fn admitted(kind: Kind, mut object: Value) -> Value {
    decode::check(kind, &mut object).unwrap();
    defaults::apply(kind, &mut object);
    object
}

fn created(kind: Kind, object: Value) -> String {
    let errors = create(kind, &admitted(kind, object));
    if errors.is_empty() { "ok".into() } else { errors.to_string() }
}

fn updated(kind: Kind, new: Value, old: Value) -> String {
    let errors = update(kind, &admitted(kind, new), &admitted(kind, old));
    if errors.is_empty() { "ok".into() } else { errors.to_string() }
}

/// `base` with `value` put at `pointer`, objects on the way made, `null` removing.
fn with(mut base: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = if parent.is_empty() { &mut base } else { base.pointer_mut(parent).unwrap() };
    match parent {
        Value::Object(map) if value.is_null() => {
            map.remove(key);
        }
        parent => parent[key] = value,
    }
    base
}

fn pod() -> Value {
    json!({"metadata": {"name": "x", "namespace": "default"},
        "spec": {"containers": [{"name": "a", "image": "nginx"}]}})
}

fn deployment() -> Value {
    json!({"metadata": {"name": "web", "namespace": "default"}, "spec": {
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": pod()["spec"]}}})
}

fn service() -> Value {
    json!({"metadata": {"name": "web", "namespace": "default"},
        "spec": {"ports": [{"port": 80}]}})
}

#[test]
fn minimal_objects_are_valid() {
    let named = json!({"metadata": {"name": "x", "namespace": "default"}});
    let cluster = json!({"metadata": {"name": "x"}});
    for (kind, object) in [
        (Kind::Pod, pod()),
        (Kind::Deployment, deployment()),
        (Kind::ReplicaSet, deployment()),
        (Kind::Service, service()),
        (Kind::ConfigMap, named.clone()),
        (Kind::Secret, named.clone()),
        (Kind::ServiceAccount, named.clone()),
        (Kind::Lease, named.clone()),
        (Kind::Event, named.clone()),
        (Kind::EndpointSlice, with(named, "/addressType", json!("IPv4"))),
        (Kind::Namespace, cluster.clone()),
        (Kind::Node, cluster.clone()),
        (Kind::PriorityClass, with(cluster, "/value", json!(7))),
        (Kind::Binding, json!({"target": {"name": "n1", "kind": "Node"}})),
    ] {
        // The unknown fields of the shared body are dropped by decoding.
        let object = if kind == Kind::ReplicaSet {
            with(object, "/spec/strategy", Value::Null)
        } else {
            object
        };
        assert_eq!(created(kind, object.clone()), "ok", "{kind:?}");
        if kind != Kind::Binding {
            assert_eq!(updated(kind, object.clone(), object), "ok", "{kind:?}");
        }
    }
}

#[test]
fn metadata_is_checked() {
    for (pointer, value, error) in [
        (
            "/metadata/name",
            json!("A"),
            "metadata.name: Invalid value: \"A\": a lowercase RFC 1123 subdomain",
        ),
        (
            "/metadata/name",
            Value::Null,
            "metadata.name: Required value: name or generateName is required",
        ),
        ("/metadata/namespace", Value::Null, "metadata.namespace: Required value"),
        ("/metadata/generateName", json!("web-"), "ok"),
        ("/metadata/generateName", json!("We"), "metadata.generateName: Invalid value: \"We\""),
        (
            "/metadata/labels",
            json!({"a b": "c"}),
            "metadata.labels: Invalid value: \"a b\": name part must consist",
        ),
        (
            "/metadata/labels",
            json!({"a": "c d"}),
            "metadata.labels: Invalid value: \"c d\": a valid label must be",
        ),
        (
            "/metadata/annotations",
            json!({"a": "x".repeat(300_000)}),
            "metadata.annotations: Too long: may not be more than 262144 bytes",
        ),
        (
            "/metadata/ownerReferences",
            json!([{"apiVersion": "v1", "kind": "Pod", "name": "o", "uid": ""}]),
            "metadata.ownerReferences.uid: Invalid value: \"\": uid must not be empty",
        ),
        (
            "/metadata/finalizers",
            json!(["a/b/c"]),
            "metadata.finalizers: Invalid value: \"a/b/c\": a qualified name",
        ),
    ] {
        let got = created(Kind::Pod, with(pod(), pointer, value.clone()));
        assert!(got.starts_with(error), "{pointer}={value}: {got}");
    }
    let node = json!({"metadata": {"name": "n", "namespace": "x"}});
    assert_eq!(
        created(Kind::Node, node),
        "metadata.namespace: Forbidden: not allowed on this type"
    );
    let got = updated(
        Kind::Pod,
        with(pod(), "/metadata/uid", json!("b")),
        with(pod(), "/metadata/uid", json!("a")),
    );
    assert_eq!(got, "metadata.uid: Invalid value: \"b\": field is immutable");
    let mut deleted = pod();
    deleted["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let added = with(deleted.clone(), "/metadata/finalizers", json!(["x/y"]));
    assert_eq!(
        updated(Kind::Pod, added, deleted),
        "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being \
         deleted, found new finalizers [\"x/y\"]"
    );
}

#[test]
fn pods_are_checked() {
    for (pointer, value, error) in [
        ("/spec/containers", json!([]), "spec.containers: Required value"),
        ("/spec/containers/0/name", json!(""), "spec.containers[0].name: Required value"),
        (
            "/spec/containers/0/name",
            json!("a.b"),
            "spec.containers[0].name: Invalid value: \"a.b\": must not contain dots",
        ),
        ("/spec/containers/0/image", json!(""), "spec.containers[0].image: Required value"),
        (
            "/spec/containers/0/imagePullPolicy",
            json!("Now"),
            "spec.containers[0].imagePullPolicy: Unsupported value: \"Now\": supported values: \
             \"Always\", \"IfNotPresent\", \"Never\"",
        ),
        (
            "/spec/initContainers",
            json!([{"name": "a", "image": "x"}]),
            "spec.initContainers[0].name: Duplicate value: \"a\"",
        ),
        (
            "/spec/restartPolicy",
            json!("Sometimes"),
            "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \
             \"Never\", \"OnFailure\"",
        ),
        (
            "/spec/containers/0/ports",
            json!([{"containerPort": 70000}]),
            "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 \
             and 65535, inclusive",
        ),
        (
            "/spec/containers/0/ports",
            json!([{"containerPort": 1, "name": "x"}, {"containerPort": 2, "name": "x"}]),
            "spec.containers[0].ports[1].name: Duplicate value: \"x\"",
        ),
        (
            "/spec/containers/0/ports",
            json!([{"containerPort": 1, "hostPort": 5}, {"containerPort": 2, "hostPort": 5}]),
            "spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//5\"",
        ),
        (
            "/spec/containers/0/env",
            json!([{"name": "A=B"}]),
            "spec.containers[0].env[0].name: Invalid value: \"A=B\": a valid environment variable \
             name",
        ),
        (
            "/spec/containers/0/env",
            json!([{"name": "A", "valueFrom": {}}]),
            "spec.containers[0].env[0].valueFrom: Invalid value: \"\": must specify one of",
        ),
        (
            "/spec/containers/0/volumeMounts",
            json!([{"name": "v", "mountPath": "/x"}]),
            "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
        ),
        (
            "/spec/volumes",
            json!([{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]),
            "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
        ),
        (
            "/spec/volumes",
            json!([{"name": "v"}, {"name": "v"}]),
            "spec.volumes[1].name: Duplicate value: \"v\"",
        ),
        (
            "/spec/containers/0/resources",
            json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}),
            "spec.containers[0].resources.requests[cpu]: Invalid value: \"2\": must be less than \
             or equal to cpu limit of 1",
        ),
        (
            "/spec/containers/0/resources",
            json!({"requests": {"memory": "-1"}}),
            "spec.containers[0].resources.requests[memory]: Invalid value: \"-1\": must be \
             greater than or equal to 0",
        ),
        (
            "/spec/containers/0/resources",
            json!({"limits": {"gpu": "1"}}),
            "[spec.containers[0].resources.limits[gpu]: Invalid value: \"gpu\": must be a \
             standard resource type or fully qualified",
        ),
        ("/spec/containers/0/resources", json!({"limits": {"x.io/gpu": "1"}}), "ok"),
        (
            "/spec/containers/0/resources",
            json!({"limits": {"x.io/gpu": "500m"}}),
            "[spec.containers[0].resources.limits[x.io/gpu]: Invalid value: \"500m\": must be an \
             integer",
        ),
        (
            "/spec/containers/0/livenessProbe",
            json!({}),
            "spec.containers[0].livenessProbe: Required value: must specify a handler type",
        ),
        (
            "/spec/containers/0/livenessProbe",
            json!({"exec": {"command": ["x"]}, "successThreshold": 2}),
            "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
        ),
        (
            "/spec/tolerations",
            json!([{"operator": "Equal"}]),
            "spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when \
             `key` is empty",
        ),
        (
            "/spec/tolerations",
            json!([{"operator": "Exists", "tolerationSeconds": 1}]),
            "spec.tolerations[0].effect: Invalid value: \"\": effect must be 'NoExecute'",
        ),
        (
            "/spec/affinity",
            json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                {"nodeSelectorTerms": []}}}),
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution\
             .nodeSelectorTerms: Required value: must have at least one node selector term",
        ),
        (
            "/spec/affinity",
            json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                [{"topologyKey": ""}]}}),
            "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0]\
             .topologyKey: Required value: can not be empty",
        ),
        (
            "/spec/topologySpreadConstraints",
            json!([{"maxSkew": 0, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule"}]),
            "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than \
             zero",
        ),
        ("/spec/nodeSelector", json!({"a": "b c"}), "spec.nodeSelector: Invalid value: \"b c\""),
        (
            "/spec/terminationGracePeriodSeconds",
            json!(-1),
            "spec.terminationGracePeriodSeconds: Invalid value: -1: must be greater than or equal \
             to 0",
        ),
    ] {
        let got = created(Kind::Pod, with(pod(), pointer, value.clone()));
        assert!(got.starts_with(error), "{pointer}={value}: {got}");
    }
}

#[test]
fn pods_change_little() {
    let tolerant = |more: bool| {
        let mut list = vec![json!({"key": "a", "operator": "Exists"})];
        list.extend(more.then(|| json!({"key": "b", "operator": "Exists"})));
        with(pod(), "/spec/tolerations", Value::from(list))
    };
    let gated = with(pod(), "/spec/schedulingGates", json!([{"name": "g"}]));
    for (what, new, old, expected) in [
        (
            "image",
            with(pod(), "/spec/containers/0/image", json!("b:1")),
            with(pod(), "/spec/containers/0/image", json!("a:1")),
            "ok",
        ),
        ("more tolerations", tolerant(true), tolerant(false), "ok"),
        (
            "fewer tolerations",
            tolerant(false),
            tolerant(true),
            "spec.tolerations: Forbidden: existing toleration can not be modified",
        ),
        ("ungated", pod(), gated.clone(), "ok"),
        (
            "gated later",
            gated.clone(),
            pod(),
            "spec.schedulingGates: Forbidden: only deletion is allowed, but found new scheduling \
             gate 'g'",
        ),
        (
            "gated and selected",
            with(gated.clone(), "/spec/nodeSelector", json!({"a": "b"})),
            gated,
            "ok",
        ),
        (
            "node name",
            with(pod(), "/spec/nodeName", json!("n1")),
            pod(),
            "spec: Forbidden: pod updates may not change fields other than",
        ),
        (
            "command",
            with(pod(), "/spec/containers/0/command", json!(["x"])),
            pod(),
            "spec: Forbidden: pod updates may not change fields other than",
        ),
        ("empty list", with(pod(), "/spec/volumes", json!([])), pod(), "ok"),
        (
            "container",
            with(
                pod(),
                "/spec/containers",
                json!([{"name": "a", "image": "nginx"}, {"name": "b", "image": "nginx"}]),
            ),
            pod(),
            "spec.containers: Forbidden: pod updates may not add or remove containers",
        ),
        (
            "deadline",
            with(pod(), "/spec/activeDeadlineSeconds", json!(9)),
            with(pod(), "/spec/activeDeadlineSeconds", json!(5)),
            "spec.activeDeadlineSeconds: Invalid value: 9: must be less than or equal to previous \
             value",
        ),
    ] {
        let got = updated(Kind::Pod, new, old);
        assert!(got.starts_with(expected), "{what}: {got}");
    }
}

#[test]
fn workloads_are_checked() {
    for (pointer, value, error) in [
        (
            "/spec/replicas",
            json!(-1),
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        ),
        ("/spec/selector", json!({}), "spec.selector: Required value"),
        (
            "/spec/selector",
            json!({"matchLabels": {"app": "other"}}),
            "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not \
             match template `labels`",
        ),
        (
            "/spec/template/spec/restartPolicy",
            json!("Never"),
            "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \
             \"Always\"",
        ),
        (
            "/spec/template/spec/containers",
            json!([]),
            "spec.template.spec.containers: Required value",
        ),
        (
            "/spec/strategy",
            json!({"type": "Recreate", "rollingUpdate": {}}),
            "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is \
             'Recreate'",
        ),
        (
            "/spec/strategy",
            json!({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}),
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when \
             `maxSurge` is 0",
        ),
        (
            "/spec/strategy",
            json!({"rollingUpdate": {"maxUnavailable": "101%"}}),
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"101%\": must not be \
             greater than 100%",
        ),
        (
            "/spec/strategy",
            json!({"rollingUpdate": {"maxSurge": "x"}}),
            "spec.strategy.rollingUpdate.maxSurge: Invalid value: \"x\": a valid percent string",
        ),
        (
            "/spec/strategy",
            json!({"type": "Both"}),
            "spec.strategy.type: Unsupported value: \"Both\": supported values: \"Recreate\", \
             \"RollingUpdate\"",
        ),
        (
            "/spec/progressDeadlineSeconds",
            json!(0),
            "spec.progressDeadlineSeconds: Invalid value: 0: must be greater than minReadySeconds",
        ),
    ] {
        let got = created(Kind::Deployment, with(deployment(), pointer, value.clone()));
        assert!(got.starts_with(error), "{pointer}={value}: {got}");
    }
    let mut other = deployment();
    other["spec"]["selector"]["matchLabels"]["b"] = json!("c");
    other["spec"]["template"]["metadata"]["labels"]["b"] = json!("c");
    let got = updated(Kind::Deployment, other, deployment());
    assert!(
        got.starts_with("spec.selector: Invalid value: {\"matchLabels\":{")
            && got.ends_with("field is immutable"),
        "{got}"
    );
    let status = json!({"metadata": deployment()["metadata"],
        "status": {"replicas": 1, "readyReplicas": 2}});
    let errors = update_status(Kind::Deployment, &status, &status);
    assert_eq!(
        errors.to_string(),
        "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas"
    );
}

#[test]
fn services_are_checked() {
    for (pointer, value, error) in [
        ("/metadata/name", json!("1a"), "metadata.name: Invalid value: \"1a\": a DNS-1035 label"),
        ("/spec/ports", json!([]), "spec.ports: Required value"),
        (
            "/spec/ports",
            json!([{"port": 80}, {"port": 81, "name": "b"}]),
            "spec.ports[0].name: Required value",
        ),
        (
            "/spec/ports",
            json!([{"port": 80, "name": "a"}, {"port": 81, "name": "a"}]),
            "spec.ports[1].name: Duplicate value: \"a\"",
        ),
        (
            "/spec/ports",
            json!([{"port": 80, "name": "a"}, {"port": 80, "name": "b"}]),
            "spec.ports[1]: Duplicate value: {\"port\":80,\"protocol\":\"TCP\"}",
        ),
        (
            "/spec/ports",
            json!([{"port": 0}]),
            "[spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
        ),
        (
            "/spec/ports",
            json!([{"port": 80, "nodePort": 30000}]),
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
        ),
        ("/spec/type", json!("ExternalName"), "spec.externalName: Required value"),
        ("/spec/type", json!("Magic"), "spec.type: Unsupported value: \"Magic\""),
        (
            "/spec/sessionAffinity",
            json!("Me"),
            "spec.sessionAffinity: Unsupported value: \"Me\": supported values: \"ClientIP\", \
             \"None\"",
        ),
        (
            "/spec/clusterIP",
            json!("10.96.0.300"),
            "spec.clusterIPs[0]: Invalid value: \"10.96.0.300\": must be a valid IP address, \
             (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
        ("/spec/clusterIP", json!("None"), "ok"),
        ("/spec/selector", json!({"a": "-"}), "spec.selector: Invalid value: \"-\""),
    ] {
        let got = created(Kind::Service, with(service(), pointer, value.clone()));
        assert!(got.starts_with(error), "{pointer}={value}: {got}");
    }
    let at = |ip: &str| with(service(), "/spec/clusterIP", json!(ip));
    assert_eq!(
        updated(Kind::Service, at("10.96.0.2"), at("10.96.0.1")),
        "spec.clusterIPs[0]: Invalid value: \"10.96.0.2\": may not change once set"
    );
    let mut node_port = with(service(), "/spec/type", json!("NodePort"));
    node_port["spec"]["ports"][0]["nodePort"] = json!(80);
    let got = created(Kind::Service, node_port);
    assert!(got.contains("The range of valid ports is 30000-32767"), "{got}");
}

#[test]
fn the_other_kinds_are_checked() {
    let named = |more: Value| {
        let mut object = json!({"metadata": {"name": "x", "namespace": "default"}});
        object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        object
    };
    let cluster = |name: &str, more: Value| {
        let mut object = named(more);
        object["metadata"] = json!({"name": name});
        object
    };
    for (kind, object, error) in [
        (
            Kind::ConfigMap,
            named(json!({"data": {"a/b": ""}})),
            "data[a/b]: Invalid value: \"a/b\": a valid config key",
        ),
        (
            Kind::ConfigMap,
            named(json!({"data": {"a": "x".repeat(1 << 21)}})),
            "[]: Too long: may not be more than 1048576 bytes",
        ),
        (
            Kind::Secret,
            named(json!({"type": "kubernetes.io/tls"})),
            "[data[tls.crt]: Required value, data[tls.key]: Required value]",
        ),
        (
            Kind::PriorityClass,
            cluster("x", json!({"value": 1_000_000_001})),
            "value: Forbidden: maximum allowed value of a user defined priority is 1000000000",
        ),
        (
            Kind::PriorityClass,
            cluster("system-x", json!({"value": 1})),
            "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved",
        ),
        (
            Kind::PriorityClass,
            cluster("system-node-critical", json!({"value": 2_000_001_000})),
            "ok",
        ),
        (
            Kind::Lease,
            named(json!({"spec": {"leaseDurationSeconds": 0}})),
            "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
        ),
        (
            Kind::Node,
            cluster("n", json!({"spec": {"taints": [{"key": "a", "effect": "Never"}]}})),
            "spec.taints[0].effect: Unsupported value: \"Never\"",
        ),
        (
            Kind::Node,
            cluster("n", json!({"spec": {"podCIDR": "10.0.0.0/99"}})),
            "spec.podCIDR: Invalid value: \"10.0.0.0/99\": must be a valid CIDR value",
        ),
        (
            Kind::EndpointSlice,
            named(json!({"addressType": "IPv5"})),
            "addressType: Unsupported value: \"IPv5\"",
        ),
        (
            Kind::EndpointSlice,
            named(json!({"addressType": "IPv4", "endpoints": [{"addresses": ["::1"]}]})),
            "endpoints[0].addresses[0]: Invalid value: \"::1\": must be a valid IPv4 address",
        ),
        (
            Kind::EndpointSlice,
            named(json!({"addressType": "IPv4",
                    "endpoints": vec![json!({"addresses": ["10.0.0.1"]}); 1001]})),
            "endpoints: Too many: 1001: must have at most 1000 items",
        ),
        (
            Kind::Binding,
            json!({"target": {"kind": "Pod"}}),
            "[target.kind: Unsupported value: \"Pod\": supported values: \"<empty>\", \"Node\", \
             target.name: Required value]",
        ),
        (
            Kind::Event,
            named(json!({"involvedObject": {"namespace": "other"}})),
            "involvedObject.namespace: Invalid value: \"other\": does not match event.namespace",
        ),
    ] {
        let got = created(kind, object);
        assert!(got.starts_with(error), "{kind:?}: {got}");
    }
    let class = |value: i64| cluster("x", json!({ "value": value }));
    assert_eq!(
        updated(Kind::PriorityClass, class(2), class(1)),
        "value: Forbidden: may not be changed in an update."
    );
    let fixed = named(json!({"immutable": true, "data": {"a": "b"}}));
    assert_eq!(
        updated(Kind::ConfigMap, named(json!({"immutable": true, "data": {"a": "c"}})), fixed),
        "data: Forbidden: field is immutable when `immutable` is set"
    );
}

/// Replaces, at a random place, what is there.
fn mutate(at: &mut Value, path: &[usize], value: &Value) {
    let below = path.split_first().and_then(|(step, rest)| {
        let below = match at {
            Value::Object(map) => map.values_mut().nth(step % 8),
            Value::Array(items) => items.get_mut(step % 2),
            _ => None,
        };
        below.map(|below| mutate(below, rest, value))
    });
    if below.is_none() {
        *at = value.clone();
    }
}

fn odd_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-5i64..70_000).prop_map(Value::from),
        "[a-z0-9./%-]{0,9}".prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!([null])),
        Just(json!([{}])),
    ]
}

/// An object of each kind that has much to say.
fn rich() -> Vec<(Kind, Value)> {
    let spec = json!({
        "containers": [{"name": "a", "image": "nginx:1", "ports": [{"containerPort": 80}],
            "env": [{"name": "A", "value": "b"},
                {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
            "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2", "memory": "1Gi"}},
            "volumeMounts": [{"name": "v", "mountPath": "/v"}],
            "livenessProbe": {"httpGet": {"port": 80}}}],
        "initContainers": [{"name": "i", "image": "x", "restartPolicy": "Always"}],
        "volumes": [{"name": "v", "secret": {"secretName": "s"}}],
        "tolerations": [{"key": "k", "operator": "Exists"}],
        "resources": {"limits": {"cpu": "4"}},
        "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 1, "preference": {"matchExpressions": [
                {"key": "zone", "operator": "In", "values": ["a"]}]}}]}},
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]});
    let mut workload = deployment();
    workload["spec"]["template"]["spec"] = spec.clone();
    let mut pod = pod();
    pod["spec"] = spec;
    let slice = json!({"metadata": {"name": "x", "namespace": "default"}, "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]});
    let node = json!({"metadata": {"name": "n"}, "spec": {"podCIDR": "10.0.0.0/24",
        "taints": [{"key": "a", "effect": "NoSchedule"}]}, "status": {"capacity": {"cpu": "1"}}});
    let mut all = vec![
        (Kind::Pod, pod),
        (Kind::Deployment, workload),
        (Kind::Service, service()),
        (Kind::EndpointSlice, slice),
        (Kind::Node, node),
    ];
    all.extend(kinds::rich());
    all
}

#[test]
fn rich_objects_are_valid() {
    for (kind, object) in rich() {
        assert_eq!(created(kind, object), "ok", "{kind:?}");
    }
}

proptest! {
    /// Nothing that decodes makes defaulting or validation panic; defaulting is idempotent, and
    /// what it leaves still decodes to itself.
    #[test]
    fn what_decodes_can_be_judged(
        which in 0usize..21,
        path in prop::collection::vec(0usize..8, 1..9),
        value in odd_value(),
    ) {
        let (kind, object) = rich().swap_remove(which);
        let mut new = object.clone();
        mutate(&mut new, &path, &value);
        if decode::check(kind, &mut new).is_ok() {
            defaults::apply(kind, &mut new);
            let once = new.clone();
            defaults::apply(kind, &mut new);
            prop_assert_eq!(&new, &once);
            prop_assert_eq!(decode::check(kind, &mut new).unwrap(), Vec::<String>::new());
            prop_assert_eq!(&new, &once);
            let old = admitted(kind, object);
            let _ = (create(kind, &new), update(kind, &new, &old), update_status(kind, &new, &old));
        }
    }
}
