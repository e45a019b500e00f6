//! Defaults of pods and of the pod templates of workloads.

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Object, is_unset, items_mut, object_mut, object_or_new, set, set_nonzero};
use crate::resources::{Amounts, CPU, MEMORY, pod_request_amounts};

/// Mode 0644 of the files of secrets, config maps and the like.
const FILE_MODE: i64 = 0o644;

/// What pods and pod templates have in common.
pub(super) fn spec(spec: &mut Object) {
    set(spec, "dnsPolicy", "ClusterFirst");
    set(spec, "restartPolicy", "Always");
    set(spec, "securityContext", Object::new());
    set(spec, "terminationGracePeriodSeconds", 30);
    set(spec, "schedulerName", "default-scheduler");
    mirror_service_account(spec);
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        items_mut(spec, list).for_each(container);
    }
    items_mut(spec, "volumes").for_each(volume);
}

/// What only pods get, so that a template does not change when the defaults do.
pub(super) fn only_pods(spec: &mut Object) {
    let host_network = spec.get("hostNetwork") == Some(&Value::Bool(true));
    for list in ["containers", "initContainers"] {
        for container in items_mut(spec, list) {
            if let Some(resources) = object_mut(container, "resources") {
                requests_from_limits(resources);
            }
            if host_network {
                items_mut(container, "ports").for_each(host_port);
            }
        }
    }
    pod_level_requests(spec);
    set(spec, "enableServiceLinks", true);
}

/// A pod that limits itself as a whole requests what its containers do together, else its limits.
fn pod_level_requests(spec: &mut Object) {
    let limits = spec.get("resources").and_then(|resources| resources.get("limits"));
    if limits.is_none_or(|limits| *limits == json!({})) {
        return;
    }
    let mut containers = spec.clone();
    containers.retain(|key, _| matches!(key.as_str(), "containers" | "initContainers"));
    let containers = PodSpec::deserialize(Value::Object(containers)).ok();
    let pod = Pod { spec: containers, ..Pod::default() };
    let together = pod_request_amounts(&pod, &Amounts::new());
    let Some(resources) = object_mut(spec, "resources") else { return };
    if let Some(requests) = object_or_new(resources, "requests") {
        for (name, amount) in together {
            if matches!(name.as_str(), CPU | MEMORY) {
                requests.entry(name).or_insert_with(|| amount.to_string().into());
            }
        }
    }
    requests_from_limits(resources);
}

/// `serviceAccount` is the old name of `serviceAccountName`; both are served.
fn mirror_service_account(spec: &mut Object) {
    let name = ["serviceAccountName", "serviceAccount"]
        .into_iter()
        .find_map(|key| spec.get(key).filter(|value| !is_unset(Some(value))).cloned());
    if let Some(name) = name {
        spec.insert("serviceAccountName".into(), name.clone());
        spec.insert("serviceAccount".into(), name);
    }
}

fn container(container: &mut Object) {
    let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
    let policy = if is_latest(image) { "Always" } else { "IfNotPresent" };
    set(container, "imagePullPolicy", policy);
    set(container, "terminationMessagePath", "/dev/termination-log");
    set(container, "terminationMessagePolicy", "File");
    set(container, "resources", Object::new());
    for port in items_mut(container, "ports") {
        set(port, "protocol", "TCP");
    }
    for env in items_mut(container, "env") {
        if let Some(source) = object_mut(env, "valueFrom") {
            field_ref(source);
        }
    }
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(it) = object_mut(container, key) {
            probe(it);
        }
    }
    if let Some(lifecycle) = object_mut(container, "lifecycle") {
        for key in ["postStart", "preStop"] {
            if let Some(handler) = object_mut(lifecycle, key) {
                http_get(handler);
            }
        }
    }
}

/// Whether the image's tag is `latest`: said, or implied by neither tag nor digest.
fn is_latest(image: &str) -> bool {
    let (name, digest) = image.split_once('@').map_or((image, None), |(n, d)| (n, Some(d)));
    let last = name.rsplit('/').next().unwrap_or_default();
    match last.split_once(':') {
        Some((_, tag)) => tag == "latest",
        None => digest.is_none() && !last.is_empty(),
    }
}

fn requests_from_limits(resources: &mut Object) {
    let Some(Value::Object(limits)) = resources.get("limits").cloned() else { return };
    if let Some(requests) = object_or_new(resources, "requests") {
        for (name, quantity) in limits {
            requests.entry(name).or_insert(quantity);
        }
    }
}

fn host_port(port: &mut Object) {
    let number = port.get("containerPort").and_then(Value::as_i64).unwrap_or(0);
    set_nonzero(port, "hostPort", number);
}

fn field_ref(source: &mut Object) {
    if let Some(reference) = object_mut(source, "fieldRef") {
        set(reference, "apiVersion", "v1");
    }
    if let Some(reference) = object_mut(source, "resourceFieldRef")
        && is_unset(reference.get("divisor"))
    {
        reference.insert("divisor".into(), "0".into());
    }
}

fn probe(probe: &mut Object) {
    http_get(probe);
    if let Some(grpc) = object_mut(probe, "grpc")
        && !grpc.contains_key("service")
    {
        grpc.insert("service".into(), "".into());
    }
    set_nonzero(probe, "timeoutSeconds", 1);
    set_nonzero(probe, "periodSeconds", 10);
    set_nonzero(probe, "successThreshold", 1);
    set_nonzero(probe, "failureThreshold", 3);
}

fn http_get(handler: &mut Object) {
    if let Some(get) = object_mut(handler, "httpGet") {
        set(get, "path", "/");
        set(get, "scheme", "HTTP");
    }
}

fn volume(volume: &mut Object) {
    if volume.keys().all(|key| key == "name") {
        volume.insert("emptyDir".into(), json!({}));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = object_mut(volume, source) {
            set(source, "defaultMode", FILE_MODE);
        }
    }
    if let Some(downward) = object_mut(volume, "downwardAPI") {
        items_mut(downward, "items").for_each(field_ref);
    }
    if let Some(projected) = object_mut(volume, "projected") {
        items_mut(projected, "sources").for_each(projection);
    }
    super::volume::source(volume);
    if let Some(template) =
        object_mut(volume, "ephemeral").and_then(|it| object_mut(it, "volumeClaimTemplate"))
        && let Some(spec) = object_mut(template, "spec")
    {
        super::volume::claim_spec(spec);
    }
    if let Some(image) = object_mut(volume, "image") {
        let reference = image.get("reference").and_then(Value::as_str).unwrap_or_default();
        let policy = if is_latest(reference) { "Always" } else { "IfNotPresent" };
        set(image, "pullPolicy", policy);
    }
}

fn projection(source: &mut Object) {
    if let Some(token) = object_mut(source, "serviceAccountToken") {
        set(token, "expirationSeconds", 3600);
    }
    if let Some(downward) = object_mut(source, "downwardAPI") {
        items_mut(downward, "items").for_each(field_ref);
    }
}
