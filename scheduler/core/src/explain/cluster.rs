//! The objects of a cluster, read one by one.

use std::any::TypeId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{
    Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController, Service,
};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::resource::v1::{DeviceClass, ResourceClaim, ResourceSlice};
use k8s_openapi::api::resource::v1alpha3::DeviceTaintRule;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::api::scheduling::v1alpha1::Workload;
use k8s_openapi::api::storage::v1::{
    CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, Resource};
use pintle_api::decode;
use pintle_api::defaults;
use pintle_api::label_keys;
use pintle_api::scheme::Kind;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::manifest::{Document, ManifestError, documents, to_yaml};
use crate::cache::{self, Object, Snapshot};
use crate::pod::PodInfo;

/// Objects by kind, each in the order in which it was first read. An object that is read again
/// under the same name replaces the one before.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    nodes: Objects<Node>,
    pods: Objects<Pod>,
    priority_classes: Objects<PriorityClass>,
    others: Vec<Other>,
}

/// An object of one of the kinds that are only read.
#[derive(Clone, Debug)]
struct Other {
    kind: &'static str,
    key: (String, String),
    object: Object,
    value: Value,
}

/// What reading brought besides objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// `document 2: Pod default/web: unknown field "spec.nodeSelecter"`.
    pub warnings: Vec<String>,
    /// Kinds that scheduling does not read, as `apps/v1 Deployment`.
    pub left_out: BTreeSet<String>,
}

#[derive(Clone, Debug)]
struct Objects<T> {
    in_order: Vec<Arc<T>>,
    at: BTreeMap<(String, String), usize>,
}

impl<T> Default for Objects<T> {
    fn default() -> Self {
        Self { in_order: Vec::new(), at: BTreeMap::new() }
    }
}

impl<T: Metadata<Ty = ObjectMeta>> Objects<T> {
    fn set(&mut self, object: T) {
        let key = key_of(object.metadata());
        let object = Arc::new(object);
        match self.at.get(&key) {
            Some(&at) => self.in_order[at] = object,
            None => {
                self.at.insert(key, self.in_order.len());
                self.in_order.push(object);
            }
        }
    }

    fn get(&self, namespace: &str, name: &str) -> Option<&Arc<T>> {
        let at = self.at.get(&(namespace.to_owned(), name.to_owned()))?;
        self.in_order.get(*at)
    }

    fn remove(&mut self, namespace: &str, name: &str) -> Option<Arc<T>> {
        let at = self.at.remove(&(namespace.to_owned(), name.to_owned()))?;
        self.at.values_mut().filter(|other| **other > at).for_each(|other| *other -= 1);
        Some(self.in_order.remove(at))
    }
}

fn key_of(metadata: &ObjectMeta) -> (String, String) {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    (text(&metadata.namespace), text(&metadata.name))
}

impl Cluster {
    /// What a decision about a pending pod reads.
    pub fn of(snapshot: &Snapshot, pod: &PodInfo) -> Self {
        let mut cluster = Self::default();
        for info in snapshot.nodes() {
            cluster.set_node(info.object().into_owned());
            for pod in info.pods() {
                let mut pod = pod.object();
                pod.spec.get_or_insert_default().node_name = Some(info.name().to_string());
                cluster.set_pod(pod);
            }
        }
        let objects = snapshot.objects();
        macro_rules! take {
            ($($field:ident),*) => {$(
                objects.$field.iter().for_each(|object| cluster.set_other(object.as_ref().clone()));
            )*};
        }
        take!(
            namespaces,
            services,
            replication_controllers,
            replica_sets,
            stateful_sets,
            persistent_volumes,
            persistent_volume_claims,
            storage_classes,
            csi_nodes,
            csi_drivers,
            csi_storage_capacities,
            volume_attachments,
            pod_disruption_budgets,
            resource_claims,
            resource_slices,
            device_classes,
            workloads
        );
        cluster.set_pod(pod.object());
        cluster
    }

