//! The informer's cache: objects by key, secondary indices, and the changes an event makes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use kube::runtime::watcher::Event;

/// Namespace and name of an object; the namespace of a cluster-scoped one is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// The namespace, or nothing.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ObjectKey {
    /// The key of a namespaced object.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// The key of a cluster-scoped object.
    #[must_use]
    pub fn cluster(name: &str) -> Self {
        Self::new("", name)
    }

    /// The key of `object`.
    #[must_use]
    pub fn of<K: kube::Resource>(object: &K) -> Self {
        let meta = object.meta();
        Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            return f.write_str(&self.name);
        }
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A secondary index: objects are found by the one value the function gives them, if any.
#[derive(Debug)]
pub struct Indexer<K> {
    /// What the index is called by readers.
    pub name: &'static str,
    /// The object's value under this index.
    pub value: fn(&K) -> Option<String>,
}

impl<K> Clone for Indexer<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Indexer<K> {}

/// What happened to one object. At least one side is there.
#[derive(Debug)]
pub struct Change<K> {
    /// Before; nothing if it was added.
    pub old: Option<Arc<K>>,
    /// After; nothing if it was deleted. Then `old` is the last state seen.
    pub new: Option<Arc<K>>,
}

impl<K> Change<K> {
    /// The object after the change, or the last one seen.
    #[must_use]
    pub fn latest(&self) -> &Arc<K> {
        self.new.as_ref().or(self.old.as_ref()).expect("a change has a side")
    }
}

type Index = HashMap<String, BTreeSet<ObjectKey>>;

/// Objects by key and by index. Without locks; [`super::Informer`] shares it.
pub struct Cache<K> {
    objects: BTreeMap<ObjectKey, Arc<K>>,
    indexers: Vec<Indexer<K>>,
    indices: Vec<Index>,
    /// The keys seen by a list that is under way.
    listed: Option<BTreeSet<ObjectKey>>,
}

impl<K: kube::Resource> Cache<K> {
    /// An empty cache with these indices.
    #[must_use]
    pub fn new(indexers: &[Indexer<K>]) -> Self {
        Self {
            objects: BTreeMap::new(),
            indexers: indexers.to_vec(),
            indices: indexers.iter().map(|_| Index::new()).collect(),
            listed: None,
        }
    }

    /// The object of this key.
    #[must_use]
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.objects.get(key).cloned()
    }

    /// All objects, ordered by key.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<K>> {
        self.objects.values().cloned().collect()
    }

    /// The objects of one namespace, ordered by name.
    #[must_use]
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.objects
            .range(ObjectKey::new(namespace, "")..)
            .take_while(|(key, _)| key.namespace == namespace)
            .map(|(_, object)| Arc::clone(object))
            .collect()
    }

    /// The objects with `value` in the index `name`, ordered by key.
    #[must_use]
    pub fn by_index(&self, name: &str, value: &str) -> Vec<Arc<K>> {
        let position = self.indexers.iter().position(|indexer| indexer.name == name);
        debug_assert!(position.is_some(), "no index {name:?}");
        let keys = position.and_then(|at| self.indices[at].get(value));
        keys.into_iter().flatten().filter_map(|key| self.get(key)).collect()
    }

    /// Apply a watch event and say what changed. A relist reports as deleted what it did not name,
    /// and is silent about objects whose resourceVersion is the cached one.
    pub fn apply(&mut self, event: Event<K>) -> Vec<Change<K>> {
        match event {
            Event::Apply(object) => self.put(object).into_iter().collect(),
            Event::Delete(object) => self.remove(&ObjectKey::of(&object)).into_iter().collect(),
            Event::Init => {
                self.listed = Some(BTreeSet::new());
                Vec::new()
            }
            Event::InitApply(object) => {
                if let Some(listed) = &mut self.listed {
                    listed.insert(ObjectKey::of(&object));
                }
                self.put(object).into_iter().collect()
            }
            Event::InitDone => {
                let listed = self.listed.take().unwrap_or_default();
                let gone: Vec<ObjectKey> =
                    self.objects.keys().filter(|key| !listed.contains(key)).cloned().collect();
                gone.iter().filter_map(|key| self.remove(key)).collect()
            }
        }
    }

    fn put(&mut self, object: K) -> Option<Change<K>> {
        let key = ObjectKey::of(&object);
        let new = Arc::new(object);
        let old = self.objects.insert(key.clone(), Arc::clone(&new));
        if let Some(old) = &old {
            self.unindex(&key, old);
        }
        for (indexer, index) in self.indexers.iter().zip(&mut self.indices) {
            if let Some(value) = (indexer.value)(&new) {
                index.entry(value).or_default().insert(key.clone());
            }
        }
        let version = &new.meta().resource_version;
        if version.is_some()
            && old.as_ref().map(|old| &old.meta().resource_version) == Some(version)
        {
            return None;
        }
        Some(Change { old, new: Some(new) })
    }

    fn remove(&mut self, key: &ObjectKey) -> Option<Change<K>> {
        let old = self.objects.remove(key)?;
        self.unindex(key, &old);
        Some(Change { old: Some(old), new: None })
    }

    fn unindex(&mut self, key: &ObjectKey, object: &K) {
        for (indexer, index) in self.indexers.iter().zip(&mut self.indices) {
            let Some(value) = (indexer.value)(object) else { continue };
            if let Some(keys) = index.get_mut(&value) {
                keys.remove(key);
                if keys.is_empty() {
                    index.remove(&value);
                }
            }
        }
    }
}
