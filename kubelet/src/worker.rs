//! One pod's worker: asks [`pod::step`](crate::pod::step) what to do, does it, and tells the API
//! server how the pod is.

mod prepare;
mod probe;
mod write;

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, PodStatus, Probe};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Client;
use pintle_client::{EventRecord, EventRecorder, reference_to};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::metrics::NodeMetrics;
use crate::pod::{
    Action, Exit, Intent, PodObserved, Sandbox, State, Step, Stop, StopReason, Verdict,
    grace_period_s, step,
};
use crate::runtime::{
    ContainerRun, ContainerRuntime, ContainerSignal, PodRef, RuntimeError, Started,
};

/// The pod as the API server has it.
#[derive(Clone, Debug)]
pub(crate) struct Desired {
    /// The newest version seen.
    pub(crate) pod: Arc<Pod>,
    /// It is no longer in the API, or no longer on this node.
    pub(crate) gone: bool,
    /// This agent is stopping.
    pub(crate) shutdown: bool,
}

/// What all workers of a node share.
pub(crate) struct Shared<R> {
    pub(crate) client: Client,
    pub(crate) runtime: R,
    pub(crate) events: EventRecorder,
    pub(crate) host_ip: Ipv4Addr,
    pub(crate) metrics: NodeMetrics,
}

/// Something that happened to a container.
enum Happened {
    Exited { container: String, restart: u32, exit: Exit },
    Probed { container: String, restart: u32, kind: probe::Kind, verdict: Verdict },
}

/// One pod's worker.
pub(crate) struct Worker<R> {
    shared: Arc<Shared<R>>,
    desired: watch::Receiver<Desired>,
    pod: Arc<Pod>,
    key: PodRef,
    observed: PodObserved,
    live: HashMap<String, Live>,
    sender: mpsc::Sender<Happened>,
    happened: mpsc::Receiver<Happened>,
    reported: Option<PodStatus>,
    deleted: bool,
    retry_at: Option<Timestamp>,
    /// Set until the pod's containers all started for the first time.
    starting_since: Option<Instant>,
}

