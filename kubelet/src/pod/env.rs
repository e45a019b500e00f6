//! A container's environment, command and arguments, with references resolved.
//!
//! Mirrors makeEnvironmentVariables of pkg/kubelet/kubelet_pods.go and `$(VAR)` of
//! k8s.io/kubernetes/third_party/forked/golang/expansion. Resource fields are not resolved.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod};

/// The data of the ConfigMaps and Secrets of a pod's namespace that its containers name; `None`:
/// there is no such object.
#[derive(Clone, Debug, Default)]
pub struct EnvSources {
    /// By ConfigMap name.
    pub config_maps: BTreeMap<String, Option<BTreeMap<String, String>>>,
    /// By Secret name.
    pub secrets: BTreeMap<String, Option<BTreeMap<String, String>>>,
}

/// What the pod's status says, for `fieldRef`.
#[derive(Clone, Copy, Debug)]
pub struct Downward<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// Its address.
    pub pod_ip: &'a str,
    /// Its node's address.
    pub host_ip: &'a str,
}

/// A variable that cannot be resolved; worded as the kubelet does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EnvError(String);

/// The names of the ConfigMaps and of the Secrets that a container's environment refers to.
#[must_use]
pub fn referenced(container: &Container) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut config_maps, mut secrets) = (BTreeSet::new(), BTreeSet::new());
    for source in container.env_from.iter().flatten() {
        config_maps.extend(source.config_map_ref.iter().map(|it| it.name.clone()));
        secrets.extend(source.secret_ref.iter().map(|it| it.name.clone()));
    }
    for from in container.env.iter().flatten().filter_map(|it| it.value_from.as_ref()) {
        config_maps.extend(from.config_map_key_ref.iter().map(|it| it.name.clone()));
        secrets.extend(from.secret_key_ref.iter().map(|it| it.name.clone()));
    }
    (config_maps, secrets)
}

/// The variables of a container; a later definition takes the place of an earlier one.
pub fn environment(
    container: &Container,
    downward: Downward<'_>,
    sources: &EnvSources,
) -> Result<BTreeMap<String, String>, EnvError> {
    let mut env = BTreeMap::new();
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let data = if let Some(it) = &source.config_map_ref {
            object("configmap", &sources.config_maps, &it.name, it.optional)?
        } else if let Some(it) = &source.secret_ref {
            object("secret", &sources.secrets, &it.name, it.optional)?
        } else {
            None
        };
        for (key, value) in data.into_iter().flatten() {
            env.insert(format!("{prefix}{key}"), value.clone());
        }
    }
    for variable in container.env.iter().flatten() {
        if let Some(value) = value(variable, &env, downward, sources)? {
            env.insert(variable.name.clone(), value);
        }
    }
    Ok(env)
}

fn value(
    variable: &EnvVar,
    env: &BTreeMap<String, String>,
    downward: Downward<'_>,
    sources: &EnvSources,
) -> Result<Option<String>, EnvError> {
    match &variable.value_from {
        None => Ok(Some(expand(variable.value.as_deref().unwrap_or_default(), env))),
        Some(EnvVarSource { field_ref: Some(field), .. }) => field_value(field, downward).map(Some),
        Some(EnvVarSource { config_map_key_ref: Some(it), .. }) => {
            let data = object("configmap", &sources.config_maps, &it.name, it.optional)?;
            key("ConfigMap", data, &it.key, &it.name, it.optional, downward)
        }
        Some(EnvVarSource { secret_key_ref: Some(it), .. }) => {
            let data = object("secret", &sources.secrets, &it.name, it.optional)?;
            key("Secret", data, &it.key, &it.name, it.optional, downward)
        }
        Some(_) => {
            Err(EnvError(format!("env {:?}: this valueFrom is not supported", variable.name)))
        }
    }
}

type Data = BTreeMap<String, String>;

fn object<'a>(
    kind: &str,
    objects: &'a BTreeMap<String, Option<Data>>,
    name: &str,
    optional: Option<bool>,
) -> Result<Option<&'a Data>, EnvError> {
    match objects.get(name).and_then(Option::as_ref) {
        None if optional != Some(true) => Err(EnvError(format!("{kind} {name:?} not found"))),
        data => Ok(data),
    }
}

fn key(
    kind: &str,
    data: Option<&Data>,
    key: &str,
    name: &str,
    optional: Option<bool>,
    downward: Downward<'_>,
) -> Result<Option<String>, EnvError> {
    match data.and_then(|data| data.get(key)) {
        None if optional != Some(true) => {
            let namespace = downward.pod.metadata.namespace.as_deref().unwrap_or_default();
            Err(EnvError(format!("couldn't find key {key} in {kind} {namespace}/{name}")))
        }
        value => Ok(value.cloned()),
    }
}

fn field_value(field: &ObjectFieldSelector, downward: Downward<'_>) -> Result<String, EnvError> {
    let meta = &downward.pod.metadata;
    let spec = downward.pod.spec.as_ref();
    let subscript = |prefix: &str| field.field_path.strip_prefix(prefix)?.strip_suffix("']");
    if let Some(name) = subscript("metadata.labels['") {
        return Ok(meta.labels.as_ref().and_then(|it| it.get(name)).cloned().unwrap_or_default());
    }
    if let Some(name) = subscript("metadata.annotations['") {
        let annotations = meta.annotations.as_ref();
        return Ok(annotations.and_then(|it| it.get(name)).cloned().unwrap_or_default());
    }
    let value = match field.field_path.as_str() {
        "metadata.name" => meta.name.as_deref(),
        "metadata.namespace" => meta.namespace.as_deref(),
        "metadata.uid" => meta.uid.as_deref(),
        "spec.nodeName" => spec.and_then(|it| it.node_name.as_deref()),
        "spec.serviceAccountName" => spec.and_then(|it| it.service_account_name.as_deref()),
        "status.hostIP" | "status.hostIPs" => Some(downward.host_ip),
        "status.podIP" | "status.podIPs" => Some(downward.pod_ip),
        other => return Err(EnvError(format!("unsupported fieldPath: {other}"))),
    };
    Ok(value.unwrap_or_default().to_owned())
}

/// Replace `$(NAME)` by the variable's value; an unknown name stays as it is, and `$$` is a `$`.
#[must_use]
pub fn expand(text: &str, env: &BTreeMap<String, String>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some((name, after)) =
            rest.strip_prefix('(').and_then(|inner| inner.split_once(')'))
        {
            match env.get(name) {
                Some(value) => expanded.push_str(value),
                None => {
                    expanded.push_str("$(");
                    expanded.push_str(name);
                    expanded.push(')');
                }
            }
            rest = after;
        } else {
            expanded.push('$');
        }
    }
    expanded.push_str(rest);
    expanded
}
