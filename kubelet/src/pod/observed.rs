//! What is known of a pod's sandbox and containers, and how it changes when something happens.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};
use k8s_openapi::jiff::Timestamp;

use super::Backoff;

/// Everything observed of one pod.
#[derive(Clone, Debug, PartialEq)]
pub struct PodObserved {
    /// `status.startTime`: when the node agent first took the pod up.
    pub start_time: Timestamp,
    /// The pod's network namespace and cgroup.
    pub sandbox: Sandbox,
    /// The pod's address, once it had one.
    pub ip: Option<Ipv4Addr>,
    /// In this sandbox the init containers are through and regular containers were started.
    pub initialized: bool,
    /// By name, init containers too.
    pub containers: BTreeMap<String, ContainerObserved>,
}

/// Where a pod's containers live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sandbox {
    /// Not made yet.
    Absent,
    /// Could not be made; not tried again before `retry_at`.
    Failed {
        /// When to try again.
        retry_at: Timestamp,
    },
    /// There.
    Ready,
    /// Made once and removed.
    Removed,
}

/// Everything observed of one container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContainerObserved {
    /// What it does now.
    pub state: State,
    /// How its previous run ended.
    pub last: Option<Terminated>,
    /// How often it was started again.
    pub restart_count: u32,
    /// Its waiting time between starts.
    pub backoff: Backoff,
    /// Its startup probe passed, or it has none; only while running.
    pub started: bool,
    /// Its readiness probe passed, or it has none; only while running.
    pub ready: bool,
    /// Why it must be stopped and started again: a failed liveness or startup probe.
    pub unhealthy: Option<&'static str>,
    /// It was told to stop.
    pub stop: Option<Stop>,
}

/// A container's state.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// Ran and ended.
    Terminated(Terminated),
    /// Runs since `started_at`.
    Running {
        /// `process://...`
        id: String,
        /// When it began.
        started_at: Timestamp,
    },
    /// Does not run; `reason` is empty until an attempt failed.
    Waiting {
        /// Such as `CreateContainerConfigError`; empty: not tried yet.
        reason: &'static str,
        /// For people.
        message: String,
        /// Not tried again before.
        retry_at: Option<Timestamp>,
    },
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terminated {
    /// The container's id, if it came to one.
    pub id: Option<String>,
    /// 128 + signal where one ended it.
    pub exit_code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// `Completed`, `Error`, `OOMKilled`, `StartError` or `ContainerStatusUnknown`.
    pub reason: String,
    /// For people.
    pub message: Option<String>,
    /// When it began, if it did.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Timestamp,
}

/// A container's end as the runtime reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// 128 + signal where one ended it.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The kernel killed it for lack of memory.
    pub out_of_memory: bool,
}

/// A container on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// From when on it is killed.
    pub deadline: Timestamp,
    /// SIGKILL was sent.
    pub killed: bool,
}

impl Default for State {
    fn default() -> Self {
        Self::Waiting { reason: "", message: String::new(), retry_at: None }
    }
}

impl PodObserved {
    /// A pod taken up at `now`. What its status says of earlier runs is kept; those whose end nobody
    /// saw, since the node agent died before, count as ended in an unknown way. Init containers run
    /// again, as in a new sandbox.
    #[must_use]
    pub fn take_up(pod: &Pod, now: Timestamp) -> Self {
        let status = pod.status.as_ref();
        let start_time = status.and_then(|it| it.start_time.as_ref()).map_or(now, |time| time.0);
        let mut containers = BTreeMap::new();
        let init = status.and_then(|it| it.init_container_statuses.as_deref()).unwrap_or_default();
        let spec = pod.spec.as_ref();
        for container in spec.iter().flat_map(|it| it.init_containers.iter().flatten()) {
            containers.insert(container.name.clone(), rerun(find(init, &container.name)));
        }
        let regular = status.and_then(|it| it.container_statuses.as_deref()).unwrap_or_default();
        for container in spec.iter().flat_map(|it| &it.containers) {
            let observed = recover(find(regular, &container.name), now);
            containers.insert(container.name.clone(), observed);
        }
        let sandbox = Sandbox::Absent;
        Self { start_time, sandbox, ip: None, initialized: false, containers }
    }

    /// Whether any container runs.
    #[must_use]
    pub fn any_running(&self) -> bool {
        self.containers.values().any(|it| matches!(it.state, State::Running { .. }))
    }
}

impl ContainerObserved {
    /// An attempt to start begins at `now`; which run this is, from 0.
    pub fn starting(&mut self, now: Timestamp) -> u32 {
        if let State::Terminated(ended) = &self.state {
            self.backoff.restarted(ended.finished_at, now);
            self.last = Some(ended.clone());
            self.restart_count += 1;
        }
        self.state = State::default();
        (self.started, self.ready, self.unhealthy, self.stop) = (false, false, None, None);
        self.restart_count
    }

