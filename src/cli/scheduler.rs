//! The flags of `pintle scheduler`: kube-scheduler 1.35's.
//!
//! Flags that have nothing to change here are taken and named in one warning, so that a command line
//! written for kube-scheduler starts.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use clap::Args;
use pintle_scheduler_runner::configuration::GoDuration;

use super::ignored::{IgnoredArgs, IgnoredFlag, IgnoredFlags, go_bool};

#[derive(Debug, Args)]
pub(crate) struct SchedulerArgs {
    /// A KubeSchedulerConfiguration (kubescheduler.config.k8s.io/v1)
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Kubeconfig of the API server, unless the configuration names one; else $KUBECONFIG,
    /// ~/.kube/config or the pod's service account
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Address of the API server, in place of the kubeconfig's
    #[arg(long, value_name = "URL")]
    pub(crate) master: Option<String>,
    #[command(flatten)]
    pub(crate) serving: ServingArgs,
    #[command(flatten)]
    pub(crate) election: LeaderElectionArgs,
    /// Requests a second to the API server; unlimited unless given. With --config, it is
    /// clientConnection.qps that counts
    #[arg(long, value_name = "N")]
    pub(crate) kube_api_qps: Option<f64>,
    /// Requests at once to the API server, if --kube-api-qps limits them
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) kube_api_burst: Option<i32>,
    /// How long a pod that did not fit waits before it is tried again though nothing happened
    #[arg(long, default_value = "5m0s", value_name = "DURATION")]
    pub(crate) pod_max_in_unschedulable_pods_duration: GoDuration,
    /// Verbosity of the logs: 4 is debug, 6 trace; --log says it better
    #[arg(long, short = 'v', default_value_t = 0, value_name = "LEVEL")]
    pub(crate) v: u8,
    #[command(flatten)]
    pub(crate) ignored: IgnoredArgs<KubeSchedulerFlags>,
}

/// Where health and metrics are served.
#[derive(Debug, Args)]
pub(crate) struct ServingArgs {
    /// Address of /healthz, /livez, /readyz and /metrics
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED), value_name = "ADDR")]
    pub(crate) bind_address: IpAddr,
    /// Their port, over TLS; 0 is none. The API server is asked who may read /metrics
    #[arg(long, default_value_t = 10259, value_name = "PORT")]
    pub(crate) secure_port: u16,
    /// A second port for them on 127.0.0.1, without TLS and for everybody; 0 is none
    #[arg(long, default_value_t = 0, value_name = "PORT")]
    pub(crate) port: u16,
    /// Certificate of the port over TLS; one is made up if there is none
    #[arg(long, value_name = "FILE", requires = "tls_private_key_file")]
    pub(crate) tls_cert_file: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    pub(crate) tls_private_key_file: Option<PathBuf>,
    /// Paths that everybody may read
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "/healthz,/readyz,/livez",
        value_name = "PATHS"
    )]
    pub(crate) authorization_always_allow_paths: Vec<String>,
    /// Kubeconfig of the API server that is asked about tokens; else the scheduler's own
    #[arg(long, value_name = "FILE")]
    pub(crate) authentication_kubeconfig: Option<PathBuf>,
    /// Kubeconfig of the API server that is asked about rights; taken, it is the former
    #[arg(long, value_name = "FILE")]
    pub(crate) authorization_kubeconfig: Option<PathBuf>,
}

/// What of `leaderElection` is said on the command line; it wins over the configuration.
#[derive(Debug, Args)]
pub(crate) struct LeaderElectionArgs {
    /// Work only while holding a Lease [default: true]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = go_bool, value_name = "BOOL")]
    pub(crate) leader_elect: Option<bool>,
    /// How long others wait for a leader that is not heard of [default: 15s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) leader_elect_lease_duration: Option<GoDuration>,
    /// How long the leader tries to renew the Lease [default: 10s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) leader_elect_renew_deadline: Option<GoDuration>,
    /// The pause between two tries [default: 2s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) leader_elect_retry_period: Option<GoDuration>,
    /// What is held: leases
    #[arg(long, value_name = "KIND")]
    pub(crate) leader_elect_resource_lock: Option<String>,
    /// The Lease's name [default: kube-scheduler]
    #[arg(long, value_name = "NAME")]
    pub(crate) leader_elect_resource_name: Option<String>,
    /// The Lease's namespace [default: kube-system]
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) leader_elect_resource_namespace: Option<String>,
}

/// Flags of kube-scheduler 1.35 alone without a counterpart.
#[derive(Debug, Default)]
pub(crate) struct KubeSchedulerFlags;

impl IgnoredFlags for KubeSchedulerFlags {
    const FLAGS: &'static [IgnoredFlag] = &[
        ("allow-metric-labels", true),
        ("allow-metric-labels-manifest", true),
        ("authentication-skip-lookup", false),
        ("authentication-token-webhook-cache-ttl", true),
        ("authentication-tolerate-lookup-failure", false),
        ("authorization-webhook-cache-authorized-ttl", true),
        ("authorization-webhook-cache-unauthorized-ttl", true),
        ("cert-dir", true),
        ("client-ca-file", true),
        ("contention-profiling", false),
        ("disable-http2-serving", false),
        ("disabled-metrics", true),
        ("emulated-version", true),
        ("emulation-forward-compatible", false),
        ("feature-gates", true),
        ("http2-max-streams-per-connection", true),
        ("min-compatibility-version", true),
        ("permit-address-sharing", false),
        ("permit-port-sharing", false),
        ("requestheader-allowed-names", true),
        ("requestheader-client-ca-file", true),
        ("requestheader-extra-headers-prefix", true),
        ("requestheader-group-headers", true),
        ("requestheader-uid-headers", true),
        ("requestheader-username-headers", true),
        ("runtime-config-emulation-forward-compatible", false),
        ("tls-cipher-suites", true),
        ("tls-min-version", true),
        ("tls-sni-cert-key", true),
    ];
}