/// A running container.
struct Live {
    run: Arc<ContainerRun>,
    signals: mpsc::Sender<ContainerSignal>,
    tasks: Vec<AbortHandle>,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl<R: ContainerRuntime> Worker<R> {
    pub(crate) fn new(shared: Arc<Shared<R>>, mut desired: watch::Receiver<Desired>) -> Self {
        let pod = Arc::clone(&desired.borrow_and_update().pod);
        let (sender, happened) = mpsc::channel(HAPPENED_MAX);
        Self {
            shared,
            key: pod_ref(&pod),
            observed: PodObserved::take_up(&pod, Timestamp::now()),
            pod,
            desired,
            live: HashMap::new(),
            sender,
            happened,
            reported: None,
            deleted: false,
            retry_at: None,
            starting_since: Some(Instant::now()),
        }
    }

    /// Look after the pod until nothing of it is left on the node and in the API.
    pub(crate) async fn run(mut self) {
        loop {
            let now = Timestamp::now();
            self.retry_at = self.retry_at.filter(|at| *at > now);
            let step = step(&self.pod, self.intent(), &self.observed, now);
            if !step.actions.is_empty() && self.retry_at.is_none() {
                for action in step.actions.iter().cloned() {
                    self.carry_out(action).await;
                }
                continue;
            }
            let ending =
                self.deleted || self.desired.borrow().gone || self.desired.borrow().shutdown;
            if step.done && ending {
                return;
            }
            self.report().await;
            self.wait(&step).await;
        }
    }

    fn intent(&self) -> Intent {
        let desired = self.desired.borrow();
        let meta = &self.pod.metadata;
        let own = self.pod.spec.as_ref().map_or(GRACE_MIN_S, grace_period_s);
        let given = meta.deletion_grace_period_seconds;
        let grace_s = given.map_or(own, |it| u32::try_from(it).unwrap_or(0)).max(GRACE_MIN_S);
        if desired.shutdown {
            Intent::Stop { grace_s: grace_s.min(SHUTDOWN_GRACE_S), delete: false }
        } else if desired.gone || self.deleted {
            Intent::Stop { grace_s, delete: false }
        } else if meta.deletion_timestamp.is_some() {
            Intent::Stop { grace_s, delete: true }
        } else {
            Intent::Run
        }
    }

    /// Wait until there may be something to do.
    async fn wait(&mut self, step: &Step) {
        let until = [step.wake_at, self.retry_at].into_iter().flatten().min();
        let sleep = async {
            match until {
                Some(at) => tokio::time::sleep(until_then(at)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = sleep => {}
            Some(happened) = self.happened.recv() => self.note(happened),
            changed = self.desired.changed() => match changed {
                Ok(()) => self.pod = Arc::clone(&self.desired.borrow_and_update().pod),
                // The agent is gone without a word; containers are left to the next one.
                Err(_) => std::future::pending().await,
            },
        }
    }

    fn note(&mut self, happened: Happened) {
        let now = Timestamp::now();
        match happened {
            Happened::Exited { container, restart, exit } => {
                if self.is_current(&container, restart) {
                    self.live.remove(&container);
                    self.with(&container, |it| it.exited(exit, now));
                    self.back_off(&container);
                }
            }
            Happened::Probed { container, restart, kind, verdict } => {
                if self.is_current(&container, restart) {
                    self.probed(&container, kind, verdict);
                }
            }
        }
    }

    fn is_current(&self, container: &str, restart: u32) -> bool {
        self.live.get(container).is_some_and(|it| it.run.restart == restart)
    }

    fn probed(&mut self, container: &str, kind: probe::Kind, verdict: Verdict) {
        let probes = self.container(container).cloned().unwrap_or_default();
        match (kind, verdict) {
            (probe::Kind::Readiness, verdict) => {
                self.with(container, |it| it.ready = verdict == Verdict::Success);
            }
            (probe::Kind::Startup, Verdict::Success) => {
                self.with(container, |it| it.startup_passed(probes.readiness_probe.is_some()));
                self.probe(container, probe::Kind::Readiness, probes.readiness_probe);
                self.probe(container, probe::Kind::Liveness, probes.liveness_probe);
            }
            (probe::Kind::Liveness, Verdict::Success) => {}
            (kind, Verdict::Failure) => {
                self.with(container, |it| it.unhealthy = Some(kind.name()));
            }
        }
    }

    fn with(&mut self, container: &str, change: impl FnOnce(&mut crate::pod::ContainerObserved)) {
        change(self.observed.containers.entry(container.to_owned()).or_default());
    }

    fn container(&self, name: &str) -> Option<&Container> {
        let spec = self.pod.spec.as_ref()?;
        spec.init_containers.iter().flatten().chain(&spec.containers).find(|it| it.name == name)
    }

    async fn carry_out(&mut self, action: Action) {
        match action {
            Action::CreateSandbox => self.create_sandbox().await,
            Action::RemoveSandbox => self.remove_sandbox().await,
            Action::Start(container) => self.start(&container).await,
            Action::Terminate { container, grace_s, reason } => {
                self.terminate(&container, grace_s, reason);
            }
            Action::Kill(container) => self.kill(&container),
            Action::Delete => {
                self.report().await;
                self.delete().await;
            }
        }
    }

    async fn create_sandbox(&mut self) {
        match self.shared.runtime.create_sandbox(&self.key).await {
            Ok(ip) => {
                self.observed.ip = Some(ip);
                self.observed.sandbox = Sandbox::Ready;
            }
            Err(error) => {
                let message = format!("Failed to create pod sandbox: {error}");
                self.record(EventRecord::warning("FailedCreatePodSandBox", message), None);
                self.observed.sandbox = Sandbox::Failed { retry_at: soon() };
            }
        }
    }

    async fn remove_sandbox(&mut self) {
        let logs = matches!(self.intent(), Intent::Stop { delete: true, .. })
            || self.desired.borrow().gone;
        match self.shared.runtime.remove_sandbox(&self.key, logs).await {
            Ok(()) => self.observed.sandbox = Sandbox::Removed,
            Err(error) => {
                let message = format!("error killing pod: {error}");
                self.record(EventRecord::warning("FailedKillPod", message), None);
                self.retry_at = Some(soon());
            }
        }
    }

    async fn start(&mut self, name: &str) {
        let Some(container) = self.container(name).cloned() else { return };
        let regular =
            self.pod.spec.as_ref().is_some_and(|it| it.containers.iter().any(|c| c.name == name));
        self.observed.initialized |= regular;
        let prepared = self.prepare(&container).await;
        let mut run = match prepared {
            Ok(run) => run,
            Err(message) => {
                self.record(
                    EventRecord::warning("Failed", format!("Error: {message}")),
                    Some(name),
                );
                return self.with(name, |it| it.misconfigured(message, soon()));
            }
        };
        self.with(name, |it| run.restart = it.starting(Timestamp::now()));
        let started = self.shared.runtime.start(&self.key, &run).await;
        match started {
            Ok(started) => self.started(&container, run, started),
            Err(error) => self.not_started(name, &error),
        }
    }

    fn started(&mut self, container: &Container, run: ContainerRun, started: Started) {
        let name = run.name.clone();
        for (reason, verb) in [("Created", "created"), ("Started", "started")] {
            let message = format!("Container {verb}");
            self.record(EventRecord::normal(reason, message), Some(&name));
        }
        self.shared.metrics.started_containers.inc();
        let (sender, restart) = (self.sender.clone(), run.restart);
        let Started { id, signals, exit } = started;
        let exited = name.clone();
        tokio::spawn(async move {
            let exit = exit.await.unwrap_or(LOST);
            // The worker may have ended before.
            let _ = sender.send(Happened::Exited { container: exited, restart, exit }).await;
        });
        self.live.insert(name.clone(), Live { run: Arc::new(run), signals, tasks: Vec::new() });
        let (startup, readiness) = (&container.startup_probe, &container.readiness_probe);
        self.with(&name, |it| {
            it.running(id, Timestamp::now(), startup.is_some(), readiness.is_some());
        });
        if startup.is_some() {
            self.probe(&name, probe::Kind::Startup, startup.clone());
        } else {
            self.probe(&name, probe::Kind::Readiness, readiness.clone());
            self.probe(&name, probe::Kind::Liveness, container.liveness_probe.clone());
        }
    }

    fn not_started(&mut self, name: &str, error: &RuntimeError) {
        let message = format!("Error: failed to start container {name:?}: {error}");
        self.record(EventRecord::warning("Failed", message), Some(name));
        self.shared.metrics.started_containers_errors.inc();
        self.with(name, |it| it.start_failed(error.message.clone(), Timestamp::now()));
        self.back_off(name);
    }

    /// Say that a container waits for its next start.
    fn back_off(&self, name: &str) {
        let meta = &self.pod.metadata;
        let message = format!(
            "Back-off restarting failed container {name} in pod {}_{}({})",
            self.key.name,
            self.key.namespace,
            meta.uid.as_deref().unwrap_or_default()
        );
        let waits = self.observed.containers.get(name).is_some_and(|it| match &it.state {
            State::Terminated(ended) => {
                it.backoff.until(ended.finished_at, Timestamp::now()).is_some()
            }
            _ => false,
        });
        if waits {
            self.record(EventRecord::warning("BackOff", message), Some(name));
        }
    }

    fn probe(&mut self, name: &str, kind: probe::Kind, probe: Option<Probe>) {
        let (Some(probe), Some(container)) = (probe, self.container(name).cloned()) else { return };
        let ip = self.observed.ip.unwrap_or(Ipv4Addr::LOCALHOST);
        let Some(live) = self.live.get_mut(name) else { return };
        let prober = probe::Prober {
            shared: Arc::clone(&self.shared),
            pod: Arc::clone(&self.pod),
            key: self.key.clone(),
            run: Arc::clone(&live.run),
            container,
            kind,
            probe,
            ip,
        };
        let (sender, container, restart) = (self.sender.clone(), name.to_owned(), live.run.restart);
        let task = tokio::spawn(prober.run(move |verdict| {
            let (sender, container) = (sender.clone(), container.clone());
            async move {
                let probed = Happened::Probed { container, restart, kind, verdict };
                let _ = sender.send(probed).await;
            }
        }));
        live.tasks.push(task.abort_handle());
    }

    fn terminate(&mut self, name: &str, grace_s: u32, reason: StopReason) {
        let message = match reason {
            StopReason::Pod => format!("Stopping container {name}"),
            StopReason::Probe(probe) => {
                format!("Container {name} failed {probe} probe, will be restarted")
            }
        };
        self.record(EventRecord::normal("Killing", message), Some(name));
        let grace = SignedDuration::from_secs(i64::from(grace_s));
        let deadline = Timestamp::now().saturating_add(grace).unwrap_or(Timestamp::MAX);
        self.with(name, |it| it.stop = Some(Stop { deadline, killed: false }));
        let hook = self.pre_stop(name);
        let Some(live) = self.live.get_mut(name) else { return };
        let signals = live.signals.clone();
        let task = tokio::spawn(async move {
            hook.await;
            // It may have ended by itself.
            let _ = signals.send(ContainerSignal::Terminate).await;
        });
        live.tasks.push(task.abort_handle());
    }

    fn kill(&mut self, name: &str) {
        self.with(name, |it| {
            if let Some(stop) = &mut it.stop {
                stop.killed = true;
            }
        });
        if let Some(live) = self.live.get(name) {
            // A full queue holds a kill already.
            let _ = live.signals.try_send(ContainerSignal::Kill);
        }
    }

    fn record(&self, event: EventRecord, container: Option<&str>) {
        let mut reference = reference_to(&*self.pod);
        reference.field_path = container.map(|name| format!("spec.containers{{{name}}}"));
        self.shared.events.record(reference, event);
    }
}

fn pod_ref(pod: &Pod) -> PodRef {
    let meta = &pod.metadata;
    PodRef {
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        host_network: pod.spec.as_ref().and_then(|it| it.host_network).unwrap_or(false),
    }
}

fn soon() -> Timestamp {
    Timestamp::now().saturating_add(RETRY).unwrap_or(Timestamp::MAX)
}

fn until_then(at: Timestamp) -> Duration {
    // A little more, so that the time has come for certain.
    Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default()
        + Duration::from_millis(1)
}

/// A container whose end the runtime could not learn.
const LOST: Exit = Exit { code: 255, signal: None, out_of_memory: false };
/// How long after a failure of the machine or the API server the same is tried again.
const RETRY: SignedDuration = SignedDuration::from_secs(2);
/// Even a forced deletion lets a container hear SIGTERM, as upstream has it.
const GRACE_MIN_S: u32 = 1;
/// On shutdown of the agent containers get at most this long, so that it ends soon itself.
const SHUTDOWN_GRACE_S: u32 = 5;
/// Ends and probe results wait here while the worker acts.
const HAPPENED_MAX: usize = 64;

#[cfg(test)]
mod tests;
