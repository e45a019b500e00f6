//! The garbage collector: deletes objects whose owners are all gone, holds back owners that are
//! deleted in the foreground, and lets go the dependents of owners that are deleted as orphans.
//!
//! Mirrors pkg/controller/garbagecollector over the served kinds. [`graph`] follows owner references
//! by uid from one watch a kind; [`plan`] decides. Before anything is deleted the object and each
//! owner that the graph does not know are asked for on the server. Events are not collected: they
//! own nothing and expire. Not here: a cache of absent owners; kinds that are not in the scheme, for
//! which an owner counts as present.

mod graph;
mod plan;

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Client;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use parking_lot::Mutex;
use pintle_api::scheme::{Kind, Resource, by_kind};
use pintle_client::{Informer, ObjectKey};
use serde_json::json;

use crate::Error;
use crate::owner::release_patch;
use crate::stub::{self, Stub};
use crate::work_queue::WorkQueue;
use crate::worker::Sync;

use graph::{FOREGROUND, Graph, Item, ORPHAN};
use plan::{Fate, Owner, Propagation, fate};

/// Works on uids; a key's name is one.
pub(crate) struct GarbageCollector {
    client: Client,
    graph: Arc<Mutex<Graph>>,
    pub(crate) queue: WorkQueue<ObjectKey>,
}

impl GarbageCollector {
    /// A collector that knows nothing yet.
    pub(crate) fn new(client: Client, queue: WorkQueue<ObjectKey>) -> Self {
        Self { client, graph: Arc::default(), queue }
    }

