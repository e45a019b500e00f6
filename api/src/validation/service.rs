//! Services.

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use rustc_hash::FxHashSet;
use serde_json::{Value, json};

use super::{container, meta, one_of, pod, required_one_of};
use crate::field::{Errors, Path};
use crate::syntax;

/// The ports a NodePort may take, upstream's default `--service-node-port-range`.
const NODE_PORTS: std::ops::RangeInclusive<i32> = 30000..=32767;
/// The longest `sessionAffinityConfig.clientIP.timeoutSeconds`: a day.
const AFFINITY_S_MAX: i64 = 86_400;

const SPEC: Path<'static> = Path::new("spec");

pub(super) fn service(service: &Service, errors: &mut Errors) {
    let Some(spec) = &service.spec else {
        errors.required(&SPEC.child("ports"), "");
        return;
    };
    let kind = spec.type_.as_deref().unwrap_or_default();
    let kinds = &["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"];
    required_one_of(&SPEC.child("type"), kind, kinds, errors);
    let is_headless = spec.cluster_ip.as_deref() == Some("None");
    if kind == "ExternalName" {
        external_name(spec, errors);
    } else if spec.ports.as_ref().is_none_or(Vec::is_empty) && !is_headless {
        errors.required(&SPEC.child("ports"), "");
    }
    if is_headless && matches!(kind, "NodePort" | "LoadBalancer") {
        let detail = format!("may not be set to 'None' for {kind} services");
        errors.invalid(&SPEC.child("clusterIPs").index(0), "None", detail);
    }
    ports(spec, kind, errors);
    meta::label_map(&SPEC.child("selector"), spec.selector.as_ref(), errors);
    affinity(spec, errors);
    addresses(spec, errors);
    for (field, policy) in [
        ("internalTrafficPolicy", &spec.internal_traffic_policy),
        ("externalTrafficPolicy", &spec.external_traffic_policy),
    ] {
        if let Some(policy) = policy {
            one_of(&SPEC.child(field), policy, &["Cluster", "Local"], errors);
        }
    }
}

fn external_name(spec: &ServiceSpec, errors: &mut Errors) {
    if spec.cluster_ip.as_ref().is_some_and(|ip| !ip.is_empty()) {
        let detail = "may not be set for ExternalName services";
        errors.forbidden(&SPEC.child("clusterIPs"), detail);
    }
    let path = SPEC.child("externalName");
    match spec.external_name.as_deref().map(|name| name.trim_end_matches('.')) {
        None | Some("") => errors.required(&path, ""),
        Some(name) => errors.each_invalid(&path, name, syntax::dns1123_subdomain(name)),
    }
}

fn ports(spec: &ServiceSpec, kind: &str, errors: &mut Errors) {
    let list = SPEC.child("ports");
    let ports = spec.ports.as_deref().unwrap_or_default();
    let (mut names, mut numbers) = (FxHashSet::default(), FxHashSet::default());
    for (i, port) in ports.iter().enumerate() {
        let path = list.index(i);
        let name = port.name.as_deref().unwrap_or_default();
        if name.is_empty() && ports.len() > 1 {
            errors.required(&path.child("name"), "");
        } else if !name.is_empty() {
            errors.each_invalid(&path.child("name"), name, syntax::dns1123_label(name));
            if !names.insert(name) {
                errors.duplicate(&path.child("name"), name);
            }
        }
        container::number(&path.child("port"), port.port, errors);
        let protocol = port.protocol.as_deref().unwrap_or_default();
        required_one_of(&path.child("protocol"), protocol, &["TCP", "UDP", "SCTP"], errors);
        if let Some(target) = &port.target_port {
            container::number_or_name(&path.child("targetPort"), target, errors);
        }
        if let Some(node_port) = port.node_port.filter(|port| *port != 0) {
            self::node_port(&path.child("nodePort"), node_port, kind, errors);
        }
        if !numbers.insert((port.port, protocol)) {
            errors.duplicate(&path, json!({"port": port.port, "protocol": protocol}));
        }
    }
}

fn node_port(path: &Path<'_>, port: i32, kind: &str, errors: &mut Errors) {
    if !matches!(kind, "NodePort" | "LoadBalancer") {
        errors.forbidden(path, format!("may not be used when `type` is '{kind}'"));
    } else if !NODE_PORTS.contains(&port) {
        let (first, last) = (NODE_PORTS.start(), NODE_PORTS.end());
        errors.invalid(
            path,
            port,
            format!(
                "provided port is not in the valid range. The range of valid ports is \
                 {first}-{last}"
            ),
        );
    }
}

fn affinity(spec: &ServiceSpec, errors: &mut Errors) {
    let affinity = spec.session_affinity.as_deref().unwrap_or_default();
    required_one_of(&SPEC.child("sessionAffinity"), affinity, &["ClientIP", "None"], errors);
    let client_ip = spec.session_affinity_config.as_ref().and_then(|it| it.client_ip.as_ref());
    if let Some(seconds) = client_ip.and_then(|it| it.timeout_seconds).map(i64::from)
        && !(1..=AFFINITY_S_MAX).contains(&seconds)
    {
        let path = SPEC.child("sessionAffinityConfig");
        let path = path.child("clientIP");
        errors.invalid(
            &path.child("timeoutSeconds"),
            seconds,
            format!("must be greater than 0 and less than {AFFINITY_S_MAX}"),
        );
    }
}

fn addresses(spec: &ServiceSpec, errors: &mut Errors) {
    let list = SPEC.child("clusterIPs");
    for (i, ip) in spec.cluster_ips.iter().flatten().enumerate() {
        if ip != "None" {
            pod::ip(&list.index(i), ip, errors);
        }
    }
    if let (Some(ip), Some(first)) =
        (&spec.cluster_ip, spec.cluster_ips.as_ref().and_then(|ips| ips.first()))
        && ip != first
    {
        errors.invalid(&list, first.as_str(), "first value must match `clusterIP`");
    }
    let list = SPEC.child("externalIPs");
    for (i, ip) in spec.external_ips.iter().flatten().enumerate() {
        pod::ip(&list.index(i), ip, errors);
    }
    let list = SPEC.child("ipFamilies");
    for (i, family) in spec.ip_families.iter().flatten().enumerate() {
        one_of(&list.index(i), family, &["IPv4", "IPv6"], errors);
    }
    if let Some(policy) = &spec.ip_family_policy {
        let policies = &["SingleStack", "PreferDualStack", "RequireDualStack"];
        one_of(&SPEC.child("ipFamilyPolicy"), policy, policies, errors);
    }
}

/// A cluster IP that is set stays, unless the Service becomes or stops being an alias. A request
/// that leaves it out keeps the old one, which the caller has filled in.
pub(super) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    let text = |service: &Value, field: &str| {
        service["spec"][field].as_str().unwrap_or_default().to_owned()
    };
    let is_alias = |service: &Value| text(service, "type") == "ExternalName";
    if is_alias(new) || is_alias(old) {
        return;
    }
    let (now, before) = (text(new, "clusterIP"), text(old, "clusterIP"));
    if !before.is_empty() && !now.is_empty() && now != before {
        let path = SPEC.child("clusterIPs");
        errors.invalid(&path.index(0), now, "may not change once set");
    }
}
