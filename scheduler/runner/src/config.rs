//! What the scheduler daemon can be told.

use std::sync::Arc;
use std::time::Duration;

use pintle_scheduler_core::framework::{Profile, Profiles};
use tokio_util::sync::CancellationToken;

use crate::configuration::CheckedConfiguration;

/// Checked settings of one scheduler daemon. The default is kube-scheduler's, with one profile.
#[derive(Clone, Debug)]
pub struct Config {
    /// Pods choose one by `spec.schedulerName`; those that name none of them are left alone.
    pub profiles: Arc<Profiles>,
    /// The name of the first profile.
    pub scheduler_name: String,
    /// The first wait of a pod that did not fit (`podInitialBackoffSeconds`).
    pub backoff_initial: Duration,
    /// The longest wait of a pod that did not fit (`podMaxBackoffSeconds`).
    pub backoff_max: Duration,
    /// A pod that did not fit and that no event woke is tried again after this
    /// (`--pod-max-in-unschedulable-pods-duration`).
    pub unschedulable_max: Duration,
    /// Bindings under way at once.
    pub bindings_max: usize,
    /// Seed of the choice among equally good nodes; `None` takes one from the operating system.
    pub seed: Option<u64>,
    /// Informers start at once, but nothing is scheduled before this is cancelled: we lead then.
    /// `None` is at once, too.
    pub leading: Option<CancellationToken>,
}

impl Default for Config {
    fn default() -> Self {
        let scheduler_name = "default-scheduler".to_owned();
        Self {
            profiles: Arc::new(Profiles::single(Profile::default_plugins(&scheduler_name))),
            scheduler_name,
            backoff_initial: Duration::from_secs(1),
            backoff_max: Duration::from_secs(10),
            unschedulable_max: Duration::from_secs(300),
            bindings_max: BINDINGS_MAX,
            seed: None,
            leading: None,
        }
    }
}

impl From<&CheckedConfiguration> for Config {
    fn from(checked: &CheckedConfiguration) -> Self {
        let it = checked.configuration();
        let seconds = |seconds: i64| Duration::from_secs(seconds.unsigned_abs());
        Self {
            profiles: Arc::new(checked.build()),
            scheduler_name: it.profiles[0].scheduler_name.clone(),
            backoff_initial: seconds(it.pod_initial_backoff_seconds),
            backoff_max: seconds(it.pod_max_backoff_seconds),
            ..Self::default()
        }
    }
}

/// Enough to hide the latency of a write that waits for an fsync, few enough not to starve the
/// other clients of an API server that admits a few hundred requests at once.
const BINDINGS_MAX: usize = 128;
