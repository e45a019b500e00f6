//! The configuration file and the flags, checked together.

use std::collections::BTreeMap;

use pintle_component::LogFormat;
use pintle_dataplane::configuration::{CheckedConfiguration, KubeProxyConfiguration};

use crate::cli::{LogArgs, ProxyFieldArgs, ProxyRunArgs};
use crate::exit::UsageError;

/// One line if something is wrong with them.
pub(super) fn configure(args: &ProxyRunArgs) -> Result<CheckedConfiguration, UsageError> {
    let mut configuration = match &args.config {
        Some(path) => KubeProxyConfiguration::read(path)?,
        None => apply(KubeProxyConfiguration::defaulted(), &args.fields),
    };
    if let Some(name) = &args.hostname_override {
        configuration.hostname_override = name.trim().to_lowercase();
        if configuration.hostname_override.is_empty() {
            return Err(UsageError("--hostname-override: must not be empty".to_owned()));
        }
    }
    configuration.check().map_err(|errors| match &args.config {
        Some(path) => UsageError(format!("{}: {errors}", path.display())),
        None => UsageError(errors.to_string()),
    })
}

/// The flags as the fields that they stand for.
fn apply(mut it: KubeProxyConfiguration, args: &ProxyFieldArgs) -> KubeProxyConfiguration {
    fn set<T: Clone>(field: &mut T, given: Option<&T>) {
        if let Some(given) = given {
            *field = given.clone();
        }
    }
    set(&mut it.mode, args.proxy_mode.as_ref());
    set(&mut it.cluster_cidr, args.cluster_cidr.as_ref());
    set(&mut it.detect_local_mode, args.detect_local_mode.as_ref());
    set(&mut it.detect_local.bridge_interface, args.pod_bridge_interface.as_ref());
    set(&mut it.detect_local.interface_name_prefix, args.pod_interface_name_prefix.as_ref());
    it.node_port_addresses.clone_from(&args.nodeport_addresses);
    if args.iptables_localhost_nodeports.is_some() {
        it.iptables.localhost_node_ports = args.iptables_localhost_nodeports;
    }
    set(&mut it.iptables.masquerade_all, args.masquerade_all.as_ref());
    set(&mut it.nftables.masquerade_all, args.masquerade_all.as_ref());
    set(&mut it.bind_address, args.bind_address.as_ref());
    set(&mut it.bind_address_hard_fail, args.bind_address_hard_fail.as_ref());
    set(&mut it.iptables.sync_period, args.iptables_sync_period.as_ref());
    set(&mut it.iptables.min_sync_period, args.iptables_min_sync_period.as_ref());
    set(&mut it.nftables.sync_period, args.iptables_sync_period.as_ref());
    set(&mut it.nftables.min_sync_period, args.iptables_min_sync_period.as_ref());
    set(&mut it.ipvs.sync_period, args.ipvs_sync_period.as_ref());
    set(&mut it.ipvs.min_sync_period, args.ipvs_min_sync_period.as_ref());
    it.feature_gates.extend(args.feature_gates.iter().flat_map(BTreeMap::clone));
    it.oom_score_adj = args.oom_score_adj.or(it.oom_score_adj);
    set(&mut it.client_connection.qps, args.kube_api_qps.as_ref());
    set(&mut it.client_connection.burst, args.kube_api_burst.as_ref());
    set(&mut it.healthz_bind_address, args.healthz_bind_address.as_ref());
    set(&mut it.metrics_bind_address, args.metrics_bind_address.as_ref());
    let (healthz, metrics) = (it.healthz_bind_address.clone(), it.metrics_bind_address.clone());
    let mut it = it.completed();
    // Flags can say that there is no listener; in a file, nothing is the default.
    it.healthz_bind_address = listener(healthz, it.healthz_bind_address, args.healthz_port);
    it.metrics_bind_address = listener(metrics, it.metrics_bind_address, args.metrics_port);
    it
}

fn listener(said: String, completed: String, port: Option<u16>) -> String {
    match port {
        _ if said.is_empty() => said,
        Some(0) => String::new(),
        Some(port) => match completed.rsplit_once(':') {
            Some((host, _)) => format!("{host}:{port}"),
            None => completed,
        },
        None => completed,
    }
}

/// The log's level and format: the flags', else the configuration's.
pub(super) fn log(args: &ProxyRunArgs, checked: &CheckedConfiguration, log: &LogArgs) -> LogArgs {
    let logging = &checked.configuration().logging;
    let level = match args.v.unwrap_or(logging.verbosity) {
        _ if log.log != "info" => log.log.clone(),
        0..=3 => log.log.clone(),
        4 | 5 => "debug".to_owned(),
        _ => "trace".to_owned(),
    };
    let json = logging.format == "json";
    LogArgs { log: level, log_format: if json { LogFormat::Json } else { log.log_format } }
}

/// What was asked for and is not done.
pub(super) fn warn(args: &ProxyRunArgs, checked: &CheckedConfiguration) {
    let ignored = &args.ignored.given;
    if !ignored.is_empty() {
        let flags = ignored.join(", --");
        tracing::info!("flags of kube-proxy that have no effect here: --{flags}");
    }
    let fields = checked.without_effect();
    if !fields.is_empty() {
        let fields = fields.join(", ");
        tracing::info!("fields of the configuration that have no effect here: {fields}");
    }
    if args.config.is_some()
        && apply(KubeProxyConfiguration::defaulted(), &args.fields)
            != KubeProxyConfiguration::defaulted()
    {
        tracing::warn!(
            "flags that the configuration has fields for have no effect beside --config"
        );
    }
    if args.kubeconfig.is_some() && !checked.configuration().client_connection.kubeconfig.is_empty()
    {
        tracing::warn!("--kubeconfig has no effect: the configuration names another");
    }
}
