//! Whether a workload under way shall stop, and how far it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::Options;

/// What is told of the progress: what is done, and how much of it of how much.
pub(crate) type Progress = dyn Fn(&str, usize, usize) + Send + Sync;

/// Felt now and then by a workload that runs. Clones are the same.
#[derive(Clone)]
pub(crate) struct Pulse {
    stopped: Arc<AtomicBool>,
    began: Instant,
    limit: Duration,
    patience: Duration,
    step: String,
    progress: Arc<Progress>,
}

impl Pulse {
    /// How often it should be felt.
    pub(crate) const INTERVAL: Duration = Duration::from_millis(100);

    /// Begins now. Who sets `stopped` stops the workload.
    pub(crate) fn new(
        options: &Options,
        stopped: Arc<AtomicBool>,
        progress: Arc<Progress>,
    ) -> Self {
        Self {
            stopped,
            began: Instant::now(),
            limit: Duration::from_secs(options.limit),
            patience: Duration::from_secs(options.patience),
            step: String::new(),
            progress,
        }
    }

    /// How long nothing may be scheduled.
    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    pub(crate) fn step(&mut self, number: usize, of: usize) {
        self.step = format!("step {number} of {of}");
        (self.progress)(&self.step, 0, 0);
    }

    /// Tells of the progress; returns whether to stop.
    pub(crate) fn beat(&self, done: usize, of: usize) -> bool {
        (self.progress)(&self.step, done, of);
        self.is_over()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.stopped.load(Ordering::Relaxed) || self.began.elapsed() > self.limit
    }

    /// In words, if it is.
    pub(crate) fn why_over(&self) -> Option<String> {
        if self.stopped.load(Ordering::Relaxed) {
            return Some(format!("interrupted in {}", self.step));
        }
        let seconds = self.limit.as_secs();
        self.is_over().then(|| format!("stopped after {seconds} s in {}", self.step))
    }
}
