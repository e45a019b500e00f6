//! A pod's affinity to other pods, parsed once.
//!
//! Mirrors `AffinityTerm` of `k8s.io/kube-scheduler/framework`. `matchLabelKeys` and
//! `mismatchLabelKeys` are not looked at: the API server has merged them into the label selector when
//! it created the pod.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodAffinityTerm, WeightedPodAffinityTerm};
use pintle_api::labels::{Selector, SelectorError};

use super::PodInfo;

/// The terms of `spec.affinity.podAffinity` and `podAntiAffinity`.
#[derive(Debug, Default)]
pub struct AffinityTerms {
    /// Some pod must match all of them, in the node's domains.
    pub required: Vec<Arc<AffinityTerm>>,
    /// No pod in the node's domain may match any of them.
    pub required_anti: Vec<Arc<AffinityTerm>>,
    /// Pods that match them attract.
    pub preferred: Vec<WeightedTerm>,
    /// Pods that match them repel.
    pub preferred_anti: Vec<WeightedTerm>,
    /// What did not parse, in Kubernetes' wording. A list with such a term counts as empty.
    pub errors: Vec<String>,
}

/// A term without any, for pods without affinity.
static NONE: AffinityTerms = AffinityTerms {
    required: Vec::new(),
    required_anti: Vec::new(),
    preferred: Vec::new(),
    preferred_anti: Vec::new(),
    errors: Vec::new(),
};

/// Which pods a term is about, and in which domain.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct AffinityTerm {
    /// Ordered: `namespaces`, or the pod's own if the term names none and has no selector for them.
    pub namespaces: Vec<Box<str>>,
    /// `namespaceSelector`.
    pub namespace_selector: Selector,
    /// `labelSelector`.
    pub selector: Selector,
    /// `topologyKey`.
    pub topology_key: Box<str>,
}

/// A preferred term.
#[derive(Debug)]
pub struct WeightedTerm {
    /// The term.
    pub term: Arc<AffinityTerm>,
    /// 1..=100.
    pub weight: i32,
}

impl PodInfo {
    /// What the pod wants of other pods.
    pub fn affinity(&self) -> &AffinityTerms {
        self.affinity.as_deref().unwrap_or(&NONE)
    }
}

impl AffinityTerms {
    /// The terms of a pod; `None` if it has no pod affinity at all.
    pub(super) fn of(pod: &Pod) -> Option<Box<Self>> {
        let affinity = pod.spec.as_ref()?.affinity.as_ref()?;
        let (near, far) = (affinity.pod_affinity.as_ref(), affinity.pod_anti_affinity.as_ref());
        if near.is_none() && far.is_none() {
            return None;
        }
        let mut terms = Self::default();
        let required =
            near.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_deref());
        terms.required =
            terms.parse("requiredAffinityTerms", required, |term| AffinityTerm::new(pod, term));
        let required =
            far.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_deref());
        terms.required_anti =
            terms.parse("requiredAntiAffinityTerms", required, |term| AffinityTerm::new(pod, term));
        let preferred =
            near.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_deref());
        terms.preferred =
            terms.parse("preferredAffinityTerms", preferred, |term| WeightedTerm::new(pod, term));
        let preferred =
            far.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_deref());
        terms.preferred_anti = terms
            .parse("preferredAntiAffinityTerms", preferred, |term| WeightedTerm::new(pod, term));
        Some(Box::new(terms))
    }

    fn parse<V1, T>(
        &mut self,
        list: &str,
        terms: Option<&[V1]>,
        parse: impl Fn(&V1) -> Result<T, SelectorError>,
    ) -> Vec<T> {
        let parsed: Result<Vec<T>, _> = terms.unwrap_or_default().iter().map(parse).collect();
        parsed.unwrap_or_else(|error| {
            self.errors.push(format!("{list}: {error}"));
            Vec::new()
        })
    }

    /// Whether there is no term that could concern another pod.
    pub fn is_empty(&self) -> bool {
        self.required.is_empty()
            && self.required_anti.is_empty()
            && self.preferred.is_empty()
            && self.preferred_anti.is_empty()
    }
}

impl AffinityTerm {
    fn new(pod: &Pod, term: &PodAffinityTerm) -> Result<Arc<Self>, SelectorError> {
        let named = term.namespaces.as_deref().unwrap_or_default();
        let own = named.is_empty() && term.namespace_selector.is_none();
        let mut namespaces: Vec<Box<str>> = match own {
            true => vec![super::namespace_of(pod).into()],
            false => named.iter().map(|name| name.as_str().into()).collect(),
        };
        namespaces.sort_unstable();
        namespaces.dedup();
        Ok(Arc::new(Self {
            namespaces,
            selector: Selector::try_from(term.label_selector.as_ref())?,
            namespace_selector: Selector::try_from(term.namespace_selector.as_ref())?,
            topology_key: term.topology_key.as_str().into(),
        }))
    }

    /// Whether the term, of a pod that is there already, is about `pod`, whose namespace has these
    /// labels.
    pub fn matches(
        &self,
        pod: &PodInfo,
        namespace_labels: Option<&BTreeMap<String, String>>,
    ) -> bool {
        let named = self.namespaces.iter().any(|name| **name == *pod.namespace());
        (named || self.namespace_selector.matches(&namespace_labels))
            && self.selector.matches(&pod.pod.metadata.labels)
    }
}

impl WeightedTerm {
    fn new(pod: &Pod, term: &WeightedPodAffinityTerm) -> Result<Self, SelectorError> {
        let weight = term.weight;
        Ok(Self { term: AffinityTerm::new(pod, &term.pod_affinity_term)?, weight })
    }
}
