//! InterPodAffinity's answers from the counters.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;

use super::Counters;
use super::domain::{Domains, Keys, NONE, number};
use super::group::{Group, Kind};
use super::selection::Question;
use crate::cache::{NodeInfo, Snapshot};
use crate::framework::{NodeFilter, NodeScore, PreFilter, PreScore, Verdict};
use crate::plugins::InterPodAffinity;
use crate::plugins::inter_pod_affinity::{self as plugin, Reach, Refusal};
use crate::pod::PodInfo;

impl Counters {
    /// `None` also if the pod does not parse.
    pub(super) fn inter_pod_filter(
        &mut self,
        pod: &PodInfo,
        snapshot: &Snapshot,
    ) -> Option<PreFilter<'static>> {
        let terms = pod.affinity();
        if !terms.errors.is_empty() {
            return None;
        }
        if terms.is_empty() && snapshot.pods_with_affinity() == 0 {
            return Some(PreFilter::Skip);
        }
        if !self.follow(snapshot) {
            return None;
        }
        let labels = plugin::namespace_labels(pod, snapshot);
        let groups = self.groups.about(pod, labels)?;
        let groups = groups.filter(|g| g.kind() == Kind::RequiredAnti && g.total > 0);
        let existing = Existing::new(groups.map(|group| Counts::of(group, &self.keys)).collect());
        if existing.is_empty() && terms.required.is_empty() && terms.required_anti.is_empty() {
            return Some(PreFilter::Skip);
        }
        let required = Reach::all(&terms.required, snapshot);
        let wanted = self.wanted(&required)?;
        let is_first_of_series =
            wanted.iter().all(|counts| counts.total == 0) && plugin::matches_all(&required, pod);
        let mut avoided = Vec::with_capacity(terms.required_anti.len());
        for reach in Reach::all(&terms.required_anti, snapshot) {
            let counts = self.counts(question(&[&reach]), &reach.term.topology_key)?;
            if counts.total > 0 {
                avoided.push(counts);
            }
        }
        let filter = Filter { wanted, is_first_of_series, avoided, existing };
        Some(PreFilter::every_node(filter))
    }

    pub(super) fn inter_pod_score(
        &mut self,
        plugin: &InterPodAffinity,
        pod: &PodInfo,
        snapshot: &Snapshot,
    ) -> Option<PreScore<'static>> {
        let terms = pod.affinity();
        let has_preferences = !terms.preferred.is_empty() || !terms.preferred_anti.is_empty();
        let ignored = plugin.ignore_preferred_terms_of_existing_pods;
        if !has_preferences && (ignored || snapshot.pods_with_affinity() == 0) {
            return Some(PreScore::Skip);
        }
        if !self.follow(snapshot) {
            return None;
        }
        let mut sums = Sums::default();
        let labels = plugin::namespace_labels(pod, snapshot);
        let hard_weight = i64::from(plugin.hard_pod_affinity_weight);
        for group in self.groups.about(pod, labels)? {
            match group.kind() {
                Kind::Required if hard_weight > 0 => {
                    sums.add(&Counts::of(group, &self.keys), hard_weight);
                }
                Kind::Preferred => {
                    sums.add(&Counts::of(group, &self.keys), group.weight().into());
                }
                Kind::PreferredAnti => {
                    let weight = group.weight().wrapping_neg();
                    sums.add(&Counts::of(group, &self.keys), weight.into());
                }
                Kind::Required | Kind::RequiredAnti => {}
            }
        }
        let near = terms.preferred.iter().map(|t| (&t.term, t.weight));
        let far = terms.preferred_anti.iter().map(|t| (&t.term, t.weight.wrapping_neg()));
        for (term, weight) in near.chain(far) {
            let reach = Reach::new(term, snapshot);
            let counts = self.counts(question(&[&reach]), &term.topology_key)?;
            sums.add(&counts, weight.into());
        }
        Some(if sums.is_empty() { PreScore::Skip } else { PreScore::each(Score { sums }) })
    }

    /// The pods that match all the terms, by the domains of each.
    fn wanted(&mut self, required: &[Reach<'_>]) -> Option<Vec<Counts>> {
        let all: Vec<&Reach<'_>> = required.iter().collect();
        let counts = |reach: &Reach<'_>| self.counts(question(&all), &reach.term.topology_key);
        required.iter().map(counts).collect()
    }

    fn counts(&mut self, question: Question, key: &str) -> Option<Counts> {
        let key = self.key(key)?;
        let selection = self.selections.number(question, &self.rows, &self.looks);
        let (by_domain, total) = self.selections.by_domain(selection, key, &self.keys);
        Some(Counts { key, domains: self.keys.get(key).domains(), by_domain, total })
    }
}

