//! What to do next about a pod.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::{ContainerObserved, PodObserved, Sandbox, State, Terminated};

/// What is wanted of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Its containers should run as its spec says.
    Run,
    /// Everything of it should end.
    Stop {
        /// Seconds between SIGTERM and SIGKILL.
        grace_s: u32,
        /// Then remove the pod from the API.
        delete: bool,
    },
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make the pod's network and cgroup.
    CreateSandbox,
    /// Remove the pod from the API: nothing of it is left.
    Delete,
    /// Send SIGKILL to all processes of a container.
    Kill(String),
    /// Remove the pod's network and cgroup; no container runs.
    RemoveSandbox,
    /// Start a container.
    Start(String),
    /// Tell a container to stop: its preStop hook, then SIGTERM.
    Terminate {
        /// Which.
        container: String,
        /// Seconds until it is killed.
        grace_s: u32,
        /// Why.
        reason: StopReason,
    },
}

/// Why a container is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The pod ends.
    Pod,
    /// A probe (`liveness` or `startup`) failed; it will be started again.
    Probe(&'static str),
}

/// The next actions, and when to ask again if nothing happens before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// In order.
    pub actions: Vec<Action>,
    /// The earliest time at which waiting alone changes the answer.
    pub wake_at: Option<Timestamp>,
    /// Nothing of the pod is left on the node, and nothing more is to do.
    pub done: bool,
}

/// What to do about a pod at `now`. Each action, carried out, changes `observed`; then ask again.
#[must_use]
pub fn step(pod: &Pod, intent: Intent, observed: &PodObserved, now: Timestamp) -> Step {
    let mut step = Step::default();
    let Some(spec) = &pod.spec else {
        return Step { done: true, ..step };
    };
    match intent {
        Intent::Stop { grace_s, delete } => stop(&mut step, observed, grace_s, delete, now),
        Intent::Run if finished(spec, observed) => {
            stop(&mut step, observed, grace_period_s(spec), false, now);
        }
        Intent::Run => run(&mut step, spec, observed, now),
    }
    step
}

/// Whether a pod has ended for good by itself: no container of it will run again.
#[must_use]
pub fn finished(spec: &PodSpec, observed: &PodObserved) -> bool {
    let ended = |container: &Container| {
        observed.containers.get(&container.name).is_some_and(|it| match &it.state {
            State::Terminated(ended) => !restarts(spec, container, false, ended),
            _ => false,
        })
    };
    failed_init(spec, observed) || spec.containers.iter().all(ended)
}

/// Whether an init container failed in a pod that does not try again.
pub(super) fn failed_init(spec: &PodSpec, observed: &PodObserved) -> bool {
    spec.init_containers.iter().flatten().any(|container| {
        observed.containers.get(&container.name).is_some_and(|it| match &it.state {
            State::Terminated(ended) => {
                ended.exit_code != 0 && !restarts(spec, container, true, ended)
            }
            _ => false,
        })
    })
}

/// Whether a container that ended is to be started again.
pub(super) fn restarts(
    spec: &PodSpec,
    container: &Container,
    init: bool,
    ended: &Terminated,
) -> bool {
    let policy = container.restart_policy.as_deref().or(spec.restart_policy.as_deref());
    match policy {
        Some("Never") => false,
        Some("OnFailure") => ended.exit_code != 0,
        // An init container that succeeded is done, whatever the pod's policy.
        _ if init && !is_sidecar(container) => ended.exit_code != 0,
        _ => true,
    }
}

/// An init container that goes on beside the others (KEP-753).
pub(super) fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Whether the containers after this init container may start.
pub(super) fn initialized(container: &Container, observed: &ContainerObserved) -> bool {
    match &observed.state {
        State::Running { .. } => is_sidecar(container) && observed.started,
        State::Terminated(ended) => !is_sidecar(container) && ended.exit_code == 0,
        State::Waiting { .. } => false,
    }
}

