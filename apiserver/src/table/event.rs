//! Events.

use jiff::Timestamp;
use serde_json::Value;

use super::cell::{self, NAME, count, count_column, text, text_column, wide};
use super::{Column, age};

pub(super) const COLUMNS: &[Column] = &[
    text_column("Last Seen", "When the event was last seen."),
    text_column("Type", "Type of this event (Normal, Warning), new types could be added."),
    text_column("Reason", "Why the event happened, in one word."),
    text_column("Object", "The object that this event is about."),
    wide(text_column("Subobject", "The part of the object that this event is about.")),
    wide(text_column("Source", "The component reporting this event.")),
    text_column("Message", "A human-readable description of the event."),
    wide(text_column("First Seen", "When the event was first seen.")),
    wide(count_column("Count", "The number of times this event has occurred.")),
    wide(NAME),
];

pub(super) fn cells(event: &Value, now: Timestamp) -> Vec<Value> {
    let first = earliest(&[&event["firstTimestamp"], &event["eventTime"]]);
    let series = &event["series"];
    let (last, times) = if series.is_object() {
        (&series["lastObservedTime"], count(&series["count"]))
    } else {
        let last = earliest(&[&event["lastTimestamp"], first]);
        (last, count(&event["count"]).max(1))
    };
    let object = &event["involvedObject"];
    let kind = text(&object["kind"]).to_lowercase();
    let target = match text(&object["name"]) {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    vec![
        age::since(last, now).into(),
        text(&event["type"]).into(),
        text(&event["reason"]).into(),
        target.into(),
        text(&object["fieldPath"]).into(),
        source(event).into(),
        text(&event["message"]).trim().into(),
        age::since(first, now).into(),
        times.into(),
        cell::name(event),
    ]
}

/// The first of the timestamps that is set.
fn earliest<'a>(timestamps: &[&'a Value]) -> &'a Value {
    timestamps.iter().find(|time| !text(time).is_empty()).copied().unwrap_or(&Value::Null)
}

fn source(event: &Value) -> String {
    let either = |old: &Value, new: &Value| match text(old) {
        "" => text(new).to_owned(),
        old => old.to_owned(),
    };
    let component = either(&event["source"]["component"], &event["reportingComponent"]);
    let host = either(&event["source"]["host"], &event["reportingInstance"]);
    if host.is_empty() { component } else { format!("{component}, {host}") }
}