    /// Reads a file's text: a YAML stream, JSON, Lists.
    pub fn read(&mut self, text: &str) -> Result<Read, ManifestError> {
        let mut read = Read::default();
        for Document { number, value } in documents(text)? {
            self.read_value(number, "", value, &mut read)?;
        }
        Ok(read)
    }

    /// Takes an object that was read elsewhere, as its value. The error names object and field.
    pub fn add(&mut self, value: Value) -> Result<Read, ManifestError> {
        let mut read = Read::default();
        self.read_value(1, "", value, &mut read)?;
        Ok(read)
    }

    fn read_value(
        &mut self,
        document: usize,
        place: &str,
        mut value: Value,
        read: &mut Read,
    ) -> Result<(), ManifestError> {
        let text = |field: &str| value[field].as_str().unwrap_or_default().to_owned();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        let wrong = |object: &str, problem: String| ManifestError::Object {
            document,
            object: format!("{place}{object}"),
            problem,
        };
        if !value.is_object() {
            return Err(wrong("object", "is not a mapping".to_owned()));
        }
        for (field, found) in [("apiVersion", &api_version), ("kind", &kind)] {
            if found.is_empty() {
                return Err(wrong("object", format!("{field}: Required value")));
            }
        }
        if let Some(item_kind) = kind.strip_suffix("List") {
            let items = match value["items"].take() {
                Value::Array(items) => items,
                Value::Null => Vec::new(),
                _ => return Err(wrong(&kind, "items: must be a list".to_owned())),
            };
            for (at, mut item) in items.into_iter().enumerate() {
                // The items of a PodList, unlike a List's, do not repeat their kind.
                if !item_kind.is_empty() && item["kind"].is_null() && item.is_object() {
                    item["apiVersion"] = json!(api_version);
                    item["kind"] = json!(item_kind);
                }
                self.read_value(document, &format!("{place}items[{at}]: "), item, read)?;
            }
            return Ok(());
        }
        let known = |known: &&ReadKind| known.api_version == api_version && known.kind == kind;
        let Some(ReadKind { namespaced, add, .. }) = KINDS.iter().find(known) else {
            read.left_out.insert(format!("{api_version} {kind}"));
            return Ok(());
        };
        let object =
            name_object(&kind, *namespaced, &mut value).map_err(|problem| wrong(&kind, problem))?;
        let unknown = add(self, value).map_err(|problem| wrong(&object, problem))?;
        let warnings = unknown.into_iter();
        read.warnings
            .extend(warnings.map(|w| format!("document {document}: {place}{object}: {w}")));
        Ok(())
    }

    /// The node of this name.
    pub fn node(&self, name: &str) -> Option<&Arc<Node>> {
        self.nodes.get("", name)
    }

    /// The pod of this name.
    pub fn pod(&self, namespace: &str, name: &str) -> Option<&Arc<Pod>> {
        self.pods.get(namespace, name)
    }

    /// Every node, in the order in which they were read.
    pub fn nodes(&self) -> &[Arc<Node>] {
        &self.nodes.in_order
    }

    /// Every pod, in the order in which they were read.
    pub fn pods(&self) -> &[Arc<Pod>] {
        &self.pods.in_order
    }

    /// Every object that is neither node nor pod, as just added.
    pub fn others(&self) -> impl Iterator<Item = &Object> {
        self.others.iter().map(|other| &other.object)
    }

    /// Puts an object of another kind in, or in the place of the one of its name.
    pub fn set_other<T: cache::Kind + Resource + Serialize>(&mut self, object: T) {
        let (kind, key) = (T::KIND, key_of(object.metadata()));
        let value = serde_json::to_value(&object).unwrap_or_default();
        let object = T::change(None, Some(Arc::new(object)));
        let other = Other { kind, key, object, value };
        match self.others.iter_mut().find(|o| (o.kind, &o.key) == (kind, &other.key)) {
            Some(before) => *before = other,
            None => self.others.push(other),
        }
    }

