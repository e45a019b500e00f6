//! What to do about one Deployment: objects and the time in, actions out.
//!
//! Mirrors syncDeployment of deployment_controller.go with sync.go, rolling.go and recreate.go.
//! Upstream interleaves reads and writes; here one pass over the drafts of all ReplicaSets yields
//! all writes. Not here: the rollback annotation of the removed extensions API.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use pintle_client::EventRecord;

use super::draft::Draft;
use super::status::Conditions;
use super::{is_paused, revision, rolling, status, template};
use crate::owner::controller_of;
use crate::pod;

/// One write.
#[derive(Clone, Debug)]
pub(super) enum Action {
    /// Create the ReplicaSet of the current template.
    CreateReplicaSet { replica_set: Box<ReplicaSet>, event: Option<EventRecord> },
    /// Change a ReplicaSet's size or annotations.
    UpdateReplicaSet {
        annotations: BTreeMap<String, String>,
        event: Option<EventRecord>,
        min_ready_seconds: Option<i32>,
        replicas: i32,
        stored: Arc<ReplicaSet>,
    },
    /// Delete an old ReplicaSet without pods.
    DeleteReplicaSet(Arc<ReplicaSet>),
    /// Note the revision on the Deployment.
    SetRevision(String),
}

/// All that is to be done now, in order, and when to look again.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) actions: Vec<Action>,
    pub(super) status: DeploymentStatus,
    pub(super) check_after: Option<Duration>,
}

/// Plan for `deployment`, which owns `replica_sets`; `pods` are those of the ReplicaSets.
pub(super) fn plan(
    deployment: &Deployment,
    replica_sets: &[Arc<ReplicaSet>],
    pods: &[Arc<Pod>],
    now: Timestamp,
) -> Plan {
    let (mut new, mut old) = split(deployment, replica_sets);
    let mut conditions = Conditions::of(deployment, now);
    if deployment.metadata.deletion_timestamp.is_some() {
        let status = status::status(deployment, &old, new.as_ref(), conditions, false);
        return Plan { actions: Vec::new(), status, check_after: None };
    }
    status::note_pause(deployment, &mut conditions);
    let all: Vec<&Draft> = old.iter().chain(&new).collect();
    let rollout = !is_paused(deployment) && !rolling::is_scaling(deployment, &all);
    if !rollout {
        sync_revision(deployment, &old, &mut new, &mut conditions);
        rolling::scale(deployment, &mut old, new.as_mut());
    } else if rolling::is_rolling(deployment) {
        roll(deployment, &mut old, &mut new, &mut conditions);
    } else {
        recreate(deployment, &mut old, &mut new, pods, &mut conditions);
    }
    let status = status::status(deployment, &old, new.as_ref(), conditions, rollout);
    let check_after = status::check_after(deployment, &status, now);
    let complete = status::is_complete(deployment, &status);
    let clean_up = if rollout { complete } else { is_paused(deployment) };
    Plan { actions: actions(deployment, old, new, clean_up), status, check_after }
}

/// The ReplicaSet of the current template, and the others. If several have it, the oldest is it.
fn split(deployment: &Deployment, replica_sets: &[Arc<ReplicaSet>]) -> (Option<Draft>, Vec<Draft>) {
    let wanted = deployment.spec.as_ref().map(|spec| &spec.template);
    let mut sorted: Vec<&Arc<ReplicaSet>> = replica_sets.iter().collect();
    sorted.sort_by_key(|set| (set.metadata.creation_timestamp.clone(), set.metadata.name.clone()));
    let is_new = |set: &Arc<ReplicaSet>| {
        let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
        template.zip(wanted).is_some_and(|(has, wants)| template::equal(has, wants))
    };
    let at = sorted.iter().position(|set| is_new(set));
    let new = at.map(|at| Draft::of(Arc::clone(sorted.remove(at))));
    (new, sorted.into_iter().map(|set| Draft::of(Arc::clone(set))).collect())
}

/// Bring the new ReplicaSet's annotations up to date.
fn sync_revision(
    deployment: &Deployment,
    old: &[Draft],
    new: &mut Option<Draft>,
    conditions: &mut Conditions,
) {
    let Some(new) = new else { return };
    revision::annotate_new(deployment, new, revision::next_revision(old));
    new.min_ready_seconds = deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
    status::note_new(deployment, new, conditions);
}

/// Make the new ReplicaSet if it is not there, at the size the surge allows.
fn ensure_new<'a>(
    deployment: &Deployment,
    old: &[Draft],
    new: &'a mut Option<Draft>,
    conditions: &mut Conditions,
) -> &'a mut Draft {
    if new.is_none() {
        let mut draft = Draft::create(template::new_replica_set(deployment));
        let size = rolling::new_size(deployment, old, &draft);
        draft.scale(size, deployment);
        *new = Some(draft);
    }
    sync_revision(deployment, old, new, conditions);
    new.as_mut().expect("made above")
}

/// RollingUpdate: up where there is room, else down where availability allows.
fn roll(
    deployment: &Deployment,
    old: &mut [Draft],
    new: &mut Option<Draft>,
    conditions: &mut Conditions,
) {
    let new = ensure_new(deployment, old, new, conditions);
    if !rolling::reconcile_new(deployment, old, new) {
        rolling::reconcile_old(deployment, old, new);
    }
}

/// Recreate: the new pods start when the last old one is gone.
fn recreate(
    deployment: &Deployment,
    old: &mut [Draft],
    new: &mut Option<Draft>,
    pods: &[Arc<Pod>],
    conditions: &mut Conditions,
) {
    sync_revision(deployment, old, new, conditions);
    let mut scaled = false;
    for draft in old.iter_mut().filter(|draft| draft.replicas > 0) {
        draft.scale(0, deployment);
        scaled = true;
    }
    if scaled || old_pods_run(new.as_ref(), pods) {
        return;
    }
    let new = ensure_new(deployment, old, new, conditions);
    rolling::reconcile_new(deployment, old, new);
}

/// A pod that is being deleted still runs; one at its end does not.
fn old_pods_run(new: Option<&Draft>, pods: &[Arc<Pod>]) -> bool {
    let new_uid = new.and_then(|new| new.stored.metadata.uid.as_ref());
    pods.iter().any(|pod| {
        let owner = controller_of(&pod.metadata).map(|owner| &owner.uid);
        owner != new_uid && !pod::is_terminal(pod)
    })
}

fn actions(
    deployment: &Deployment,
    old: Vec<Draft>,
    new: Option<Draft>,
    clean_up: bool,
) -> Vec<Action> {
    let surplus = if clean_up { revision::surplus(deployment, &old) } else { Vec::new() };
    let revision = new.as_ref().and_then(|new| new.annotations.get(revision::REVISION)).cloned();
    let noted =
        deployment.metadata.annotations.as_ref().and_then(|all| all.get(revision::REVISION));
    let revision = revision.filter(|revision| Some(revision) != noted);
    let mut actions: Vec<Action> = new.into_iter().filter_map(Draft::into_action).collect();
    actions.extend(revision.map(Action::SetRevision));
    actions.extend(old.into_iter().filter_map(Draft::into_action));
    actions.extend(surplus.into_iter().map(Action::DeleteReplicaSet));
    actions
}
