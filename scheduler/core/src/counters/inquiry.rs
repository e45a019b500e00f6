//! What InterPodAffinity and PodTopologySpread ask about a pod, by the numbers of what is counted.
//!
//! Working an inquiry out takes parsing selectors and looking up namespaces, Services and terms. It
//! is remembered for pods that are alike in what it is made from, until one of these changes.
//! Inquiries of pods that are not alike may still be equal: what is kept for one serves them all.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Affinity, PodSpec, TopologySpreadConstraint};
use rustc_hash::{FxHashMap, FxHasher};

use super::Counters;
use super::domain::number;
use super::group::Kind;
use super::inter_pod::question;
use super::selection::Question;
use crate::cache::Snapshot;
use crate::plugins::InterPodAffinity;
use crate::plugins::inter_pod_affinity::{self as inter_pod, Reach};
use crate::plugins::pod_topology_spread::{Constraint, HOSTNAME, PodTopologySpread};
use crate::pod::{AffinityTerm, PodInfo};

/// The plugins that are asked about a pod.
#[derive(Debug, Default)]
pub struct Asked<'a> {
    /// Which profile's they are.
    pub plan: usize,
    /// InterPodAffinity, if it is asked.
    pub affinity: Option<Part<'a, InterPodAffinity>>,
    /// PodTopologySpread, if it is asked.
    pub spread: Option<Part<'a, PodTopologySpread>>,
}

/// One plugin, and what it is asked for.
#[derive(Debug)]
pub struct Part<'a, T> {
    /// The plugin.
    pub plugin: &'a T,
    /// Whether it filters.
    pub filters: bool,
    /// What its score counts; 0 if it does not score.
    pub weight: i64,
}

/// What is asked.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub struct Inquiry {
    /// Pods that must be in the node's domains; if there are none at all, the pod may be the first of
    /// its series.
    pub(super) wanted: Vec<Count>,
    pub(super) selects_itself: bool,
    /// Pods that must not be in the node's domains.
    pub(super) unwanted: Vec<Count>,
    /// Pods that attract or repel.
    pub(super) weighted: Vec<(Count, i64)>,
    /// DoNotSchedule constraints.
    pub(super) limits: Vec<Spread>,
    /// ScheduleAnyway constraints.
    pub(super) weighed: Vec<Spread>,
    /// Whether nodes that lack the key of a constraint that scores are left out.
    pub(super) requires_all_keys: bool,
}

/// Some pods by the domains of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Count {
    pub(super) key: usize,
    source: Source,
    /// Of the source: its number may be another's later.
    serial: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Source {
    Group(usize),
    Selection(usize),
}

/// A constraint.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Spread {
    pub(super) key: usize,
    pub(super) is_hostname: bool,
    /// The selection of the pods that count, and its serial number; `None` if none counts.
    selection: Option<(usize, u64)>,
    /// Whether the pod itself would count.
    pub(super) is_selected: bool,
    pub(super) max_skew: i32,
    pub(super) min_domains: i32,
    pub(super) honors_affinity: bool,
    pub(super) honors_taints: bool,
}

impl Inquiry {
    /// Whether nothing is asked: no node is refused, and none is better than another.
    pub fn is_empty(&self) -> bool {
        let Self { wanted, unwanted, weighted, limits, weighed, .. } = self;
        wanted.is_empty()
            && unwanted.is_empty()
            && weighted.is_empty()
            && limits.is_empty()
            && weighed.is_empty()
    }
}

impl Counters {
    /// What the plugins ask about the pod, everything that changed taken over; `None` as for
    /// [`Counters::pre_filter`].
    pub fn inquiry(
        &mut self,
        asked: &Asked<'_>,
        pod: &Arc<PodInfo>,
        snapshot: &Snapshot,
    ) -> Option<Arc<Inquiry>> {
        if !self.follow(snapshot) {
            return None;
        }
        let hash = hash(asked, pod);
        let versions = self.versions(snapshot);
        if let Some(known) = self.inquiries.find(hash, asked, pod)
            && known.versions == versions
        {
            let inquiry = Arc::clone(&known.inquiry);
            return self.keep(&inquiry).then_some(inquiry);
        }
        let inquiry = Arc::new(self.inquire(asked, pod, snapshot)?);
        let versions = self.versions(snapshot);
        self.inquiries.remember(hash, asked, pod, versions, &inquiry);
        // With few selections kept, the last may have taken the place of the first.
        self.keep(&inquiry).then_some(inquiry)
    }