    /// Puts a node in, or in the place of the one of its name.
    pub fn set_node(&mut self, node: Node) {
        self.nodes.set(node);
    }

    /// Puts a pod in, or in the place of the one of its name.
    pub fn set_pod(&mut self, pod: Pod) {
        self.pods.set(pod);
    }

    /// Takes a node out; its pods stay.
    pub fn remove_node(&mut self, name: &str) -> Option<Arc<Node>> {
        self.nodes.remove("", name)
    }

    /// Takes a pod out.
    pub fn remove_pod(&mut self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.pods.remove(namespace, name)
    }

    /// Takes the pods of a node out.
    pub fn remove_pods_of(&mut self, node: &str) {
        let of_node =
            |pod: &Pod| pod.spec.as_ref().and_then(|s| s.node_name.as_deref()) == Some(node);
        let pods = self.pods.in_order.iter().filter(|pod| of_node(pod));
        let keys: Vec<_> = pods.map(|pod| key_of(&pod.metadata)).collect();
        keys.into_iter().for_each(|(namespace, name)| {
            self.remove_pod(&namespace, &name);
        });
    }

    /// Marks a node as `kubectl cordon` does; false if there is none.
    pub fn cordon(&mut self, name: &str) -> bool {
        let Some(node) = self.node(name) else { return false };
        let mut node = Node::clone(node);
        node.spec.get_or_insert_default().unschedulable = Some(true);
        self.set_node(node);
        true
    }

    /// Gives pods that name a PriorityClass, or none, the priority that admission would.
    /// Returns what it could not resolve.
    pub fn admit_priorities(&mut self) -> Vec<String> {
        let mut warnings = Vec::new();
        for at in 0..self.pods.in_order.len() {
            let pod = &self.pods.in_order[at];
            let Some(spec) = pod.spec.as_ref().filter(|spec| spec.priority.is_none()) else {
                continue;
            };
            let class = spec.priority_class_name.as_deref().filter(|name| !name.is_empty());
            let Some(priority) = self.priority(class) else {
                if let (Some(class), (namespace, name)) = (class, key_of(&pod.metadata)) {
                    warnings.push(format!(
                        "Pod {namespace}/{name}: no PriorityClass with name {class} was found: \
                         priority 0"
                    ));
                }
                continue;
            };
            let mut pod = Pod::clone(pod);
            let spec = pod.spec.get_or_insert_default();
            spec.priority = Some(priority.0);
            if spec.preemption_policy.is_none() {
                spec.preemption_policy = priority.1;
            }
            self.pods.in_order[at] = Arc::new(pod);
        }
        warnings
    }

    /// Priority and preemption policy of a class, or of pods that name none.
    fn priority(&self, class: Option<&str>) -> Option<(i32, Option<String>)> {
        let of = |class: &PriorityClass| (class.value, class.preemption_policy.clone());
        match class {
            Some("system-node-critical") => Some((SYSTEM_NODE_CRITICAL, None)),
            Some("system-cluster-critical") => Some((SYSTEM_CLUSTER_CRITICAL, None)),
            Some(name) => self.priority_classes.get("", name).map(|class| of(class)),
            None => {
                let defaults = self.priority_classes.in_order.iter();
                let defaults = defaults.filter(|class| class.global_default == Some(true));
                defaults.min_by_key(|class| class.value).map(|class| of(class))
            }
        }
    }

    /// Everything as a YAML stream that [`Cluster::read`] reads.
    pub fn to_yaml(&self) -> String {
        let others: Vec<&Value> = self.others.iter().map(|other| &other.value).collect();
        let mut text = to_yaml(&self.priority_classes.in_order);
        text.push_str(&to_yaml(&others));
        text.push_str(&to_yaml(&self.nodes.in_order));
        text.push_str(&to_yaml(&self.pods.in_order));
        text
    }
}

/// Puts the checked object into the cluster; returns its unknown fields.
type Add = fn(&mut Cluster, Value) -> Result<Vec<String>, String>;

