//! What can be set, with kube-controller-manager's flag names (dashes for underscores) and defaults.

use std::time::Duration;

use ipnet::IpNet;

/// The configuration of all controllers. [`Config::check`] says whether it makes sense.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Give every node a pod range out of `cluster_cidr`. Upstream's default is false; pintle's own
    /// nodes take their addresses from `spec.podCIDR`, so here it is true.
    pub allocate_node_cidrs: bool,
    /// Where the nodes' pod ranges come from: one IPv4 or IPv6 range.
    pub cluster_cidr: IpNet,
    /// Workers that sync Deployments.
    pub concurrent_deployment_syncs: usize,
    /// Workers that sync the EndpointSlices of Services.
    pub concurrent_service_endpoint_syncs: usize,
    /// Workers of the garbage collector.
    pub concurrent_gc_syncs: usize,
    /// Workers that empty terminating namespaces.
    pub concurrent_namespace_syncs: usize,
    /// Workers that sync ReplicaSets.
    pub concurrent_replicaset_syncs: usize,
    /// Clusters up to this many nodes stop evictions when a zone is partly down.
    pub large_cluster_size_threshold: usize,
    /// Endpoints in one EndpointSlice, at most; upstream allows 1 to 1000.
    pub max_endpoints_per_slice: usize,
    /// Prefix length of a node's pod range. (`--node-cidr-mask-size`)
    pub node_cidr_mask_size: u8,
    /// Nodes a second that may be tainted NoExecute in a healthy zone.
    pub node_eviction_rate: f64,
    /// How long a node may be silent before it counts as unreachable. 50 s since 1.32.
    pub node_monitor_grace_period: Duration,
    /// How often the nodes' health is looked at.
    pub node_monitor_period: Duration,
    /// How long a node that never reported may be silent.
    pub node_startup_grace_period: Duration,
    /// Nodes a second that may be tainted NoExecute in a large zone that is partly down.
    pub secondary_node_eviction_rate: f64,
    /// Finished pods kept before the oldest are deleted; 0 keeps all.
    pub terminated_pod_gc_threshold: usize,
    /// Share of unready nodes from which on a zone counts as partly down.
    pub unhealthy_zone_threshold: f64,
}

/// A value that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("--{flag}: {reason}")]
pub struct ConfigError {
    /// The flag's name.
    pub flag: &'static str,
    /// What is wrong with its value.
    pub reason: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            allocate_node_cidrs: true,
            cluster_cidr: IpNet::V4(
                ipnet::Ipv4Net::new(std::net::Ipv4Addr::new(10, 244, 0, 0), 16)
                    .expect("16 is a prefix length of IPv4"),
            ),
            concurrent_deployment_syncs: 5,
            concurrent_service_endpoint_syncs: 5,
            concurrent_gc_syncs: 20,
            concurrent_namespace_syncs: 10,
            concurrent_replicaset_syncs: 5,
            large_cluster_size_threshold: 50,
            max_endpoints_per_slice: 100,
            node_cidr_mask_size: 24,
            node_eviction_rate: 0.1,
            node_monitor_grace_period: Duration::from_secs(50),
            node_monitor_period: Duration::from_secs(5),
            node_startup_grace_period: Duration::from_secs(60),
            secondary_node_eviction_rate: 0.01,
            terminated_pod_gc_threshold: 12_500,
            unhealthy_zone_threshold: 0.55,
        }
    }
}

impl Config {
    /// Whether every value can work; the error names the first flag that cannot.
    pub fn check(&self) -> Result<(), ConfigError> {
        let workers = [
            ("concurrent-deployment-syncs", self.concurrent_deployment_syncs),
            ("concurrent-service-endpoint-syncs", self.concurrent_service_endpoint_syncs),
            ("concurrent-gc-syncs", self.concurrent_gc_syncs),
            ("concurrent-namespace-syncs", self.concurrent_namespace_syncs),
            ("concurrent-replicaset-syncs", self.concurrent_replicaset_syncs),
        ];
        for (flag, count) in workers {
            within(flag, count, 1, WORKERS_MAX)?;
        }
        within("max-endpoints-per-slice", self.max_endpoints_per_slice, 1, 1000)?;
        self.check_cidr()?;
        if self.node_monitor_period.is_zero() {
            return Err(ConfigError {
                flag: "node-monitor-period",
                reason: "must be longer than 0s".to_owned(),
            });
        }
        if self.node_monitor_grace_period <= self.node_monitor_period {
            return Err(ConfigError {
                flag: "node-monitor-grace-period",
                reason: format!(
                    "must be longer than --node-monitor-period ({:?})",
                    self.node_monitor_period
                ),
            });
        }
        Ok(())
    }

    fn check_cidr(&self) -> Result<(), ConfigError> {
        let cluster = self.cluster_cidr;
        let bits = self.node_cidr_mask_size;
        if bits > cluster.max_prefix_len() || bits < cluster.prefix_len() {
            return Err(ConfigError {
                flag: "node-cidr-mask-size",
                reason: format!("/{bits} does not fit into --cluster-cidr {cluster}"),
            });
        }
        if bits - cluster.prefix_len() > CLUSTER_SUBNET_MASK_DIFF_MAX {
            return Err(ConfigError {
                flag: "node-cidr-mask-size",
                reason: format!(
                    "/{bits} cuts --cluster-cidr {cluster} into more than 2^\
                     {CLUSTER_SUBNET_MASK_DIFF_MAX} ranges"
                ),
            });
        }
        Ok(())
    }
}

fn within(flag: &'static str, value: usize, min: usize, max: usize) -> Result<(), ConfigError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(ConfigError { flag, reason: format!("must be {min} to {max}, not {value}") })
}

/// More workers than this only wait for the API server.
const WORKERS_MAX: usize = 1000;

/// Upstream's bound on a cluster range's number of node ranges: the bitmap stays under 8 KiB.
const CLUSTER_SUBNET_MASK_DIFF_MAX: u8 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Config::default().check(), Ok(()));
    }

    #[test]
    fn a_bad_value_names_its_flag() {
        type Spoil = fn(&mut Config);
        let cases: [(&str, Spoil); 5] = [
            ("node-cidr-mask-size", |c| c.node_cidr_mask_size = 33),
            ("node-cidr-mask-size", |c| c.node_cidr_mask_size = 15),
            ("max-endpoints-per-slice", |c| c.max_endpoints_per_slice = 0),
            ("concurrent-gc-syncs", |c| c.concurrent_gc_syncs = 0),
            ("node-monitor-grace-period", |c| {
                c.node_monitor_grace_period = Duration::from_secs(5);
            }),
        ];
        for (flag, spoil) in cases {
            let mut config = Config::default();
            spoil(&mut config);
            assert_eq!(config.check().unwrap_err().flag, flag);
        }
    }
}
