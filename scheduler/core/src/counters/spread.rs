//! PodTopologySpread's answers from the counters.

use std::sync::Arc;

use pintle_api::node_affinity;

use super::Counters;
use super::domain::{Domains, NONE, number};
use super::selection::Question;
use crate::cache::{NodeInfo, Snapshot};
use crate::framework::{NodeFilter, NodeScore, PreFilter, PreScore, Verdict};
use crate::plugins::pod_topology_spread::{self as plugin, Constraint, PodTopologySpread, Refusal};
use crate::pod::PodInfo;

impl Counters {
    /// `None` also if a constraint does not parse.
    pub(super) fn spread_filter(
        &mut self,
        plugin: &PodTopologySpread,
        pod: &PodInfo,
        snapshot: &Snapshot,
    ) -> Option<PreFilter<'static>> {
        let constraints = plugin.hard_constraints(pod, snapshot).ok()?;
        if constraints.is_empty() {
            return Some(PreFilter::Skip);
        }
        if !self.follow(snapshot) {
            return None;
        }
        let counted = self.counted(pod, constraints)?;
        let included = self.included(pod, &counted, true, snapshot);
        let limit = |(counted, included): (Counted, Option<Vec<bool>>)| {
            self.limit(pod, counted, included.as_deref())
        };
        let limits = counted.into_iter().zip(included).map(limit).collect();
        Some(PreFilter::every_node(Filter { limits }))
    }

    /// `None` also if a constraint does not parse.
    pub(super) fn spread_score<'a>(
        &mut self,
        plugin: &PodTopologySpread,
        pod: &'a PodInfo,
        snapshot: &Snapshot,
        feasible: &[usize],
    ) -> Option<PreScore<'a>> {
        let constraints = plugin.soft_constraints(pod, snapshot).ok()?;
        if constraints.is_empty() {
            return Some(PreScore::Skip);
        }
        if !self.follow(snapshot) {
            return None;
        }
        let requires_all_keys = plugin.requires_all_keys(pod);
        let counted = self.counted(pod, constraints)?;
        // A node without the label is in the domain of the empty value, which some nodes may have.
        let has_empty = |counted: &Counted| {
            let key = self.keys.get(counted.key);
            key.domain("").is_some() && !key.is_everywhere(self.rows.len())
        };
        if !requires_all_keys && counted.iter().any(has_empty) {
            return None;
        }
        let included = self.included(pod, &counted, requires_all_keys, snapshot);
        let leaves_out = |row: usize| {
            requires_all_keys && counted.iter().any(|counted| counted.domains.at(row) == NONE)
        };
        let ignored: Vec<bool> = feasible.iter().map(|&row| leaves_out(row)).collect();
        let rows = || feasible.iter().zip(&ignored).filter(|(_, out)| !**out).map(|(row, _)| *row);
        let hosts = rows().count();
        let weigh = |(counted, included): (Counted, Option<Vec<bool>>)| {
            let is_hostname = *counted.constraint.key == *plugin::HOSTNAME;
            let size = if is_hostname { hosts } else { distinct(&counted.domains, rows()) };
            counted.weighed(is_hostname, size, included.as_deref())
        };
        let constraints = counted.into_iter().zip(included).map(weigh).collect();
        Some(PreScore::each(Score { pod, requires_all_keys, constraints, ignored }))
    }

    /// The pods that each constraint selects.
    fn counted(&mut self, pod: &PodInfo, constraints: Vec<Constraint>) -> Option<Vec<Counted>> {
        let mut all = Vec::with_capacity(constraints.len());
        for constraint in constraints {
            let key = self.key(&constraint.key)?;
            let domains = self.keys.get(key).domains();
            let (mut by_row, mut by_domain) = (Arc::default(), Arc::default());
            if !constraint.selector.is_everything() {
                let namespaces = Some(vec![pod.namespace().into()]);
                let parts = vec![(namespaces, constraint.selector.clone())];
                let question = Question { parts, counts_leaving: false };
                let at = self.selections.number(question, &self.rows, &self.looks);
                by_row = Arc::clone(self.selections.by_row(at));
                by_domain = self.selections.by_domain(at, key, &self.keys).0;
            }
            all.push(Counted { constraint, key, domains, by_row, by_domain });
        }
        Some(all)
    }

    /// For each constraint the rows that count; `None` if all that have the label do.
    fn included(
        &self,
        pod: &PodInfo,
        counted: &[Counted],
        requires_all_keys: bool,
        snapshot: &Snapshot,
    ) -> Vec<Option<Vec<bool>>> {
        let has_all = |counted: &Counted| self.keys.get(counted.key).is_everywhere(self.rows.len());
        let all_keys = !requires_all_keys || counted.iter().all(has_all);
        let required = requires_of_nodes(pod);
        let included = |of: &Counted| {
            let constraint = &of.constraint;
            if all_keys && !constraint.honors_taints && !(constraint.honors_affinity && required) {
                return None;
            }
            let is_included = |(row, node): (usize, &Arc<NodeInfo>)| {
                let lacks = |counted: &Counted| counted.domains.at(row) == NONE;
                !(requires_all_keys && counted.iter().any(lacks)) && constraint.includes(pod, node)
            };
            Some(snapshot.nodes().iter().enumerate().map(is_included).collect())
        };
        counted.iter().map(included).collect()
    }

    fn limit(&self, pod: &PodInfo, counted: Counted, included: Option<&[bool]>) -> Limit {
        let counts = counted.by_domain(included);
        let sizes = &self.keys.get(counted.key).sizes;
        let mut exists: Vec<bool> = Vec::new();
        if let Some(included) = included {
            exists.resize(sizes.len(), false);
            for row in included.iter().enumerate().filter(|(_, is)| **is).map(|(row, _)| row) {
                if let Some(exists) = exists.get_mut(counted.domains.at(row) as usize) {
                    *exists = true;
                }
            }
        } else {
            exists.extend(sizes.iter().map(|size| *size > 0));
        }
        let domains = (0_u32..).zip(&exists).filter(|(_, exists)| **exists);
        let lowest =
            counted.constraint.lowest(domains.map(|(domain, _)| number(&counts, domain).into()));
        let is_selected = counted.constraint.selects(pod);
        let max_skew = counted.constraint.max_skew;
        Limit { domains: counted.domains, counts, lowest, is_selected, max_skew }
    }
}

