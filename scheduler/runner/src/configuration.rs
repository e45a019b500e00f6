//! KubeSchedulerConfiguration v1, read as kube-scheduler 1.35 reads it.
//!
//! Bytes → [`v1`] (what is written) → [`KubeSchedulerConfiguration`] (defaulted) → [`check`]ed.
//! Messages are upstream's where it has any; each names the field. Stricter than upstream: weights
//! of plugins below zero and `pluginConfig` of plugins that do not exist are refused.
//!
//! [`check`]: KubeSchedulerConfiguration::check

use std::path::Path as FilePath;

use pintle_api::decode::{self, Syntax};
use pintle_api::duration;
use pintle_api::field::{Errors, Path};
use pintle_api::syntax;
use pintle_component::{ConfigurationError, read_configuration};
use serde_json::Value;

mod arguments;
mod plugins;
mod profile;
#[cfg(test)]
mod tests;
mod v1;

pub use arguments::PluginArguments;
pub use duration::{DurationError, GoDuration};
pub use plugins::{Enabled, PluginTable};
pub use v1::{Extender, ExtenderManagedResource, ExtenderTLSConfig};

const GROUP: &str = "kubescheduler.config.k8s.io";
const API_VERSION: &str = "kubescheduler.config.k8s.io/v1";
const KIND: &str = "KubeSchedulerConfiguration";

/// The configuration with its defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct KubeSchedulerConfiguration {
    /// Threads that decide together; at most one a processor is used.
    pub parallelism: i32,
    /// How one of several schedulers is chosen to work.
    pub leader_election: LeaderElection,
    /// How the API server is reached.
    pub client_connection: ClientConnection,
    /// Accepted; there are no profiling endpoints.
    pub enable_profiling: bool,
    /// Accepted, as the former.
    pub enable_contention_profiling: bool,
    /// Accepted; every node is looked at.
    pub percentage_of_nodes_to_score: Option<i32>,
    /// The first wait of a pod that did not fit.
    pub pod_initial_backoff_seconds: i64,
    /// The longest such wait.
    pub pod_max_backoff_seconds: i64,
    /// At least one.
    pub profiles: Vec<Profile>,
    /// Asked by all profiles.
    pub extenders: Vec<Extender>,
    /// Whether informers start only with the leadership.
    pub delay_cache_until_active: bool,
}

/// `leaderElection`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderElection {
    /// Whether there is any.
    pub leader_elect: bool,
    /// How long a lease is valid after it was seen renewed.
    pub lease_duration: GoDuration,
    /// How long the leader tries to renew before it gives up.
    pub renew_deadline: GoDuration,
    /// The pause between two tries.
    pub retry_period: GoDuration,
    /// `leases`.
    pub resource_lock: String,
    /// The lease's name.
    pub resource_name: String,
    /// The lease's namespace.
    pub resource_namespace: String,
}

/// `clientConnection`.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientConnection {
    /// A kubeconfig; else the pod's service account.
    pub kubeconfig: Option<String>,
    /// Accepted; bodies are JSON.
    pub content_type: String,
    /// Requests a second, if the file limits them.
    pub qps: Option<f64>,
    /// Requests at once, if the file limits them.
    pub burst: Option<i32>,
}

/// One of `profiles`.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Pods choose it by `spec.schedulerName`.
    pub scheduler_name: String,
    /// Accepted; every node is looked at.
    pub percentage_of_nodes_to_score: Option<i32>,
    /// The arguments of its plugins.
    pub arguments: PluginArguments,
    plugins: v1::Plugins,
    /// The plugins that `pluginConfig` names, in its order.
    configured: Vec<String>,
}

/// A configuration that may be used: the plugins of each of its profiles.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckedConfiguration {
    configuration: KubeSchedulerConfiguration,
    tables: Vec<PluginTable>,
}

impl Default for KubeSchedulerConfiguration {
    fn default() -> Self {
        Self::complete(v1::KubeSchedulerConfiguration::default())
            .expect("no arguments, nothing wrong with them")
    }
}

impl KubeSchedulerConfiguration {
    /// Reads and defaults a file, in YAML or JSON.
    pub fn read(path: &FilePath) -> Result<Self, ConfigurationError> {
        read_configuration(path, Self::parse)
    }

