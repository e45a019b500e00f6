//! What to do about one object, given what is known of its owners. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::graph::{FOREGROUND, Graph, Item, ORPHAN};

/// What is known of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// Asked the server: it is not there, or another object has its name.
    Absent,
    /// It is there.
    Present,
    /// It is going, and waits for its dependents.
    Waiting,
}

/// One object's fate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Delete it; its own dependents follow after, first or never.
    Delete(Propagation),
    /// It is going: look at these dependents, which keep it.
    Dependents(Vec<String>),
    /// It stays.
    Keep,
    /// It is going: nothing keeps it, so take the foreground finalizer away.
    Release,
    /// It is going: take the references to it out of these dependents, then the orphan finalizer.
    Orphan(Vec<String>),
    /// It stays: take the references to these owners away.
    RemoveOwners(Vec<String>),
}

/// What becomes of the dependents of a deleted object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Propagation {
    Background,
    Foreground,
    Orphan,
}

/// Decide on `item`, whose `owners` are known as far as `owner` tells.
pub(super) fn fate(graph: &Graph, item: &Item, owner: impl Fn(&OwnerReference) -> Owner) -> Fate {
    if item.orphans_dependents() {
        let dependents = graph.dependents(&item.uid);
        return Fate::Orphan(dependents.iter().map(|item| item.uid.clone()).collect());
    }
    if item.waits_for_dependents() {
        let blocking = graph.blocking(&item.uid);
        if blocking.is_empty() {
            return Fate::Release;
        }
        let dependents = graph.dependents(&item.uid).into_iter();
        let idle = dependents.filter(|dependent| !dependent.deleting);
        return Fate::Dependents(idle.map(|dependent| dependent.uid.clone()).collect());
    }
    if item.deleting || item.owners.is_empty() {
        return Fate::Keep;
    }
    let known: Vec<(&OwnerReference, Owner)> =
        item.owners.iter().map(|reference| (reference, owner(reference))).collect();
    let with = |state| known.iter().filter(move |(_, found)| *found == state);
    if with(Owner::Present).next().is_some() {
        let useless = known.iter().filter(|(_, found)| *found != Owner::Present);
        let useless: Vec<String> = useless.map(|(owner, _)| owner.uid.clone()).collect();
        return if useless.is_empty() { Fate::Keep } else { Fate::RemoveOwners(useless) };
    }
    if with(Owner::Waiting).next().is_some() && !graph.dependents(&item.uid).is_empty() {
        return Fate::Delete(Propagation::Foreground);
    }
    Fate::Delete(own_propagation(item))
}

/// Finalizers that were there before say what was asked for.
fn own_propagation(item: &Item) -> Propagation {
    let has = |finalizer: &str| item.finalizers.iter().any(|found| found == finalizer);
    if has(ORPHAN) {
        Propagation::Orphan
    } else if has(FOREGROUND) {
        Propagation::Foreground
    } else {
        Propagation::Background
    }
}
