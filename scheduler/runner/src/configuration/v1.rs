//! `kubescheduler.config.k8s.io/v1` as it is written: what is absent is absent.
//!
//! Mirrors `k8s.io/kube-scheduler/config/v1/types.go` and `k8s.io/component-base/config/v1alpha1`.
//! The structs bear Go's names, which messages about fields of a wrong type show.

use k8s_openapi::ByteString;
use serde::Deserialize;
use serde_json::Value;

use super::duration::GoDuration;

/// The file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct KubeSchedulerConfiguration {
    #[serde(rename = "apiVersion")]
    pub(super) _api_version: String,
    #[serde(rename = "kind")]
    pub(super) _kind: String,
    pub(super) parallelism: Option<i32>,
    pub(super) leader_election: LeaderElectionConfiguration,
    pub(super) client_connection: ClientConnectionConfiguration,
    pub(super) enable_profiling: Option<bool>,
    pub(super) enable_contention_profiling: Option<bool>,
    pub(super) percentage_of_nodes_to_score: Option<i32>,
    pub(super) pod_initial_backoff_seconds: Option<i64>,
    pub(super) pod_max_backoff_seconds: Option<i64>,
    pub(super) profiles: Vec<KubeSchedulerProfile>,
    pub(super) extenders: Vec<Extender>,
    pub(super) delay_cache_until_active: bool,
}

/// How one of several schedulers is chosen to work.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct LeaderElectionConfiguration {
    pub(super) leader_elect: Option<bool>,
    pub(super) lease_duration: GoDuration,
    pub(super) renew_deadline: GoDuration,
    pub(super) retry_period: GoDuration,
    pub(super) resource_lock: String,
    pub(super) resource_name: String,
    pub(super) resource_namespace: String,
}

/// How the API server is reached.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ClientConnectionConfiguration {
    pub(super) kubeconfig: String,
    pub(super) accept_content_types: String,
    pub(super) content_type: String,
    pub(super) qps: f64,
    pub(super) burst: i32,
}

/// One profile.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct KubeSchedulerProfile {
    pub(super) scheduler_name: Option<String>,
    pub(super) percentage_of_nodes_to_score: Option<i32>,
    pub(super) plugins: Plugins,
    pub(super) plugin_config: Vec<PluginConfig>,
}

/// Plugins by extension point.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Plugins {
    pub(super) multi_point: PluginSet,
    pub(super) pre_enqueue: PluginSet,
    pub(super) queue_sort: PluginSet,
    pub(super) pre_filter: PluginSet,
    pub(super) filter: PluginSet,
    pub(super) post_filter: PluginSet,
    pub(super) pre_score: PluginSet,
    pub(super) score: PluginSet,
    pub(super) reserve: PluginSet,
    pub(super) permit: PluginSet,
    pub(super) pre_bind: PluginSet,
    pub(super) bind: PluginSet,
    pub(super) post_bind: PluginSet,
}

/// What is switched on and off at a point.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PluginSet {
    pub(super) enabled: Vec<Plugin>,
    pub(super) disabled: Vec<Plugin>,
}

/// A plugin by name.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Plugin {
    pub(super) name: String,
    pub(super) weight: Option<i32>,
}

/// A plugin's arguments, still to be read by the plugin's type.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PluginConfig {
    pub(super) name: String,
    pub(super) args: Value,
}

/// An extender.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Extender {
    /// Where it answers; the verbs are appended after a slash.
    pub url_prefix: String,
    /// Of the filter call; empty if it does not filter.
    pub filter_verb: String,
    /// Of the preemption call; empty if it has no say in it.
    pub preempt_verb: String,
    /// Of the prioritize call; empty if it does not score.
    pub prioritize_verb: String,
    /// What its scores are multiplied by.
    pub weight: i64,
    /// Of the bind call; empty if it does not bind.
    pub bind_verb: String,
    /// Without a CA, the server's certificate is not verified.
    #[serde(rename = "enableHTTPS")]
    pub enable_https: bool,
    /// Certificates.
    pub tls_config: Option<ExtenderTLSConfig>,
    /// How long a call may take; zero is 5 s.
    #[serde(rename = "httpTimeout")]
    pub http_timeout: GoDuration,
    /// Whether it knows the nodes, so that their names suffice.
    pub node_cache_capable: bool,
    /// It is asked only about pods that request one of these; about all pods if there are none.
    pub managed_resources: Vec<ExtenderManagedResource>,
    /// Whether the others go on without it when it fails.
    pub ignorable: bool,
}

/// An extended resource that an extender manages.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct ExtenderManagedResource {
    /// Its name.
    pub name: String,
    /// Whether NodeResourcesFit leaves it to the extender.
    pub ignored_by_scheduler: bool,
}

/// How TLS to an extender is set up. Data takes precedence over files; it is PEM.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct ExtenderTLSConfig {
    /// Do not verify the server's certificate.
    pub insecure: bool,
    /// The name to expect in the server's certificate, if not the URL's host.
    pub server_name: String,
    /// The client's certificate.
    pub cert_file: String,
    /// The client's key.
    pub key_file: String,
    /// Whom to trust.
    pub ca_file: String,
    /// The client's certificate.
    pub cert_data: ByteString,
    /// The client's key.
    pub key_data: ByteString,
    /// Whom to trust.
    pub ca_data: ByteString,
}