/// Whether the pod is for some nodes only.
pub(super) fn requires_of_nodes(pod: &PodInfo) -> bool {
    let selector = pod.pod.spec.as_ref().and_then(|spec| spec.node_selector.as_ref());
    selector.is_some_and(|selector| !selector.is_empty())
        || node_affinity::required_selector(&pod.pod).is_some()
}

/// How many domains the rows are in; those without the label are in one together.
fn distinct(domains: &Domains, rows: impl Iterator<Item = usize>) -> usize {
    let mut seen = Vec::new();
    let (mut count, mut without) = (0, false);
    for domain in rows.map(|row| domains.at(row)) {
        if domain == NONE {
            without = true;
            continue;
        }
        let at = domain as usize;
        if seen.len() <= at {
            seen.resize(at + 1, false);
        }
        count += usize::from(!std::mem::replace(&mut seen[at], true));
    }
    count + usize::from(without)
}

/// A constraint and the pods it selects.
struct Counted {
    constraint: Constraint,
    key: usize,
    domains: Domains,
    by_row: Arc<Vec<u32>>,
    by_domain: Arc<Vec<u32>>,
}

impl Counted {
    /// The pods of the rows that count, by domain.
    fn by_domain(&self, included: Option<&[bool]>) -> Arc<Vec<u32>> {
        let Some(included) = included else { return Arc::clone(&self.by_domain) };
        let mut counts = Vec::new();
        for (row, (count, included)) in self.by_row.iter().zip(included).enumerate() {
            let domain = self.domains.at(row);
            if *included && *count > 0 && domain != NONE {
                let at = domain as usize;
                if counts.len() <= at {
                    counts.resize(at + 1, 0);
                }
                counts[at] += *count;
            }
        }
        Arc::new(counts)
    }
}

