//! What to say of a pod: its phase, conditions and container statuses.
//!
//! Mirrors getPhase and convertToAPIContainerStatuses of pkg/kubelet/kubelet_pods.go, and the
//! conditions of pkg/kubelet/status/generate.go.

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodSpec, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::step::{failed_init, initialized, is_sidecar, restarts};
use super::{ContainerObserved, Intent, PodObserved, Sandbox, State, Terminated, qos_class};

/// The status of a pod at `now`. `previous` are the conditions said before, whose transition times
/// stay where the answer does.
#[must_use]
pub fn pod_status(
    pod: &Pod,
    intent: Intent,
    observed: &PodObserved,
    host_ip: Ipv4Addr,
    previous: &[PodCondition],
    now: Timestamp,
) -> PodStatus {
    let Some(spec) = &pod.spec else { return PodStatus::default() };
    let view = View { pod, spec, observed, now };
    let init_container_statuses: Option<Vec<_>> =
        spec.init_containers.as_ref().map(|it| it.iter().map(|c| view.status(c, true)).collect());
    let container_statuses: Vec<_> =
        spec.containers.iter().map(|it| view.status(it, false)).collect();
    let phase = view.phase(intent);
    let init = init_container_statuses.as_deref().unwrap_or_default();
    let conditions = view.conditions(phase, init, &container_statuses, previous);
    PodStatus {
        conditions: Some(conditions),
        container_statuses: Some(container_statuses),
        init_container_statuses,
        host_ip: Some(host_ip.to_string()),
        host_ips: Some(vec![HostIP { ip: host_ip.to_string() }]),
        observed_generation: pod.metadata.generation,
        phase: Some(phase.to_owned()),
        pod_ip: observed.ip.map(|ip| ip.to_string()),
        pod_ips: observed.ip.map(|ip| vec![PodIP { ip: ip.to_string() }]),
        qos_class: Some(qos_class(spec).to_owned()),
        start_time: Some(Time(observed.start_time)),
        ..PodStatus::default()
    }
}

struct View<'a> {
    pod: &'a Pod,
    spec: &'a PodSpec,
    observed: &'a PodObserved,
    now: Timestamp,
}