/// A kind that scheduling reads.
pub struct ReadKind {
    /// `v1`, or `group/v1`.
    pub api_version: &'static str,
    /// The kind.
    pub kind: &'static str,
    /// Its name in URLs.
    pub plural: &'static str,
    namespaced: bool,
    add: Add,
}

/// Every kind that [`Cluster`] reads.
pub static KINDS: LazyLock<Vec<ReadKind>> = LazyLock::new(|| {
    macro_rules! kinds {
        ($($type:ty, $set:expr;)*) => {
            vec![$(ReadKind {
                api_version: <$type>::API_VERSION,
                kind: <$type>::KIND,
                plural: <$type>::URL_PATH_SEGMENT,
                namespaced: is_namespaced::<$type>(),
                add: |cluster, value| {
                    let (object, unknown) = read::<$type>(value)?;
                    let set: fn(&mut Cluster, $type) = $set;
                    set(cluster, object);
                    Ok(unknown)
                },
            }),*]
        };
    }
    kinds! {
        Node, |cluster, node| cluster.nodes.set(node);
        Pod, |cluster, pod| cluster.pods.set(pod);
        PriorityClass, |cluster, class| cluster.priority_classes.set(class);
        Namespace, Cluster::set_other;
        Service, Cluster::set_other;
        ReplicationController, Cluster::set_other;
        ReplicaSet, Cluster::set_other;
        StatefulSet, Cluster::set_other;
        PersistentVolume, Cluster::set_other;
        PersistentVolumeClaim, Cluster::set_other;
        StorageClass, Cluster::set_other;
        CSINode, Cluster::set_other;
        CSIDriver, Cluster::set_other;
        CSIStorageCapacity, Cluster::set_other;
        VolumeAttachment, Cluster::set_other;
        PodDisruptionBudget, Cluster::set_other;
        ResourceClaim, Cluster::set_other;
        ResourceSlice, Cluster::set_other;
        DeviceClass, Cluster::set_other;
        DeviceTaintRule, Cluster::set_other;
        Workload, Cluster::set_other;
    }
});

fn is_namespaced<T: Resource>() -> bool
where
    T::Scope: 'static,
{
    TypeId::of::<T::Scope>() == TypeId::of::<NamespaceResourceScope>()
}

fn read<T: DeserializeOwned + Resource>(mut value: Value) -> Result<(T, Vec<String>), String> {
    let (object, unknown) = decode::read::<T>(&mut value)?;
    if T::KIND != "Pod" {
        return Ok((object, unknown));
    }
    // As the API server would take it.
    defaults::apply(Kind::Pod, &mut value);
    label_keys::merge_into_selectors(&mut value);
    let object = serde_json::from_value(value).map_err(|error| error.to_string())?;
    Ok((object, unknown))
}

/// Sees to it that the object has a name, and a namespace if it lives in one; returns what to call
/// it.
fn name_object(kind: &str, namespaced: bool, value: &mut Value) -> Result<String, String> {
    let Value::Object(metadata) = &mut value["metadata"] else {
        return Err("metadata.name: Required value".to_owned());
    };
    let Some(name) = metadata.get("name").and_then(Value::as_str).filter(|n| !n.is_empty()) else {
        return Err("metadata.name: Required value".to_owned());
    };
    if !namespaced {
        return Ok(format!("{kind} {name}"));
    }
    let name = name.to_owned();
    let namespace = metadata.entry("namespace").or_insert_with(|| json!("default"));
    if namespace.is_null() || namespace == "" {
        *namespace = json!("default");
    }
    Ok(format!("{kind} {}/{name}", namespace.as_str().unwrap_or_default()))
}

/// `scheduling.SystemCriticalPriority`, and what `system-node-critical` has above it.
const SYSTEM_CLUSTER_CRITICAL: i32 = 2_000_000_000;
const SYSTEM_NODE_CRITICAL: i32 = SYSTEM_CLUSTER_CRITICAL + 1000;
