//! watch: a stream of changes, one JSON event a line.
//!
//! Starts at `resourceVersion` (unset or 0: the present objects as ADDED first), sends bookmarks
//! where they are allowed, and ends after `timeoutSeconds`. An object that starts or stops matching
//! the selectors is ADDED or DELETED. With `sendInitialEvents=true` the present objects come first
//! and, where bookmarks are allowed, one marked `k8s.io/initial-events-end` after them (WatchList).

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{Response, StatusCode};
use pintle_api::scheme::Resource;
use pintle_api::status::Status;
use rand::RngExt as _;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{Call, list, list_options, render};
use crate::body::Body;
use crate::negotiate::{self, Form};
use crate::query::{Filter, Query};
use crate::request::Target;
use crate::server::Core;
use crate::storage::Stored;
use crate::watch_cache::{Change, WatchCache};
use crate::{object, status};

pub(super) async fn watch(
    core: &Core,
    call: &Call<'_>,
    target: &Target,
    resource: &'static Resource,
) -> Result<Response<Body>, Status> {
    let options = Options::parse(call, target, resource)?;
    let permit = Arc::clone(&core.watches).try_acquire_owned().map_err(|_| {
        Status::too_many_requests("too many watches are open, please try again later.", 5)
    })?;
    let start = start(core, &options).await?;
    let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
    let gauge = core.metrics.watches.clone();
    let watcher = Watcher {
        cache: Arc::clone(&core.cache),
        shutdown: core.daemon.shutdown.clone(),
        options,
        position: start.position,
        columns_sent: false,
        chunk: BytesMut::new(),
        sender,
        _permit: permit,
    };
    tokio::spawn(async move {
        gauge.inc();
        watcher.run(start.initial, start.revision).await;
        gauge.dec();
    });
    let mut response = Response::new(Body::stream(receiver));
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(http::header::CONTENT_TYPE, status::JSON);
    Ok(response)
}

struct Options {
    resource: &'static Resource,
    namespace: String,
    filter: Filter,
    form: Form,
    query: Query,
    revision: Option<u64>,
    /// `Some` if the parameter was given.
    initial_events: Option<bool>,
    bookmarks: bool,
    timeout: Duration,
}

impl Options {
    fn parse(
        call: &Call<'_>,
        target: &Target,
        resource: &'static Resource,
    ) -> Result<Self, Status> {
        let query = &call.query;
        list_options::check(query, true)?;
        let seconds = query.number("timeoutSeconds")?.filter(|seconds| *seconds > 0);
        let options = Self {
            resource,
            namespace: if resource.namespaced { target.namespace.clone() } else { String::new() },
            filter: Filter::parse(resource, query)?.named(&target.name),
            form: negotiate::form(&call.headers)?,
            query: query.clone(),
            revision: list::revision(query)?,
            initial_events: match query.get("sendInitialEvents") {
                "" => None,
                _ => Some(query.flag("sendInitialEvents")),
            },
            bookmarks: query.flag("allowWatchBookmarks"),
            timeout: seconds.map_or_else(default_timeout, Duration::from_secs),
        };
        render::check_include(query)?;
        Ok(options)
    }
}

struct Start {
    initial: Vec<Arc<Stored>>,
    position: u64,
    revision: u64,
}

/// Where the watch begins. Unlike a list, a watch may begin in the near future only.
async fn start(core: &Core, options: &Options) -> Result<Start, Status> {
    let cache = core.cache.of(options.resource);
    let with_state = match (options.initial_events, options.revision) {
        (Some(initial), _) => initial,
        (None, revision) => matches!(revision, None | Some(0)),
    };
    match options.revision {
        Some(revision) => core.cache.wait_for(revision).await?,
        None => core.cache.wait_for(core.storage.revision().await?).await?,
    }
    if !with_state {
        let revision = match options.revision {
            Some(revision) if revision > 0 => revision,
            _ => core.cache.revision(),
        };
        let position = cache.position_after(revision)?;
        return Ok(Start { initial: Vec::new(), position, revision });
    }
    loop {
        let (mut initial, revision) = core.cache.list(options.resource, &options.namespace);
        // Too old only if the ring was passed by in this very moment.
        if let Ok(position) = cache.position_after(revision) {
            initial.retain(|entry| options.filter.matches(&entry.facts));
            return Ok(Start { initial, position, revision });
        }
        tokio::task::yield_now().await;
    }
}