impl View<'_> {
    fn of(&self, container: &Container) -> ContainerObserved {
        self.observed.containers.get(&container.name).cloned().unwrap_or_default()
    }

    fn init_containers(&self) -> impl Iterator<Item = &Container> {
        self.spec.init_containers.iter().flatten()
    }

    /// Whether the init containers are through, so that regular containers may run.
    fn is_initialized(&self) -> bool {
        self.observed.initialized || self.init_containers().all(|it| initialized(it, &self.of(it)))
    }

    fn phase(&self, intent: Intent) -> &'static str {
        let containers: Vec<_> = self.spec.containers.iter().map(|it| self.of(it)).collect();
        let ended = |it: &ContainerObserved| match (&it.state, &it.last) {
            (State::Terminated(ended), _) => Some(ended.exit_code),
            // Between two runs: the last one counts.
            (State::Waiting { .. }, Some(last)) => Some(last.exit_code),
            _ => None,
        };
        let running = self.observed.any_running();
        let stopped = matches!(intent, Intent::Stop { .. }) && !running;
        let all_succeeded = containers.iter().all(|it| ended(it) == Some(0));
        if stopped && containers.iter().any(|it| ended(it).is_some()) {
            return if all_succeeded { "Succeeded" } else { "Failed" };
        }
        if failed_init(self.spec, self.observed) {
            return "Failed";
        }
        let waiting =
            |it: &ContainerObserved| matches!(it.state, State::Waiting { .. }) && it.last.is_none();
        if !self.is_initialized() || containers.iter().any(waiting) {
            return "Pending";
        }
        if containers.iter().any(|it| matches!(it.state, State::Running { .. })) {
            return "Running";
        }
        match self.spec.restart_policy.as_deref() {
            Some("Never" | "OnFailure") if all_succeeded => "Succeeded",
            Some("Never") => "Failed",
            _ => "Running",
        }
    }

    fn status(&self, container: &Container, init: bool) -> ContainerStatus {
        let observed = self.of(container);
        let (state, last) = self.states(container, init, &observed);
        let running = matches!(observed.state, State::Running { .. });
        let ready = if init && !is_sidecar(container) {
            initialized(container, &observed)
        } else {
            running && observed.ready
        };
        let container_id = match (&observed.state, &observed.last) {
            (State::Running { id, .. }, _) => Some(id.clone()),
            (State::Terminated(ended), _) | (_, Some(ended)) => ended.id.clone(),
            _ => None,
        };
        ContainerStatus {
            container_id,
            image: container.image.clone().unwrap_or_default(),
            // Nothing was pulled, so there is no image to name.
            image_id: String::new(),
            last_state: last.as_ref().map(terminated),
            name: container.name.clone(),
            ready,
            restart_count: i32::try_from(observed.restart_count).unwrap_or(i32::MAX),
            started: Some(running && observed.started),
            state: Some(state),
            ..ContainerStatus::default()
        }
    }

    fn states(
        &self,
        container: &Container,
        init: bool,
        observed: &ContainerObserved,
    ) -> (ContainerState, Option<Terminated>) {
        match &observed.state {
            State::Running { started_at, .. } => {
                let running = ContainerStateRunning { started_at: Some(Time(*started_at)) };
                let state = ContainerState { running: Some(running), ..ContainerState::default() };
                (state, observed.last.clone())
            }
            State::Waiting { reason: "", .. } => {
                let initializing =
                    self.spec.init_containers.as_ref().is_some_and(|it| !it.is_empty());
                let reason = if initializing { "PodInitializing" } else { "ContainerCreating" };
                (waiting(reason, None), observed.last.clone())
            }
            State::Waiting { reason, message, .. } => {
                (waiting(reason, Some(message.clone())), observed.last.clone())
            }
            State::Terminated(ended) => {
                let restarts = restarts(self.spec, container, init, ended);
                match observed.backoff.until(ended.finished_at, self.now).filter(|_| restarts) {
                    Some(_) => {
                        let message = self.back_off_message(container, observed.backoff.delay());
                        (waiting("CrashLoopBackOff", Some(message)), Some(ended.clone()))
                    }
                    None => (terminated(ended), observed.last.clone()),
                }
            }
        }
    }

    fn back_off_message(&self, container: &Container, delay: SignedDuration) -> String {
        let meta = &self.pod.metadata;
        format!(
            "back-off {} restarting failed container={} pod={}_{}({})",
            go_duration(delay),
            container.name,
            meta.name.as_deref().unwrap_or_default(),
            meta.namespace.as_deref().unwrap_or_default(),
            meta.uid.as_deref().unwrap_or_default(),
        )
    }

    fn conditions(
        &self,
        phase: &str,
        init: &[ContainerStatus],
        regular: &[ContainerStatus],
        previous: &[PodCondition],
    ) -> Vec<PodCondition> {
        let sandbox = Answer::of(self.observed.sandbox == Sandbox::Ready);
        let containers_ready = self.containers_ready(phase, init, regular);
        let ready = match containers_ready.status {
            true => self.readiness_gates(previous),
            false => containers_ready.clone(),
        };
        let answers = [
            ("PodReadyToStartContainers", sandbox),
            ("Initialized", self.initialized_answer(phase, init)),
            ("Ready", ready),
            ("ContainersReady", containers_ready),
            ("PodScheduled", Answer::of(true)),
        ];
        let generation = self.pod.metadata.generation;
        answers
            .map(|(name, answer)| answer.into_condition(name, generation, previous, self.now))
            .into()
    }

    fn initialized_answer(&self, phase: &str, init: &[ContainerStatus]) -> Answer {
        if phase == "Succeeded" {
            return Answer { status: true, reason: "PodCompleted", message: String::new() };
        }
        if self.is_initialized() {
            return Answer::of(true);
        }
        let incomplete = self.init_containers().zip(init).filter(|(container, status)| {
            if is_sidecar(container) { status.started != Some(true) } else { !status.ready }
        });
        let names: Vec<_> = incomplete.map(|(container, _)| container.name.as_str()).collect();
        Answer {
            status: false,
            reason: "ContainersNotInitialized",
            message: format!("containers with incomplete status: [{}]", names.join(" ")),
        }
    }

    fn containers_ready(
        &self,
        phase: &str,
        init: &[ContainerStatus],
        regular: &[ContainerStatus],
    ) -> Answer {
        match phase {
            "Succeeded" => return Answer::no("PodCompleted", String::new()),
            "Failed" => return Answer::no("PodFailed", String::new()),
            _ => {}
        }
        let sidecars = self.init_containers().zip(init).filter(|(it, _)| is_sidecar(it));
        let counted = sidecars.map(|(_, status)| status).chain(regular);
        let unready: Vec<_> = counted.filter(|it| !it.ready).map(|it| it.name.as_str()).collect();
        if unready.is_empty() {
            return Answer::of(true);
        }
        let message = format!("containers with unready status: [{}]", unready.join(" "));
        Answer::no("ContainersNotReady", message)
    }

    fn readiness_gates(&self, previous: &[PodCondition]) -> Answer {
        let gates = self.spec.readiness_gates.iter().flatten().map(|gate| &gate.condition_type);
        // Others set these conditions, so what the API server holds counts.
        let current = self.pod.status.as_ref().and_then(|status| status.conditions.as_deref());
        let find = |name: &str| {
            current.unwrap_or(previous).iter().find(|condition| condition.type_ == name)
        };
        let unready: Vec<_> = gates
            .filter_map(|gate| match find(gate) {
                None => Some(format!(
                    "corresponding condition of pod readiness gate {gate:?} does not exist."
                )),
                Some(condition) if condition.status != "True" => Some(format!(
                    "the status of pod readiness gate {gate:?} is not \"True\", but {}",
                    condition.status
                )),
                Some(_) => None,
            })
            .collect();
        if unready.is_empty() {
            return Answer::of(true);
        }
        Answer::no("ReadinessGatesNotReady", unready.join(", "))
    }
}

