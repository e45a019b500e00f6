//! What decisions read besides nodes and pods: volumes, claims, namespaces and the like.
//!
//! Mirrors the listers of upstream's informer factory and its AssumeCaches. [`Objects`] is cheap to
//! clone: what changes afterwards is copied on write, one namespace of one kind at a time. What the
//! scheduler decided but did not yet see written is *assumed*: it is read in place of what was seen,
//! until something newer is seen or it is forgotten.

use std::any::Any;
use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use k8s_openapi::Metadata;
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{
    Namespace, PersistentVolume, PersistentVolumeClaim, ReplicationController, Service,
};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::resource::v1::{DeviceClass, ResourceClaim, ResourceSlice};
use k8s_openapi::api::resource::v1alpha3::DeviceTaintRule;
use k8s_openapi::api::scheduling::v1alpha1::Workload;
use k8s_openapi::api::storage::v1::{
    CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use pintle_api::resources::Resources;

use crate::framework::Resource;

/// A kind that [`Objects`] keeps.
pub trait Kind: Metadata<Ty = ObjectMeta> + fmt::Debug + Send + Sync + Sized + 'static {
    /// What its events are about.
    const RESOURCE: Resource;

    /// The objects of this kind.
    fn lister(objects: &Objects) -> &Lister<Self>;

    /// The objects of this kind, to change.
    fn lister_mut(objects: &mut Objects) -> &mut Lister<Self>;

    /// Whether it is kept which objects of this kind changed last.
    const IS_JOURNALED: bool;

    /// A change of such an object.
    fn change(old: Option<Arc<Self>>, new: Option<Arc<Self>>) -> Object;
}

