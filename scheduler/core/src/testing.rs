//! Random clusters for property tests: small enough to read when shrunk, with every feature that a
//! plugin looks at, and names few enough to collide.
//!
//! An object is put together from *parts*: pieces of JSON that are laid over each other, each with
//! what one plugin looks at. A new plugin adds its own file here with a strategy for its part, and a
//! line to [`node`] or [`pod`].

mod container;
mod device;
mod inter_pod;
mod node_affinity;
mod owner;
mod spread;
mod taint;
mod volume;

use std::cell::RefCell;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::{
    CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment,
};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use crate::cache::{Kind, Object, Snapshot};
use crate::explain::Cluster;
use crate::pod::{PodInfo, Templates};

pub(crate) use device::DEVICES_STAND_FOR;

/// A node of this name.
pub(crate) fn node(name: String) -> impl Strategy<Value = Arc<Node>> {
    let base = json!({"metadata": {"name": name, "labels": {}}});
    let parts =
        vec![hostname(name), container::node(), spread::node(), taint::node(), volume::node()];
    object(base, parts)
}

/// A pod of this name, not bound.
pub(crate) fn pod(name: String) -> impl Strategy<Value = Pod> {
    let name = Value::from(name);
    let base = json!({"metadata": {"name": name, "uid": name}, "spec": {"containers": []}});
    let parts = vec![
        identity(),
        container::pod(),
        device::pod(),
        inter_pod::pod(),
        node_affinity::pod(),
        owner::pod(),
        spread::pod(),
        taint::pod(),
        volume::pod(),
    ];
    object(base, parts).prop_map(|pod: Arc<Pod>| Arc::unwrap_or_clone(pod))
}

/// The pod; if it is to be plain, without what plugins look at that see more than one node.
pub(crate) fn plain_pod(mut pod: Pod, is_plain: bool) -> Pod {
    if !is_plain {
        return pod;
    }
    let spec = pod.spec.get_or_insert_default();
    spec.topology_spread_constraints = None;
    spec.volumes = None;
    spec.resource_claims = None;
    if let Some(affinity) = &mut spec.affinity {
        affinity.pod_affinity = None;
        affinity.pod_anti_affinity = None;
    }
    pod
}

/// The template as a pod of this name. Pods share what they have in common, as in production.
pub(crate) fn named(template: &Pod, name: String) -> Arc<PodInfo> {
    thread_local! {
        static TEMPLATES: RefCell<Templates> = RefCell::default();
    }
    let mut pod = template.clone();
    pod.metadata.uid = Some(name.clone());
    pod.metadata.name = Some(name);
    TEMPLATES.with_borrow_mut(|known| Arc::new(PodInfo::shared(Arc::new(pod), known)))
}

/// A change of an object other than pods and nodes.
pub(crate) fn other() -> impl Strategy<Value = Object> {
    prop_oneof![1 => owner::object(), 3 => device::object(), 3 => volume::object()]
}

/// A change of a namespace, Service or ReplicaSet.
pub(crate) fn owner() -> impl Strategy<Value = Object> {
    owner::object()
}

/// A change of a claim, of devices or of what concerns them.
pub(crate) fn device() -> impl Strategy<Value = Object> {
    device::object()
}

/// The pod bound to a node.
pub(crate) fn bound(pod: &Pod, node: &str) -> Arc<PodInfo> {
    let mut pod = pod.clone();
    pod.spec.get_or_insert_default().node_name = Some(node.to_owned());
    Arc::new(PodInfo::new(Arc::new(pod)))
}

/// So many cases, or as many as `PINTLE_CLUSTERS` says.
pub(crate) fn clusters(cases: u32) -> ProptestConfig {
    let asked = std::env::var("PINTLE_CLUSTERS").ok();
    let asked = asked.map(|text| text.parse().expect("PINTLE_CLUSTERS is a number of clusters"));
    ProptestConfig::with_cases(asked.unwrap_or(cases))
}

