//! Pods: readiness, the one word for their state, restarts.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::cell::{self, AGE, NAME, count, list, or_none, text, text_column, wide};
use super::{Column, age};

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    text_column("Ready", "The aggregate readiness state of this pod for accepting traffic."),
    text_column("Status", "The aggregate status of the containers in this pod."),
    text_column(
        "Restarts",
        "The number of times the containers in this pod have been restarted and when the last \
         container in this pod has restarted.",
    ),
    AGE,
    wide(text_column("IP", "The address of the pod.")),
    wide(text_column("Node", "The node the pod runs on.")),
    wide(text_column("Nominated Node", "The node the pod waits for others to leave.")),
    wide(text_column("Readiness Gates", "How many readiness gates hold.")),
];

pub(super) fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let summary = summarise(pod);
    let mut restarts = summary.restarts.count.to_string();
    if summary.restarts.count != 0
        && let Some(last) = summary.restarts.last_s
    {
        restarts = format!("{restarts} ({} ago)", age::human(now.as_second() - last));
    }
    let (spec, status) = (&pod["spec"], &pod["status"]);
    vec![
        cell::name(pod),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        cell::age(pod, now),
        or_none(text(&status["podIPs"][0]["ip"])).into(),
        or_none(text(&spec["nodeName"])).into(),
        or_none(text(&status["nominatedNodeName"])).into(),
        readiness_gates(pod).into(),
    ]
}

/// The condition of a row whose pod is done.
pub(super) fn completed(pod: &Value) -> Option<Value> {
    let (reason, message) = match text(&pod["status"]["phase"]) {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!({"type": "Completed", "status": "True", "reason": reason, "message": message}))
}

struct Summary {
    ready: usize,
    total: usize,
    reason: String,
    restarts: Restarts,
}

#[derive(Clone, Copy, Default)]
struct Restarts {
    count: i64,
    /// When the last container ended, in seconds since 1970.
    last_s: Option<i64>,
}

impl Restarts {
    fn add(&mut self, status: &Value) {
        self.count += count(&status["restartCount"]);
        self.last_s = self.last_s.max(age::parse(&status["lastState"]["terminated"]["finishedAt"]));
    }
}

fn summarise(pod: &Value) -> Summary {
    let status = &pod["status"];
    let mut reason = [text(&status["reason"]), text(&status["phase"])]
        .into_iter()
        .find(|reason| !reason.is_empty())
        .unwrap_or_default()
        .to_owned();
    if condition(pod, "PodScheduled").is_some_and(|c| c["reason"] == "SchedulingGated") {
        reason = "SchedulingGated".into();
    }
    let init = initialisation(pod);
    let total = list(&pod["spec"]["containers"]).len() + init.sidecars;
    let is_initialised = condition(pod, "Initialized").is_some_and(|c| c["status"] == "True");
    let mut summary = Summary { ready: init.ready, total, reason, restarts: init.restarts };
    if let Some(reason) = &init.reason {
        reason.clone_into(&mut summary.reason);
    }
    if init.reason.is_none() || is_initialised {
        summary.restarts = init.sidecar_restarts;
        running(pod, &mut summary);
    }
    let is_terminal = matches!(text(&status["phase"]), "Succeeded" | "Failed");
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        if status["reason"] == "NodeLost" {
            summary.reason = "Unknown".into();
        } else if !is_terminal {
            summary.reason = "Terminating".into();
        }
    }
    summary
}

/// How far a pod's init containers are.
#[derive(Default)]
struct Initialisation {
    sidecars: usize,
    ready: usize,
    /// Why initialisation is not done.
    reason: Option<String>,
    restarts: Restarts,
    sidecar_restarts: Restarts,
}

fn initialisation(pod: &Value) -> Initialisation {
    let containers = list(&pod["spec"]["initContainers"]);
    let is_sidecar = |name: &Value| {
        containers.iter().any(|c| c["name"] == *name && c["restartPolicy"] == "Always")
    };
    let mut init = Initialisation {
        sidecars: containers.iter().filter(|c| c["restartPolicy"] == "Always").count(),
        ..Initialisation::default()
    };
    for (i, status) in list(&pod["status"]["initContainerStatuses"]).iter().enumerate() {
        init.restarts.add(status);
        let is_sidecar = is_sidecar(&status["name"]);
        if is_sidecar {
            init.sidecar_restarts.add(status);
        }
        let (terminated, waiting) = (&status["state"]["terminated"], &status["state"]["waiting"]);
        if terminated.is_object() && count(&terminated["exitCode"]) == 0 {
            continue;
        }
        if is_sidecar && status["started"] == true {
            init.ready += usize::from(status["ready"] == true);
            continue;
        }
        init.reason = Some(if terminated.is_object() {
            format!("Init:{}", terminated_reason(terminated))
        } else if !matches!(text(&waiting["reason"]), "" | "PodInitializing") {
            format!("Init:{}", text(&waiting["reason"]))
        } else {
            format!("Init:{i}/{}", containers.len())
        });
        break;
    }
    init
}

fn terminated_reason(terminated: &Value) -> String {
    match (text(&terminated["reason"]), count(&terminated["signal"])) {
        ("", 0) => format!("ExitCode:{}", count(&terminated["exitCode"])),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

/// The containers proper; the first one that is not well gives the pod its word.
fn running(pod: &Value, summary: &mut Summary) {
    let mut has_running = false;
    for status in list(&pod["status"]["containerStatuses"]).iter().rev() {
        summary.restarts.add(status);
        let (terminated, waiting) = (&status["state"]["terminated"], &status["state"]["waiting"]);
        if !text(&waiting["reason"]).is_empty() {
            text(&waiting["reason"]).clone_into(&mut summary.reason);
        } else if terminated.is_object() {
            summary.reason = terminated_reason(terminated);
        } else if status["ready"] == true && status["state"]["running"].is_object() {
            has_running = true;
            summary.ready += 1;
        }
    }
    if summary.reason == "Completed" && has_running {
        let is_ready = condition(pod, "Ready").is_some_and(|c| c["status"] == "True");
        summary.reason = if is_ready { "Running" } else { "NotReady" }.into();
    }
}

fn condition<'a>(pod: &'a Value, kind: &str) -> Option<&'a Value> {
    list(&pod["status"]["conditions"]).iter().find(|condition| condition["type"] == kind)
}

fn readiness_gates(pod: &Value) -> String {
    let gates = list(&pod["spec"]["readinessGates"]);
    if gates.is_empty() {
        return "<none>".into();
    }
    let holds = |gate: &&Value| {
        condition(pod, text(&gate["conditionType"])).is_some_and(|c| c["status"] == "True")
    };
    format!("{}/{}", gates.iter().filter(holds).count(), gates.len())
}