    /// Whether a constraint meets both nodes without its label and nodes with an empty one, which the
    /// plugin takes for one domain.
    pub fn is_ambiguous(&self, inquiry: &Inquiry) -> bool {
        let is_mixed = |spread: &Spread| {
            let key = self.keys.get(spread.key);
            !key.is_everywhere(self.rows.len()) && key.domain("").is_some()
        };
        !inquiry.requires_all_keys && inquiry.weighed.iter().any(is_mixed)
    }

    /// The pods counted, by domain of the key, and all of them together.
    pub(super) fn by_domain(&self, count: &Count) -> (&[u32], u64) {
        match count.source {
            Source::Group(at) => {
                let group = self.groups.get(at).filter(|group| group.serial == count.serial);
                group.map_or((&[], 0), |group| (group.by_domain.as_slice(), group.total))
            }
            Source::Selection(at) => self.selections.known(at, count.key),
        }
    }

    /// How many of the pods that are spread are in the row.
    pub(super) fn in_row(&self, spread: &Spread, row: usize) -> u32 {
        let by_row = |(at, _)| self.selections.by_row(at);
        spread.selection.map_or(0, |at| by_row(at).get(row).copied().unwrap_or(0))
    }

    /// How many of the pods counted are in the domain.
    pub(super) fn in_domain(&self, count: &Count, domain: u32) -> u32 {
        number(self.by_domain(count).0, domain)
    }

    fn versions(&self, snapshot: &Snapshot) -> Versions {
        let objects = snapshot.objects();
        let versions = [
            objects.namespaces.version(),
            objects.services.version(),
            objects.replication_controllers.version(),
            objects.replica_sets.version(),
            objects.stateful_sets.version(),
        ];
        Versions {
            objects: versions.iter().sum(),
            groups: self.groups.version(),
            selections: self.selections.given_up(),
        }
    }

    /// Keeps the selections of an inquiry for a while; false if some are given up.
    fn keep(&mut self, inquiry: &Inquiry) -> bool {
        let counts = inquiry.wanted.iter().chain(&inquiry.unwanted);
        let counts = counts.chain(inquiry.weighted.iter().map(|(count, _)| count));
        let of_terms = counts.filter_map(|count| match count.source {
            Source::Selection(at) => Some((at, count.serial)),
            Source::Group(_) => None,
        });
        let constraints = inquiry.limits.iter().chain(&inquiry.weighed);
        let mut all = of_terms.chain(constraints.filter_map(|spread| spread.selection));
        all.all(|(at, serial)| self.selections.touch(at, serial))
    }

    fn inquire(
        &mut self,
        asked: &Asked<'_>,
        pod: &PodInfo,
        snapshot: &Snapshot,
    ) -> Option<Inquiry> {
        let mut inquiry = Inquiry::default();
        if let Some(part) = &asked.affinity {
            self.ask_of_groups(part, pod, snapshot, &mut inquiry)?;
            self.ask_of_terms(part, pod, snapshot, &mut inquiry)?;
            // Groups are found in no particular order.
            inquiry.unwanted.sort_unstable();
            inquiry.weighted.sort_unstable();
        }
        if let Some(Part { plugin, filters, weight }) = &asked.spread {
            if *filters {
                let constraints = plugin.hard_constraints(pod, snapshot).ok()?;
                inquiry.limits = self.spreads(pod, constraints)?;
            }
            if *weight != 0 {
                let constraints = plugin.soft_constraints(pod, snapshot).ok()?;
                inquiry.weighed = self.spreads(pod, constraints)?;
                inquiry.requires_all_keys = plugin.requires_all_keys(pod);
            }
        }
        Some(inquiry)
    }

