//! What the scheduler daemon can be told.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use pintle_client::{PodFeed, PodWriter};
use pintle_scheduler_core::framework::{Extender, Profile, Profiles};
use tokio_util::sync::CancellationToken;

use crate::configuration::CheckedConfiguration;
use crate::extender::{ExtenderSetupError, HttpExtender};

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
    /// The extender that binds the pods it is interested in; the others are bound by DefaultBinder.
    pub binder: Option<Arc<HttpExtender>>,
    /// Who knows of pods without a watch; `None` watches them through the client.
    pub feed: Option<InProcessFeed>,
    /// Who writes pods without requests; `None` sends them through the client.
    pub writer: Option<InProcessWriter>,
    /// How long the volumes of a pod may take to be bound (VolumeBinding's `bindTimeoutSeconds`), by
    /// scheduler name; ten minutes for others.
    pub bind_timeouts: Arc<BTreeMap<String, Duration>>,
    /// Threads that decide together (`parallelism`, but no more than there are processors).
    pub workers: usize,
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
            binder: None,
            feed: None,
            writer: None,
            bind_timeouts: Arc::default(),
            workers: workers(PARALLELISM),
            bindings_max: BINDINGS_MAX,
            seed: None,
            leading: None,
        }
    }
}

impl TryFrom<&CheckedConfiguration> for Config {
    type Error = ExtenderSetupError;

    /// Reads the extenders' certificates and starts their threads.
    fn try_from(checked: &CheckedConfiguration) -> Result<Self, ExtenderSetupError> {
        let it = checked.configuration();
        let extenders: Vec<Arc<HttpExtender>> = it
            .extenders
            .iter()
            .map(|settings| HttpExtender::new(settings).map(Arc::new))
            .collect::<Result<_, _>>()?;
        let in_core: Vec<Arc<dyn Extender>> =
            extenders.iter().map(|extender| Arc::clone(extender) as _).collect();
        let seconds = |seconds: i64| Duration::from_secs(seconds.unsigned_abs());
        let bind_timeouts = it.profiles.iter().map(|profile| {
            let timeout = profile.arguments.volume_binding.bind_timeout_seconds();
            (profile.scheduler_name.clone(), seconds(timeout))
        });
        Ok(Self {
            profiles: Arc::new(checked.build(&in_core)),
            bind_timeouts: Arc::new(bind_timeouts.collect()),
            scheduler_name: it.profiles[0].scheduler_name.clone(),
            binder: extenders.into_iter().find(|extender| extender.is_binder()),
            backoff_initial: seconds(it.pod_initial_backoff_seconds),
            backoff_max: seconds(it.pod_max_backoff_seconds),
            workers: workers(usize::try_from(it.parallelism).unwrap_or(1)),
            ..Self::default()
        })
    }
}

/// An API server in the same process.
#[derive(Clone)]
pub struct InProcessWriter(pub Arc<dyn PodWriter>);

impl fmt::Debug for InProcessWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InProcessWriter")
    }
}

/// An API server in the same process.
#[derive(Clone)]
pub struct InProcessFeed(pub Arc<dyn PodFeed>);

impl fmt::Debug for InProcessFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InProcessFeed")
    }
}

/// Enough to hide the latency of a write that waits for an fsync, few enough not to starve the
/// other clients of an API server that admits a few hundred requests at once.
const BINDINGS_MAX: usize = 128;

/// The default of `parallelism`.
const PARALLELISM: usize = 16;

/// More threads than processors would wait for each other.
fn workers(parallelism: usize) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    parallelism.clamp(1, processors)
}
