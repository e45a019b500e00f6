use serde_json::json;

use super::*;
use crate::decode;

/// Defaults of an object that decodes, twice: the second time nothing changes.
fn defaulted(kind: Kind, mut object: Value) -> Value {
    apply(kind, &mut object);
    let once = object.clone();
    apply(kind, &mut object);
    assert_eq!(object, once, "defaults of {kind:?} are idempotent");
    assert_eq!(decode::check(kind, &mut object).unwrap(), Vec::<String>::new());
    once
}

#[test]
fn a_minimal_pod_gets_upstreams_defaults() {
    let pod = json!({"spec": {"containers": [{"name": "a", "image": "nginx"}]}});
    assert_eq!(
        defaulted(Kind::Pod, pod)["spec"],
        json!({
            "containers": [{"name": "a", "image": "nginx", "imagePullPolicy": "Always",
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File", "resources": {}}],
            "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "securityContext": {},
            "terminationGracePeriodSeconds": 30, "schedulerName": "default-scheduler",
            "enableServiceLinks": true})
    );
}

#[test]
fn pull_policy_follows_the_tag() {
    for (image, latest) in [
        ("nginx", true),
        ("nginx:latest", true),
        ("nginx:1.27", false),
        ("registry:5000/nginx", true),
        ("registry:5000/nginx:1", false),
        ("nginx@sha256:abc", false),
        ("nginx:latest@sha256:abc", true),
        ("", false),
    ] {
        let pod = json!({"spec": {"containers": [{"name": "a", "image": image}]}});
        let pod = defaulted(Kind::Pod, pod);
        let expected = if latest { "Always" } else { "IfNotPresent" };
        assert_eq!(pod["spec"]["containers"][0]["imagePullPolicy"], expected, "{image}");
    }
}

#[test]
fn containers_fill_in_what_they_leave_open() {
    let pod = json!({"spec": {"hostNetwork": true, "serviceAccountName": "sa",
        "volumes": [{"name": "e"}, {"name": "c", "configMap": {"name": "c"}},
            {"name": "h", "hostPath": {"path": "/x"}}],
        "containers": [{"name": "a", "image": "x:1",
            "ports": [{"containerPort": 80}],
            "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
            "readinessProbe": {"httpGet": {"port": 80}, "periodSeconds": 2},
            "resources": {
                "limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}}]}});
    let pod = defaulted(Kind::Pod, pod);
    let container = &pod["spec"]["containers"][0];
    assert_eq!(
        container["ports"],
        json!([
        {"containerPort": 80, "protocol": "TCP", "hostPort": 80}])
    );
    assert_eq!(container["env"][0]["valueFrom"]["fieldRef"]["apiVersion"], "v1");
    assert_eq!(
        container["readinessProbe"],
        json!({
        "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "periodSeconds": 2,
        "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3})
    );
    assert_eq!(container["resources"]["requests"], json!({"cpu": "500m", "memory": "1Gi"}));
    assert_eq!(pod["spec"]["serviceAccount"], "sa");
    assert_eq!(
        pod["spec"]["volumes"],
        json!([
        {"name": "e", "emptyDir": {}},
        {"name": "c", "configMap": {"name": "c", "defaultMode": 420}},
        {"name": "h", "hostPath": {"path": "/x", "type": ""}}])
    );
}

#[test]
fn deployments_get_a_rolling_update_and_a_template_of_a_pod() {
    let deployment = defaulted(
        Kind::Deployment,
        json!({"spec": {"selector": {"matchLabels": {}},
        "template": {"spec": {"containers": [{"name": "a", "image": "x:1",
            "resources": {"limits": {"cpu": "1"}}}]}}}}),
    );
    let spec = &deployment["spec"];
    assert_eq!(spec["replicas"], 1);
    assert_eq!(spec["revisionHistoryLimit"], 10);
    assert_eq!(spec["progressDeadlineSeconds"], 600);
    assert_eq!(
        spec["strategy"],
        json!({"type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}})
    );
    let template = &spec["template"]["spec"];
    assert_eq!(template["restartPolicy"], "Always");
    assert_eq!(template["containers"][0]["resources"], json!({"limits": {"cpu": "1"}}));
    assert_eq!(template.get("enableServiceLinks"), None, "only pods get it");
    let recreate = json!({"spec": {"strategy": {"type": "Recreate"}, "replicas": 0}});
    let recreate = defaulted(Kind::Deployment, recreate);
    assert_eq!(recreate["spec"]["strategy"], json!({"type": "Recreate"}));
    assert_eq!(recreate["spec"]["replicas"], 0);
}

#[test]
fn services_default_by_type() {
    let service = |spec: Value| defaulted(Kind::Service, json!({ "spec": spec }))["spec"].clone();
    let plain = service(json!({"ports": [{"port": 80}, {"port": 81, "targetPort": "x"}]}));
    assert_eq!(plain["type"], "ClusterIP");
    assert_eq!(plain["sessionAffinity"], "None");
    assert_eq!(plain["internalTrafficPolicy"], "Cluster");
    assert_eq!(plain["ipFamilyPolicy"], "SingleStack");
    assert_eq!(
        plain["ports"],
        json!([
        {"port": 80, "protocol": "TCP", "targetPort": 80},
        {"port": 81, "targetPort": "x", "protocol": "TCP"}])
    );
    assert_eq!(plain.get("externalTrafficPolicy"), None);
    let headless = service(json!({"clusterIP": "None"}));
    assert_eq!(headless["clusterIPs"], json!(["None"]));
    let sticky = service(json!({"sessionAffinity": "ClientIP"}));
    assert_eq!(sticky["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"], 10_800);
    assert_eq!(service(json!({"type": "NodePort"}))["externalTrafficPolicy"], "Cluster");
    let external = service(json!({"type": "ExternalName", "externalName": "x.example"}));
    assert_eq!(external.get("ipFamilies"), None);
}

#[test]
fn other_kinds_get_theirs() {
    let namespace = defaulted(Kind::Namespace, json!({"metadata": {"name": "a"}}));
    assert_eq!(namespace["metadata"]["labels"], json!({"kubernetes.io/metadata.name": "a"}));
    assert_eq!(namespace["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(namespace["status"]["phase"], "Active");
    let gone = json!({"metadata": {"name": "a"}, "spec": {"finalizers": []}});
    assert_eq!(defaulted(Kind::Namespace, gone)["spec"]["finalizers"], json!([]));
    let secret = defaulted(Kind::Secret, json!({"stringData": {"a": "x"}, "data": {"b": "eQ=="}}));
    assert_eq!(secret, json!({"type": "Opaque", "data": {"a": "eA==", "b": "eQ=="}}));
    let class = defaulted(Kind::PriorityClass, json!({"value": 1}));
    assert_eq!(class["preemptionPolicy"], "PreemptLowerPriority");
    let slice = json!({"addressType": "IPv4", "endpoints": [], "ports": [{"port": 1}]});
    let slice = defaulted(Kind::EndpointSlice, slice);
    assert_eq!(slice["ports"], json!([{"port": 1, "name": "", "protocol": "TCP"}]));
    let node = defaulted(Kind::Node, json!({"status": {"capacity": {"cpu": "2"}}}));
    assert_eq!(node["status"]["allocatable"], json!({"cpu": "2"}));
}

#[test]
fn odd_shapes_are_left_alone() {
    for kind in crate::scheme::RESOURCES.iter().map(|resource| resource.kind) {
        for mut odd in [json!(null), json!([]), json!({"spec": 1, "metadata": [], "ports": {}})] {
            apply(kind, &mut odd);
        }
    }
}

#[test]
fn pod_level_requests_follow_containers_then_limits() {
    let pod = json!({"spec": {
        "containers": [{"name": "a", "image": "x:1", "resources": {"requests": {"cpu": "300m"}}},
            {"name": "b", "image": "x:1", "resources": {"requests": {"cpu": "200m"}}}],
        "resources": {"limits": {"cpu": "2", "memory": "1Gi"}}}});
    let pod = defaulted(Kind::Pod, pod);
    assert_eq!(pod["spec"]["resources"]["requests"], json!({"cpu": "500m", "memory": "1Gi"}));
}
