//! Defaulting on the server, as upstream's `pkg/apis/*/v1/defaults.go`.
//!
//! Only what follows from the object itself. What needs the cluster (cluster IPs, priorities,
//! service accounts, default tolerations) is admission's. A field counts as unset when it is
//! absent or the empty text, as Go's zero values have it. Applying defaults twice changes nothing.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};

use crate::scheme::Kind;

mod pod;
#[cfg(test)]
mod tests;
mod volume;

type Object = Map<String, Value>;

/// Sets the defaults of `kind` on a decoded object.
pub fn apply(kind: Kind, object: &mut Value) {
    let Value::Object(object) = object else { return };
    match kind {
        Kind::Pod => {
            if let Some(spec) = object_mut(object, "spec") {
                pod::spec(spec);
                pod::only_pods(spec);
            }
        }
        Kind::Deployment => deployment(object),
        Kind::ReplicaSet => replica_set(object),
        Kind::Service => service(object),
        Kind::Namespace => namespace(object),
        Kind::Node => node(object),
        Kind::Secret => secret(object),
        Kind::EndpointSlice => endpoint_slice(object),
        Kind::PriorityClass => {
            set(object, "preemptionPolicy", "PreemptLowerPriority");
        }
        Kind::PersistentVolume => volume::persistent_volume(object),
        Kind::PersistentVolumeClaim => volume::claim(object),
        Kind::StorageClass => volume::storage_class(object),
        Kind::CsiDriver => volume::csi_driver(object),
        Kind::ReplicationController => replication_controller(object),
        Kind::StatefulSet => stateful_set(object),
        Kind::DaemonSet => daemon_set(object),
        Kind::ResourceClaim => {
            if let Some(spec) = object_mut(object, "spec") {
                resource_claim(spec);
            }
        }
        Kind::ResourceClaimTemplate => {
            if let Some(spec) = object_mut(object, "spec").and_then(|it| object_mut(it, "spec")) {
                resource_claim(spec);
            }
        }
        Kind::CsiNode
        | Kind::CsiStorageCapacity
        | Kind::VolumeAttachment
        | Kind::PodDisruptionBudget
        | Kind::DeviceClass
        | Kind::DeviceTaintRule
        | Kind::ResourceSlice
        | Kind::Workload
        | Kind::Event
        | Kind::ConfigMap
        | Kind::ServiceAccount
        | Kind::Lease
        | Kind::TokenReview
        | Kind::SelfSubjectReview
        | Kind::SubjectAccessReview
        | Kind::LocalSubjectAccessReview
        | Kind::SelfSubjectAccessReview
        | Kind::Binding
        | Kind::Eviction
        | Kind::Scale
        | Kind::DeleteOptions => {}
    }
}

/// Sets a field that is unset.
fn set(object: &mut Object, key: &str, default: impl Into<Value>) {
    if is_unset(object.get(key)) {
        object.insert(key.to_owned(), default.into());
    }
}

/// Sets a number that is absent or 0.
fn set_nonzero(object: &mut Object, key: &str, default: i64) {
    if object.get(key).is_none_or(|value| value.is_null() || value.as_i64() == Some(0)) {
        object.insert(key.to_owned(), default.into());
    }
}

fn is_unset(value: Option<&Value>) -> bool {
    value.is_none_or(|value| value.is_null() || value.as_str() == Some(""))
}

fn object_mut<'a>(object: &'a mut Object, key: &str) -> Option<&'a mut Object> {
    object.get_mut(key)?.as_object_mut()
}

/// The object at `key`, made if it is absent.
fn object_or_new<'a>(object: &'a mut Object, key: &str) -> Option<&'a mut Object> {
    set(object, key, Object::new());
    object_mut(object, key)
}

/// The objects in the list at `key`.
fn items_mut<'a>(object: &'a mut Object, key: &str) -> impl Iterator<Item = &'a mut Object> {
    let items = object.get_mut(key).and_then(Value::as_array_mut);
    items.into_iter().flatten().filter_map(Value::as_object_mut)
}

fn template(spec: &mut Object) {
    if let Some(template) = object_mut(spec, "template")
        && let Some(spec) = object_or_new(template, "spec")
    {
        pod::spec(spec);
    }
}

