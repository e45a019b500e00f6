//! `PrepareForCreate` and `PrepareForUpdate` of each kind, as in upstream's `pkg/registry`.

use pintle_api::scheme::{Kind, Resource};
use serde_json::{Value, json};

use super::pod;
use crate::object;

/// Kinds whose `metadata.generation` counts the changes of what is desired.
pub(crate) fn has_generation(kind: Kind) -> bool {
    use Kind::{
        DaemonSet, Deployment, DeviceClass, EndpointSlice, Pod, PodDisruptionBudget, PriorityClass,
        ReplicaSet, ReplicationController, ResourceSlice, StatefulSet,
    };
    matches!(
        kind,
        DaemonSet
            | Deployment
            | DeviceClass
            | EndpointSlice
            | Pod
            | PodDisruptionBudget
            | PriorityClass
            | ReplicaSet
            | ReplicationController
            | ResourceSlice
            | StatefulSet
    )
}

/// Before admission and defaults of a new object.
pub(crate) fn create(kind: Kind, object: &mut Value) {
    match kind {
        Kind::DaemonSet
        | Kind::Deployment
        | Kind::PodDisruptionBudget
        | Kind::ReplicaSet
        | Kind::ReplicationController
        | Kind::ResourceClaim
        | Kind::StatefulSet => object::set(object, "status", Some(json!({}))),
        Kind::PersistentVolume => {
            object::set(object, "status", Some(json!({ "phase": "Pending" })));
        }
        Kind::PersistentVolumeClaim => {
            object::set(object, "status", Some(json!({ "phase": "Pending" })));
            same_data_source(object);
        }
        Kind::VolumeAttachment => {
            object::set(object, "status", Some(json!({ "attached": false })));
        }
        Kind::Service => object::set(object, "status", None),
        Kind::Pod => pod::create(object),
        Kind::Namespace => {
            object::set(object, "status", Some(json!({ "phase": "Active" })));
            let spec = object::section(object, "spec");
            let finalizers = spec.entry("finalizers").or_insert_with(|| json!([]));
            if let Some(list) = finalizers.as_array_mut()
                && !list.contains(&json!("kubernetes"))
            {
                list.push(json!("kubernetes"));
            }
        }
        // Node agents register with their status.
        _ => {}
    }
}

/// The old and the new field for what a claim is filled from say the same.
fn same_data_source(claim: &mut Value) {
    let spec = object::section(claim, "spec");
    let filled = |field: &str| spec.get(field).filter(|value| !value.is_null()).cloned();
    match (filled("dataSource"), filled("dataSourceRef")) {
        (Some(source), None) => _ = spec.insert("dataSourceRef".to_owned(), source),
        (None, Some(source)) if object::text(&source, &["namespace"]).is_empty() => {
            spec.insert("dataSource".to_owned(), source);
        }
        _ => {}
    }
}

/// What depends on the defaults of a new object.
pub(crate) fn after_defaults(kind: Kind, object: &mut Value) {
    if kind == Kind::Pod {
        let class = qos_class(object);
        object::section(object, "status").insert("qosClass".to_owned(), json!(class));
    }
}

/// An update of the object itself: the status stays.
pub(crate) fn main_update(resource: &Resource, new: &mut Value, old: &Value) {
    if resource.has_status() {
        object::set(new, "status", old.get("status").cloned());
    }
    match resource.kind {
        Kind::Namespace => {
            let finalizers = old["spec"]["finalizers"].clone();
            object::section(new, "spec").insert("finalizers".to_owned(), finalizers);
        }
        Kind::Service => keep_allocated(new, old),
        _ => {}
    }
}

/// An update of the status: of the rest only labels and annotations are taken.
pub(crate) fn status_update(kind: Kind, new: &mut Value, old: &Value) {
    let mut merged = old.clone();
    object::set(&mut merged, "status", new.get("status").cloned());
    use Kind::{Deployment, ReplicaSet, ResourceClaim, StatefulSet, VolumeAttachment};
    let kept: &[&str] = match kind {
        Deployment | ReplicaSet | StatefulSet => &["labels"],
        ResourceClaim | VolumeAttachment => &["annotations", "labels"],
        _ => &[],
    };
    for field in ["annotations", "labels"].into_iter().filter(|field| !kept.contains(field)) {
        let metadata = object::metadata(&mut merged);
        match new["metadata"].get(field) {
            Some(value) => _ = metadata.insert(field.to_owned(), value.clone()),
            None => _ = metadata.shift_remove(field),
        }
    }
    *new = merged;
}

