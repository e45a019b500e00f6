//! Deployments and ReplicaSets.

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

fn template_cells(spec: &Value) -> [Value; 3] {
    let containers = list(&spec["template"]["spec"]["containers"]);
    let all = |field: &str| {
        let values: Vec<&str> = containers.iter().map(|c| text(&c[field])).collect();
        Value::from(values.join(","))
    };
    let selector = LabelSelector::deserialize(&spec["selector"]).ok();
    let selector = selector.and_then(|selector| Selector::try_from(&selector).ok());
    let selector = selector.map(|selector| selector.to_string()).unwrap_or_default();
    [all("name"), all("image"), or_none(&selector).into()]
}
