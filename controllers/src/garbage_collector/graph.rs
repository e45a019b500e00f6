//! Who owns whom, by uid, as the watches show it. Pure.

use std::collections::{BTreeSet, HashMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use pintle_api::scheme::Resource;
use pintle_client::ObjectKey;

/// Waits for the dependents that block it.
pub(super) const FOREGROUND: &str = "foregroundDeletion";

/// Waits for its dependents to be let go.
pub(super) const ORPHAN: &str = "orphan";

/// One object.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) deleting: bool,
    pub(super) finalizers: Vec<String>,
    pub(super) key: ObjectKey,
    pub(super) owners: Vec<OwnerReference>,
    pub(super) resource: &'static Resource,
    pub(super) uid: String,
}

impl Item {
    pub(super) fn of(resource: &'static Resource, meta: &ObjectMeta) -> Self {
        Self {
            deleting: meta.deletion_timestamp.is_some(),
            finalizers: meta.finalizers.clone().unwrap_or_default(),
            key: ObjectKey {
                namespace: meta.namespace.clone().unwrap_or_default(),
                name: meta.name.clone().unwrap_or_default(),
            },
            owners: meta.owner_references.clone().unwrap_or_default(),
            resource,
            uid: meta.uid.clone().unwrap_or_default(),
        }
    }

    /// Whether it is going and waits for its dependents to go first.
    pub(super) fn waits_for_dependents(&self) -> bool {
        self.deleting && self.has_finalizer(FOREGROUND)
    }

    /// Whether it is going and its dependents are to stay.
    pub(super) fn orphans_dependents(&self) -> bool {
        self.deleting && self.has_finalizer(ORPHAN)
    }

    fn has_finalizer(&self, finalizer: &str) -> bool {
        self.finalizers.iter().any(|found| found == finalizer)
    }

    fn blocks(&self, owner_uid: &str) -> bool {
        self.owners
            .iter()
            .any(|owner| owner.uid == owner_uid && owner.block_owner_deletion == Some(true))
    }
}

/// All objects and the references between them.
#[derive(Default)]
pub(super) struct Graph {
    items: HashMap<String, Item>,
    /// Also for owners that were never seen.
    dependents: HashMap<String, BTreeSet<String>>,
}

impl Graph {
    pub(super) fn get(&self, uid: &str) -> Option<&Item> {
        self.items.get(uid)
    }

    /// The objects that refer to `uid`.
    pub(super) fn dependents(&self, uid: &str) -> Vec<&Item> {
        let uids = self.dependents.get(uid);
        uids.into_iter().flatten().filter_map(|uid| self.items.get(uid)).collect()
    }

    /// The dependents that keep `uid` while it waits for them.
    pub(super) fn blocking(&self, uid: &str) -> Vec<&Item> {
        self.dependents(uid).into_iter().filter(|item| item.blocks(uid)).collect()
    }

    /// An object was added or changed; the uids to look at.
    pub(super) fn put(&mut self, item: Item) -> Vec<String> {
        let uid = item.uid.clone();
        let mut affected = self.unlink(&uid);
        for owner in &item.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(uid.clone());
            affected.retain(|other| *other != owner.uid);
        }
        // Owners it no longer has may have waited for it. It itself is looked at if it is going and
        // waits, or if an owner is not known to be there for good.
        let doubtful = |owner: &OwnerReference| {
            self.items.get(&owner.uid).is_none_or(Item::waits_for_dependents)
        };
        let waits = item.waits_for_dependents() || item.orphans_dependents();
        if waits || item.owners.iter().any(doubtful) {
            affected.push(uid.clone());
        }
        self.items.insert(uid, item);
        affected
    }

    /// An object is gone; the uids to look at: its dependents, and owners that waited for it.
    pub(super) fn remove(&mut self, uid: &str) -> Vec<String> {
        let mut affected = self.unlink(uid);
        self.items.remove(uid);
        affected.extend(self.dependents.get(uid).into_iter().flatten().cloned());
        affected
    }

    /// Take the object's references out; the owners that wait for their dependents.
    fn unlink(&mut self, uid: &str) -> Vec<String> {
        let owners = self.items.get(uid).map(|item| item.owners.clone()).unwrap_or_default();
        let mut waiting = Vec::new();
        for owner in owners {
            if let Some(dependents) = self.dependents.get_mut(&owner.uid) {
                dependents.remove(uid);
                if dependents.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
            if self.items.get(&owner.uid).is_some_and(Item::waits_for_dependents) {
                waiting.push(owner.uid);
            }
        }
        waiting
    }
}
