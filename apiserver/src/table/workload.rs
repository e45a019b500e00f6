//! Deployments, ReplicaSets, ReplicationControllers, StatefulSets and DaemonSets.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use pintle_api::labels::Selector;
use serde::Deserialize;
use serde_json::Value;

use super::Column;
use super::cell::{self, AGE, NAME, count, count_column, list, or_none, text, text_column, wide};

const CONTAINERS: Column =
    wide(text_column("Containers", "Names of each container in the template."));
const IMAGES: Column =
    wide(text_column("Images", "Images referenced by each container in the template."));
const SELECTOR: Column = wide(text_column("Selector", "Label selector for pods."));

pub(super) const DEPLOYMENT_COLUMNS: &[Column] = &[
    NAME,
    text_column("Ready", "Number of the pod with ready state"),
    text_column("Up-to-date", "Number of pods that have the desired template."),
    text_column("Available", "Number of pods ready for at least minReadySeconds."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(super) fn deployment_cells(deployment: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&deployment["spec"], &deployment["status"]);
    let ready = format!("{}/{}", count(&status["readyReplicas"]), count(&spec["replicas"]));
    let mut cells = vec![
        cell::name(deployment),
        ready.into(),
        count(&status["updatedReplicas"]).into(),
        count(&status["availableReplicas"]).into(),
        cell::age(deployment, now),
    ];
    cells.extend(template_cells(spec));
    cells
}

pub(super) const REPLICA_SET_COLUMNS: &[Column] = &[
    NAME,
    count_column("Desired", "The number of desired pods."),
    count_column("Current", "The number of pods there are."),
    count_column("Ready", "The number of pods that are ready."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(super) fn replica_set_cells(set: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&set["spec"], &set["status"]);
    let mut cells = vec![
        cell::name(set),
        count(&spec["replicas"]).into(),
        count(&status["replicas"]).into(),
        count(&status["readyReplicas"]).into(),
        cell::age(set, now),
    ];
    cells.extend(template_cells(spec));
    cells
}

pub(super) const STATEFUL_SET_COLUMNS: &[Column] =
    &[NAME, text_column("Ready", "Number of the pod with ready state"), AGE, CONTAINERS, IMAGES];

pub(super) fn stateful_set_cells(set: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&set["spec"], &set["status"]);
    let ready = format!("{}/{}", count(&status["readyReplicas"]), count(&spec["replicas"]));
    let mut cells = vec![cell::name(set), ready.into(), cell::age(set, now)];
    cells.extend(template_cells(spec).into_iter().take(2));
    cells
}

pub(super) const DAEMON_SET_COLUMNS: &[Column] = &[
    NAME,
    count_column("Desired", "The number of nodes that should run the pod."),
    count_column("Current", "The number of nodes that should and do."),
    count_column("Ready", "The number of nodes whose pod is ready."),
    count_column("Up-to-date", "The number of nodes whose pod has the desired template."),
    count_column("Available", "The number of nodes whose pod is available."),
    text_column("Node Selector", "The labels of the nodes that run the pod."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(super) fn daemon_set_cells(set: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&set["spec"], &set["status"]);
    let labels = spec["template"]["spec"]["nodeSelector"].as_object();
    let labels: Vec<String> =
        labels.into_iter().flatten().map(|(key, value)| format!("{key}={}", text(value))).collect();
    let mut cells = vec![
        cell::name(set),
        count(&status["desiredNumberScheduled"]).into(),
        count(&status["currentNumberScheduled"]).into(),
        count(&status["numberReady"]).into(),
        count(&status["updatedNumberScheduled"]).into(),
        count(&status["numberAvailable"]).into(),
        or_none(&labels.join(",")).into(),
        cell::age(set, now),
    ];
    cells.extend(template_cells(spec));
    cells
}

fn template_cells(spec: &Value) -> [Value; 3] {
    let containers = list(&spec["template"]["spec"]["containers"]);
    let all = |field: &str| {
        let values: Vec<&str> = containers.iter().map(|c| text(&c[field])).collect();
        Value::from(values.join(","))
    };
    // A ReplicationController's selector is a plain map of labels.
    let is_plain = |map: &serde_json::Map<String, Value>| map.values().all(Value::is_string);
    let selector = match spec["selector"].as_object().filter(|map| is_plain(map)) {
        Some(labels) => {
            let terms = labels.iter().map(|(key, value)| format!("{key}={}", text(value)));
            terms.collect::<Vec<_>>().join(",")
        }
        None => {
            let selector = LabelSelector::deserialize(&spec["selector"]).ok();
            let selector = selector.and_then(|selector| Selector::try_from(&selector).ok());
            selector.map(|selector| selector.to_string()).unwrap_or_default()
        }
    };
    [all("name"), all("image"), or_none(&selector).into()]
}