/// `terminationGracePeriodSeconds`.
#[must_use]
pub fn grace_period_s(spec: &PodSpec) -> u32 {
    let seconds = spec.termination_grace_period_seconds.unwrap_or(DEFAULT_GRACE_S);
    u32::try_from(seconds).unwrap_or(0)
}

fn run(step: &mut Step, spec: &PodSpec, observed: &PodObserved, now: Timestamp) {
    match observed.sandbox {
        Sandbox::Ready => {}
        Sandbox::Failed { retry_at } if retry_at > now => return wake(step, retry_at),
        _ => return step.actions.push(Action::CreateSandbox),
    }
    let default = ContainerObserved::default();
    let of = |container: &Container| observed.containers.get(&container.name).unwrap_or(&default);
    for container in spec.init_containers.iter().flatten() {
        let it = of(container);
        // Once the regular containers run, only sidecars are looked after.
        if !observed.initialized || is_sidecar(container) {
            attend(step, spec, container, true, it, now);
        }
        if !observed.initialized && !initialized(container, it) {
            return;
        }
    }
    for container in &spec.containers {
        attend(step, spec, container, false, of(container), now);
    }
}

/// Start a container, or start it again, or stop it because it is not healthy.
fn attend(
    step: &mut Step,
    spec: &PodSpec,
    container: &Container,
    init: bool,
    observed: &ContainerObserved,
    now: Timestamp,
) {
    let name = &container.name;
    match &observed.state {
        State::Waiting { retry_at: Some(at), .. } if *at > now => wake(step, *at),
        State::Waiting { .. } => step.actions.push(Action::Start(name.clone())),
        State::Terminated(ended) if restarts(spec, container, init, ended) => {
            match observed.backoff.until(ended.finished_at, now) {
                Some(until) => wake(step, until),
                None => step.actions.push(Action::Start(name.clone())),
            }
        }
        State::Terminated(_) => {}
        State::Running { .. } => {
            if let Some(probe) = observed.unhealthy {
                let (grace_s, reason) = (grace_period_s(spec), StopReason::Probe(probe));
                stop_container(step, name, observed, grace_s, reason, now);
            }
        }
    }
}

fn stop(step: &mut Step, observed: &PodObserved, grace_s: u32, delete: bool, now: Timestamp) {
    let running = |it: &ContainerObserved| matches!(it.state, State::Running { .. });
    for (name, container) in observed.containers.iter().filter(|(_, it)| running(it)) {
        stop_container(step, name, container, grace_s, StopReason::Pod, now);
    }
    if observed.any_running() {
        return;
    }
    match observed.sandbox {
        Sandbox::Ready => step.actions.push(Action::RemoveSandbox),
        _ if delete => step.actions.push(Action::Delete),
        _ => step.done = true,
    }
}

fn stop_container(
    step: &mut Step,
    name: &str,
    observed: &ContainerObserved,
    grace_s: u32,
    reason: StopReason,
    now: Timestamp,
) {
    let container = name.to_owned();
    match observed.stop {
        None => step.actions.push(Action::Terminate { container, grace_s, reason }),
        Some(stop) if stop.killed => {}
        Some(stop) => {
            // A shorter grace, as of a second `kubectl delete --now`, moves the deadline forward.
            let shorter = now.saturating_add(SignedDuration::from_secs(i64::from(grace_s)));
            let deadline = shorter.map_or(stop.deadline, |at| at.min(stop.deadline));
            if deadline <= now {
                step.actions.push(Action::Kill(container));
            } else {
                wake(step, deadline);
            }
        }
    }
}

fn wake(step: &mut Step, at: Timestamp) {
    step.wake_at = Some(step.wake_at.map_or(at, |earlier| earlier.min(at)));
}

/// `terminationGracePeriodSeconds` where the API server's default is missing.
const DEFAULT_GRACE_S: i64 = 30;
