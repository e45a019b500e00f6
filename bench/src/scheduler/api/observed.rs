//! What a watch of all pods shows, and when.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::AsyncBufReadExt as _;
use serde::Deserialize;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::scheduler::config::Stage;

/// The pods that are looked for. Others are passed over.
pub(super) struct Observed {
    shared: Arc<Shared>,
    watching: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    pods: HashMap<String, Seen>,
    /// Pods without a node, by operation.
    pending: HashMap<usize, usize>,
}

struct Seen {
    operation: usize,
    namespace: String,
    added: Option<Instant>,
    bound: Option<Instant>,
    is_attempted: bool,
}

/// When a pod was seen first, and first with a node.
pub(super) struct Bound {
    pub(super) added: Instant,
    pub(super) bound: Instant,
}

impl Observed {
    /// Begin to watch.
    pub(super) fn watch(client: kube::Client) -> Self {
        let shared = Arc::new(Shared::default());
        let to = Arc::clone(&shared);
        let watching = tokio::spawn(async move {
            loop {
                // Anew from the present state, which counts as seen now.
                let _ = to.follow(&client).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        Self { shared, watching }
    }

    pub(super) fn stop(self) {
        self.watching.abort();
    }

    /// Look for these pods, which an operation is about to create.
    pub(super) fn expect(&self, operation: usize, names: &[String]) {
        let mut state = self.shared.lock();
        for name in names {
            let seen = Seen {
                operation,
                namespace: String::new(),
                added: None,
                bound: None,
                is_attempted: false,
            };
            state.pods.insert(name.clone(), seen);
        }
        *state.pending.entry(operation).or_default() += names.len();
    }

    pub(super) fn forget(&self, name: &str) {
        let mut state = self.shared.lock();
        if let Some(seen) = state.pods.remove(name)
            && seen.bound.is_none()
            && let Some(pending) = state.pending.get_mut(&seen.operation)
        {
            *pending -= 1;
        }
    }

    pub(super) fn is_attempted(&self, name: &str) -> bool {
        self.shared.lock().pods.get(name).is_some_and(|seen| seen.is_attempted)
    }

    pub(super) fn pending_of(&self, operation: usize) -> usize {
        self.shared.lock().pending.get(&operation).copied().unwrap_or(0)
    }

    pub(super) fn bound_of(&self, operation: usize) -> Vec<Bound> {
        let state = self.shared.lock();
        let of_it = state.pods.values().filter(|seen| seen.operation == operation);
        of_it.filter_map(|seen| Some(Bound { added: seen.added?, bound: seen.bound? })).collect()
    }

    pub(super) fn names_in(&self, namespace: &str) -> Vec<String> {
        let state = self.shared.lock();
        let there = state.pods.iter().filter(|(_, seen)| seen.namespace == namespace);
        there.map(|(name, _)| name.clone()).collect()
    }

    /// Whether some pods are not that far yet.
    pub(super) fn is_unsettled(&self, stage: Stage) -> bool {
        let state = self.shared.lock();
        state.pods.values().any(|seen| match stage {
            Stage::Attempted => seen.bound.is_none() && !seen.is_attempted,
            Stage::Scheduled => seen.bound.is_none(),
        })
    }

    /// Until something changed, at most so long.
    pub(super) async fn changed(&self, at_most: Duration) {
        let _ = tokio::time::timeout(at_most, self.shared.changed.notified()).await;
    }
}

/// The little of an event that is looked at.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    object: Pod<'a>,
}

#[derive(Deserialize)]
struct Pod<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
    #[serde(default)]
    spec: Spec,
    #[serde(borrow, default)]
    status: Status<'a>,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    namespace: Cow<'a, str>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    node_name: String,
}

#[derive(Default, Deserialize)]
struct Status<'a> {
    #[serde(borrow, default)]
    conditions: Vec<Condition<'a>>,
}

#[derive(Deserialize)]
struct Condition<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn follow(&self, client: &kube::Client) -> anyhow::Result<()> {
        let request = http::Request::get("/api/v1/pods?watch=1").body(Vec::new())?;
        let mut lines = std::pin::pin!(client.request_stream(request).await?);
        let mut line = Vec::new();
        loop {
            line.clear();
            if lines.read_until(b'\n', &mut line).await? == 0 {
                return Ok(());
            }
            let event: Event<'_> = serde_json::from_slice(&line)?;
            if event.kind != "ADDED" && event.kind != "MODIFIED" {
                continue;
            }
            self.note(&event.object, Instant::now());
            self.changed.notify_one();
        }
    }

    fn note(&self, pod: &Pod<'_>, now: Instant) {
        let mut state = self.lock();
        let Some(seen) = state.pods.get_mut(&*pod.metadata.name) else { return };
        if seen.added.is_none() {
            seen.added = Some(now);
            seen.namespace = pod.metadata.namespace.to_string();
        }
        seen.is_attempted |= pod.status.conditions.iter().any(|it| it.kind == "PodScheduled");
        if seen.bound.is_some() || pod.spec.node_name.is_empty() {
            return;
        }
        seen.bound = Some(now);
        let operation = seen.operation;
        if let Some(pending) = state.pending.get_mut(&operation) {
            *pending -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(shared: &Shared, json: &str) {
        let event: Event<'_> = serde_json::from_str(json).unwrap();
        shared.note(&event.object, Instant::now());
    }

    #[tokio::test]
    async fn pods_are_counted_once() {
        let shared = Arc::new(Shared::default());
        let watching = tokio::spawn(async {});
        let observed = Observed { shared: Arc::clone(&shared), watching };
        observed.expect(3, &["a".to_owned(), "b".to_owned()]);
        let pod = r#"{"type": "ADDED", "object": {"metadata": {"name": "a", "namespace": "d"},
            "spec": {"containers": []}, "status": {"phase": "Pending"}}}"#;
        note(&shared, pod);
        assert_eq!((observed.pending_of(3), observed.is_attempted("a")), (2, false));
        let bound = pod.replace("\"containers\"", "\"nodeName\": \"n\", \"containers\"");
        let bound =
            bound.replace("\"phase\"", "\"conditions\": [{\"type\": \"PodScheduled\"}], \"phase\"");
        note(&shared, &bound);
        note(&shared, &bound);
        assert_eq!((observed.pending_of(3), observed.is_attempted("a")), (1, true));
        assert_eq!(observed.bound_of(3).len(), 1);
        assert_eq!(observed.names_in("d"), ["a"]);
        assert!(observed.is_unsettled(Stage::Scheduled));
        observed.forget("b");
        assert!(!observed.is_unsettled(Stage::Scheduled));
        assert_eq!(observed.pending_of(3), 0);
    }
}
