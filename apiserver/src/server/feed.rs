//! A list and watch of pods for who is in this process: the same events at the same pace, and the
//! entries of the watch cache in the place of lines.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt as _};
use kube::runtime::watcher::{self, Event};
use pintle_api::scheme::{self, Kind, Resource};
use pintle_api::status::Status;
use pintle_client::LocalPod;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::ApiServer;
use super::in_process::as_client;
use crate::auth::{self, UserInfo};
use crate::handlers::{WATCH_BATCH, WATCH_PACE};
use crate::query::{Filter, Query};
use crate::request::{Info, Target};
use crate::storage::Stored;
use crate::watch_cache::{Change, ReadPods};

/// The events of all pods that the field selector selects; does not end.
pub(super) fn follow(
    server: &ApiServer,
    user: &Arc<UserInfo>,
    field_selector: &str,
) -> BoxStream<'static, watcher::Result<Event<LocalPod>>> {
    let feed = Feed {
        server: server.clone(),
        user: Arc::clone(user),
        field_selector: field_selector.to_owned(),
        open: None,
        events: VecDeque::new(),
    };
    stream::unfold(feed, async |mut feed| Some((feed.next().await, feed))).boxed()
}

struct Feed {
    server: ApiServer,
    user: Arc<UserInfo>,
    field_selector: String,
    open: Option<Open>,
    events: VecDeque<Event<LocalPod>>,
}

/// A watch under way.
struct Open {
    resource: &'static Resource,
    filter: Filter,
    position: u64,
    changed: watch::Receiver<u64>,
    /// The last look found something.
    is_busy: bool,
    _read_pods: ReadPods,
    _permit: OwnedSemaphorePermit,
}

impl Feed {
    async fn next(&mut self) -> watcher::Result<Event<LocalPod>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            match &mut self.open {
                None => self.begin().await.map_err(|refusal| {
                    let refusal = kube::Error::Api(Box::new(as_client(&refusal)));
                    watcher::Error::InitialListFailed(refusal)
                })?,
                Some(open) => {
                    if !open.read(&self.server, &mut self.events).await {
                        // It fell behind the ring, and lists again.
                        self.open = None;
                    }
                }
            }
        }
    }

    async fn begin(&mut self) -> Result<(), Status> {
        let core = self.server.core();
        let resource = scheme::of(Kind::Pod).ok_or_else(Status::no_such_path)?;
        for verb in ["list", "watch"] {
            let target = Target {
                version: "v1".to_owned(),
                resource: resource.plural.to_owned(),
                ..Target::default()
            };
            let info = Info { verb, path: String::new(), target: Some(target) };
            auth::authorize(&self.user, &info)?;
        }
        let query = Query::parse(&format!("fieldSelector={}", self.field_selector));
        let filter = Filter::parse(resource, &query)?;
        let permit = Arc::clone(&core.watches).try_acquire_owned().map_err(|_| {
            Status::too_many_requests("too many watches are open, please try again later.", 5)
        })?;
        core.cache.wait_for(core.storage.revision().await?).await?;
        let changed = core.cache.of(resource).subscribe();
        let (mut initial, revision) = core.cache.list(resource, "");
        let position = core.cache.of(resource).position_after(revision)?;
        initial.retain(|entry| filter.matches(&entry.facts));
        self.events.push_back(Event::Init);
        self.events.extend(initial.iter().map(|entry| Event::InitApply(local(entry))));
        self.events.push_back(Event::InitDone);
        self.open = Some(Open {
            resource,
            filter,
            position,
            changed,
            is_busy: false,
            _read_pods: core.cache.wants_read_pods(),
            _permit: permit,
        });
        Ok(())
    }
}

impl Open {
    /// Takes what happened since, and waits for it where nothing has; false if that has fallen off
    /// the ring.
    async fn read(&mut self, server: &ApiServer, events: &mut VecDeque<Event<LocalPod>>) -> bool {
        if std::mem::take(&mut self.is_busy) {
            // The next changes come in a moment: together they cost one wake-up.
            tokio::time::sleep(WATCH_PACE).await;
        }
        let cache = server.core().cache.of(self.resource);
        self.changed.mark_unchanged();
        let Some(changes) = cache.changes(self.position, WATCH_BATCH) else { return false };
        if changes.is_empty() {
            // Its sender is in the cache, which is there as long as the server.
            let _ = self.changed.changed().await;
            return true;
        }
        (self.position, self.is_busy) = (self.position + changes.len() as u64, true);
        events.extend(changes.iter().filter_map(|change| event(&self.filter, change)));
        true
    }
}

/// What the change is to who sees what the filter lets through.
fn event(filter: &Filter, change: &Change) -> Option<Event<LocalPod>> {
    let seen = |entry: &&Arc<Stored>| filter.matches(&entry.facts);
    let old = change.old.as_ref().filter(seen);
    match change.new.as_ref().filter(seen) {
        Some(new) => Some(Event::Apply(local(new))),
        None => old.map(|old| Event::Delete(local(&old.at(change.revision)))),
    }
}

fn local(entry: &Stored) -> LocalPod {
    LocalPod {
        json: entry.bytes.clone(),
        resource_version: entry.revision,
        read: entry.take_read(),
    }
}
