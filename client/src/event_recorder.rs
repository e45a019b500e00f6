//! Records core/v1 Events about objects, as client-go's record.EventRecorder does.
//!
//! Recording never blocks and never fails the caller: events pass a bounded channel to one task,
//! which writes them at a limited rate, and are dropped with a log line when it is full. Repeated events raise `count` on the first one,
//! and each object has a token bucket, as client-go's EventCorrelator has. Its merging of *similar*
//! events ("combined from similar events") is not here.

mod correlator;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::throttle::{Bucket, RateLimit};
use correlator::{Correlator, Outcome};

/// Whether an event is good or bad news.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    /// For information.
    Normal,
    /// Something may have to be done.
    Warning,
}

impl EventType {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// One thing to report about an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EventRecord {
    /// Good or bad.
    pub kind: EventType,
    /// Machine-readable, CamelCase, such as `SuccessfulCreate`.
    pub reason: String,
    /// For people.
    pub message: String,
}

impl EventRecord {
    /// A `Normal` event.
    pub fn normal(reason: &str, message: impl Into<String>) -> Self {
        Self { kind: EventType::Normal, reason: reason.to_owned(), message: message.into() }
    }

    /// A `Warning` event.
    pub fn warning(reason: &str, message: impl Into<String>) -> Self {
        Self { kind: EventType::Warning, reason: reason.to_owned(), message: message.into() }
    }
}

/// A handle that records events under one component's name. Cheap to clone.
#[derive(Clone, Debug)]
pub struct EventRecorder {
    sender: mpsc::Sender<(ObjectReference, EventRecord)>,
    drops: Arc<Mutex<Drops>>,
}

/// Events that were dropped and not yet told of.
#[derive(Debug, Default)]
struct Drops {
    count: u64,
    told_at: Option<Instant>,
}

impl EventRecorder {
    /// A recorder for `component`, such as `deployment-controller`, and the task that writes its
    /// events. The task ends when every clone of the recorder is dropped.
    pub fn new(client: Client, component: &str) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (sender, receiver) = mpsc::channel(QUEUED_MAX);
        (
            Self { sender, drops: Arc::default() },
            write_events(client, component.to_owned(), receiver),
        )
    }

    /// Record `event` about the object that `reference` names.
    pub fn record(&self, reference: ObjectReference, event: EventRecord) {
        let Err(error) = self.sender.try_send((reference, event)) else { return };
        let (reference, event) = error.into_inner();
        let mut drops = self.drops.lock();
        drops.count += 1;
        // A line for each would cost more than the events.
        if drops.told_at.is_none_or(|told_at| told_at.elapsed() >= TELL_EVERY) {
            tracing::warn!(
                object = reference.name.as_deref().unwrap_or_default(),
                reason = event.reason,
                dropped = drops.count,
                "drop events: too many are waiting"
            );
            *drops = Drops { count: 0, told_at: Some(Instant::now()) };
        }
    }
}

/// A reference to `object`, as an event's `involvedObject`.
pub fn reference_to<K: kube::Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    let meta = object.meta();
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        resource_version: meta.resource_version.clone(),
        uid: meta.uid.clone(),
        field_path: None,
    }
}

/// What an event is written with.
#[derive(Clone)]
struct Writer {
    client: Client,
    component: Arc<str>,
}

async fn write_events(
    client: Client,
    component: String,
    mut receiver: mpsc::Receiver<(ObjectReference, EventRecord)>,
) {
    let writer = Writer { client, component: component.into() };
    let (mut correlator, mut bucket) = (Correlator::default(), Bucket::new(RATE));
    let (origin, mut writes) = (Instant::now(), FuturesUnordered::new());
    let mut free_at = origin;
    loop {
        // What is received last of all is not lost when a write ends first.
        let next = async {
            tokio::time::sleep_until(free_at).await;
            receiver.recv().await
        };
        tokio::select! {
            recorded = next, if writes.len() < WRITES_MAX => {
                let Some((reference, record)) = recorded else { break };
                free_at = origin + bucket.take(origin.elapsed());
                let uid = reference.uid.clone().unwrap_or_default();
                let seen = correlator.observe(&uid, &record, Instant::now());
                if seen == Outcome::Drop {
                    continue;
                }
                let event = event(&writer.component, &reference, &record, Timestamp::now());
                if seen == Outcome::First {
                    let name = event.metadata.name.clone().unwrap_or_default();
                    correlator.wrote(&uid, &record, name);
                }
                writes.push(writer.clone().write(event, seen));
            }
            Some(()) = writes.next() => {}
        }
    }
    while writes.next().await.is_some() {}
}

impl Writer {
    /// Creates the event, or raises the count of an earlier one.
    async fn write(self, event: Event, seen: Outcome) {
        let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
        let api: Api<Event> = Api::namespaced(self.client, namespace);
        let repeated = match &seen {
            Outcome::Repeat { name, count } => repeat(&api, name, *count).await,
            _ => Ok(false),
        };
        let written = match repeated {
            // The first of its kind, or the earlier one has expired.
            Ok(false) => api.create(&PostParams::default(), &event).await.map(|_| ()),
            repeated => repeated.map(|_| ()),
        };
        if let Err(error) = written {
            let object = event.involved_object.name.as_deref().unwrap_or_default();
            tracing::debug!(object, reason = event.reason, %error, "record an event");
        }
    }
}

/// False if there is no such event any more.
async fn repeat(api: &Api<Event>, name: &str, count: i32) -> kube::Result<bool> {
    let patch = serde_json::json!({ "count": count, "lastTimestamp": Time(Timestamp::now()) });
    match api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

fn event(
    component: &str,
    reference: &ObjectReference,
    record: &EventRecord,
    wall: Timestamp,
) -> Event {
    let involved = reference.name.as_deref().unwrap_or_default();
    let namespace = reference.namespace.as_deref().filter(|ns| !ns.is_empty());
    Event {
        count: Some(1),
        first_timestamp: Some(Time(wall)),
        last_timestamp: Some(Time(wall)),
        involved_object: reference.clone(),
        message: Some(record.message.clone()),
        metadata: ObjectMeta {
            // client-go's form: the object's name and the time in nanoseconds, in hexadecimal.
            name: Some(format!("{involved}.{:x}", wall.as_nanosecond())),
            namespace: Some(namespace.unwrap_or("default").to_owned()),
            ..ObjectMeta::default()
        },
        reason: Some(record.reason.clone()),
        reporting_component: Some(component.to_owned()),
        source: Some(EventSource { component: Some(component.to_owned()), host: None }),
        type_: Some(record.kind.as_str().to_owned()),
        ..Event::default()
    }
}

/// Events waiting to be written: a rollout of some thousand pods, written within two minutes. client-go's
/// broadcaster holds 1,000.
const QUEUED_MAX: usize = 10_000;

/// How fast events are written, so that at thousands of pods a second it is the pods that are written
/// and not what is said of them. kube-scheduler's client is held to 50 requests a second, in bursts
/// of 100.
const RATE: RateLimit = RateLimit { qps: 100.0, burst: 200 };

/// Writes under way at once, so that a server that is far away is no limit.
const WRITES_MAX: usize = 8;

/// How often dropped events are told of.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// client-go's spam filter: this many events an object at once ...
const BURST: u32 = 25;

/// ... and one more each five minutes.
const REFILL: Duration = Duration::from_secs(300);

/// Correlation records kept, as client-go's LRU holds.
const REMEMBERED_MAX: usize = 4096;
