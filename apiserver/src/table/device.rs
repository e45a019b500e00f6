//! ResourceClaims and ResourceSlices.

use jiff::Timestamp;
use serde_json::Value;

use super::Column;
use super::cell::{self, AGE, NAME, list, text, text_column};

pub(super) const CLAIM_COLUMNS: &[Column] = &[
    NAME,
    text_column("State", "Whether it is allocated, reserved for pods, or being deleted."),
    AGE,
];

pub(super) fn claim(claim: &Value, now: Timestamp) -> Vec<Value> {
    vec![cell::name(claim), state(claim).join(",").into(), cell::age(claim, now)]
}

fn state(claim: &Value) -> Vec<&'static str> {
    let is_deleted = !claim["metadata"]["deletionTimestamp"].is_null();
    let mut states = Vec::new();
    if is_deleted {
        states.push("deleted");
    }
    if !claim["status"]["allocation"].is_null() {
        states.push("allocated");
        if !list(&claim["status"]["reservedFor"]).is_empty() {
            states.push("reserved");
        }
    } else if !is_deleted {
        states.push("pending");
    }
    states
}

pub(super) const SLICE_COLUMNS: &[Column] = &[
    NAME,
    text_column("Node", "The node whose devices these are."),
    text_column("Driver", "The driver that offers the devices."),
    text_column("Pool", "The pool that the devices belong to."),
    AGE,
];

pub(super) fn slice(slice: &Value, now: Timestamp) -> Vec<Value> {
    let spec = &slice["spec"];
    vec![
        cell::name(slice),
        text(&spec["nodeName"]).into(),
        text(&spec["driver"]).into(),
        text(&spec["pool"]["name"]).into(),
        cell::age(slice, now),
    ]
}
