//! Namespaces, Services and ReplicaSets, and pods that belong to them.

use std::sync::Arc;

use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::{Part, app, namespace};
use crate::cache::Object;

/// A namespace, Service or ReplicaSet that is there now, or not.
pub(super) fn object() -> BoxedStrategy<Object> {
    let team = option::of(select(&["red", "blue"][..]));
    let namespaces = (namespace(), team, is_there()).prop_map(|(name, team, there)| {
        let team = team.map(|team| json!({"team": team}));
        change(json!({"metadata": {"name": name, "labels": team}}), there, Object::Namespace)
    });
    let services =
        (namespace(), option::of(app()), is_there()).prop_map(|(namespace, app, there)| {
            let selector = app.map(|app| json!({"app": app}));
            let metadata = json!({"name": "s", "namespace": namespace});
            change(
                json!({"metadata": metadata, "spec": {"selector": selector}}),
                there,
                Object::Service,
            )
        });
    let replica_sets = (namespace(), app(), is_there()).prop_map(|(namespace, app, there)| {
        let metadata = json!({"name": "rs", "namespace": namespace});
        let spec = json!({"selector": {"matchLabels": {"app": app}}});
        change(json!({"metadata": metadata, "spec": spec}), there, Object::ReplicaSet)
    });
    prop_oneof![namespaces, services, replica_sets].boxed()
}

/// Some pods are of the ReplicaSet.
pub(super) fn pod() -> Part {
    let owner = option::weighted(
        0.3,
        Just(json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet",
        "name": "rs", "uid": "rs", "controller": true}])),
    );
    owner.prop_map(|owner| json!({"metadata": {"ownerReferences": owner}})).boxed()
}

fn is_there() -> impl Strategy<Value = bool> {
    prop::bool::weighted(0.8)
}

fn change<T: serde::de::DeserializeOwned>(
    object: Value,
    is_there: bool,
    change: impl Fn(Option<Arc<T>>, Option<Arc<T>>) -> Object,
) -> Object {
    let object = serde_json::from_value(object).expect("a generated object is well formed");
    let object = Some(Arc::new(object));
    if is_there { change(None, object) } else { change(object, None) }
}
