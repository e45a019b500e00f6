//! Revisions: which ReplicaSet is which, and which old ones are kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};

use super::draft::{DESIRED_REPLICAS, Draft, MAX_REPLICAS, stored_replicas};

/// The revision annotation of a Deployment and its ReplicaSets; `kubectl rollout` reads it.
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";

/// The revisions that a ReplicaSet had before, when a roll-back made it new again.
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";

/// The revision of a ReplicaSet; 0 without a valid annotation.
pub(super) fn revision(replica_set: &ReplicaSet) -> i64 {
    let annotations = replica_set.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(REVISION)).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The revision after the highest of these ReplicaSets.
pub(super) fn next_revision(old: &[Draft]) -> i64 {
    old.iter().map(|draft| revision(&draft.stored)).max().unwrap_or(0).saturating_add(1)
}

/// Give the new ReplicaSet the Deployment's annotations and the revision, unless it has a higher
/// one already; the revision it had before goes to its history.
pub(super) fn annotate_new(deployment: &Deployment, new: &mut Draft, next: i64) {
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !NOT_COPIED.contains(&key.as_str()) {
            new.annotations.insert(key.clone(), value.clone());
        }
    }
    let before = new.annotations.get(REVISION).cloned();
    let before_number = before.as_deref().and_then(|text| text.parse::<i64>().ok()).unwrap_or(0);
    if before_number >= next {
        return;
    }
    new.annotations.insert(REVISION.to_owned(), next.to_string());
    if let Some(before) = before {
        remember(&mut new.annotations, before);
    }
}

fn remember(annotations: &mut BTreeMap<String, String>, revision: String) {
    let history = annotations.entry(REVISION_HISTORY.to_owned()).or_default();
    if history.is_empty() {
        *history = revision;
        return;
    }
    // The oldest make room for the newest.
    while history.len() + 1 + revision.len() > HISTORY_CHARS_MAX {
        match history.split_once(',') {
            Some((_, rest)) => *history = rest.to_owned(),
            None => {
                *history = revision;
                return;
            }
        }
    }
    history.push(',');
    history.push_str(&revision);
}

/// The old ReplicaSets beyond `spec.revisionHistoryLimit`, oldest revisions first. One that has or
/// wants pods, or whose status is behind, stays for now.
pub(super) fn surplus(deployment: &Deployment, old: &[Draft]) -> Vec<Arc<ReplicaSet>> {
    let limit = deployment.spec.as_ref().and_then(|spec| spec.revision_history_limit);
    let limit = usize::try_from(limit.unwrap_or(HISTORY_LIMIT_DEFAULT)).unwrap_or(0);
    let mut alive: Vec<&Arc<ReplicaSet>> = old
        .iter()
        .map(|draft| &draft.stored)
        .filter(|stored| stored.metadata.deletion_timestamp.is_none())
        .collect();
    alive.sort_by_key(|stored| (revision(stored), stored.metadata.creation_timestamp.clone()));
    let surplus = alive.len().saturating_sub(limit);
    alive.truncate(surplus);
    alive.into_iter().filter(|stored| is_idle(stored)).cloned().collect()
}

fn is_idle(replica_set: &ReplicaSet) -> bool {
    let status = replica_set.status.clone().unwrap_or_default();
    status.replicas == 0
        && stored_replicas(replica_set) == 0
        && replica_set.metadata.generation.unwrap_or(0) <= status.observed_generation.unwrap_or(0)
}

/// Annotations that belong to one object alone.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
];

/// The API's default of `spec.revisionHistoryLimit`.
const HISTORY_LIMIT_DEFAULT: i32 = 10;

/// Upstream's maxRevHistoryLengthInChars: an annotation must stay small.
const HISTORY_CHARS_MAX: usize = 2000;