/// Writes what a decision about the pod reads to a file for `pintle simulate`, and says where and
/// what. Every failing case overwrites the one before, so that the smallest remains.
pub(crate) fn printed(test: &str, snapshot: &Snapshot, pod: &PodInfo) -> String {
    let yaml = Cluster::of(snapshot, pod).to_yaml();
    let path = std::env::temp_dir().join(format!("pintle-{test}.yaml"));
    match std::fs::write(&path, &yaml) {
        Ok(()) => {
            let pod = format!("{}/{}", pod.namespace(), pod.name());
            format!("pintle explain pod {pod} -f {}\n{yaml}", path.display())
        }
        Err(error) => format!("{} was not written: {error}\n{yaml}", path.display()),
    }
}

/// The object, of this kind, as it is first seen.
pub(crate) fn added(kind: &str, object: Value) -> Object {
    fn of<T: Kind + serde::de::DeserializeOwned>(object: Value) -> Object {
        T::change(None, Some(serde_json::from_value(object).expect("a well-formed object")))
    }
    match kind {
        "CSIDriver" => of::<CSIDriver>(object),
        "CSINode" => of::<CSINode>(object),
        "CSIStorageCapacity" => of::<CSIStorageCapacity>(object),
        "PersistentVolume" => of::<PersistentVolume>(object),
        "PersistentVolumeClaim" => of::<PersistentVolumeClaim>(object),
        "StorageClass" => of::<StorageClass>(object),
        "VolumeAttachment" => of::<VolumeAttachment>(object),
        other => panic!("no tests with {other} yet"),
    }
}

/// A piece of an object; `null` adds nothing.
type Part = BoxedStrategy<Value>;

/// An object of which the parts are laid over `base`.
fn object<T>(base: Value, parts: Vec<Part>) -> impl Strategy<Value = Arc<T>>
where
    T: serde::de::DeserializeOwned + std::fmt::Debug,
{
    parts.prop_map(move |parts| {
        let mut object = base.clone();
        parts.into_iter().for_each(|part| lay_over(&mut object, part));
        Arc::new(serde_json::from_value(object).expect("a generated object is well formed"))
    })
}

/// Objects are merged, arrays joined, `null` ignored; anything else replaces what was there.
fn lay_over(under: &mut Value, over: Value) {
    match (under, over) {
        (_, Value::Null) => {}
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over.into_iter().filter(|(_, value)| !value.is_null()) {
                lay_over(under.entry(key).or_insert(Value::Null), value);
            }
        }
        (Value::Array(under), Value::Array(over)) => under.extend(over),
        (under, over) => *under = over,
    }
}

/// A node's hostname, which is almost always there, and its own.
fn hostname(name: String) -> Part {
    let labels = |name: Value| json!({"metadata": {"labels": {"kubernetes.io/hostname": name}}});
    let names = prop_oneof![
        60 => Just(Value::from(name)),
        1 => Just(Value::from("shared")),
        1 => Just(Value::Null),
    ];
    names.prop_map(labels).boxed()
}

/// Namespace, labels and priority: what others select the pod by.
fn identity() -> Part {
    (namespace(), app(), 0..3_i32)
        .prop_map(|(namespace, app, priority)| {
            json!({"metadata": {"namespace": namespace, "labels": {"app": app}},
                "spec": {"priority": priority}})
        })
        .boxed()
}

fn namespace() -> impl Strategy<Value = &'static str> {
    select(&["default", "default", "other"][..])
}

/// Values of the label `app` of pods.
fn app() -> impl Strategy<Value = &'static str> {
    select(&["x", "y"][..])
}

/// Values of the label `zone` of nodes.
fn zone() -> impl Strategy<Value = &'static str> {
    select(&["a", "b", "c"][..])
}

/// The topology keys of terms and constraints: with few domains, and with many.
fn topology_key() -> impl Strategy<Value = &'static str> {
    select(
        &["zone", "zone", "zone", "kubernetes.io/hostname", "kubernetes.io/hostname", "slot"][..],
    )
}