impl Counted {
    fn weighed(self, is_hostname: bool, size: usize, included: Option<&[bool]>) -> Weighed {
        let weight = plugin::domain_weight(size);
        let cost =
            |pods: &u32| plugin::domain_cost(i64::from(*pods), weight, self.constraint.max_skew);
        let counts = match is_hostname {
            true => Cost::ByHost(self.by_row),
            false => Cost::ByDomain(self.by_domain(included).iter().map(cost).collect()),
        };
        Weighed { constraint: self.constraint, domains: self.domains, counts, weight }
    }
}

/// A DoNotSchedule constraint with what it measures against.
struct Limit {
    domains: Domains,
    counts: Arc<Vec<u32>>,
    lowest: i64,
    is_selected: bool,
    max_skew: i32,
}

struct Filter {
    limits: Vec<Limit>,
}

impl Filter {
    fn verdict(&self, node: &NodeInfo, domain: impl Fn(&Domains) -> u32) -> Verdict {
        for limit in &self.limits {
            let domain = domain(&limit.domains);
            if domain == NONE && !limit.domains.includes(node.node()) {
                return Err(Refusal::MissingLabel.rejection());
            }
            let count = i64::from(number(&limit.counts, domain));
            let skew = count + i64::from(limit.is_selected) - limit.lowest;
            if skew > i64::from(limit.max_skew) {
                return Err(Refusal::Skewed.rejection());
            }
        }
        Ok(())
    }
}

impl NodeFilter for Filter {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        self.verdict(node, |domains| domains.of(node.node()))
    }

    fn filter_at(&self, row: usize, node: &NodeInfo) -> Verdict {
        self.verdict(node, |domains| domains.at(row))
    }
}

/// A ScheduleAnyway constraint.
struct Weighed {
    constraint: Constraint,
    domains: Domains,
    counts: Cost,
    weight: f64,
}

/// What a constraint's domains cost.
enum Cost {
    /// Of each domain; those past the end have no pods.
    ByDomain(Vec<f64>),
    /// Domains are single nodes: how many pods each row has.
    ByHost(Arc<Vec<u32>>),
}

impl Weighed {
    fn cost(&self, pods: i64) -> f64 {
        plugin::domain_cost(pods, self.weight, self.constraint.max_skew)
    }

    fn of(&self, pod: &PodInfo, node: &NodeInfo, row: Option<usize>, domain: u32) -> f64 {
        match (&self.counts, row) {
            (Cost::ByDomain(costs), _) => {
                costs.get(domain as usize).copied().unwrap_or_else(|| self.cost(0))
            }
            (Cost::ByHost(by_row), Some(row)) => {
                self.cost(by_row.get(row).copied().unwrap_or(0).into())
            }
            (Cost::ByHost(_), None) => self.cost(self.constraint.count(pod, node)),
        }
    }
}

struct Score<'a> {
    pod: &'a PodInfo,
    requires_all_keys: bool,
    constraints: Vec<Weighed>,
    /// Of the feasible nodes in order: whether it is left out.
    ignored: Vec<bool>,
}

impl Score<'_> {
    fn sum(&self, node: &NodeInfo, row: Option<usize>) -> i64 {
        let mut score = 0.0;
        for weighed in &self.constraints {
            let domain = match row {
                Some(row) => weighed.domains.at(row),
                None => weighed.domains.of(node.node()),
            };
            if domain == NONE && !weighed.domains.includes(node.node()) {
                if self.requires_all_keys {
                    return 0;
                }
                continue;
            }
            score += weighed.of(self.pod, node, row, domain);
        }
        plugin::rounded(score)
    }
}

impl NodeScore for Score<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        self.sum(node, None)
    }

    fn score_at(&self, row: usize, node: &NodeInfo) -> i64 {
        self.sum(node, Some(row))
    }

    fn normalize(&self, scores: &mut [i64]) {
        plugin::normalize(scores, &self.ignored);
    }
}