macro_rules! kinds {
    ($($kind:ident $field:ident $doc:literal),* $(,)?) => {
        /// All objects at one moment. Cheap to clone; a clone does not change.
        #[derive(Clone, Debug, Default)]
        pub struct Objects {
            $(#[doc = $doc] pub $field: Lister<$kind>,)*
        }

        /// An object that was added (the first is missing), changed, or deleted (the second is
        /// missing).
        #[derive(Clone, Debug)]
        pub enum Object {
            $(#[doc = $doc] $kind(Option<Arc<$kind>>, Option<Arc<$kind>>),)*
        }

        impl Object {
            /// What its event is about.
            pub fn resource(&self) -> Resource {
                match self { $(Self::$kind(..) => Resource::$kind,)* }
            }

            /// Whether the object was there before, and whether it is now.
            pub fn sides(&self) -> (bool, bool) {
                match self { $(Self::$kind(old, new) => (old.is_some(), new.is_some()),)* }
            }
        }

        impl Objects {
            /// Takes over what was seen.
            pub fn apply(&mut self, object: &Object) {
                match object {
                    $(Object::$kind(old, new) => self.$field.apply(old.as_ref(), new.as_ref()),)*
                }
            }
        }

        $(impl Kind for $kind {
            const RESOURCE: Resource = Resource::$kind;
            // The ledger of devices follows them from pod to pod.
            const IS_JOURNALED: bool = matches!(Resource::$kind, Resource::ResourceClaim);

            fn lister(objects: &Objects) -> &Lister<Self> {
                &objects.$field
            }

            fn lister_mut(objects: &mut Objects) -> &mut Lister<Self> {
                &mut objects.$field
            }

            fn change(old: Option<Arc<Self>>, new: Option<Arc<Self>>) -> Object {
                Object::$kind(old, new)
            }
        })*
    };
}

kinds!(
    Namespace namespaces "Namespaces.",
    Service services "Services.",
    ReplicationController replication_controllers "ReplicationControllers.",
    ReplicaSet replica_sets "ReplicaSets.",
    StatefulSet stateful_sets "StatefulSets.",
    PersistentVolume persistent_volumes "PersistentVolumes.",
    PersistentVolumeClaim persistent_volume_claims "PersistentVolumeClaims.",
    StorageClass storage_classes "StorageClasses.",
    CSINode csi_nodes "CSINodes.",
    CSIDriver csi_drivers "CSIDrivers.",
    CSIStorageCapacity csi_storage_capacities "CSIStorageCapacities.",
    VolumeAttachment volume_attachments "VolumeAttachments.",
    PodDisruptionBudget pod_disruption_budgets "PodDisruptionBudgets.",
    ResourceClaim resource_claims "ResourceClaims.",
    ResourceSlice resource_slices "ResourceSlices.",
    DeviceClass device_classes "DeviceClasses.",
    DeviceTaintRule device_taint_rules "DeviceTaintRules.",
    Workload workloads "Workloads.",
);

/// How resources are called that devices of a class stand for, before the class's name
/// (`ResourceDeviceClassPrefix`).
const CLASS_PREFIX: &str = "deviceclass.resource.kubernetes.io/";

impl Objects {
    /// The extended resources among the requests that devices stand for, and the devices' class.
    pub(crate) fn classes_asked_for<'a>(
        &'a self,
        requests: &'a Resources,
    ) -> impl Iterator<Item = (&'a str, &'a Arc<DeviceClass>)> {
        let asked = requests.scalar.iter().filter(|(_, amount)| **amount > 0);
        asked.filter_map(|(name, _)| Some((name.as_str(), self.class_for(name)?)))
    }

    /// The class whose devices stand for the extended resource: of several the newest, then the first by
    /// name (`extendedresourcecache`).
    fn class_for(&self, resource: &str) -> Option<&Arc<DeviceClass>> {
        if let Some(name) = resource.strip_prefix(CLASS_PREFIX) {
            return self.device_classes.get("", name);
        }
        let is_meant = |class: &&Arc<DeviceClass>| {
            class.spec.extended_resource_name.as_deref() == Some(resource)
        };
        let classes = self.device_classes.iter().filter(is_meant);
        classes.min_by_key(|class| {
            let meta = &class.metadata;
            (Reverse(meta.creation_timestamp.as_ref().map(|time| time.0)), &meta.name)
        })
    }
}

/// The objects of one kind, ordered by namespace and name. The namespace of objects that have none
/// is empty.
pub struct Lister<T> {
    by_namespace: Arc<BTreeMap<Arc<str>, ByName<T>>>,
    version: u64,
    journal: Arc<Journal>,
}

/// Which objects changed last.
#[derive(Clone, Debug, Default)]
struct Journal {
    /// The version before the first change.
    base: u64,
    /// The version after each change, and the object's namespace and name.
    changes: VecDeque<(u64, Arc<str>, Arc<str>)>,
}

/// So many changes are kept: more than there are between two pods.
const JOURNAL_MAX: usize = 1024;

/// The last version of any lister. Two with the same have the same objects, whatever was changed of one
/// and of its clones.
static VERSION: AtomicU64 = AtomicU64::new(0);

type ByName<T> = Arc<BTreeMap<Arc<str>, Entry<T>>>;

struct Entry<T> {
    /// As last seen; `None` if it is gone, or was never there.
    seen: Option<Arc<T>>,
    /// What reading it answers instead.
    assumed: Option<Arc<T>>,
}

impl<T> Clone for Entry<T> {
    fn clone(&self) -> Self {
        Self { seen: self.seen.clone(), assumed: self.assumed.clone() }
    }
}

impl<T> Entry<T> {
    fn current(&self) -> Option<&Arc<T>> {
        self.assumed.as_ref().or(self.seen.as_ref())
    }
}

impl<T> Clone for Lister<T> {
    fn clone(&self) -> Self {
        Self {
            by_namespace: Arc::clone(&self.by_namespace),
            version: self.version,
            journal: Arc::clone(&self.journal),
        }
    }
}

impl<T> Default for Lister<T> {
    fn default() -> Self {
        Self { by_namespace: Arc::default(), version: 0, journal: Arc::default() }
    }
}

impl<T: fmt::Debug> fmt::Debug for Lister<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T> Lister<T> {
    /// The object of this name; the namespace of objects that have none is empty.
    pub fn get(&self, namespace: &str, name: &str) -> Option<&Arc<T>> {
        self.by_namespace.get(namespace)?.get(name)?.current()
    }

    /// All objects.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.by_namespace.values().flat_map(|objects| objects.values().filter_map(Entry::current))
    }

    /// The objects of one namespace.
    pub fn in_namespace(&self, namespace: &str) -> impl Iterator<Item = &Arc<T>> {
        let objects = self.by_namespace.get(namespace).into_iter();
        objects.flat_map(|objects| objects.values().filter_map(Entry::current))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Grows with every change. Listers with the same version have the same objects.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The namespaces and names of the objects that changed since the version; `None` if that is not
    /// known: the version is another lister's, or too old.
    pub(crate) fn changes_since(&self, version: u64) -> Option<impl Iterator<Item = (&str, &str)>> {
        let Journal { base, changes } = &*self.journal;
        let first = match version == self.version {
            true => changes.len(),
            false if version == *base => 0,
            false => changes.binary_search_by_key(&version, |change| change.0).ok()? + 1,
        };
        Some(changes.range(first..).map(|(_, namespace, name)| (&**namespace, &**name)))
    }
}

impl<T: Kind> Lister<T> {
    /// Takes over what was seen. It ends an assumption if it is newer.
    pub fn apply(&mut self, old: Option<&Arc<T>>, new: Option<&Arc<T>>) {
        match (old, new) {
            (_, Some(new)) => self.change(new, |entry| {
                if entry.assumed.as_ref().is_some_and(|assumed| supersedes(&**new, &**assumed)) {
                    entry.assumed = None;
                }
                entry.seen = Some(Arc::clone(new));
            }),
            (Some(old), None) => self.change(old, |entry| {
                *entry = Entry { seen: None, assumed: None };
            }),
            (None, None) => {}
        }
    }

    /// Reads `object` in place of what was seen, until something newer is seen.
    pub fn assume(&mut self, object: &Arc<T>) {
        self.change(object, |entry| entry.assumed = Some(Arc::clone(object)));
    }

    /// Ends the assumption of `object`, unless another has taken its place.
    pub fn forget(&mut self, object: &Arc<T>) {
        self.change(object, |entry| {
            if entry.assumed.as_ref().is_some_and(|assumed| Arc::ptr_eq(assumed, object)) {
                entry.assumed = None;
            }
        });
    }

    fn change(&mut self, object: &Arc<T>, act: impl FnOnce(&mut Entry<T>)) {
        let meta = object.metadata();
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let name = meta.name.as_deref().unwrap_or_default();
        let before = self.version;
        self.version = VERSION.fetch_add(1, Ordering::Relaxed) + 1;
        if T::IS_JOURNALED {
            Arc::make_mut(&mut self.journal).add(before, self.version, namespace, name);
        }
        let by_namespace = Arc::make_mut(&mut self.by_namespace);
        let objects = Arc::make_mut(by_namespace.entry(namespace.into()).or_default());
        let entry = objects.entry(name.into());
        let entry = entry.or_insert_with(|| Entry { seen: None, assumed: None });
        act(entry);
        if entry.current().is_none() {
            objects.remove(name);
            if objects.is_empty() {
                by_namespace.remove(namespace);
            }
        }
    }
}

impl Journal {
    fn add(&mut self, before: u64, after: u64, namespace: &str, name: &str) {
        if self.changes.is_empty() {
            self.base = before;
        }
        if self.changes.len() == JOURNAL_MAX
            && let Some((oldest, ..)) = self.changes.pop_front()
        {
            self.base = oldest;
        }
        self.changes.push_back((after, namespace.into(), name.into()));
    }
}

/// Whether what was seen ends an assumption: it is another object of the name, or it is not the
/// version that the assumption was made from. Versions that are numbers compare as such
/// (`assume_cache.go`); others only for equality. An allocation is assumed until it is seen: the
/// finalizer that is written before it, or another's change, must not make its devices look free
/// (`inFlightAllocations`).
fn supersedes<T: Kind>(seen: &T, assumed: &T) -> bool {
    let (after, before) = (seen.metadata(), assumed.metadata());
    let number = |meta: &ObjectMeta| meta.resource_version.as_ref()?.parse::<u64>().ok();
    let is_newer = match (number(after), number(before)) {
        (Some(after), Some(before)) => after > before,
        _ => after.resource_version != before.resource_version,
    };
    if before.uid.is_none() && is_allocated(assumed) {
        // A claim that was decided to be made: it is seen without its allocation first.
        return is_allocated(seen);
    }
    after.uid != before.uid || (is_newer && (is_allocated(seen) || !is_allocated(assumed)))
}

/// Whether it is a claim that has its devices.
fn is_allocated<T: Kind>(object: &T) -> bool {
    let claim = (object as &dyn Any).downcast_ref::<ResourceClaim>();
    let status = claim.and_then(|claim| claim.status.as_ref());
    status.is_some_and(|status| status.allocation.is_some())
}
