//! Containers: names, images, ports, environment, mounts, probes, resources.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction, PodSpec, Probe,
    ResourceRequirements, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use rustc_hash::FxHashSet;
use serde_json::Value;

use super::{NOT_NEGATIVE, one_of, required_one_of};
use crate::field::{Errors, Path};
use crate::quantity::Quantity;
use crate::resources::{CPU, EPHEMERAL_STORAGE, MEMORY};
use crate::syntax;

/// The names of the volumes that mounts may refer to.
pub(super) type Volumes<'a> = FxHashSet<&'a str>;

/// All containers of a pod.
pub(super) fn containers(
    spec: &PodSpec,
    volumes: &Volumes<'_>,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    if spec.containers.is_empty() {
        errors.required(&path.child("containers"), "");
    }
    let mut names = FxHashSet::default();
    let mut host_ports = FxHashSet::default();
    let init = spec.init_containers.as_deref().unwrap_or_default();
    for (field, list, is_init) in
        [("containers", spec.containers.as_slice(), false), ("initContainers", init, true)]
    {
        let list_path = path.child(field);
        for (i, it) in list.iter().enumerate() {
            let path = list_path.index(i);
            container(it, volumes, &path, errors);
            if !it.name.is_empty() && !names.insert(it.name.as_str()) {
                errors.duplicate(&path.child("name"), it.name.as_str());
            }
            if is_init {
                init_container(it, &path, errors);
            }
            let is_sidecar = it.restart_policy.as_deref() == Some("Always");
            if !is_init || is_sidecar {
                ports_on_host(it, spec.host_network == Some(true), &mut host_ports, &path, errors);
            }
        }
    }
}

fn container(it: &Container, volumes: &Volumes<'_>, path: &Path<'_>, errors: &mut Errors) {
    let name = path.child("name");
    if it.name.is_empty() {
        errors.required(&name, "");
    } else {
        errors.each_invalid(&name, &it.name, syntax::dns1123_label(&it.name));
    }
    let image = it.image.as_deref().unwrap_or_default();
    if image.is_empty() {
        errors.required(&path.child("image"), "");
    } else if image.trim() != image {
        let detail = "must not have leading or trailing whitespace";
        errors.invalid(&path.child("image"), image, detail);
    }
    required_one_of(
        &path.child("imagePullPolicy"),
        it.image_pull_policy.as_deref().unwrap_or_default(),
        &["Always", "IfNotPresent", "Never"],
        errors,
    );
    if let Some(policy) = &it.termination_message_policy {
        let path = path.child("terminationMessagePolicy");
        one_of(&path, policy, &["File", "FallbackToLogsOnError"], errors);
    }
    ports(it.ports.as_deref().unwrap_or_default(), &path.child("ports"), errors);
    environment(it.env.as_deref().unwrap_or_default(), &path.child("env"), errors);
    mounts(it.volume_mounts.as_deref().unwrap_or_default(), volumes, path, errors);
    for (field, it, is_liveness) in [
        ("livenessProbe", &it.liveness_probe, true),
        ("readinessProbe", &it.readiness_probe, false),
        ("startupProbe", &it.startup_probe, true),
    ] {
        if let Some(it) = it {
            probe(it, is_liveness, &path.child(field), errors);
        }
    }
    if let Some(it) = &it.resources {
        resources(it, &path.child("resources"), errors);
    }
}

/// What only containers that stay running may have.
fn init_container(it: &Container, path: &Path<'_>, errors: &mut Errors) {
    if let Some(policy) = &it.restart_policy {
        one_of(&path.child("restartPolicy"), policy, &["Always", "OnFailure", "Never"], errors);
    }
    if it.restart_policy.as_deref() == Some("Always") {
        return;
    }
    for (field, is_set) in [
        ("lifecycle", it.lifecycle.is_some()),
        ("livenessProbe", it.liveness_probe.is_some()),
        ("readinessProbe", it.readiness_probe.is_some()),
        ("startupProbe", it.startup_probe.is_some()),
    ] {
        if is_set {
            errors.forbidden(
                &path.child(field),
                "may not be set for init containers without restartPolicy=Always",
            );
        }
    }
}

const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];

fn ports(ports: &[ContainerPort], list: &Path<'_>, errors: &mut Errors) {
    let mut names = FxHashSet::default();
    for (i, port) in ports.iter().enumerate() {
        let path = list.index(i);
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            let wrong = syntax::port_name(name);
            if wrong.is_empty() && !names.insert(name) {
                errors.duplicate(&path.child("name"), name);
            }
            errors.each_invalid(&path.child("name"), name, wrong);
        }
        if port.container_port == 0 {
            errors.required(&path.child("containerPort"), "");
        } else {
            number(&path.child("containerPort"), port.container_port, errors);
        }
        if let Some(host_port) = port.host_port.filter(|port| *port != 0) {
            number(&path.child("hostPort"), host_port, errors);
        }
        let protocol = port.protocol.as_deref().unwrap_or_default();
        required_one_of(&path.child("protocol"), protocol, PROTOCOLS, errors);
    }
}

