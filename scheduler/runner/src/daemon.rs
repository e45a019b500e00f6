//! The daemon: starts the informers and the loop, and stops them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt as _, Stream, StreamExt as _};
use k8s_openapi::api::core::v1::Node;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client};
use pintle_client::{EventRecorder, Informer};
use pintle_component::Daemon;
use pintle_scheduler_core::engine::Indexed;
use pintle_scheduler_core::queue::Options;
use pintle_scheduler_core::{ATTEMPTS_OF_ONE, Scheduler};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use crate::Config;
use crate::binding::Binder;
use crate::config::InProcessFeed;
use crate::cycle::Cycle;
use crate::metrics::Metrics;
use crate::seen::{RawPod, Readable, Reader, SeenPod};
use crate::shared::Shared;
use crate::writes::Writes;
use crate::{objects, sample, statistics};

/// Why the daemon stopped before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A task of the daemon ended of itself.
    #[error("the scheduler's {task} ended unexpectedly")]
    TaskEnded {
        /// Which.
        task: &'static str,
    },
}

/// How long bindings under way may take once the daemon is told to stop.
const DRAIN: Duration = Duration::from_secs(5);

/// Pods that have ended take no part in scheduling and are not watched.
const PODS_THAT_COUNT: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// Schedules pods until `daemon.shutdown`; bindings under way are finished.
pub async fn run(client: Client, config: Config, daemon: Daemon) -> Result<(), Error> {
    let shared = Shared::new(scheduler(&config));
    let pods: Informer<SeenPod> = Informer::new(&[]);
    let nodes: Informer<Node> = Informer::new(&[]);
    subscribe(&shared, &pods, &nodes);
    let objects = objects::informers(&shared, &client);
    let (recorders, event_writers) = recorders(&client, &config);
    statistics::register(&daemon.registry, &shared);
    let tasks = TaskTracker::new();
    let writes = Writes { client: client.clone(), in_process: config.writer.clone() };
    let cycle = Arc::new(Cycle {
        shared,
        client: client.clone(),
        bind_timeouts: Arc::clone(&config.bind_timeouts),
        recorders,
        binder: Binder { extender: config.binder.clone(), writes: writes.clone() },
        writes,
        profiles: Arc::clone(&config.profiles),
        samples: sample::Schedule::default(),
        metrics: Metrics::register(&daemon.registry),
        attempts_max: match config.workers {
            ..=1 => config.bindings_max.clamp(1, ATTEMPTS_OF_ONE),
            _ => config.bindings_max.max(1),
        },
        permits: Arc::new(Semaphore::new(config.bindings_max.max(1))),
        tasks: tasks.clone(),
    });
    let random = SmallRng::seed_from_u64(config.seed.unwrap_or_else(rand::random));
    let event_writer = tokio::spawn(event_writers);
    let watch_pods = tokio::spawn(watch_pods(pods.clone(), client.clone(), config.feed.clone()));
    let watch_nodes = tokio::spawn(nodes.clone().run(Api::all(client), watcher::Config::default()));
    let mut checks: Vec<Check> = vec![("nodes", is_synced(&nodes)), ("pods", is_synced(&pods))];
    let (mut synced, mut watch_objects) = (Vec::new(), JoinSet::new());
    for informer in objects {
        checks.push((informer.kind, informer.is_synced));
        synced.push(informer.synced);
        watch_objects.spawn(informer.run);
    }
    add_check(&daemon, checks);
    let schedule = async {
        nodes.synced().await;
        pods.synced().await;
        futures::future::join_all(synced).await;
        if let Some(leading) = &config.leading {
            leading.cancelled().await;
        }
        tracing::info!(scheduler = config.scheduler_name, "scheduling");
        Arc::clone(&cycle).run(random, daemon.shutdown.clone()).await;
    };
    let ended = |task| Err(Error::TaskEnded { task });
    let (mut watch_pods, mut watch_nodes) = (AbortOnDrop(watch_pods), AbortOnDrop(watch_nodes));
    let result = tokio::select! {
        () = daemon.shutdown.cancelled() => Ok(()),
        () = schedule => if daemon.shutdown.is_cancelled() { Ok(()) } else { ended("loop") },
        _ = &mut watch_pods.0 => ended("pod informer"),
        _ = &mut watch_nodes.0 => ended("node informer"),
        _ = watch_objects.join_next() => ended("object informer"),
    };
    tasks.close();
    if tokio::time::timeout(DRAIN, tasks.wait()).await.is_err() {
        tracing::warn!(bindings = tasks.len(), "stop with bindings under way");
    }
    // The last recorder goes, and with it, once its events are written, the writer.
    drop(cycle);
    let mut event_writer = AbortOnDrop(event_writer);
    let _ = tokio::time::timeout(DRAIN, &mut event_writer.0).await;
    result
}

