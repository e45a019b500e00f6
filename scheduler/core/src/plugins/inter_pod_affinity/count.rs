//! Who is where, as far as a pod's required terms and those of the others are concerned: counted
//! afresh over all pods.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ByDomain;
use crate::cache::Snapshot;
use crate::pod::{AffinityTerm, PodInfo};

/// What filtering measures a pod against.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Pods whose required anti-affinity is about the pod, in the domains of those terms.
    pub existing_anti: ByDomain,
    /// Pods that match all the pod's required affinity terms, in the domain of each.
    pub affinity: ByDomain,
    /// Pods that match a required anti-affinity term of the pod, in the term's domain.
    pub anti: ByDomain,
    /// Whether the pod matches all its own required affinity terms, and has some.
    pub selects_itself: bool,
}

impl Counts {
    /// Looks at every pod that may matter.
    pub fn scan(pod: &PodInfo, snapshot: &Snapshot) -> Self {
        let required = Reach::all(&pod.affinity().required, snapshot);
        let required_anti = Reach::all(&pod.affinity().required_anti, snapshot);
        let mut counts = Self { selects_itself: matches_all(&required, pod), ..Self::default() };
        counts.add_existing_anti(pod, snapshot);
        if required.is_empty() && required_anti.is_empty() {
            return counts;
        }
        for node in snapshot.nodes() {
            for other in node.pods() {
                if matches_all(&required, other) {
                    for reach in &required {
                        counts.affinity.add(node.node(), &reach.term.topology_key, 1);
                    }
                }
                for reach in required_anti.iter().filter(|reach| reach.matches(other)) {
                    counts.anti.add(node.node(), &reach.term.topology_key, 1);
                }
            }
        }
        counts
    }

    fn add_existing_anti(&mut self, pod: &PodInfo, snapshot: &Snapshot) {
        if snapshot.pods_with_affinity() == 0 {
            return;
        }
        let labels = namespace_labels(pod, snapshot);
        for node in snapshot.nodes() {
            for other in node.pods_with_affinity() {
                for term in &other.affinity().required_anti {
                    if term.matches(pod, labels) {
                        self.existing_anti.add(node.node(), &term.topology_key, 1);
                    }
                }
            }
        }
    }
}

/// A term of the pod to be scheduled, with its namespaces looked up.
#[derive(Clone, Debug)]
pub struct Reach<'a> {
    /// The term.
    pub term: &'a AffinityTerm,
    /// The namespaces it reaches; `None` for all of them, present and future.
    pub namespaces: Option<Vec<&'a str>>,
}

impl<'a> Reach<'a> {
    /// A term that reaches namespaces without labels reaches all: release 1.35 adds the selected
    /// namespaces to the named ones, and then also asks the selector, without any labels. So
    /// `NotIn` and `DoesNotExist` exclude nothing.
    pub fn new(term: &'a AffinityTerm, snapshot: &'a Snapshot) -> Self {
        let selector = &term.namespace_selector;
        let no_labels: Option<&BTreeMap<String, String>> = None;
        if selector.matches(&no_labels) {
            return Self { term, namespaces: None };
        }
        let mut namespaces: Vec<&str> = term.namespaces.iter().map(AsRef::as_ref).collect();
        if !selector.is_nothing() {
            let all = snapshot.objects().namespaces.iter();
            let selected = all.filter(|namespace| selector.matches(&namespace.metadata.labels));
            namespaces.extend(selected.filter_map(|n| n.metadata.name.as_deref()));
            namespaces.sort_unstable();
            namespaces.dedup();
        }
        Self { term, namespaces: Some(namespaces) }
    }

    /// The terms of a list.
    pub fn all(terms: &'a [Arc<AffinityTerm>], snapshot: &'a Snapshot) -> Vec<Self> {
        terms.iter().map(|term| Self::new(term, snapshot)).collect()
    }

    /// Whether the term is about `other`.
    pub fn matches(&self, other: &PodInfo) -> bool {
        self.includes(other.namespace()) && self.term.selector.matches(&other.pod.metadata.labels)
    }

    fn includes(&self, namespace: &str) -> bool {
        self.namespaces.as_ref().is_none_or(|names| names.contains(&namespace))
    }
}

/// Whether `other` matches every term, and there are some.
pub(crate) fn matches_all(terms: &[Reach<'_>], other: &PodInfo) -> bool {
    !terms.is_empty() && terms.iter().all(|reach| reach.matches(other))
}

/// The labels of the pod's namespace.
pub(crate) fn namespace_labels<'a>(
    pod: &PodInfo,
    snapshot: &'a Snapshot,
) -> Option<&'a BTreeMap<String, String>> {
    snapshot.objects().namespaces.get("", pod.namespace())?.metadata.labels.as_ref()
}