    /// Reads and defaults a configuration, in YAML or JSON.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut document = decode::parse(bytes, Syntax::Yaml).map_err(|error| error.to_string())?;
        check_kind(&document.value)?;
        let (raw, unknown): (v1::KubeSchedulerConfiguration, _) =
            decode::read(&mut document.value)?;
        let mut findings = document.duplicates;
        findings.extend(unknown);
        match Self::complete(raw) {
            Err(Findings::Strict(nested)) => findings.extend(nested),
            Err(Findings::Fatal(message)) => return Err(message),
            Ok(configuration) if findings.is_empty() => return Ok(configuration),
            Ok(_) => {}
        }
        Err(format!("strict decoding error: {}", findings.join(", ")))
    }

    /// Checks what the file and the flags say together.
    pub fn check(self) -> Result<CheckedConfiguration, Errors> {
        let mut errors = Errors::new();
        check_client_connection(&self.client_connection, &mut errors);
        check_leader_election(&self.leader_election, &mut errors);
        if self.parallelism <= 0 {
            let detail = "should be an integer value greater than zero";
            errors.invalid(&Path::new("parallelism"), self.parallelism, detail);
        }
        let tables = check_profiles(&self.profiles, &mut errors);
        let path = Path::new("percentageOfNodesToScore");
        check_percentage(self.percentage_of_nodes_to_score, &path, &mut errors);
        check_backoff(&self, &mut errors);
        check_extenders(&self.extenders, &mut errors);
        if errors.is_empty() {
            Ok(CheckedConfiguration { configuration: self, tables })
        } else {
            Err(errors)
        }
    }

    fn complete(raw: v1::KubeSchedulerConfiguration) -> Result<Self, Findings> {
        let profiling = raw.enable_profiling.unwrap_or(true);
        let mut profiles = raw.profiles;
        if profiles.is_empty() {
            profiles.push(v1::KubeSchedulerProfile::default());
        }
        if let [only] = profiles.as_mut_slice() {
            only.scheduler_name.get_or_insert_with(|| DEFAULT_SCHEDULER_NAME.to_owned());
        }
        Ok(Self {
            parallelism: raw.parallelism.unwrap_or(16),
            leader_election: raw.leader_election.into(),
            client_connection: raw.client_connection.into(),
            enable_profiling: profiling,
            enable_contention_profiling: raw.enable_contention_profiling.unwrap_or(profiling),
            percentage_of_nodes_to_score: raw.percentage_of_nodes_to_score,
            pod_initial_backoff_seconds: raw.pod_initial_backoff_seconds.unwrap_or(1),
            pod_max_backoff_seconds: raw.pod_max_backoff_seconds.unwrap_or(10),
            profiles: complete_profiles(profiles)?,
            extenders: raw.extenders,
            delay_cache_until_active: raw.delay_cache_until_active,
        })
    }
}

impl CheckedConfiguration {
    /// What was checked.
    pub fn configuration(&self) -> &KubeSchedulerConfiguration {
        &self.configuration
    }

    /// The profiles and the plugins that run in each.
    pub fn profiles(&self) -> impl Iterator<Item = (&Profile, &PluginTable)> {
        self.configuration.profiles.iter().zip(&self.tables)
    }

    /// Whether some `percentageOfNodesToScore` asks to look at fewer than all nodes.
    pub fn limits_nodes_to_score(&self) -> bool {
        let profiles = self.configuration.profiles.iter();
        let mut all = profiles
            .map(|profile| profile.percentage_of_nodes_to_score)
            .chain([self.configuration.percentage_of_nodes_to_score])
            .flatten();
        all.any(|percentage| percentage != 0 && percentage < 100)
    }
}

const DEFAULT_SCHEDULER_NAME: &str = "default-scheduler";

/// What is wrong with the arguments of plugins.
#[derive(Debug)]
enum Findings {
    /// Unknown fields.
    Strict(Vec<String>),
    /// A field of a wrong type.
    Fatal(String),
}

/// The type must be stated and be this one.
fn check_kind(value: &Value) -> Result<(), String> {
    let stated = |field: &str| match &value[field] {
        Value::Null => Ok(""),
        Value::String(text) => Ok(text.as_str()),
        other => Err(format!("json: cannot unmarshal {other} into {field} of type string")),
    };
    match (stated("apiVersion")?, stated("kind")?) {
        (_, "") => Err("Object 'Kind' is missing".to_owned()),
        ("", _) => Err("Object 'apiVersion' is missing".to_owned()),
        (API_VERSION, KIND) => Ok(()),
        (version, kind) if version == API_VERSION => {
            Err(format!("couldn't decode as {KIND}, got {API_VERSION}, Kind={kind}"))
        }
        (version, kind) => Err(format!(
            "no kind {kind:?} is registered for version {version:?}; write apiVersion: \
             {API_VERSION} and kind: {KIND}"
        )),
    }
}

