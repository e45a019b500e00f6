//! Leader election over a Lease, as client-go's `tools/leaderelection` does it: of several
//! processes that name the same Lease one works, and another takes over when it is gone.
//!
//! On the wire it is client-go's: `holderIdentity`, `leaseDurationSeconds`, `acquireTime`,
//! `renewTime` and `leaseTransitions`, written with the resourceVersion that was read. It may stand
//! beside a client-go elector. [`Election`] decides and is pure; [`LeaderElector`] reads and writes.
//! Times in the Lease are never compared with a clock of ours: only that it changed counts, and how
//! long ago we saw it change, so clocks may differ by any amount as long as they run equally fast.
//!
//! One thing is stricter: a leader counts the lease from before it sent its last renewal. Whoever
//! waits counts from after he saw it. So there are never two, even if answers are slow.
//!
//! Coordinated leader election (LeaseCandidate) is not here.

mod election;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use pintle_component::Daemon;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{EventRecord, EventRecorder};
use election::{Election, Judgement, Now, Record};

/// Whose lease it is, and how it is timed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderElectionConfig {
    /// The Lease's namespace.
    pub namespace: String,
    /// The Lease's name.
    pub name: String,
    /// Who we are; no other process may have the same.
    pub identity: String,
    /// How long the others wait after they saw the Lease renewed; whole seconds.
    pub lease_duration: Duration,
    /// How long the leader tries to renew; less than `lease_duration`.
    pub renew_deadline: Duration,
    /// The pause between two tries; less than `renew_deadline` / 1.2.
    pub retry_period: Duration,
    /// The component in the label of `leader_election_master_status`.
    pub component: String,
    /// Who reports "became leader" and "stopped leading".
    pub reporter: String,
}

/// The leadership was lost: what it guards must stop at once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("leader election lost: lease {namespace}/{name} could not be renewed in time")]
pub struct LeadershipLost {
    namespace: String,
    name: String,
}

/// One of those who want to lead.
pub struct LeaderElector {
    config: LeaderElectionConfig,
    client: Client,
    election: Election,
    /// The Lease as it was last read or written.
    lease: Option<Lease>,
    origin: Instant,
    wall: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// Until when we lead, in milliseconds after `origin`; 0 if we do not.
    leads_until: Arc<AtomicU64>,
    status: Gauge,
}

impl LeaderElector {
    /// Registers its metric and its health check; nothing is written before
    /// [`LeaderElector::run`].
    pub fn new(client: Client, config: LeaderElectionConfig, daemon: &Daemon) -> Self {
        let origin = Instant::now();
        let leads_until = Arc::new(AtomicU64::new(0));
        add_check(daemon, origin, &leads_until);
        Self {
            election: Election::new(&config.identity, config.lease_duration),
            status: status(daemon, &config.component),
            lease: None,
            wall: Arc::new(Timestamp::now),
            config,
            client,
            origin,
            leads_until,
        }
    }

    /// Starts `guarded` at once with a token that is cancelled when we lead: until then it may watch
    /// but not act. When `guarded` ends, the Lease is released. When the leadership is lost,
    /// `guarded` is dropped.
    pub async fn run<F: Future>(
        mut self,
        guarded: impl FnOnce(CancellationToken) -> F,
    ) -> Result<F::Output, LeadershipLost> {
        let (events, writer) = EventRecorder::new(self.client.clone(), &self.config.reporter);
        let writer = tokio::spawn(writer);
        let leading = CancellationToken::new();
        let guarded = guarded(leading.clone());
        let outcome = tokio::select! {
            biased;
            () = self.hold(&leading, &events) => Err(LeadershipLost {
                namespace: self.config.namespace.clone(),
                name: self.config.name.clone(),
            }),
            done = guarded => Ok(done),
        };
        let led = self.leads_until.swap(0, Ordering::Relaxed) != 0;
        self.status.set(0);
        if led {
            self.report(&events, "stopped leading");
        }
        if outcome.is_ok() {
            let _ = tokio::time::timeout(self.request_timeout(), self.release()).await;
        }
        drop(events);
        let _ = tokio::time::timeout(EVENTS_DRAIN, writer).await;
        outcome
    }

    /// Gets hold of the Lease and keeps it; returns when it is lost.
    async fn hold(&mut self, leading: &CancellationToken, events: &EventRecorder) {
        let (namespace, name) = (self.config.namespace.clone(), self.config.name.clone());
        tracing::info!(namespace, name, "attempting to acquire leader lease");
        while !self.attempt().await {
            let jitter = 1.0 + JITTER * rand::random::<f64>();
            tokio::time::sleep(self.config.retry_period.mul_f64(jitter)).await;
        }
        tracing::info!(namespace, name, identity = self.config.identity, "acquired leader lease");
        self.status.set(1);
        self.report(events, "became leader");
        leading.cancel();
        loop {
            tokio::time::sleep(self.config.retry_period).await;
            if !self.renew().await {
                tracing::error!(namespace, name, "lost leader lease");
                return;
            }
        }
    }

    /// Renews until it succeeds; false if that takes too long or another leads.
    async fn renew(&mut self) -> bool {
        let held_until = Duration::from_millis(self.leads_until.load(Ordering::Relaxed));
        let deadline = (self.origin + held_until).min(Instant::now() + self.config.renew_deadline);
        let renewed = async {
            while !self.attempt().await {
                if !self.election.is_leader() {
                    return false;
                }
                tokio::time::sleep(self.config.retry_period).await;
            }
            true
        };
        tokio::time::timeout_at(deadline, renewed).await.unwrap_or(false)
    }

