//! The loop: events in, updates out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::watcher::{self, Event};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Error;
use super::health_check::HealthChecks;
use super::inbox::Inbox;
use super::listener::{NodePort, Served};
use super::metrics::Metrics;
use super::node::NodePorts;
use super::report::Reporter;
use super::status::Status;
use super::sync::{Changes, Engine, Synced, Tables};
use crate::plan::ServiceName;

/// Everything the loop has but its events.
pub(super) struct Follower<T> {
    node: String,
    inbox: Inbox,
    /// Away only while an update runs, a longer one on a thread of its own.
    engine: Option<Engine<T>>,
    metrics: Metrics,
    status: Status,
    node_ports: NodePorts,
    /// Whom the load balancers ask, if anyone.
    health_checks: Option<HealthChecks>,
    /// Who is told of what cannot be served.
    reporter: Reporter,
    served: Served,
    schedule: Schedule,
}

/// A watch of one kind.
pub(super) trait Events<K>: Stream<Item = watcher::Result<Event<K>>> + Send {}

impl<K, S: Stream<Item = watcher::Result<Event<K>>> + Send> Events<K> for S {}

/// What the API server says.
pub(super) struct Watches<S, E, N> {
    pub(super) services: S,
    pub(super) slices: E,
    /// The node itself.
    pub(super) node: N,
}

impl<T: Tables> Follower<T> {
    pub(super) fn new(
        node: &str,
        engine: Engine<T>,
        metrics: Metrics,
        status: Status,
        node_ports: NodePorts,
        min_sync_period: Duration,
    ) -> Self {
        Self {
            node: node.to_owned(),
            inbox: Inbox::new(node),
            engine: Some(engine),
            metrics,
            status,
            node_ports,
            health_checks: None,
            reporter: Reporter::log(node),
            served: Served::default(),
            schedule: Schedule { min_sync_period, earliest: Instant::now(), due: None },
        }
    }

    /// Answer load balancers' health checks too.
    pub(super) fn asked_by(mut self, health_checks: HealthChecks) -> Self {
        self.health_checks = Some(health_checks);
        self
    }

    /// Tell others too of what cannot be served.
    pub(super) fn telling(mut self, reporter: Reporter) -> Self {
        self.reporter = reporter;
        self
    }

    /// This is the node's primary address, whatever the API says.
    pub(super) fn at(mut self, node_ip: Option<IpAddr>) -> Self {
        self.inbox.set_node_ip(node_ip);
        self
    }