/// A condition without its bookkeeping.
#[derive(Clone, Debug)]
struct Answer {
    status: bool,
    reason: &'static str,
    message: String,
}

impl Answer {
    fn of(status: bool) -> Self {
        Self { status, reason: "", message: String::new() }
    }

    fn no(reason: &'static str, message: String) -> Self {
        Self { status: false, reason, message }
    }

    fn into_condition(
        self,
        name: &str,
        observed_generation: Option<i64>,
        previous: &[PodCondition],
        now: Timestamp,
    ) -> PodCondition {
        let status = if self.status { "True" } else { "False" };
        let before = previous.iter().find(|it| it.type_ == name && it.status == status);
        let since = before.and_then(|it| it.last_transition_time.clone());
        PodCondition {
            last_transition_time: Some(since.unwrap_or(Time(now))),
            message: Some(self.message).filter(|text| !text.is_empty()),
            observed_generation,
            reason: Some(self.reason.to_owned()).filter(|text| !text.is_empty()),
            status: status.to_owned(),
            type_: name.to_owned(),
            ..PodCondition::default()
        }
    }
}

fn waiting(reason: &str, message: Option<String>) -> ContainerState {
    let waiting = ContainerStateWaiting { reason: Some(reason.to_owned()), message };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

fn terminated(ended: &Terminated) -> ContainerState {
    let terminated = ContainerStateTerminated {
        container_id: ended.id.clone(),
        exit_code: ended.exit_code,
        finished_at: Some(Time(ended.finished_at)),
        message: ended.message.clone(),
        reason: Some(ended.reason.clone()),
        signal: ended.signal,
        started_at: ended.started_at.map(Time),
    };
    ContainerState { terminated: Some(terminated), ..ContainerState::default() }
}

/// As Go prints a duration of whole seconds: `10s`, `1m20s`, `5m0s`.
fn go_duration(duration: SignedDuration) -> String {
    match (duration.as_secs() / 60, duration.as_secs() % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}