pub(super) fn question(reaches: &[&Reach<'_>]) -> Question {
    let part = |reach: &&Reach<'_>| {
        let namespaces = reach.namespaces.as_ref();
        let namespaces = namespaces.map(|names| names.iter().map(|&name| name.into()).collect());
        (namespaces, reach.term.selector.clone())
    };
    Question { parts: reaches.iter().map(part).collect(), counts_leaving: true }
}

/// Pods by the domains of one key.
struct Counts {
    key: usize,
    domains: Domains,
    by_domain: Arc<Vec<u32>>,
    total: u64,
}

impl Counts {
    fn of(group: &Group, keys: &Keys) -> Self {
        let (domains, by_domain) = (keys.get(group.key).domains(), Arc::clone(&group.by_domain));
        Self { key: group.key, domains, by_domain, total: group.total }
    }

    fn at(&self, domain: u32) -> u32 {
        number(&self.by_domain, domain)
    }
}

/// The pods whose anti-affinity is about the pod.
enum Existing {
    /// By term: nothing is added up for a pod that asks of a few nodes only.
    Few(Vec<Counts>),
    /// By key.
    Many(Sums),
}

/// More terms than this are added up before nodes are looked at; in tests few, so that both are.
const TERMS_MAX: usize = if cfg!(test) { 1 } else { 8 };

impl Existing {
    fn new(counts: Vec<Counts>) -> Self {
        if counts.len() <= TERMS_MAX {
            return Self::Few(counts);
        }
        let mut sums = Sums::default();
        counts.iter().for_each(|counts| sums.add(counts, 1));
        Self::Many(sums)
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Few(counts) => counts.is_empty(),
            Self::Many(sums) => sums.is_empty(),
        }
    }

    fn refuse(&self, domain: impl Fn(&Domains) -> u32) -> bool {
        match self {
            Self::Few(all) => all.iter().any(|counts| counts.at(domain(&counts.domains)) > 0),
            Self::Many(sums) => sums.of(domain).any(|count| count > 0),
        }
    }
}

/// Weighted counts by key and domain.
#[derive(Default)]
struct Sums(Vec<Sum>);

struct Sum {
    key: usize,
    domains: Domains,
    by_domain: Vec<i64>,
}

impl Sums {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Counts of no pod leave no trace: whether there is a sum at all matters.
    fn add(&mut self, counts: &Counts, weight: i64) {
        let Counts { key, domains, by_domain: counts, total } = counts;
        if *total == 0 {
            return;
        }
        let at = self.0.iter().position(|sum| sum.key == *key).unwrap_or_else(|| {
            self.0.push(Sum { key: *key, domains: domains.clone(), by_domain: Vec::new() });
            self.0.len() - 1
        });
        let sums = &mut self.0[at].by_domain;
        if sums.len() < counts.len() {
            sums.resize(counts.len(), 0);
        }
        for (sum, count) in sums.iter_mut().zip(&**counts) {
            *sum += weight * i64::from(*count);
        }
    }

    /// The sums of the domains that a node is in.
    fn of<'a>(&'a self, domain: impl Fn(&Domains) -> u32 + 'a) -> impl Iterator<Item = i64> + 'a {
        let sums = self.0.iter();
        sums.filter_map(move |sum| sum.by_domain.get(domain(&sum.domains) as usize).copied())
    }
}

struct Filter {
    wanted: Vec<Counts>,
    is_first_of_series: bool,
    /// Without those that no pod matches.
    avoided: Vec<Counts>,
    existing: Existing,
}

impl Filter {
    fn verdict(&self, node: &Node, domain: impl Fn(&Domains) -> u32 + Copy) -> Verdict {
        let mut pods_exist = true;
        for counts in &self.wanted {
            let domain = domain(&counts.domains);
            if domain == NONE && !counts.domains.includes(node) {
                return Err(Refusal::Wanted.rejection());
            }
            pods_exist &= counts.at(domain) > 0;
        }
        if !pods_exist && !self.is_first_of_series {
            return Err(Refusal::Wanted.rejection());
        }
        if self.avoided.iter().any(|counts| counts.at(domain(&counts.domains)) > 0) {
            return Err(Refusal::Avoided.rejection());
        }
        if self.existing.refuse(domain) {
            return Err(Refusal::Existing.rejection());
        }
        Ok(())
    }
}

impl NodeFilter for Filter {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        self.verdict(node.node(), |domains| domains.of(node.node()))
    }

    fn filter_at(&self, row: usize, node: &NodeInfo) -> Verdict {
        self.verdict(node.node(), |domains| domains.at(row))
    }
}

struct Score {
    sums: Sums,
}

impl NodeScore for Score {
    fn score(&self, node: &NodeInfo) -> i64 {
        self.sums.of(|domains| domains.of(node.node())).sum()
    }

    fn score_at(&self, row: usize, _node: &NodeInfo) -> i64 {
        self.sums.of(|domains| domains.at(row)).sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        plugin::normalize(scores);
    }
}