    /// The kinds to watch.
    pub(crate) fn resources() -> impl Iterator<Item = &'static Resource> {
        stub::served(&["list", "watch", "delete"]).filter(|resource| resource.kind != Kind::Event)
    }

    /// Follow one kind.
    pub(crate) fn subscribe(&self, resource: &'static Resource, informer: &Informer<Stub>) {
        let (graph, queue) = (Arc::clone(&self.graph), self.queue.clone());
        informer.on_change(move |change| {
            let mut affected = Vec::new();
            let mut graph = graph.lock();
            let before = change.old.as_ref().map(|stub| Item::of(resource, &stub.metadata));
            let after = change.new.as_ref().map(|stub| Item::of(resource, &stub.metadata));
            // A relist may show another object under the same name.
            if let Some(before) = before
                && after.as_ref().is_none_or(|after| after.uid != before.uid)
            {
                affected.extend(graph.remove(&before.uid));
            }
            if let Some(after) = after {
                affected.extend(graph.put(after));
            }
            drop(graph);
            for uid in affected {
                queue.add(ObjectKey::cluster(&uid));
            }
        });
    }

    /// The object as the server has it, if it is still the same.
    async fn live(&self, item: &Item) -> Result<Option<Stub>, Error> {
        let api = stub::api(&self.client, item.resource, &item.key.namespace);
        let act = format!("get {} {}", item.resource.singular, item.key);
        let live = api.get_opt(&item.key.name).await.map_err(Error::api(act))?;
        Ok(live.filter(|live| live.metadata.uid.as_ref() == Some(&item.uid)))
    }

    /// What is known of each owner of `item`, by uid.
    async fn owners(&self, item: &Item) -> Result<HashMap<String, Owner>, Error> {
        let mut owners = HashMap::new();
        for reference in &item.owners {
            let known = self.known(item, reference);
            let state = match known {
                Some(state) => state,
                None => self.ask(item, reference).await?,
            };
            owners.insert(reference.uid.clone(), state);
        }
        Ok(owners)
    }

    /// What the graph knows. An owner in another namespace is none.
    fn known(&self, item: &Item, reference: &OwnerReference) -> Option<Owner> {
        let graph = self.graph.lock();
        let owner = graph.get(&reference.uid)?;
        if owner.resource.namespaced && owner.key.namespace != item.key.namespace {
            return None;
        }
        Some(if owner.waits_for_dependents() { Owner::Waiting } else { Owner::Present })
    }

    async fn ask(&self, item: &Item, reference: &OwnerReference) -> Result<Owner, Error> {
        let Some(resource) = by_kind(&reference.api_version, &reference.kind) else {
            return Ok(Owner::Present);
        };
        if resource.namespaced && item.key.namespace.is_empty() {
            // A cluster-scoped object cannot have a namespaced owner; upstream warns and keeps it.
            return Ok(Owner::Present);
        }
        let api = stub::api(&self.client, resource, &item.key.namespace);
        let act = format!("get {} {}, an owner", resource.singular, reference.name);
        let live = api.get_opt(&reference.name).await.map_err(Error::api(act))?;
        let live = live.filter(|live| live.metadata.uid.as_ref() == Some(&reference.uid));
        Ok(match live.map(|live| Item::of(resource, &live.metadata)) {
            None => Owner::Absent,
            Some(owner) if owner.waits_for_dependents() => Owner::Waiting,
            Some(_) => Owner::Present,
        })
    }

    async fn act(&self, item: &Item, live: &Stub, fate: Fate) -> Result<(), Error> {
        match fate {
            Fate::Keep => Ok(()),
            Fate::Dependents(uids) => {
                for uid in uids {
                    self.queue.add(ObjectKey::cluster(&uid));
                }
                Ok(())
            }
            Fate::Delete(propagation) => self.delete(item, live, propagation).await,
            Fate::Release => self.remove_finalizer(item, live, FOREGROUND).await,
            Fate::Orphan(dependents) => {
                for uid in dependents {
                    self.let_go(item, &uid).await?;
                }
                self.remove_finalizer(item, live, ORPHAN).await
            }
            Fate::RemoveOwners(uids) => {
                let mut owners = live.metadata.owner_references.clone().unwrap_or_default();
                owners.retain(|owner| !uids.contains(&owner.uid));
                self.patch(
                    item,
                    live,
                    "drop the gone owners of",
                    json!({ "ownerReferences": owners }),
                )
                .await
            }
        }
    }

    async fn delete(
        &self,
        item: &Item,
        live: &Stub,
        propagation: Propagation,
    ) -> Result<(), Error> {
        let params = match propagation {
            Propagation::Background => DeleteParams::background(),
            Propagation::Foreground => DeleteParams::foreground(),
            Propagation::Orphan => DeleteParams::orphan(),
        };
        // The version: an owner may have been added since.
        let params = params.preconditions(Preconditions {
            resource_version: live.metadata.resource_version.clone(),
            uid: live.metadata.uid.clone(),
        });
        tracing::debug!(kind = item.resource.kind.name(), object = %item.key, "collect");
        let api = stub::api(&self.client, item.resource, &item.key.namespace);
        let act = format!("collect {} {}", item.resource.singular, item.key);
        match api.delete(&item.key.name, &params).await.map_err(Error::api(act)) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// Take the reference to `owner` out of a dependent.
    async fn let_go(&self, owner: &Item, uid: &str) -> Result<(), Error> {
        let Some(dependent) = self.graph.lock().get(uid).cloned() else { return Ok(()) };
        let Some(live) = self.live(&dependent).await? else { return Ok(()) };
        let patch = release_patch(&live.metadata, &owner.uid);
        self.send(&dependent, "orphan", &patch).await
    }

    async fn remove_finalizer(
        &self,
        item: &Item,
        live: &Stub,
        finalizer: &str,
    ) -> Result<(), Error> {
        let mut finalizers = live.metadata.finalizers.clone().unwrap_or_default();
        finalizers.retain(|found| found != finalizer);
        let act = format!("remove the finalizer {finalizer} of");
        self.patch(item, live, &act, json!({ "finalizers": finalizers })).await
    }

    /// Change the metadata of the version that was looked at.
    async fn patch(
        &self,
        item: &Item,
        live: &Stub,
        act: &str,
        mut metadata: serde_json::Value,
    ) -> Result<(), Error> {
        metadata["resourceVersion"] = json!(live.metadata.resource_version);
        metadata["uid"] = json!(live.metadata.uid);
        self.send(item, act, &json!({ "metadata": metadata })).await
    }

    async fn send(&self, item: &Item, act: &str, patch: &serde_json::Value) -> Result<(), Error> {
        let api = stub::api(&self.client, item.resource, &item.key.namespace);
        let act = format!("{act} {} {}", item.resource.singular, item.key);
        let sent = api.patch(&item.key.name, &PatchParams::default(), &Patch::Merge(patch)).await;
        match sent.map_err(Error::api(act)) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}

impl Sync for GarbageCollector {
    const NAME: &'static str = "garbage_collector";

    async fn sync(&self, key: &ObjectKey) -> Result<(), Error> {
        let cached = self.graph.lock().get(&key.name).cloned();
        let Some(cached) = cached else { return Ok(()) };
        let Some(live) = self.live(&cached).await? else { return Ok(()) };
        let item = Item::of(cached.resource, &live.metadata);
        let owners = self.owners(&item).await?;
        let fate = {
            let graph = self.graph.lock();
            let state =
                |owner: &OwnerReference| owners.get(&owner.uid).copied().unwrap_or(Owner::Present);
            fate(&graph, &item, state)
        };
        self.act(&item, &live, fate).await
    }
}

#[cfg(test)]
mod tests;
