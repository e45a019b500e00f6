//! What cells are made of, and the kinds whose rows are no more than that.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{Column, age};

pub(super) const fn text_column(name: &'static str, description: &'static str) -> Column {
    Column { name, kind: "string", format: "", description, priority: 0 }
}

pub(super) const fn count_column(name: &'static str, description: &'static str) -> Column {
    Column { kind: "integer", ..text_column(name, description) }
}

/// The same column, shown only with `-o wide`.
pub(super) const fn wide(column: Column) -> Column {
    Column { priority: 1, ..column }
}

pub(super) const NAME: Column =
    Column { format: "name", ..text_column("Name", "Name must be unique within a namespace.") };
pub(super) const AGE: Column = text_column("Age", "The time since this object was created.");

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub(super) fn or_none(text: &str) -> &str {
    if text.is_empty() { "<none>" } else { text }
}

pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

pub(super) fn count(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

pub(super) fn name(object: &Value) -> Value {
    text(&object["metadata"]["name"]).into()
}

pub(super) fn age(object: &Value, now: Timestamp) -> Value {
    age::since(&object["metadata"]["creationTimestamp"], now).into()
}

fn size(value: &Value) -> i64 {
    value.as_object().map_or(0, Map::len) as i64
}

pub(super) const NAMESPACE_COLUMNS: &[Column] =
    &[NAME, text_column("Status", "The status of the namespace"), AGE];

pub(super) fn namespace(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(object), text(&object["status"]["phase"]).into(), age(object, now)]
}

pub(super) const LEASE_COLUMNS: &[Column] = &[
    NAME,
    text_column("Holder", "holderIdentity contains the identity of the holder of the lease."),
    AGE,
];

pub(super) fn lease(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(object), text(&object["spec"]["holderIdentity"]).into(), age(object, now)]
}

pub(super) const CONFIG_MAP_COLUMNS: &[Column] =
    &[NAME, count_column("Data", "How many keys the data has."), AGE];

pub(super) fn config_map(object: &Value, now: Timestamp) -> Vec<Value> {
    let keys = size(&object["data"]) + size(&object["binaryData"]);
    vec![name(object), keys.into(), age(object, now)]
}

pub(super) const SECRET_COLUMNS: &[Column] = &[
    NAME,
    text_column("Type", "Used to facilitate programmatic handling of secret data."),
    count_column("Data", "How many keys the data has."),
    AGE,
];

pub(super) fn secret(object: &Value, now: Timestamp) -> Vec<Value> {
    let kind = text(&object["type"]).into();
    vec![name(object), kind, size(&object["data"]).into(), age(object, now)]
}

pub(super) const SERVICE_ACCOUNT_COLUMNS: &[Column] =
    &[NAME, count_column("Secrets", "How many secrets the account may use."), AGE];

pub(super) fn service_account(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(object), (list(&object["secrets"]).len() as i64).into(), age(object, now)]
}

pub(super) const PRIORITY_CLASS_COLUMNS: &[Column] = &[
    NAME,
    count_column("Value", "The integer value of this priority class."),
    Column {
        kind: "boolean",
        ..text_column("Global-Default", "Whether pods without a class get this one.")
    },
    AGE,
    text_column("PreemptionPolicy", "Whether pods of this class preempt others."),
];

pub(super) fn priority_class(object: &Value, now: Timestamp) -> Vec<Value> {
    let policy = object["preemptionPolicy"].as_str().unwrap_or("PreemptLowerPriority");
    let is_default = object["globalDefault"].as_bool().unwrap_or(false);
    vec![
        name(object),
        count(&object["value"]).into(),
        is_default.into(),
        age(object, now),
        policy.into(),
    ]
}

pub(super) const POD_DISRUPTION_BUDGET_COLUMNS: &[Column] = &[
    NAME,
    text_column("Min Available", "How many of the selected pods must be left after an eviction."),
    text_column("Max Unavailable", "How many of the selected pods may be unavailable."),
    count_column("Allowed Disruptions", "How many pods may be evicted now."),
    AGE,
];

pub(super) fn pod_disruption_budget(object: &Value, now: Timestamp) -> Vec<Value> {
    let or_unset = |value: &Value| match value {
        Value::Null => "N/A".to_owned(),
        Value::String(text) => text.clone(),
        number => number.to_string(),
    };
    let spec = &object["spec"];
    vec![
        name(object),
        or_unset(&spec["minAvailable"]).into(),
        or_unset(&spec["maxUnavailable"]).into(),
        count(&object["status"]["disruptionsAllowed"]).into(),
        age(object, now),
    ]
}

/// Of kinds that have nothing else to show.
pub(super) const PLAIN_COLUMNS: &[Column] = &[NAME, AGE];

pub(super) fn plain(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(object), age(object, now)]
}

/// Upstream's columns of what has none of its own.
pub(super) const OTHER_COLUMNS: &[Column] =
    &[NAME, text_column("Created At", "When this object was created.")];

pub(super) fn other(object: &Value, _: Timestamp) -> Vec<Value> {
    vec![name(object), text(&object["metadata"]["creationTimestamp"]).into()]
}