fn complete_profiles(raw: Vec<v1::KubeSchedulerProfile>) -> Result<Vec<Profile>, Findings> {
    let mut strict = Vec::new();
    let mut profiles = Vec::with_capacity(raw.len());
    for (i, raw) in raw.into_iter().enumerate() {
        let mut arguments = PluginArguments::default();
        for (j, v1::PluginConfig { name, args }) in raw.plugin_config.iter().enumerate() {
            let place = format!("decoding .profiles[{i}].pluginConfig[{j}]");
            let unknown = arguments
                .read(name, args)
                .map_err(|message| Findings::Fatal(format!("{place}: {message}")))?;
            if !unknown.is_empty() {
                strict.push(format!(
                    "{place}: strict decoding error: decoding args for plugin {name}: strict \
                     decoding error: {}",
                    unknown.join(", ")
                ));
            }
        }
        arguments.set_defaults();
        profiles.push(Profile {
            scheduler_name: raw.scheduler_name.unwrap_or_default(),
            percentage_of_nodes_to_score: raw.percentage_of_nodes_to_score,
            arguments,
            plugins: raw.plugins,
            configured: raw.plugin_config.into_iter().map(|config| config.name).collect(),
        });
    }
    if strict.is_empty() { Ok(profiles) } else { Err(Findings::Strict(strict)) }
}

impl From<v1::LeaderElectionConfiguration> for LeaderElection {
    fn from(raw: v1::LeaderElectionConfiguration) -> Self {
        let time = |given: GoDuration, seconds| {
            if given == GoDuration::default() { GoDuration::from_secs(seconds) } else { given }
        };
        let text = |given: String, default: &str| {
            if given.is_empty() { default.to_owned() } else { given }
        };
        Self {
            leader_elect: raw.leader_elect.unwrap_or(true),
            lease_duration: time(raw.lease_duration, 15),
            renew_deadline: time(raw.renew_deadline, 10),
            retry_period: time(raw.retry_period, 2),
            resource_lock: text(raw.resource_lock, "leases"),
            resource_name: text(raw.resource_name, "kube-scheduler"),
            resource_namespace: text(raw.resource_namespace, "kube-system"),
        }
    }
}

impl From<v1::ClientConnectionConfiguration> for ClientConnection {
    fn from(raw: v1::ClientConnectionConfiguration) -> Self {
        Self {
            kubeconfig: Some(raw.kubeconfig).filter(|path| !path.is_empty()),
            content_type: raw.content_type,
            qps: Some(raw.qps).filter(|qps| *qps != 0.0),
            burst: Some(raw.burst).filter(|burst| *burst != 0),
        }
    }
}

fn check_client_connection(it: &ClientConnection, errors: &mut Errors) {
    if let Some(burst) = it.burst.filter(|burst| *burst < 0) {
        let path = Path::new("clientConnection");
        errors.invalid(&path.child("burst"), burst, "must be non-negative");
    }
}

fn check_leader_election(it: &LeaderElection, errors: &mut Errors) {
    if !it.leader_elect {
        return;
    }
    let path = Path::new("leaderElection");
    for (field, value) in [
        ("leaseDuration", it.lease_duration),
        ("renewDeadline", it.renew_deadline),
        ("retryPeriod", it.retry_period),
    ] {
        if value.is_zero_or_less() {
            errors.invalid(&path.child(field), value.to_string(), "must be greater than zero");
        }
    }
    let lease = path.child("leaseDuration");
    if it.lease_duration <= it.renew_deadline {
        // Upstream shows the other field's value.
        let value = it.renew_deadline.to_string();
        errors.invalid(&lease, value, "must be greater than `RenewDeadline`");
    }
    // client-go's own rule, which upstream meets only once the election starts.
    if it.renew_deadline.to_std() <= it.retry_period.to_std().mul_f64(1.2) {
        let value = it.renew_deadline.to_string();
        let detail = "renewDeadline must be greater than retryPeriod*JitterFactor";
        errors.invalid(&path.child("renewDeadline"), value, detail);
    }
    if it.resource_lock != "leases" {
        let detail = "resourceLock value must be \"leases\"";
        errors.invalid(&path.child("resourceLock"), it.resource_lock.as_str(), detail);
    }
    for (field, value) in
        [("resourceNamespace", &it.resource_namespace), ("resourceName", &it.resource_name)]
    {
        if value.is_empty() {
            errors.required(&path.child(field), "");
        }
    }
}

