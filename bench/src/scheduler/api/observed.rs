//! What a watch of all pods shows, and when.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::BufRead as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use serde::Deserialize;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::wire::Wire;
use crate::scheduler::config::{Barrier, DeletePods, Labels, Selection, Stage};

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

/// A pod's name and labels.
pub(super) type Expected = (String, Option<Labels>);

struct Seen {
    operation: usize,
    namespace: Arc<str>,
    labels: Option<Labels>,
    added: Option<Instant>,
    bound: Option<Instant>,
    is_attempted: bool,
}

impl Seen {
    fn bound(&self) -> Option<Bound> {
        Some(Bound { added: self.added?, bound: self.bound? })
    }
}

/// When a pod was seen first, and first with a node.
pub(super) struct Bound {
    pub(super) added: Instant,
    pub(super) bound: Instant,
}

impl Observed {
    /// Begin to watch.
    pub(super) fn watch(wire: Wire) -> Self {
        let shared = Arc::new(Shared::default());
        let to = Arc::clone(&shared);
        let watching = wire.handle().clone().spawn(async move {
            loop {
                // Anew from the present state, which counts as seen now.
                let _ = to.follow(&wire).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        Self { shared, watching }
    }

    pub(super) fn stop(self) {
        self.watching.abort();
    }

    /// Look for these pods, which an operation is about to create.
    pub(super) fn expect(&self, operation: usize, namespace: &str, pods: &[Expected]) {
        let mut state = self.shared.lock();
        let namespace: Arc<str> = namespace.into();
        for (name, labels) in pods {
            let seen = Seen {
                operation,
                namespace: Arc::clone(&namespace),
                labels: labels.clone(),
                added: None,
                bound: None,
                is_attempted: false,
            };
            state.pods.insert(name.clone(), seen);
        }
        *state.pending.entry(operation).or_default() += pods.len();
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

    /// The operation's pods that have a node.
    pub(super) fn bound_of(&self, operation: usize) -> Vec<Bound> {
        let state = self.shared.lock();
        let of_it = state.pods.values().filter(|seen| seen.operation == operation);
        of_it.filter_map(Seen::bound).collect()
    }

    /// The selected pods that have a node, and how many have none.
    pub(super) fn bound_among(&self, pods: &Selection) -> (Vec<Bound>, usize) {
        let state = self.shared.lock();
        let concerned =
            state.pods.values().filter(|pod| pods.concerns(&pod.namespace, pod.labels.as_ref()));
        let concerned: Vec<&Seen> = concerned.collect();
        let bound: Vec<Bound> = concerned.iter().filter_map(|seen| seen.bound()).collect();
        let pending = concerned.len() - bound.len();
        (bound, pending)
    }

    /// The pods that are there and are to be deleted.
    pub(super) fn names_of(&self, deletion: &DeletePods) -> Vec<String> {
        let state = self.shared.lock();
        let concerned = state.pods.iter().filter(|(_, seen)| {
            seen.added.is_some() && deletion.concerns(&seen.namespace, seen.labels.as_ref())
        });
        concerned.map(|(name, _)| name.clone()).collect()
    }

    /// Whether some of the barrier's pods are not that far yet.
    pub(super) fn is_unsettled(&self, barrier: &Barrier) -> bool {
        let state = self.shared.lock();
        let is_behind = |seen: &&Seen| match barrier.stage_requirement {
            Stage::Attempted => seen.bound.is_none() && !seen.is_attempted,
            Stage::Scheduled => seen.bound.is_none(),
        };
        let mut behind = state.pods.values().filter(is_behind);
        behind.any(|seen| barrier.pods.concerns(&seen.namespace, seen.labels.as_ref()))
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

    async fn follow(&self, wire: &Wire) -> anyhow::Result<()> {
        let mut answer = wire.follow("/api/v1/pods?watch=1").await?;
        let mut begun = Vec::new();
        while let Some(frame) = answer.body_mut().frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            let now = Instant::now();
            let mut rest = &data[..];
            while !rest.is_empty() {
                let (line, after) = rest.split_at((&mut &*rest).skip_until(b'\n')?);
                rest = after;
                match (line.ends_with(b"\n"), begun.is_empty()) {
                    (true, true) => self.read(line, now)?,
                    (true, false) => {
                        begun.extend_from_slice(line);
                        self.read(&begun, now)?;
                        begun.clear();
                    }
                    (false, _) => begun.extend_from_slice(line),
                }
            }
            self.changed.notify_one();
        }
        Ok(())
    }

    fn read(&self, line: &[u8], now: Instant) -> anyhow::Result<()> {
        if line.starts_with(DELETED) {
            return Ok(());
        }
        if let Some(name) = name_of_bound(line) {
            self.note_bound(name, now);
            return Ok(());
        }
        let event: Event<'_> = serde_json::from_slice(line)?;
        if event.kind == "ADDED" || event.kind == "MODIFIED" {
            self.note(&event.object, now);
        }
        Ok(())
    }

    fn note(&self, pod: &Pod<'_>, now: Instant) {
        if !pod.spec.node_name.is_empty() {
            return self.note_bound(&pod.metadata.name, now);
        }
        let mut state = self.lock();
        let Some(seen) = state.pods.get_mut(&*pod.metadata.name) else { return };
        seen.added.get_or_insert(now);
        seen.is_attempted |= pod.status.conditions.iter().any(|it| it.kind == "PodScheduled");
    }

    fn note_bound(&self, name: &str, now: Instant) {
        let mut state = self.lock();
        let Some(seen) = state.pods.get_mut(name) else { return };
        seen.added.get_or_insert(now);
        seen.is_attempted = true;
        if seen.bound.is_some() {
            return;
        }
        seen.bound = Some(now);
        let operation = seen.operation;
        if let Some(pending) = state.pending.get_mut(&operation) {
            *pending -= 1;
        }
    }
}

/// The name of the pod of a change, if it has a node and the line is as pintle's API server writes
/// it: `nodeName` as the spec's last field, right before the status. Quotes within texts have a
/// backslash before them, so what is found are fields. Any other line has to be read.
fn name_of_bound(line: &[u8]) -> Option<&str> {
    let status = line.windows(STATUS.len()).rposition(|window| window == STATUS)?;
    let spec = line[..status].strip_suffix(b"\"")?;
    let value = spec.iter().rposition(|byte| *byte == b'"')?;
    if value + 1 == spec.len() || !spec[..=value].ends_with(NODE_NAME) {
        return None;
    }
    let rest = line.strip_prefix(MODIFIED)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let rest = rest[digits..].strip_prefix(b"\",\"name\":\"")?;
    let end = rest.iter().position(|byte| *byte == b'"')?;
    // Names have nothing to escape.
    std::str::from_utf8(&rest[..end]).ok()
}

/// The end of the spec and the beginning of the status.
const STATUS: &[u8] = b"},\"status\":{";
/// The spec's field, up to its value.
const NODE_NAME: &[u8] = b",\"nodeName\":\"";
/// How the line of a change begins, up to the version.
const MODIFIED: &[u8] =
    b"{\"type\":\"MODIFIED\",\"object\":{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\
    \"metadata\":{\"resourceVersion\":\"";
/// How the line of a deletion begins, of which nothing is noted.
const DELETED: &[u8] = b"{\"type\":\"DELETED\",";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn note(shared: &Shared, json: &str) {
        let event: Event<'_> = serde_json::from_str(json).unwrap();
        shared.note(&event.object, Instant::now());
    }

    #[test]
    fn a_bound_pod_is_told_without_reading_the_line() {
        let line = |kind: &str, metadata: &str, spec: &str| {
            let pod = format!(
                r#"{{"apiVersion":"v1","kind":"Pod","metadata":{metadata},"spec":{spec},"status":{{
                "conditions":[{{"type":"PodScheduled","status":"True"}}]}}}}"#
            );
            format!("{{\"type\":\"{kind}\",\"object\":{pod}}}\n")
        };
        let metadata = r#"{"resourceVersion":"12","name":"a-1","uid":"u"}"#;
        let bound = r#"{"containers":[{"name":"c"}],"nodeName":"n-1"}"#;
        let name = |line: String| name_of_bound(line.as_bytes()).map(str::to_owned);
        assert_eq!(name(line("MODIFIED", metadata, bound)).as_deref(), Some("a-1"));
        let told = r#"{"containers":[{"name":"c","image":",\"nodeName\":\"n"}]}"#;
        let text = r#"{"containers":[],"hostname":",\"nodeName\":\"n"}"#;
        for spec in
            [told, text, r#"{"containers":[],"nodeName":""}"#, r#"{"nodeName":"n","a":"b"}"#]
        {
            assert_eq!(name(line("MODIFIED", metadata, spec)), None, "{spec}");
        }
        assert_eq!(name(line("ADDED", metadata, bound)), None);
        assert_eq!(name(line("MODIFIED", r#"{"name":"a-1","resourceVersion":"1"}"#, bound)), None);
    }

    #[tokio::test]
    async fn pods_are_counted_once() {
        let shared = Arc::new(Shared::default());
        let watching = tokio::spawn(async {});
        let observed = Observed { shared: Arc::clone(&shared), watching };
        let labels = Labels::from([("type".to_owned(), "unsched".to_owned())]);
        observed.expect(3, "d", &[("a".to_owned(), None), ("b".to_owned(), Some(labels))]);
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
        let deletion = |json| observed.names_of(&serde_json::from_value(json).unwrap());
        assert_eq!(deletion(json!({"namespace": "d"})), ["a"]);
        assert!(deletion(json!({"namespace": "d", "labelSelector": {"x": "y"}})).is_empty());
        let unsettled = |json| observed.is_unsettled(&serde_json::from_value(json).unwrap());
        assert!(unsettled(json!({})));
        assert!(unsettled(json!({"namespaces": ["d"], "labelSelector": {"type": "unsched"}})));
        assert!(!unsettled(json!({"namespaces": ["other"]})));
        assert!(!unsettled(json!({"labelSelector": {"type": "other"}})));
        observed.forget("b");
        assert!(!unsettled(json!({})));
        assert_eq!(observed.pending_of(3), 0);
    }
}