/// A port's number.
pub(super) fn number(path: &Path<'_>, port: i32, errors: &mut Errors) {
    for detail in syntax::port_number(i64::from(port)) {
        errors.invalid(path, port, detail);
    }
}

/// A port's number or name.
pub(super) fn number_or_name(path: &Path<'_>, port: &IntOrString, errors: &mut Errors) {
    match port {
        IntOrString::Int(port) => number(path, *port, errors),
        IntOrString::String(name) => errors.each_invalid(path, name, syntax::port_name(name)),
    }
}

/// A pod cannot take the same port of its host twice; in the host's network all its ports are.
fn ports_on_host(
    it: &Container,
    host_network: bool,
    taken: &mut FxHashSet<String>,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    let list = path.child("ports");
    for (i, port) in it.ports.iter().flatten().enumerate() {
        let path = list.index(i);
        let host_port = port.host_port.unwrap_or(0);
        if host_network && host_port != port.container_port {
            errors.invalid(
                &path.child("containerPort"),
                port.container_port,
                "must match `hostPort` when `hostNetwork` is true",
            );
        }
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let key = format!("{}/{}/{host_port}", text(&port.protocol), text(&port.host_ip));
        if host_port != 0 && !taken.insert(key.clone()) {
            errors.duplicate(&path.child("hostPort"), key);
        }
    }
}

fn environment(variables: &[EnvVar], list: &Path<'_>, errors: &mut Errors) {
    for (i, variable) in variables.iter().enumerate() {
        let path = list.index(i);
        if variable.name.is_empty() {
            errors.required(&path.child("name"), "");
        } else {
            let wrong = syntax::env_var_name(&variable.name);
            errors.each_invalid(&path.child("name"), &variable.name, wrong);
        }
        if let Some(source) = &variable.value_from {
            let path = path.child("valueFrom");
            if variable.value.as_ref().is_some_and(|value| !value.is_empty()) {
                errors.invalid(&path, "", "may not be specified when `value` is not empty");
            }
            environment_source(source, &path, errors);
        }
    }
}

/// What of a pod a container may see in its environment.
const FIELD_PATHS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

fn environment_source(source: &EnvVarSource, path: &Path<'_>, errors: &mut Errors) {
    let mut count = 0;
    if let Some(field) = &source.field_ref {
        count += 1;
        let path = path.child("fieldRef");
        let path = path.child("fieldPath");
        let field = field.field_path.as_str();
        let subscripted = ["metadata.labels['", "metadata.annotations['"]
            .iter()
            .any(|start| field.starts_with(start) && field.ends_with("']"));
        if field.is_empty() {
            errors.required(&path, "");
        } else if !subscripted {
            one_of(&path, field, FIELD_PATHS, errors);
        }
    }
    if let Some(resource) = &source.resource_field_ref {
        count += 1;
        if resource.resource.is_empty() {
            errors.required(&path.child("resourceFieldRef").child("resource"), "");
        }
    }
    let config_map = source.config_map_key_ref.as_ref().map(|it| (&it.name, &it.key));
    let secret = source.secret_key_ref.as_ref().map(|it| (&it.name, &it.key));
    for (field, reference) in [("configMapKeyRef", config_map), ("secretKeyRef", secret)] {
        let Some((name, key)) = reference else { continue };
        count += 1;
        let path = path.child(field);
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        }
        if key.is_empty() {
            errors.required(&path.child("key"), "");
        } else {
            errors.each_invalid(&path.child("key"), key, syntax::config_map_key(key));
        }
    }
    count += usize::from(source.file_key_ref.is_some());
    match count {
        0 => errors.invalid(
            path,
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or \
             `secretKeyRef`",
        ),
        1 => {}
        _ => errors.invalid(path, "", "may not have more than one field specified at a time"),
    }
}

fn mounts(mounts: &[VolumeMount], volumes: &Volumes<'_>, path: &Path<'_>, errors: &mut Errors) {
    let list = path.child("volumeMounts");
    let mut paths = FxHashSet::default();
    for (i, mount) in mounts.iter().enumerate() {
        let path = list.index(i);
        if mount.name.is_empty() {
            errors.required(&path.child("name"), "");
        } else if !volumes.contains(mount.name.as_str()) {
            errors.not_found(&path.child("name"), &mount.name);
        }
        if mount.mount_path.is_empty() {
            errors.required(&path.child("mountPath"), "");
        } else if !paths.insert(mount.mount_path.as_str()) {
            errors.invalid(&path.child("mountPath"), mount.mount_path.as_str(), "must be unique");
        }
        if let Some(sub_path) = mount.sub_path.as_deref().filter(|path| !path.is_empty()) {
            super::volume::relative_path(&path.child("subPath"), sub_path, errors);
        }
    }
}