fn check_profiles(profiles: &[Profile], errors: &mut Errors) -> Vec<PluginTable> {
    let list = Path::new("profiles");
    let mut tables = Vec::with_capacity(profiles.len());
    for (i, profile) in profiles.iter().enumerate() {
        let path = list.index(i);
        let path_name = path.child("schedulerName");
        if profile.scheduler_name.is_empty() {
            errors.required(&path_name, "");
        }
        let same = |other: &Profile| other.scheduler_name == profile.scheduler_name;
        if let Some(earlier) = profiles[..i].iter().position(same) {
            errors.duplicate(&path_name, format!("profiles[{earlier}].schedulerName"));
        }
        let percentage = profile.percentage_of_nodes_to_score;
        check_percentage(percentage, &path.child("percentageOfNodesToScore"), errors);
        check_plugin_config(profile, &path.child("pluginConfig"), errors);
        let path_plugins = path.child("plugins");
        let (plugins, name) = (&profile.plugins, &profile.scheduler_name);
        tables.push(plugins::resolve(plugins, name, &path_plugins, errors));
        if plugins.queue_sort != profiles[0].plugins.queue_sort {
            let names = |list: &[v1::Plugin]| -> Vec<String> {
                list.iter().map(|plugin| plugin.name.clone()).collect()
            };
            let (on, off) = (&plugins.queue_sort.enabled, &plugins.queue_sort.disabled);
            let value = serde_json::json!({"enabled": names(on), "disabled": names(off)});
            let detail = "must be the same for all profiles";
            errors.invalid(&path_plugins.child("queueSort"), value, detail);
        }
    }
    tables
}

fn check_plugin_config(profile: &Profile, list: &Path<'_>, errors: &mut Errors) {
    for (i, name) in profile.configured.iter().enumerate() {
        let path = list.index(i);
        if profile.configured[..i].contains(name) {
            errors.duplicate(&path, name.as_str());
        }
        if let Some(detail) = plugins::removed(name) {
            errors.invalid(&path, name.as_str(), detail);
        } else if plugins::find(name).is_none() {
            errors.not_found(&path.child("name"), name);
        }
        profile.arguments.check(name, &path.child("args"), errors);
    }
}

fn check_percentage(percentage: Option<i32>, path: &Path<'_>, errors: &mut Errors) {
    if let Some(percentage) = percentage.filter(|percentage| !(0..=100).contains(percentage)) {
        errors.invalid(path, percentage, "not in valid range [0-100]");
    }
}

fn check_backoff(it: &KubeSchedulerConfiguration, errors: &mut Errors) {
    let (initial, max) = (it.pod_initial_backoff_seconds, it.pod_max_backoff_seconds);
    if initial <= 0 {
        let path = Path::new("podInitialBackoffSeconds");
        errors.invalid(&path, initial, "must be greater than 0");
    }
    if max < initial {
        let detail = "must be greater than or equal to PodInitialBackoffSeconds";
        errors.invalid(&Path::new("podMaxBackoffSeconds"), max, detail);
    }
}

fn check_extenders(extenders: &[Extender], errors: &mut Errors) {
    let list = Path::new("extenders");
    let mut managed: Vec<&str> = Vec::new();
    for (i, extender) in extenders.iter().enumerate() {
        let path = list.index(i);
        check_url(&extender.url_prefix, &path.child("urlPrefix"), errors);
        if extender.http_timeout < GoDuration::default() {
            let value = extender.http_timeout.to_string();
            errors.invalid(&path.child("httpTimeout"), value, "must be non-negative");
        }
        if !extender.prioritize_verb.is_empty() && extender.weight <= 0 {
            let detail = "must have a positive weight applied to it";
            errors.invalid(&path.child("weight"), extender.weight, detail);
        }
        let list = path.child("managedResources");
        for (j, resource) in extender.managed_resources.iter().enumerate() {
            let path = list.index(j);
            let path = path.child("name");
            check_extended_resource(&resource.name, &path, errors);
            if managed.contains(&resource.name.as_str()) {
                let detail = "duplicate extender managed resource name";
                errors.invalid(&path, resource.name.as_str(), detail);
            }
            managed.push(&resource.name);
        }
    }
    let binders = extenders.iter().filter(|extender| !extender.bind_verb.is_empty()).count();
    if binders > 1 {
        let value = format!("found {binders} extenders implementing bind");
        errors.invalid(&list, value, "only one extender can implement bind");
    }
}

/// Upstream finds out at the first call; here the start stops.
fn check_url(url: &str, path: &Path<'_>, errors: &mut Errors) {
    let parsed: Result<http::Uri, _> = url.parse();
    let is_usable = parsed.is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some()
    });
    if url.is_empty() {
        errors.required(path, "");
    } else if !is_usable {
        errors.invalid(path, url, "must be a URL of scheme http or https");
    }
}

fn check_extended_resource(name: &str, path: &Path<'_>, errors: &mut Errors) {
    let problems = syntax::qualified_name(name);
    if !problems.is_empty() {
        return errors.each_invalid(path, name, problems);
    }
    let is_native = !name.contains('/') || name.contains("kubernetes.io/");
    let quota = format!("requests.{name}");
    if is_native || name.starts_with("requests.") || !syntax::qualified_name(&quota).is_empty() {
        errors.invalid(path, name, "is an invalid extended resource name");
    }
}