    /// It runs. `startup_probe`, `readiness_probe`: whether it has them.
    pub fn running(&mut self, id: String, now: Timestamp, startup_probe: bool, readiness: bool) {
        self.state = State::Running { id, started_at: now };
        self.started = !startup_probe;
        self.ready = !startup_probe && !readiness;
    }

    /// It could not be told what to run: not a run, tried again at `retry_at`.
    pub fn misconfigured(&mut self, message: String, retry_at: Timestamp) {
        let retry_at = Some(retry_at);
        self.state = State::Waiting { reason: "CreateContainerConfigError", message, retry_at };
    }

    /// The runtime could not start it: a run that ended at once.
    pub fn start_failed(&mut self, message: String, now: Timestamp) {
        self.state = State::Terminated(Terminated {
            id: None,
            exit_code: EXIT_NOT_STARTED,
            signal: None,
            reason: "StartError".to_owned(),
            message: Some(message),
            started_at: None,
            finished_at: now,
        });
    }

    /// It ended.
    pub fn exited(&mut self, exit: Exit, now: Timestamp) {
        let State::Running { id, started_at } = &self.state else { return };
        let reason = match exit {
            Exit { out_of_memory: true, .. } => "OOMKilled",
            Exit { code: 0, .. } => "Completed",
            _ => "Error",
        };
        self.state = State::Terminated(Terminated {
            id: Some(id.clone()),
            exit_code: exit.code,
            signal: exit.signal,
            reason: reason.to_owned(),
            message: None,
            started_at: Some(*started_at),
            finished_at: now,
        });
        (self.started, self.ready, self.unhealthy, self.stop) = (false, false, None, None);
    }

    /// Its startup probe passed.
    pub fn startup_passed(&mut self, readiness_probe: bool) {
        self.started = true;
        self.ready = !readiness_probe;
    }
}

fn find<'a>(statuses: &'a [ContainerStatus], name: &str) -> Option<&'a ContainerStatus> {
    statuses.iter().find(|status| status.name == name)
}

/// An init container before its next run in a new sandbox.
fn rerun(status: Option<&ContainerStatus>) -> ContainerObserved {
    let Some(status) = status else { return ContainerObserved::default() };
    let state = status.state.clone().unwrap_or_default();
    let ran = state.running.is_some() || state.terminated.is_some();
    let count = u32::try_from(status.restart_count).unwrap_or(0) + u32::from(ran);
    ContainerObserved { restart_count: count, ..ContainerObserved::default() }
}

fn recover(status: Option<&ContainerStatus>, now: Timestamp) -> ContainerObserved {
    let Some(status) = status else { return ContainerObserved::default() };
    let terminated = |state: &Option<ContainerStateTerminated>| state.as_ref().map(known);
    let state = status.state.clone().unwrap_or_default();
    let last = status.last_state.as_ref().and_then(|last| terminated(&last.terminated));
    let (state, last) = match (terminated(&state.terminated), &state.running, last) {
        (Some(ended), _, last) => (State::Terminated(ended), last),
        (None, Some(running), last) => {
            let started_at = running.started_at.as_ref().map(|time| time.0);
            (State::Terminated(lost(status, started_at, now)), last)
        }
        // It waited for its next start: its last end counts as its state again.
        (None, None, Some(last)) => (State::Terminated(last), None),
        (None, None, None) => (State::default(), None),
    };
    let restart_count = u32::try_from(status.restart_count).unwrap_or(0);
    ContainerObserved { state, last, restart_count, ..ContainerObserved::default() }
}

fn known(state: &ContainerStateTerminated) -> Terminated {
    let finished_at = state.finished_at.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    Terminated {
        id: state.container_id.clone(),
        exit_code: state.exit_code,
        signal: state.signal,
        reason: state.reason.clone().unwrap_or_default(),
        message: state.message.clone(),
        started_at: state.started_at.as_ref().map(|time| time.0),
        finished_at,
    }
}

fn lost(status: &ContainerStatus, started_at: Option<Timestamp>, now: Timestamp) -> Terminated {
    Terminated {
        id: status.container_id.clone(),
        exit_code: EXIT_KILLED,
        signal: None,
        reason: "ContainerStatusUnknown".to_owned(),
        message: Some("The container could not be located when the node agent started".to_owned()),
        started_at,
        finished_at: now,
    }
}

/// containerd's exit code of a container that could not start.
const EXIT_NOT_STARTED: i32 = 128;
/// As if by SIGKILL, which upstream reports for a lost container too.
const EXIT_KILLED: i32 = 137;