struct Watcher {
    cache: Arc<WatchCache>,
    shutdown: CancellationToken,
    options: Options,
    position: u64,
    columns_sent: bool,
    /// Lines that are not sent yet. Its memory is used again once the client has what was sent.
    chunk: BytesMut,
    sender: mpsc::Sender<Bytes>,
    _permit: OwnedSemaphorePermit,
}

/// The client went away, or is so slow that it is as good as gone.
struct Gone;

impl Watcher {
    async fn run(mut self, initial: Vec<Arc<Stored>>, revision: u64) {
        let deadline = Instant::now() + self.options.timeout;
        let _ = self.stream(initial, revision, deadline).await;
    }

    async fn stream(
        &mut self,
        initial: Vec<Arc<Stored>>,
        revision: u64,
        deadline: Instant,
    ) -> Result<(), Gone> {
        self.send_initial(initial, revision).await?;
        let cache = Arc::clone(&self.cache);
        let mut changed = cache.of(self.options.resource).subscribe();
        let mut bookmark = tokio::time::interval_at(Instant::now() + BOOKMARK, BOOKMARK);
        bookmark.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sent = revision;
        loop {
            // Before the changes are read: they are then all of up to this revision.
            let reached = cache.revision();
            changed.mark_unchanged();
            match self.send_changes().await? {
                None => return Ok(()),
                // A quiet watch keeps no memory for the next burst.
                Some(0) => self.chunk = BytesMut::new(),
                // Under load the next changes come in a moment: together they cost one wake-up.
                Some(_) => tokio::time::sleep(PACE).await,
            }
            tokio::select! {
                woken = changed.changed() => if woken.is_err() { return Ok(()) },
                () = self.sender.closed() => return Err(Gone),
                _ = bookmark.tick() => {
                    if self.options.bookmarks && reached > sent {
                        self.send(self.bookmark(reached, false)).await?;
                        sent = reached;
                    }
                }
                () = tokio::time::sleep_until(deadline) => {
                    if self.options.bookmarks {
                        self.send(self.bookmark(reached, false)).await?;
                    }
                    return Ok(());
                }
                () = self.shutdown.cancelled() => return Ok(()),
            }
        }
    }

    async fn send_initial(&mut self, initial: Vec<Arc<Stored>>, revision: u64) -> Result<(), Gone> {
        let count = initial.len();
        for (nth, entry) in initial.into_iter().enumerate() {
            self.make_room(&entry, count - nth).await?;
            self.put_line("ADDED", &entry);
        }
        if self.options.initial_events == Some(true) && self.options.bookmarks {
            let bookmark = self.bookmark(revision, true);
            self.chunk.put_slice(&bookmark);
        }
        self.flush().await
    }

    /// Everything up to the end of the ring: how many changes; `None` if this watch is over.
    async fn send_changes(&mut self) -> Result<Option<usize>, Gone> {
        let cache = Arc::clone(&self.cache);
        let mut seen = 0;
        loop {
            let Some(changes) = cache.of(self.options.resource).changes(self.position, BATCH)
            else {
                let expired = Status::expired("too old resource version: the watch fell behind");
                self.send(event("ERROR", &json!(expired))).await?;
                return Ok(None);
            };
            if changes.is_empty() {
                self.flush().await?;
                return Ok(Some(seen));
            }
            seen += changes.len();
            self.position += changes.len() as u64;
            for (nth, change) in changes.iter().enumerate() {
                self.put_change(change, changes.len() - nth).await?;
            }
        }
    }

    /// Put the change in, of which `left` are left with it.
    async fn put_change(&mut self, change: &Change, left: usize) -> Result<(), Gone> {
        let in_scope = |entry: &&Arc<Stored>| {
            let namespace = &self.options.namespace;
            let here = entry.facts.namespace() == namespace;
            (namespace.is_empty() || here) && self.options.filter.matches(&entry.facts)
        };
        let old = change.old.as_ref().filter(in_scope);
        let new = change.new.as_ref().filter(in_scope);
        if let Some(entry) = new.or(old) {
            self.make_room(entry, left).await?;
        }
        match (old, new) {
            (None, None) => {}
            (None, Some(new)) => self.put_line("ADDED", new),
            (Some(_), Some(new)) => self.put_line("MODIFIED", new),
            (Some(old), None) if change.new.is_none() => self.put_line("DELETED", old),
            // It no longer matches: its last matching state, at the revision of this change.
            (Some(old), None) => self.put_line("DELETED", &old.at(change.revision)),
        }
        Ok(())
    }