/// An update of what a pod's containers ask for: of each container that is named, nothing else is taken.
pub(crate) fn resize_update(new: &mut Value, old: &Value) {
    let mut merged = old.clone();
    for list in ["containers", "initContainers"] {
        for container in
            merged["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten()
        {
            let asked = new["spec"][list].as_array().into_iter().flatten();
            let Some(asked) = asked.into_iter().find(|it| it["name"] == container["name"]) else {
                continue;
            };
            object::set(container, "resources", asked.get("resources").cloned());
            object::set(container, "resizePolicy", asked.get("resizePolicy").cloned());
        }
    }
    *new = merged;
}

/// An update of a namespace's `spec.finalizers`.
pub(crate) fn finalize_update(new: &mut Value, old: &Value) {
    let finalizers = new["spec"].get("finalizers").cloned().unwrap_or_else(|| json!([]));
    *new = old.clone();
    object::section(new, "spec").insert("finalizers".to_owned(), finalizers);
}

/// Count a change of what is desired.
pub(crate) fn bump_generation(kind: Kind, new: &mut Value, old: &Value) {
    let changed = match kind {
        Kind::DaemonSet
        | Kind::Deployment
        | Kind::DeviceClass
        | Kind::DeviceTaintRule
        | Kind::Pod
        | Kind::PodDisruptionBudget
        | Kind::ReplicaSet
        | Kind::ReplicationController
        | Kind::ResourceSlice
        | Kind::StatefulSet => new.get("spec") != old.get("spec"),
        Kind::EndpointSlice => ["addressType", "endpoints", "ports"]
            .into_iter()
            .any(|field| new.get(field) != old.get(field)),
        _ => false,
    };
    if changed {
        let generation = old["metadata"]["generation"].as_u64().unwrap_or(0) + 1;
        object::metadata(new).insert("generation".to_owned(), json!(generation));
    }
}

/// A client that leaves out what was allocated for a Service keeps it; a type that has no use for
/// it lets go of it (`patchAllocatedValues` and `dropTypeDependentFields`).
fn keep_allocated(new: &mut Value, old: &Value) {
    let kind_of = |service: &Value| match object::text(service, &["spec", "type"]) {
        "" => "ClusterIP".to_owned(),
        kind => kind.to_owned(),
    };
    let (now, before) = (kind_of(new), kind_of(old));
    let uses_ports = |kind: &str| matches!(kind, "LoadBalancer" | "NodePort");
    let spec = object::section(new, "spec");
    let unset = spec.get("clusterIP").and_then(Value::as_str).unwrap_or_default().is_empty();
    if now != "ExternalName" && before != "ExternalName" && unset {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if let Some(value) = old["spec"].get(field) {
                spec.insert(field.to_owned(), value.clone());
            }
        }
    }
    if now == "ExternalName"
        && before != "ExternalName"
        && spec.get("clusterIP") == old["spec"].get("clusterIP")
    {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            spec.shift_remove(field);
        }
    }
    let old_ports = old["spec"]["ports"].as_array().cloned().unwrap_or_default();
    let same = |a: &Value, b: &Value| {
        let protocol = |port: &Value| port["protocol"].as_str().unwrap_or("TCP").to_owned();
        a["port"] == b["port"] && protocol(a) == protocol(b)
    };
    let ports = spec.get_mut("ports").and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten() {
        let Some(was) = old_ports.iter().find(|old| same(old, port)) else { continue };
        let Some(node_port) = was.get("nodePort").cloned() else { continue };
        let unset = port["nodePort"].as_u64().unwrap_or(0) == 0;
        if uses_ports(&now) && uses_ports(&before) && unset {
            port["nodePort"] = node_port;
        } else if !uses_ports(&now) && uses_ports(&before) && port["nodePort"] == node_port {
            object::set(port, "nodePort", None);
        }
    }
}

