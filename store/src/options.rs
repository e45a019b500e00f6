//! The settings of the embedded store. The defaults suit an API server of a few thousand nodes.

use std::time::Duration;

/// How much the embedded store keeps, and how often it tidies up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// History younger than this is kept for reads and watches in the past (kube-apiserver compacts
    /// etcd every 5 minutes), as far as the two limits below allow.
    pub history_age: Duration,
    /// Most bytes of keys and values, replaced states included, that the history may hold.
    pub history_bytes_max: usize,
    /// Most changes that the history may hold.
    pub history_events_max: usize,
    /// An idle watch is told at most this late how far the store has come.
    pub progress_interval: Duration,
    /// Size of a preallocated segment of the log.
    pub segment_bytes: u64,
    /// A snapshot is taken, and older segments are removed, once the log since the last one has
    /// grown beyond this and beyond the size of the last snapshot.
    pub snapshot_log_bytes: u64,
    /// Most events that wait for one slow watcher before it has to read them from the history.
    pub watch_buffer_events_max: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            history_age: Duration::from_secs(5 * 60),
            history_bytes_max: 512 << 20,
            history_events_max: 200_000,
            progress_interval: Duration::from_secs(1),
            segment_bytes: 64 << 20,
            snapshot_log_bytes: 64 << 20,
            watch_buffer_events_max: 1024,
        }
    }
}