fn probe(probe: &Probe, is_liveness: bool, path: &Path<'_>, errors: &mut Errors) {
    let handlers = [
        ("exec", probe.exec.is_some()),
        ("httpGet", probe.http_get.is_some()),
        ("tcpSocket", probe.tcp_socket.is_some()),
        ("grpc", probe.grpc.is_some()),
    ];
    let mut set = handlers.iter().filter(|(_, is_set)| *is_set);
    if set.next().is_none() {
        errors.required(path, "must specify a handler type");
    }
    for (field, _) in set {
        errors.forbidden(&path.child(field), "may not specify more than 1 handler type");
    }
    if let Some(exec) = &probe.exec
        && exec.command.as_ref().is_none_or(Vec::is_empty)
    {
        errors.required(&path.child("exec").child("command"), "");
    }
    if let Some(get) = &probe.http_get {
        http_get(get, &path.child("httpGet"), errors);
    }
    if let Some(socket) = &probe.tcp_socket {
        number_or_name(&path.child("tcpSocket").child("port"), &socket.port, errors);
    }
    for (field, value) in [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        super::non_negative(&path.child(field), value.map(i64::from), errors);
    }
    if is_liveness && probe.success_threshold != Some(1) {
        let value = probe.success_threshold.map_or(Value::Null, Value::from);
        errors.invalid(&path.child("successThreshold"), value, "must be 1");
    }
}

fn http_get(get: &HTTPGetAction, path: &Path<'_>, errors: &mut Errors) {
    if get.path.as_ref().is_none_or(String::is_empty) {
        errors.required(&path.child("path"), "");
    }
    number_or_name(&path.child("port"), &get.port, errors);
    let scheme = get.scheme.as_deref().unwrap_or_default();
    one_of(&path.child("scheme"), scheme, &["HTTP", "HTTPS"], errors);
}

type Quantities = BTreeMap<String, Text>;

/// Limits and requests: known names, not negative, requests at most limits.
pub(super) fn resources(it: &ResourceRequirements, path: &Path<'_>, errors: &mut Errors) {
    let limits = quantities(&path.child("limits"), it.limits.as_ref(), errors);
    let requests = quantities(&path.child("requests"), it.requests.as_ref(), errors);
    let path = path.child("requests");
    for (name, request) in requests {
        let path = path.key(name);
        let limit = limits.get(name).copied();
        let may_differ = matches!(name, CPU | MEMORY | EPHEMERAL_STORAGE);
        match limit {
            Some(limit) if !may_differ && request != limit => errors.invalid(
                &path,
                request.to_string(),
                format!("must be equal to {name} limit of {limit}"),
            ),
            Some(limit) if request > limit => errors.invalid(
                &path,
                request.to_string(),
                format!("must be less than or equal to {name} limit of {limit}"),
            ),
            None if !may_differ => {
                errors.required(&path, "Limit must be set for non overcommitable resources");
            }
            _ => {}
        }
    }
}

/// The amounts of a resource list that are well formed.
pub(super) fn quantities<'a>(
    path: &Path<'_>,
    list: Option<&'a Quantities>,
    errors: &mut Errors,
) -> BTreeMap<&'a str, Quantity> {
    let mut amounts = BTreeMap::new();
    for (name, text) in list.into_iter().flatten() {
        let path = path.key(name);
        resource_name(&path, name, errors);
        match Quantity::try_from(text) {
            Ok(amount) if amount.is_negative() => {
                errors.invalid(&path, text.0.as_str(), NOT_NEGATIVE);
            }
            Ok(amount) if name.contains('/') && !amount.is_whole() => {
                errors.invalid(&path, text.0.as_str(), "must be an integer");
            }
            Ok(amount) => {
                amounts.insert(name.as_str(), amount);
            }
            Err(error) => errors.invalid(&path, text.0.as_str(), error.to_string()),
        }
    }
    amounts
}

fn resource_name(path: &Path<'_>, name: &str, errors: &mut Errors) {
    let wrong = syntax::qualified_name(name);
    let is_standard =
        matches!(name, CPU | MEMORY | EPHEMERAL_STORAGE) || name.starts_with("hugepages-");
    if wrong.is_empty() && !name.contains('/') && !is_standard {
        errors.invalid(path, name, "must be a standard resource type or fully qualified");
        errors.invalid(path, name, "must be a standard resource for containers");
    }
    errors.each_invalid(path, name, wrong);
}