/// `qos.ComputePodQOS`: by the CPU and memory of all containers.
fn qos_class(pod: &Value) -> &'static str {
    let mut any = false;
    let mut guaranteed = true;
    for list in ["initContainers", "containers"] {
        for container in pod["spec"][list].as_array().into_iter().flatten() {
            for resource in ["cpu", "memory"] {
                let amount = |side: &str| amount(&container["resources"][side][resource]);
                let (request, limit) = (amount("requests"), amount("limits"));
                any |= request.is_some() || limit.is_some();
                guaranteed &=
                    limit.is_some() && request.unwrap_or_default() == limit.unwrap_or_default();
            }
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// The canonical text of a quantity that is not zero.
fn amount(value: &Value) -> Option<String> {
    let text =
        value.as_str().map(str::to_owned).or_else(|| value.as_u64().map(|n| n.to_string()))?;
    let quantity: pintle_api::quantity::Quantity = text.parse().ok()?;
    let canonical = quantity.to_string();
    (canonical != "0").then_some(canonical)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "reads better in the tables below")]
    fn pod(resources: Value) -> Value {
        json!({ "spec": { "containers": [{ "resources": resources }] } })
    }

    #[test]
    fn qos_follows_requests_and_limits() {
        let both = json!({ "cpu": "1", "memory": "1Gi" });
        assert_eq!(qos_class(&pod(json!({}))), "BestEffort");
        assert_eq!(qos_class(&pod(json!({ "requests": both, "limits": both }))), "Guaranteed");
        assert_eq!(qos_class(&pod(json!({ "requests": both }))), "Burstable");
        let half = json!({ "requests": { "cpu": "1" }, "limits": { "cpu": "1" } });
        assert_eq!(qos_class(&pod(half)), "Burstable");
    }

    #[test]
    fn only_a_changed_spec_bumps_the_generation() {
        let old = json!({"metadata": {"generation": 3}, "spec": {"replicas": 1}, "status": {}});
        let mut relabelled = old.clone();
        relabelled["metadata"]["labels"] = json!({"a": "b"});
        bump_generation(Kind::Deployment, &mut relabelled, &old);
        assert_eq!(relabelled["metadata"]["generation"], 3);
        let mut scaled = old.clone();
        scaled["spec"]["replicas"] = json!(2);
        bump_generation(Kind::Deployment, &mut scaled, &old);
        assert_eq!(scaled["metadata"]["generation"], 4);
    }

    #[test]
    fn a_resize_takes_what_containers_ask_for_and_nothing_else() {
        let container = |name: &str, image: &str, cpu: &str| json!({"name": name, "image": image, "resources": {"requests": {"cpu": cpu}}});
        let pod = |containers: Value| json!({"metadata": {}, "spec": {"containers": containers}});
        let old = pod(json!([container("a", "x", "1"), container("b", "x", "1")]));
        let mut new = pod(json!([container("b", "y", "2")]));
        new["spec"]["nodeName"] = json!("n");
        resize_update(&mut new, &old);
        assert_eq!(new, pod(json!([container("a", "x", "1"), container("b", "x", "2")])));
    }

    #[test]
    fn a_status_update_leaves_the_spec() {
        let old = json!({"metadata": {"name": "a"}, "spec": {"x": 1}, "status": {"y": 1}});
        let mut new = json!({
            "metadata": {"name": "a", "finalizers": ["f"], "annotations": {"k": "v"}},
            "spec": {"x": 2},
            "status": {"y": 2},
        });
        status_update(Kind::Node, &mut new, &old);
        let metadata = json!({"name": "a", "annotations": {"k": "v"}});
        assert_eq!(new, json!({"metadata": metadata, "spec": {"x": 1}, "status": {"y": 2}}));
    }

    #[test]
    fn a_service_keeps_what_was_allocated() {
        let port = |node: u16| json!([{"port": 80, "protocol": "TCP", "nodePort": node}]);
        let old = json!({"spec": {
            "type": "NodePort", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"],
            "ports": port(30001),
        }});
        let mut new = json!({"spec": {"type": "NodePort", "ports": [{"port": 80}]}});
        keep_allocated(&mut new, &old);
        assert_eq!(new["spec"]["clusterIP"], "10.96.0.9");
        assert_eq!(new["spec"]["ports"][0]["nodePort"], 30001);
        let mut inner = json!({"spec": {"type": "ClusterIP", "ports": port(30001)}});
        keep_allocated(&mut inner, &old);
        assert_eq!(inner["spec"]["ports"][0].get("nodePort"), None);
    }
}