    /// One try to get hold of the Lease or to renew it (`tryAcquireOrRenew`).
    async fn attempt(&mut self) -> bool {
        let sent = self.now();
        match tokio::time::timeout(self.request_timeout(), self.try_once(sent)).await {
            Ok(Ok(true)) => {
                let until = sent.monotonic + self.config.lease_duration;
                let until = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
                self.leads_until.store(until, Ordering::Relaxed);
                true
            }
            Ok(Ok(false)) => false,
            Ok(Err(error)) => {
                tracing::warn!(name = self.config.name, %error, "get or write the leader lease");
                false
            }
            Err(_) => {
                tracing::warn!(name = self.config.name, "the leader lease takes too long");
                false
            }
        }
    }

    async fn try_once(&mut self, sent: Now) -> kube::Result<bool> {
        // A leader whose last write is the latest there is need not read first.
        if let Some(record) = self.election.renewal(sent)
            && self.update(record).await.is_ok()
        {
            return Ok(true);
        }
        let api = self.api();
        self.lease = api.get_opt(&self.config.name).await?;
        let found = self.lease.as_ref().map(|lease| Record::read(lease.spec.as_ref()));
        let now = self.now();
        match self.election.judge(found, now) {
            Judgement::Wait => return Ok(false),
            Judgement::Update(record) => self.update(record).await?,
            Judgement::Create(record) => {
                let metadata = ObjectMeta {
                    name: Some(self.config.name.clone()),
                    namespace: Some(self.config.namespace.clone()),
                    ..ObjectMeta::default()
                };
                let lease = Lease { metadata, spec: Some(record.to_spec()) };
                self.lease = Some(api.create(&PostParams::default(), &lease).await?);
                self.election.wrote(record, self.now());
            }
        }
        Ok(true)
    }

    async fn update(&mut self, record: Record) -> kube::Result<()> {
        let mut lease = self.lease.clone().unwrap_or_default();
        let spec = lease.spec.get_or_insert_default();
        record.write(spec);
        let written = self.api().replace(&self.config.name, &PostParams::default(), &lease).await?;
        self.lease = Some(written);
        let now = self.now();
        self.election.wrote(record, now);
        Ok(())
    }

    /// Lets the next one lead at once, if we do.
    async fn release(&mut self) {
        if !self.election.is_leader() {
            return;
        }
        let released = async {
            self.lease = self.api().get_opt(&self.config.name).await?;
            let found = self.lease.as_ref().map(|lease| Record::read(lease.spec.as_ref()));
            match found.and_then(|found| self.election.release(&found, self.now())) {
                Some(record) => self.update(record).await,
                None => Ok(()),
            }
        };
        match released.await {
            Ok(()) => tracing::info!(name = self.config.name, "released leader lease"),
            Err(error) => {
                tracing::warn!(name = self.config.name, %error, "release the leader lease");
            }
        }
    }

    fn report(&self, events: &EventRecorder, what: &str) {
        let reference = ObjectReference {
            api_version: Some("coordination.k8s.io/v1".to_owned()),
            kind: Some("Lease".to_owned()),
            namespace: Some(self.config.namespace.clone()),
            name: Some(self.config.name.clone()),
            ..ObjectReference::default()
        };
        let message = format!("{} {what}", self.config.identity);
        events.record(reference, EventRecord::normal("LeaderElection", message));
    }

    fn api(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), &self.config.namespace)
    }

    fn now(&self) -> Now {
        // A Lease holds microseconds; what we wrote shall equal what we read.
        let wall = (self.wall)();
        let wall = Timestamp::from_microsecond(wall.as_microsecond()).unwrap_or(wall);
        Now { monotonic: self.origin.elapsed(), wall }
    }

    /// client-go's: half of the renew deadline, but not under a second.
    fn request_timeout(&self) -> Duration {
        (self.config.renew_deadline / 2).max(Duration::from_secs(1))
    }
}

/// `leader_election_master_status`: 1 for the leader.
fn status(daemon: &Daemon, component: &str) -> Gauge {
    let family: Family<[(&'static str, String); 1], Gauge> = Family::default();
    daemon.registry.write().register(
        "leader_election_master_status",
        "Gauge of if the reporting system is master of the relevant lease, 0 indicates backup, 1 \
         indicates master. 'name' is the string used to identify the lease. Please make sure to \
         group by name",
        family.clone(),
    );
    let gauge = family.get_or_create_owned(&[("name", component.to_owned())]);
    gauge.set(0);
    gauge
}

/// `/healthz/leaderElection`: a leader that cannot renew, and still runs, is ill.
fn add_check(daemon: &Daemon, origin: Instant, leads_until: &Arc<AtomicU64>) {
    let leads_until = Arc::clone(leads_until);
    daemon.health.add_live("leaderElection", move || {
        let until = leads_until.load(Ordering::Relaxed);
        let late = origin.elapsed().saturating_sub(Duration::from_millis(until));
        if until == 0 || late < UNHEALTHY_AFTER {
            return Ok(());
        }
        Err("failed election to renew leadership on lease".to_owned())
    });
}

/// client-go's JitterFactor: pauses between tries to acquire are this much longer at most.
const JITTER: f64 = 1.2;

/// How long after the end of its lease a leader that still runs is reported as ill.
const UNHEALTHY_AFTER: Duration = Duration::from_secs(20);

/// How long the last event may take to be written.
const EVENTS_DRAIN: Duration = Duration::from_secs(1);