    /// Follow the watches until `shutdown`.
    pub(super) async fn run(
        mut self,
        watches: Watches<impl Events<Service>, impl Events<EndpointSlice>, impl Events<Node>>,
        shutdown: &CancellationToken,
    ) -> Result<(), Error> {
        let Watches { services, slices, node } = watches;
        let mut services = std::pin::pin!(services.fuse());
        let mut slices = std::pin::pin!(slices.fuse());
        let mut node = std::pin::pin!(node.fuse());
        // Before the first update, or it would take away what an earlier process has found.
        self.node_ports.look().await;
        let mut addresses = interval(ADDRESSES_LOOK);
        addresses.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.has_work() {
                self.status.behind();
                self.schedule.request(Instant::now());
            }
            let (due, overdue) = (self.schedule.due, self.schedule.overdue());
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                // First what is long due: events without end must not keep an update waiting.
                () = reached(overdue) => self.sync().await?,
                Some(event) = services.next() => {
                    self.inbox.service(event, &self.metrics);
                    for (service, warning) in self.inbox.take_warnings() {
                        self.reporter.misconfigured(&service, &warning);
                    }
                }
                Some(event) = slices.next() => self.inbox.slice(event, &self.metrics),
                Some(event) = node.next() => {
                    self.inbox.node(event);
                    self.status.set_node_leaving(self.inbox.catalog().node().leaving);
                    self.node_ports.choose(self.inbox.catalog().node());
                }
                _ = addresses.tick() => {
                    self.node_ports.look().await;
                    self.node_ports.choose(self.inbox.catalog().node());
                    if let Some(engine) = &mut self.engine {
                        engine.look_for_strays();
                    }
                }
                () = reached(due) => self.sync().await?,
            }
        }
    }

    fn has_work(&self) -> bool {
        self.inbox.has_work() || self.inbox.is_applied() && self.node_ports.has_news()
    }

    async fn sync(&mut self) -> Result<(), Error> {
        let panicked = |source| Error::Panicked { node: self.node.clone(), source };
        let Some(mut engine) = self.engine.take() else { return Ok(()) };
        let changes = if engine.is_behind() {
            Changes::default()
        } else {
            let services = self.inbox.take_changes();
            let pod_cidrs = self.inbox.take_pod_cidrs();
            Changes { services, node: self.node_ports.take_news(), pod_cidrs }
        };
        let new_ports = self.served.change(&changes.services);
        let start = Instant::now();
        let (engine, result) = if engine.is_short(&changes) {
            let result = engine.sync(changes);
            (engine, result)
        } else {
            let update = spawn_blocking(move || {
                let result = engine.sync(changes);
                (engine, result)
            });
            update.await.map_err(panicked)?
        };
        self.engine = Some(engine);
        self.schedule.done(Instant::now());
        match result {
            Ok(synced) => {
                self.observe_programming();
                self.report(&synced, start.elapsed());
                self.report_listeners(new_ports);
            }
            Err(error) => {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(node = self.node, %error, source, "will try again");
                self.schedule.back_off(Instant::now());
            }
        }
        Ok(())
    }

    /// How long the endpoints that are now in the tables took to get here.
    fn observe_programming(&mut self) {
        let now = Timestamp::now();
        for trigger in self.inbox.take_triggers() {
            // A clock that differs may put the trigger into the future.
            let took = Duration::try_from(now.duration_since(trigger)).unwrap_or_default();
            self.metrics.programmed(took);
        }
    }

    /// Processes that listened before the Service came. To read the kernel's lists of sockets may take
    /// long, which the next events need not wait for.
    fn report_listeners(&self, new_ports: BTreeMap<NodePort, ServiceName>) {
        if new_ports.is_empty() {
            return;
        }
        let taken = self.node_ports.taken(new_ports.keys().copied().collect());
        let (metrics, reporter) = (self.metrics.clone(), self.reporter.clone());
        tokio::spawn(async move {
            for port in taken.await {
                if let Some(service) = new_ports.get(&port) {
                    metrics.node_port_taken();
                    reporter.node_port_taken(service, port);
                }
            }
        });
    }

    fn report(&mut self, synced: &Synced, took: Duration) {
        for rejected in &synced.news {
            self.reporter.rejected(rejected);
        }
        if let Some(checks) = &mut self.health_checks {
            checks.set(self.inbox.catalog().health_checks());
        }
        if synced.waiting {
            self.schedule.look_again(Instant::now());
        }
        if !self.has_work() {
            self.status.applied();
        }
        self.metrics.synced(took, synced.service_ports, synced.rejected);
        tracing::debug!(node = self.node, ?took, service_ports = synced.service_ports, "synced");
    }
}

/// When the next update is due.
struct Schedule {
    min_sync_period: Duration,
    /// Not before this.
    earliest: Instant,
    due: Option<Instant>,
}

impl Schedule {
    /// There is something to do: at once, unless the last update was too short a time ago.
    fn request(&mut self, now: Instant) {
        let soon = self.earliest.max(now);
        self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
    }

    /// The kernel refused: nothing for a while, whatever happens.
    fn back_off(&mut self, now: Instant) {
        self.earliest = now + RETRY;
        self.due = Some(self.earliest);
    }

    /// Room may have been found after a while, even if nothing happens.
    fn look_again(&mut self, now: Instant) {
        self.due.get_or_insert(now + RETRY);
    }

    fn done(&mut self, now: Instant) {
        self.due = None;
        self.earliest = now + self.min_sync_period;
    }

    fn overdue(&self) -> Option<Instant> {
        self.due.map(|due| due + COALESCE_MAX)
    }
}

/// Wait for a time; for ever if there is none. Timers are for whole milliseconds, so a time that has
/// come is not left to one.
async fn reached(time: Option<Instant>) {
    match time {
        Some(time) if time <= Instant::now() => {}
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// How long events that are ready may be gathered before what came first is applied.
const COALESCE_MAX: Duration = Duration::from_millis(5);

/// How often the node's addresses are looked at. An address that a node gets while it runs is for
/// people or for a virtual IP that moves, so seconds are soon enough.
const ADDRESSES_LOOK: Duration = Duration::from_secs(2);

/// How long after a refusal, or for want of room, the same is tried again.
const RETRY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