fn deployment(object: &mut Object) {
    let Some(spec) = object_or_new(object, "spec") else { return };
    set(spec, "replicas", 1);
    template(spec);
    if let Some(strategy) = object_or_new(spec, "strategy") {
        set(strategy, "type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate"
            && let Some(rolling) = object_or_new(strategy, "rollingUpdate")
        {
            set(rolling, "maxUnavailable", "25%");
            set(rolling, "maxSurge", "25%");
        }
    }
    set(spec, "revisionHistoryLimit", 10);
    set(spec, "progressDeadlineSeconds", 600);
}

fn replica_set(object: &mut Object) {
    let Some(spec) = object_or_new(object, "spec") else { return };
    set(spec, "replicas", 1);
    template(spec);
}

/// The template's labels are the controller's, and what it selects, unless it says otherwise.
fn replication_controller(object: &mut Object) {
    let labels = object.get("spec").and_then(|spec| spec.get("template"));
    let labels = labels.and_then(|template| template.get("metadata")?.get("labels"));
    if let Some(labels) = labels.filter(|labels| **labels != json!({})).cloned() {
        let is_empty = |it: Option<&Value>| it.is_none_or(|it| it.is_null() || *it == json!({}));
        if let Some(spec) = object_mut(object, "spec")
            && is_empty(spec.get("selector"))
        {
            spec.insert("selector".into(), labels.clone());
        }
        if let Some(metadata) = object_or_new(object, "metadata")
            && is_empty(metadata.get("labels"))
        {
            metadata.insert("labels".into(), labels);
        }
    }
    replica_set(object);
}

fn stateful_set(object: &mut Object) {
    let Some(spec) = object_or_new(object, "spec") else { return };
    set(spec, "podManagementPolicy", "OrderedReady");
    if let Some(strategy) = object_or_new(spec, "updateStrategy") {
        set(strategy, "type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate"
            && let Some(rolling) = object_or_new(strategy, "rollingUpdate")
        {
            set(rolling, "partition", 0);
            set(rolling, "maxUnavailable", 1);
        }
    }
    if let Some(policy) = object_or_new(spec, "persistentVolumeClaimRetentionPolicy") {
        set(policy, "whenDeleted", "Retain");
        set(policy, "whenScaled", "Retain");
    }
    set(spec, "replicas", 1);
    set(spec, "revisionHistoryLimit", 10);
    template(spec);
    items_mut(spec, "volumeClaimTemplates").for_each(volume::claim);
}

fn daemon_set(object: &mut Object) {
    let Some(spec) = object_or_new(object, "spec") else { return };
    if let Some(strategy) = object_or_new(spec, "updateStrategy") {
        set(strategy, "type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate"
            && let Some(rolling) = object_or_new(strategy, "rollingUpdate")
        {
            set(rolling, "maxUnavailable", 1);
            set(rolling, "maxSurge", 0);
        }
    }
    set(spec, "revisionHistoryLimit", 10);
    template(spec);
}

/// The spec of a ResourceClaim: one device of each request, tolerations that compare.
fn resource_claim(spec: &mut Object) {
    let Some(devices) = object_mut(spec, "devices") else { return };
    for request in items_mut(devices, "requests") {
        if let Some(exactly) = object_mut(request, "exactly") {
            device_request(exactly);
        }
        items_mut(request, "firstAvailable").for_each(device_request);
    }
}

fn device_request(request: &mut Object) {
    set(request, "allocationMode", "ExactCount");
    if request["allocationMode"] == "ExactCount" {
        set_nonzero(request, "count", 1);
    }
    for toleration in items_mut(request, "tolerations") {
        set(toleration, "operator", "Equal");
    }
}

/// How long a client sticks to a backend under `sessionAffinity: ClientIP`.
const CLIENT_IP_AFFINITY_S: i64 = 10_800;

fn service(object: &mut Object) {
    let Some(spec) = object_or_new(object, "spec") else { return };
    set(spec, "sessionAffinity", "None");
    if spec["sessionAffinity"] == "None" {
        spec.shift_remove("sessionAffinityConfig");
    } else if spec["sessionAffinity"] == "ClientIP"
        && let Some(config) = object_or_new(spec, "sessionAffinityConfig")
        && let Some(client_ip) = object_or_new(config, "clientIP")
    {
        set(client_ip, "timeoutSeconds", CLIENT_IP_AFFINITY_S);
    }
    set(spec, "type", "ClusterIP");
    for port in items_mut(spec, "ports") {
        set(port, "protocol", "TCP");
        let target = port.get("targetPort");
        if is_unset(target) || target == Some(&json!(0)) {
            let number = port.get("port").cloned().unwrap_or(json!(0));
            port.insert("targetPort".into(), number);
        }
    }
    let kind = spec["type"].as_str().unwrap_or_default().to_owned();
    if kind != "ExternalName" {
        set(spec, "internalTrafficPolicy", "Cluster");
        set(spec, "ipFamilyPolicy", "SingleStack");
        set(spec, "ipFamilies", json!(["IPv4"]));
        if let Some(ip) = spec.get("clusterIP").filter(|ip| !is_unset(Some(ip))).cloned() {
            set(spec, "clusterIPs", vec![ip]);
        }
    }
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") || has_external_ips(spec) {
        set(spec, "externalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        set(spec, "allocateLoadBalancerNodePorts", true);
    }
    if let Some(status) = object_or_new(object, "status") {
        set(status, "loadBalancer", Object::new());
    }
}

fn has_external_ips(spec: &Object) -> bool {
    spec["type"] == "ClusterIP"
        && spec.get("externalIPs").and_then(Value::as_array).is_some_and(|ips| !ips.is_empty())
}

/// The label that selects a namespace by its name.
const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

fn namespace(object: &mut Object) {
    if let Some(metadata) = object_or_new(object, "metadata") {
        let name = metadata.get("name").cloned();
        if let Some(name) = name.filter(|name| !is_unset(Some(name)))
            && let Some(labels) = object_or_new(metadata, "labels")
        {
            labels.insert(NAMESPACE_NAME_LABEL.into(), name);
        }
    }
    if let Some(spec) = object_or_new(object, "spec")
        && !spec.contains_key("finalizers")
    {
        spec.insert("finalizers".into(), json!(["kubernetes"]));
    }
    if let Some(status) = object_or_new(object, "status") {
        set(status, "phase", "Active");
    }
}

fn node(object: &mut Object) {
    if let Some(status) = object_mut(object, "status")
        && let Some(capacity) = status.get("capacity").cloned()
    {
        set(status, "allocatable", capacity);
    }
}

/// `stringData` is a write-only convenience: it goes into `data`, over what is there.
fn secret(object: &mut Object) {
    set(object, "type", "Opaque");
    let Some(Value::Object(plain)) = object.shift_remove("stringData") else { return };
    if let Some(data) = object_or_new(object, "data") {
        for (key, value) in plain {
            let encoded = BASE64.encode(value.as_str().unwrap_or_default());
            data.insert(key, Value::String(encoded));
        }
    }
}

fn endpoint_slice(object: &mut Object) {
    for port in items_mut(object, "ports") {
        if !port.contains_key("name") {
            port.insert("name".into(), "".into());
        }
        set(port, "protocol", "TCP");
    }
}
