//! What the scheduler daemon can be told.

use std::time::Duration;

/// Checked settings of one scheduler daemon. The default is kube-scheduler's, with one profile.
#[derive(Clone, Debug)]
pub struct Config {
    /// Pods whose `spec.schedulerName` is this are scheduled; also the name that events carry.
    pub scheduler_name: String,
    /// The first wait of a pod that did not fit (`podInitialBackoffSeconds`).
    pub backoff_initial: Duration,
    /// The longest wait of a pod that did not fit (`podMaxBackoffSeconds`).
    pub backoff_max: Duration,
    /// Bindings under way at once.
    pub bindings_max: usize,
    /// Seed of the choice among equally good nodes; `None` takes one from the operating system.
    pub seed: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            scheduler_name: "default-scheduler".to_owned(),
            backoff_initial: Duration::from_secs(1),
            backoff_max: Duration::from_secs(10),
            bindings_max: BINDINGS_MAX,
            seed: None,
        }
    }
}

/// Enough to hide the latency of a write that waits for an fsync, few enough not to starve the
/// other clients of an API server that admits a few hundred requests at once.
const BINDINGS_MAX: usize = 128;