    /// What the terms of other pods say of the pod.
    fn ask_of_groups(
        &self,
        part: &Part<'_, InterPodAffinity>,
        pod: &PodInfo,
        snapshot: &Snapshot,
        inquiry: &mut Inquiry,
    ) -> Option<()> {
        let labels = inter_pod::namespace_labels(pod, snapshot);
        let hard_weight = i64::from(part.plugin.hard_pod_affinity_weight);
        let scores = part.weight != 0 && scores_for(part.plugin, pod);
        for group in self.groups.about(pod, labels)? {
            let source = Source::Group(group.at);
            let count = Count { key: group.key, source, serial: group.serial };
            let weight = match group.kind() {
                Kind::RequiredAnti => {
                    if part.filters {
                        inquiry.unwanted.push(count);
                    }
                    0
                }
                Kind::Required => hard_weight.max(0),
                Kind::Preferred => group.weight().into(),
                Kind::PreferredAnti => group.weight().wrapping_neg().into(),
            };
            if scores && weight != 0 {
                inquiry.weighted.push((count, weight));
            }
        }
        Some(())
    }

    /// What the pod's own terms say.
    fn ask_of_terms(
        &mut self,
        part: &Part<'_, InterPodAffinity>,
        pod: &PodInfo,
        snapshot: &Snapshot,
        inquiry: &mut Inquiry,
    ) -> Option<()> {
        let terms = pod.affinity();
        if !terms.errors.is_empty() {
            return None;
        }
        if part.filters {
            let required = Reach::all(&terms.required, snapshot);
            inquiry.selects_itself = inter_pod::matches_all(&required, pod);
            let all: Vec<&Reach<'_>> = required.iter().collect();
            for reach in &required {
                inquiry.wanted.push(self.count_of(question(&all), reach.term)?);
            }
            for reach in Reach::all(&terms.required_anti, snapshot) {
                inquiry.unwanted.push(self.count_of(question(&[&reach]), reach.term)?);
            }
        }
        if part.weight != 0 {
            let near = terms.preferred.iter().map(|t| (&t.term, t.weight));
            let far = terms.preferred_anti.iter().map(|t| (&t.term, t.weight.wrapping_neg()));
            for (term, weight) in near.chain(far) {
                let reach = Reach::new(term, snapshot);
                let count = self.count_of(question(&[&reach]), term)?;
                inquiry.weighted.push((count, weight.into()));
            }
        }
        Some(())
    }

    fn count_of(&mut self, question: Question, term: &AffinityTerm) -> Option<Count> {
        let key = self.key(&term.topology_key)?;
        let (at, serial) = self.select(question, key);
        Some(Count { key, source: Source::Selection(at), serial })
    }

    fn spreads(&mut self, pod: &PodInfo, constraints: Vec<Constraint>) -> Option<Vec<Spread>> {
        let spread = |constraint: Constraint| {
            let key = self.key(&constraint.key)?;
            let counts = !constraint.selector.is_everything();
            let selection = counts.then(|| {
                let namespaces = Some(vec![pod.namespace().into()]);
                let parts = vec![(namespaces, constraint.selector.clone())];
                self.select(Question { parts, counts_leaving: false }, key)
            });
            Some(Spread {
                key,
                is_hostname: *constraint.key == *HOSTNAME,
                selection,
                is_selected: constraint.selects(pod),
                max_skew: constraint.max_skew,
                min_domains: constraint.min_domains,
                honors_affinity: constraint.honors_affinity,
                honors_taints: constraint.honors_taints,
            })
        };
        constraints.into_iter().map(spread).collect()
    }

    /// The selection, counted by the key's domains from now on.
    fn select(&mut self, question: Question, key: usize) -> (usize, u64) {
        let at = self.selections.number(question, &self.rows, &self.looks);
        self.selections.by_domain(at, key, &self.keys);
        (at, self.selections.serial(at))
    }
}