    /// See to it that the entry's line fits into the chunk, which else would be moved to where it
    /// does: what is there is sent, and a new chunk is made for as many lines as are `left`.
    async fn make_room(&mut self, entry: &Stored, left: usize) -> Result<(), Gone> {
        let line = entry.bytes.len() + EVENT_BYTES;
        if self.chunk.capacity() - self.chunk.len() >= line {
            return Ok(());
        }
        self.flush().await?;
        let bytes = line.saturating_mul(left).min(CHUNK_BYTES).max(line);
        self.chunk = BytesMut::with_capacity(bytes);
        Ok(())
    }

    fn put_line(&mut self, kind: &str, entry: &Stored) {
        let line = match self.options.form {
            Form::Object => return put_object_line(&mut self.chunk, kind, entry),
            Form::Metadata => event(kind, &render::metadata(&entry.full())),
            Form::Table => {
                let Options { query, resource, .. } = &self.options;
                let first = !std::mem::replace(&mut self.columns_sent, true);
                event(kind, &render::one_row(query, resource, &entry.full(), first))
            }
        };
        self.chunk.put_slice(&line);
    }

    /// An object of the watched kind that holds nothing but the revision.
    fn bookmark(&self, revision: u64, initial_end: bool) -> Bytes {
        let resource = self.options.resource;
        let mut metadata = json!({ "resourceVersion": revision.to_string() });
        if initial_end {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let object = json!({
            "kind": resource.kind.name(),
            "apiVersion": resource.api_version(),
            "metadata": metadata,
        });
        match self.options.form {
            Form::Object => event("BOOKMARK", &object),
            Form::Metadata => event("BOOKMARK", &render::metadata(&object)),
            Form::Table => event(
                "BOOKMARK",
                &json!({
                    "kind": "Table",
                    "apiVersion": "meta.k8s.io/v1",
                    "metadata": metadata,
                    "columnDefinitions": [],
                    "rows": [],
                }),
            ),
        }
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        let chunk = self.chunk.split().freeze();
        self.send(chunk).await
    }

    async fn send(&self, chunk: Bytes) -> Result<(), Gone> {
        if chunk.is_empty() {
            return Ok(());
        }
        self.sender.send_timeout(chunk, STALLED).await.map_err(|_| Gone)
    }
}

fn put_object_line(out: &mut BytesMut, kind: &str, stored: &Stored) {
    out.put_slice(b"{\"type\":\"");
    out.put_slice(kind.as_bytes());
    out.put_slice(b"\",\"object\":");
    object::put_with_revision(out, &stored.bytes, stored.revision);
    out.put_slice(b"}\n");
}

fn event(kind: &str, object: &Value) -> Bytes {
    Bytes::from(format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n"))
}

/// What a line takes beside the stored form: type and resourceVersion.
const EVENT_BYTES: usize = 80;

/// kube-apiserver's `--min-request-timeout`: 30 to 60 minutes, so that watches do not all end at
/// once.
fn default_timeout() -> Duration {
    Duration::from_secs(rand::rng().random_range(1800..3600))
}

/// k8s.io/apiserver's `defaultBookmarkFrequency`.
const BOOKMARK: Duration = Duration::from_secs(60);
/// Between two looks for changes; the first change after a quiet moment is sent at once.
pub(crate) const PACE: Duration = Duration::from_millis(1);
/// A client that takes no data for so long has its watch ended.
const STALLED: Duration = Duration::from_secs(60);
/// Chunks that wait for one client.
const CHUNKS_MAX: usize = 8;
/// Changes that are read at once.
pub(crate) const BATCH: usize = 128;
/// A chunk's bytes, but for a line that is longer: two TLS records, and what allocators still cut
/// from a larger piece.
const CHUNK_BYTES: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_the_event_with_its_revision() {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}});
        let stored = Stored::unwritten(pintle_api::scheme::Kind::Pod, &pod, 7);
        let mut chunk = BytesMut::new();
        put_object_line(&mut chunk, "ADDED", &stored);
        put_object_line(&mut chunk, "MODIFIED", &stored.at(8));
        let lines: Vec<Value> = chunk[..]
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        let mut expected = pod;
        expected["metadata"]["resourceVersion"] = json!("7");
        assert_eq!(lines[0], json!({"type": "ADDED", "object": expected}));
        assert_eq!(lines[1]["object"]["metadata"]["resourceVersion"], "8");
        assert_eq!(lines.len(), 2);
    }
}