/// Lists and watches the pods that count; does not end.
async fn watch_pods(pods: Informer<SeenPod>, client: Client, feed: Option<InProcessFeed>) {
    if let Some(InProcessFeed(api_server)) = feed {
        return follow_pods(pods, api_server.follow(PODS_THAT_COUNT)).await;
    }
    let api: Api<RawPod> = Api::all(client);
    let config = watcher::Config::default().fields(PODS_THAT_COUNT);
    follow_pods(pods, watcher(api, config)).await;
}

async fn follow_pods<P: Readable>(
    pods: Informer<SeenPod>,
    events: impl Stream<Item = watcher::Result<watcher::Event<P>>> + Send,
) {
    let mut reader = Reader::default();
    let read = events.filter_map(move |event| {
        let event = match event.map(|event| reader.read(event)) {
            Ok(Ok(event)) => Some(Ok(event)),
            Ok(Err(error)) => {
                tracing::error!(%error, "a pod that cannot be read is left out");
                None
            }
            Err(error) => Some(Err(error)),
        };
        std::future::ready(event)
    });
    pods.follow("pods", read).await;
}

/// A recorder for each profile, and what writes for all of them.
fn recorders(
    client: &Client,
    config: &Config,
) -> (Arc<BTreeMap<String, EventRecorder>>, impl Future<Output = ()> + Send + use<>) {
    let (mut recorders, mut writers) = (BTreeMap::new(), Vec::new());
    for profile in config.profiles.iter() {
        let (recorder, writer) = EventRecorder::new(client.clone(), &profile.scheduler_name);
        recorders.insert(profile.scheduler_name.clone(), recorder);
        writers.push(writer);
    }
    let writers = futures::future::join_all(writers).map(|_| ());
    (Arc::new(recorders), writers)
}

fn scheduler(config: &Config) -> Scheduler {
    let options = Options {
        backoff_initial: config.backoff_initial,
        backoff_max: config.backoff_max,
        unschedulable_max: config.unschedulable_max,
    };
    let profiles = Arc::clone(&config.profiles);
    let mut scheduler = Scheduler::new(profiles, options, Indexed::default());
    scheduler.set_workers(config.workers);
    scheduler
}

fn subscribe(shared: &Shared, pods: &Informer<SeenPod>, nodes: &Informer<Node>) {
    let to = shared.clone();
    pods.on_change(move |change| to.pod_changed(change));
    let to = shared.clone();
    nodes.on_change(move |change| to.node_changed(change));
}

/// A kind and whether its first list is there.
type Check = (&'static str, Box<dyn Fn() -> bool + Send + Sync>);

fn is_synced<K: kube::Resource + Send + Sync + 'static>(
    informer: &Informer<K>,
) -> Box<dyn Fn() -> bool + Send + Sync> {
    let informer = informer.clone();
    Box::new(move || informer.is_synced())
}

fn add_check(daemon: &Daemon, checks: Vec<Check>) {
    daemon.health.add_ready("scheduler-informer-sync", move || {
        match checks.iter().find(|(_, is_synced)| !is_synced()) {
            Some((kind, _)) => Err(format!("{kind} not listed yet")),
            None => Ok(()),
        }
    });
}

/// Stops the task when the daemon's future ends or is dropped.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