/// Whether other pods' terms count for the pod's score.
fn scores_for(plugin: &InterPodAffinity, pod: &PodInfo) -> bool {
    let terms = pod.affinity();
    !plugin.ignore_preferred_terms_of_existing_pods
        || !terms.preferred.is_empty()
        || !terms.preferred_anti.is_empty()
}

/// The inquiries about pods seen lately.
#[derive(Debug, Default)]
pub(super) struct Inquiries {
    by_hash: FxHashMap<u64, Vec<Known>>,
    count: usize,
}

/// More pods than this are not remembered; each keeps one pod, a few kilobytes.
const KNOWN_MAX: usize = 1024;

#[derive(Debug)]
struct Known {
    /// Which profile and which of its plugins were asked.
    asked: (usize, bool, bool),
    pod: Arc<PodInfo>,
    versions: Versions,
    inquiry: Arc<Inquiry>,
}

/// What else an inquiry is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Versions {
    objects: u64,
    groups: u64,
    selections: u64,
}

impl Inquiries {
    fn find(&self, hash: u64, asked: &Asked<'_>, pod: &PodInfo) -> Option<&Known> {
        let asked = which(asked);
        let all = self.by_hash.get(&hash)?;
        all.iter().find(|known| known.asked == asked && is_alike(&known.pod, pod))
    }

    fn remember(
        &mut self,
        hash: u64,
        asked: &Asked<'_>,
        pod: &Arc<PodInfo>,
        versions: Versions,
        inquiry: &Arc<Inquiry>,
    ) {
        if self.count == KNOWN_MAX {
            *self = Self::default();
        }
        let asked = which(asked);
        let all = self.by_hash.entry(hash).or_default();
        let before = all.len();
        all.retain(|known| known.asked != asked || !is_alike(&known.pod, pod));
        let (pod, inquiry) = (Arc::clone(pod), Arc::clone(inquiry));
        all.push(Known { asked, pod, versions, inquiry });
        self.count = self.count + all.len() - before;
    }
}

fn which(asked: &Asked<'_>) -> (usize, bool, bool) {
    (asked.plan, asked.affinity.is_some(), asked.spread.is_some())
}

fn hash(asked: &Asked<'_>, pod: &PodInfo) -> u64 {
    let mut hasher = FxHasher::default();
    asked.plan.hash(&mut hasher);
    pod.namespace().hash(&mut hasher);
    for (key, value) in pod.pod.metadata.labels.iter().flatten() {
        (key, value).hash(&mut hasher);
    }
    let terms = pod.affinity();
    (terms.required.len(), terms.preferred.len()).hash(&mut hasher);
    (terms.required_anti.len(), terms.preferred_anti.len()).hash(&mut hasher);
    constraints(pod).len().hash(&mut hasher);
    hasher.finish()
}

/// Whether the pods are alike in everything that an inquiry is made from.
fn is_alike(a: &PodInfo, b: &PodInfo) -> bool {
    a.namespace() == b.namespace()
        && a.pod.metadata.labels == b.pod.metadata.labels
        && constraints(a) == constraints(b)
        && affinity(a).map(|affinity| &affinity.pod_affinity)
            == affinity(b).map(|affinity| &affinity.pod_affinity)
        && affinity(a).map(|affinity| &affinity.pod_anti_affinity)
            == affinity(b).map(|affinity| &affinity.pod_anti_affinity)
        && controller(a) == controller(b)
}

fn spec(pod: &PodInfo) -> Option<&PodSpec> {
    pod.pod.spec.as_ref()
}

fn constraints(pod: &PodInfo) -> &[TopologySpreadConstraint] {
    let constraints = spec(pod).and_then(|spec| spec.topology_spread_constraints.as_deref());
    constraints.unwrap_or_default()
}

fn affinity(pod: &PodInfo) -> Option<&Affinity> {
    spec(pod)?.affinity.as_ref()
}

fn controller(pod: &PodInfo) -> Option<(&str, &str, &str)> {
    let mut owners = pod.pod.metadata.owner_references.iter().flatten();
    let owner = owners.find(|owner| owner.controller == Some(true))?;
    Some((&owner.api_version, &owner.kind, &owner.name))
}
