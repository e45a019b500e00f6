//! The graph and the fates, alone and in a model cluster.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use pintle_api::scheme::{Kind, of};
use pintle_client::ObjectKey;
use proptest::prelude::*;

use super::graph::{FOREGROUND, Graph, Item, ORPHAN};
use super::plan::{Fate, Owner, Propagation, fate};

fn item(uid: &str, owners: &[&str]) -> Item {
    let owner = |uid: &&str| OwnerReference {
        block_owner_deletion: Some(true),
        name: (*uid).to_owned(),
        uid: (*uid).to_owned(),
        ..OwnerReference::default()
    };
    Item {
        deleting: false,
        finalizers: Vec::new(),
        key: ObjectKey::new("default", uid),
        owners: owners.iter().map(owner).collect(),
        resource: of(Kind::ConfigMap).unwrap(),
        uid: uid.to_owned(),
    }
}

fn going(uid: &str, owners: &[&str], finalizer: &str) -> Item {
    let mut item = item(uid, owners);
    item.deleting = true;
    item.finalizers = vec![finalizer.to_owned()];
    item
}

fn fate_in(graph: &Graph, uid: &str) -> Fate {
    let known = |owner: &OwnerReference| match graph.get(&owner.uid) {
        None => Owner::Absent,
        Some(item) if item.waits_for_dependents() => Owner::Waiting,
        Some(_) => Owner::Present,
    };
    fate(graph, graph.get(uid).unwrap(), known)
}

#[test]
fn fates_by_the_state_of_the_owners() {
    let mut graph = Graph::default();
    graph.put(item("solid", &[]));
    graph.put(going("waiting", &[], FOREGROUND));
    graph.put(item("leaf", &["waiting"]));
    graph.put(item("both", &["solid", "absent", "waiting"]));
    graph.put(item("orphaned", &["absent"]));
    graph.put(item("parent", &["waiting"]));
    graph.put(item("child", &["parent"]));
    assert_eq!(fate_in(&graph, "solid"), Fate::Keep);
    assert_eq!(fate_in(&graph, "child"), Fate::Keep);
    assert_eq!(fate_in(&graph, "orphaned"), Fate::Delete(Propagation::Background));
    assert_eq!(fate_in(&graph, "leaf"), Fate::Delete(Propagation::Background));
    assert_eq!(fate_in(&graph, "parent"), Fate::Delete(Propagation::Foreground));
    let useless = vec!["absent".to_owned(), "waiting".to_owned()];
    assert_eq!(fate_in(&graph, "both"), Fate::RemoveOwners(useless));
    let dependents = ["both", "leaf", "parent"].map(str::to_owned).to_vec();
    assert_eq!(fate_in(&graph, "waiting"), Fate::Dependents(dependents));
    for uid in ["both", "leaf", "parent"] {
        graph.remove(uid);
    }
    assert_eq!(fate_in(&graph, "waiting"), Fate::Release);
}

#[test]
fn orphaning_lets_the_dependents_go() {
    let mut graph = Graph::default();
    graph.put(item("child", &["parent"]));
    let affected = graph.put(going("parent", &[], ORPHAN));
    assert_eq!(affected, ["parent"]);
    assert_eq!(fate_in(&graph, "parent"), Fate::Orphan(vec!["child".to_owned()]));
}

#[test]
fn the_last_dependent_wakes_the_owner_that_waits() {
    let mut graph = Graph::default();
    graph.put(going("parent", &[], FOREGROUND));
    assert_eq!(graph.put(item("child", &["parent"])), ["child"]);
    assert_eq!(graph.remove("child"), ["parent"]);
}

/// A model: objects by uid with their owners, and a collector that follows them by events.
#[derive(Default)]
struct Model {
    graph: Graph,
    objects: BTreeMap<String, Item>,
    queue: BTreeSet<String>,
}

impl Model {
    fn put(&mut self, item: Item) {
        self.objects.insert(item.uid.clone(), item.clone());
        self.queue.extend(self.graph.put(item));
    }

    fn remove(&mut self, uid: &str) {
        self.objects.remove(uid);
        self.queue.extend(self.graph.remove(uid));
    }

    /// As the server deletes.
    fn delete(&mut self, uid: &str, propagation: Propagation) {
        let Some(mut item) = self.objects.get(uid).cloned() else { return };
        match propagation {
            Propagation::Background => return self.remove(uid),
            Propagation::Foreground => item.finalizers.push(FOREGROUND.to_owned()),
            Propagation::Orphan => item.finalizers.push(ORPHAN.to_owned()),
        }
        item.deleting = true;
        self.put(item);
    }

    fn drop_owners(&mut self, uid: &str, owners: &[String]) {
        let mut item = self.objects[uid].clone();
        item.owners.retain(|owner| !owners.contains(&owner.uid));
        self.put(item);
    }

    fn settle(&mut self) {
        // More steps than the objects can need: a loop would be noticed by the assertions.
        for _ in 0..1000 {
            let Some(uid) = self.queue.pop_first() else { return };
            if self.graph.get(&uid).is_none() {
                continue;
            }
            match fate_in(&self.graph, &uid) {
                Fate::Keep => {}
                Fate::Delete(propagation) => self.delete(&uid, propagation),
                Fate::Dependents(uids) => self.queue.extend(uids),
                Fate::Release => self.remove(&uid),
                Fate::Orphan(dependents) => {
                    for dependent in dependents {
                        self.drop_owners(&dependent, std::slice::from_ref(&uid));
                    }
                    self.remove(&uid);
                }
                Fate::RemoveOwners(owners) => self.drop_owners(&uid, &owners),
            }
        }
        panic!("the collector does not come to rest");
    }
}

proptest! {
    /// Without orphaning, exactly those stay that were not deleted and have no owners, or keep an
    /// owner; nobody refers to what is gone.
    #[test]
    fn what_stays_has_an_owner_that_stays(
        owners in proptest::collection::vec(proptest::collection::btree_set(0..12_usize, 0..3), 1..12),
        deletions in proptest::collection::vec((0..12_usize, any::<bool>()), 0..6),
    ) {
        let mut model = Model::default();
        let name = |n: usize| format!("o{n:02}");
        // Owners come before their dependents, so that there are no cycles.
        let owners: Vec<Vec<usize>> = owners
            .iter()
            .enumerate()
            .map(|(n, set)| set.iter().copied().filter(|owner| *owner < n).collect())
            .collect();
        for (n, set) in owners.iter().enumerate() {
            let set: Vec<String> = set.iter().map(|owner| name(*owner)).collect();
            model.put(item(&name(n), &set.iter().map(String::as_str).collect::<Vec<_>>()));
        }
        model.settle();
        let mut deleted = BTreeSet::new();
        for (n, foreground) in deletions {
            let how = if foreground { Propagation::Foreground } else { Propagation::Background };
            if model.objects.get(&name(n)).is_some_and(|item| !item.deleting) {
                model.delete(&name(n), how);
                deleted.insert(n);
                model.settle();
            }
        }
        let mut stays: Vec<bool> = Vec::new();
        for (n, set) in owners.iter().enumerate() {
            let kept = set.is_empty() || set.iter().any(|owner| stays[*owner]);
            stays.push(kept && !deleted.contains(&n));
        }
        let expected: Vec<String> =
            (0..owners.len()).filter(|n| stays[*n]).map(name).collect();
        let found: Vec<String> = model.objects.keys().cloned().collect();
        prop_assert_eq!(found, expected);
    }
}
