//! What is left in a namespace, and how its status says so. Pure.
//!
//! Mirrors status_condition_utils.go.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition, NamespaceStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use pintle_api::scheme::Resource;

/// What is left of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Remaining {
    /// The finalizers of all objects, with repetitions.
    pub(super) finalizers: Vec<String>,
    pub(super) objects: usize,
}

/// What is left of all kinds, by name of the resource.
#[derive(Debug, Default)]
pub(super) struct Content {
    failures: Vec<String>,
    finalizers: BTreeMap<String, usize>,
    objects: BTreeMap<String, usize>,
}

impl Content {
    pub(super) fn add(&mut self, resource: &Resource, result: Result<Remaining, String>) {
        let name = match resource.group() {
            "" => format!("{}.", resource.plural),
            group => format!("{}.{group}", resource.plural),
        };
        match result {
            Err(failure) => self.failures.push(failure),
            Ok(remaining) => {
                if remaining.objects > 0 {
                    self.objects.insert(name, remaining.objects);
                }
                for finalizer in remaining.finalizers {
                    *self.finalizers.entry(finalizer).or_default() += 1;
                }
            }
        }
    }

    /// What could not be deleted or counted.
    pub(super) fn failure(&self) -> Option<String> {
        (!self.failures.is_empty()).then(|| self.failures.join(", "))
    }
}

/// When to look again; nothing if all is gone.
pub(super) fn retry_after(content: &Content) -> Option<Duration> {
    if content.objects.is_empty() {
        return None;
    }
    Some(if content.finalizers.is_empty() { RETRY } else { RETRY_FINALIZERS })
}

/// The namespace's status with what is left.
pub(super) fn status(namespace: &Namespace, content: &Content, now: Timestamp) -> NamespaceStatus {
    let before = namespace.status.clone().unwrap_or_default();
    let mut conditions = before.conditions.unwrap_or_default();
    for wanted in wanted(content) {
        set(&mut conditions, wanted, now);
    }
    NamespaceStatus { conditions: Some(conditions), phase: Some("Terminating".to_owned()) }
}

/// Type, status, reason, message.
type Wanted = (&'static str, bool, &'static str, String);

fn wanted(content: &Content) -> [Wanted; 5] {
    let failure = content.failure();
    [
        (
            "NamespaceDeletionDiscoveryFailure",
            false,
            "ResourcesDiscovered",
            "All resources successfully discovered".to_owned(),
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            false,
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed".to_owned(),
        ),
        match failure {
            Some(failure) => (
                "NamespaceDeletionContentFailure",
                true,
                "ContentDeletionFailed",
                format!("Failed to delete all resource types, {failure}"),
            ),
            None => (
                "NamespaceDeletionContentFailure",
                false,
                "ContentDeleted",
                "All content successfully deleted, may be waiting on finalization".to_owned(),
            ),
        },
        if content.objects.is_empty() {
            (
                "NamespaceContentRemaining",
                false,
                "ContentRemoved",
                "All content successfully removed".to_owned(),
            )
        } else {
            let all = content.objects.iter();
            let all = all.map(|(name, count)| format!("{name} has {count} resource instances"));
            let all: Vec<String> = all.collect();
            let message = format!("Some resources are remaining: {}", all.join(", "));
            ("NamespaceContentRemaining", true, "SomeResourcesRemain", message)
        },
        if content.finalizers.is_empty() {
            (
                "NamespaceFinalizersRemaining",
                false,
                "ContentHasNoFinalizers",
                "All content-preserving finalizers finished".to_owned(),
            )
        } else {
            let all = content.finalizers.iter();
            let all = all.map(|(name, count)| format!("{name} in {count} resource instances"));
            let all: Vec<String> = all.collect();
            let all = all.join(", ");
            let message = format!("Some content in the namespace has finalizers remaining: {all}");
            ("NamespaceFinalizersRemaining", true, "SomeFinalizersRemain", message)
        },
    ]
}

fn set(conditions: &mut Vec<NamespaceCondition>, wanted: Wanted, now: Timestamp) {
    let (kind, holds, reason, message) = wanted;
    let status = if holds { "True" } else { "False" };
    let at = conditions.iter().position(|condition| condition.type_ == kind);
    let since = at
        .filter(|at| conditions[*at].status == status)
        .map_or(Some(Time(now)), |at| conditions[at].last_transition_time.clone());
    let condition = NamespaceCondition {
        last_transition_time: since,
        message: Some(message),
        reason: Some(reason.to_owned()),
        status: status.to_owned(),
        type_: kind.to_owned(),
    };
    match at {
        Some(at) => conditions[at] = condition,
        None => conditions.push(condition),
    }
}

/// Pods end within their grace period; a look is one list a kind.
const RETRY: Duration = Duration::from_secs(1);

/// Finalizers are others' work; upstream waits 15 s for them, halved.
const RETRY_FINALIZERS: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use pintle_api::scheme::{Kind, of};

    use super::*;

    #[test]
    fn what_remains_is_told_in_upstreams_words() {
        let mut content = Content::default();
        assert_eq!(retry_after(&content), None);
        let pods = Remaining { finalizers: vec!["x/y".to_owned(); 2], objects: 3 };
        content.add(of(Kind::Pod).unwrap(), Ok(pods));
        content.add(of(Kind::Deployment).unwrap(), Ok(Remaining::default()));
        assert_eq!(retry_after(&content), Some(RETRY_FINALIZERS));
        let now = Timestamp::UNIX_EPOCH;
        let mut namespace = Namespace { status: None, ..Namespace::default() };
        let first = status(&namespace, &content, now);
        assert_eq!(first.phase.as_deref(), Some("Terminating"));
        let told: Vec<(String, String)> = first
            .conditions
            .clone()
            .unwrap()
            .into_iter()
            .filter(|condition| condition.status == "True")
            .map(|condition| (condition.type_, condition.message.unwrap()))
            .collect();
        let expected = [
            (
                "NamespaceContentRemaining",
                "Some resources are remaining: pods. has 3 resource instances",
            ),
            (
                "NamespaceFinalizersRemaining",
                "Some content in the namespace has finalizers remaining: x/y in 2 resource instances",
            ),
        ];
        assert_eq!(told, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
        namespace.status = Some(first.clone());
        let later = Timestamp::from_second(9).unwrap();
        assert_eq!(status(&namespace, &content, later), first);
    }

    #[test]
    fn a_failure_keeps_the_namespace() {
        let mut content = Content::default();
        content.add(of(Kind::Pod).unwrap(), Err("no".to_owned()));
        assert_eq!(content.failure().as_deref(), Some("no"));
    }
}
