//! What InterPodAffinity and PodTopologySpread say of groups of rows that are alike to them.

use super::Counters;
use super::domain::number;
use super::facet::{ABSENT, Facets, KEPT_AWAY, Key, LACKS, Place, WITHOUT};
use super::inquiry::Count;
use crate::plugins::{inter_pod_affinity, pod_topology_spread};

/// What the plugins' scores count; 0 if they do not score.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weights {
    /// Of InterPodAffinity.
    pub affinity: i64,
    /// Of PodTopologySpread.
    pub spread: i64,
}

/// What is said. The lists are kept from pod to pod.
#[derive(Debug, Default)]
pub struct Appraisal {
    /// The groups that no filter refuses, by the numbers given.
    pub groups: Vec<usize>,
    /// The weighted sum of the scores of each.
    pub scores: Vec<i64>,
    keys: Vec<Key>,
    sizes: Vec<u32>,
    raws: Vec<i64>,
    costs: Vec<f64>,
    ignored: Vec<bool>,
    domains: Seen,
}

/// Domains that were seen.
#[derive(Debug, Default)]
struct Seen {
    /// By domain the round in which it was last seen.
    rounds: Vec<u32>,
    round: u32,
}

impl Facets {
    /// Appraises groups of rows: each has a number, the key of its rows, and at least one row that
    /// every other filter passes.
    pub fn appraise<'a>(
        &self,
        groups: impl Iterator<Item = (usize, &'a Key, u32)>,
        weights: Weights,
        counters: &Counters,
        into: &mut Appraisal,
    ) {
        into.groups.clear();
        into.keys.clear();
        into.sizes.clear();
        let filter = Filter::new(self, counters);
        for (number, key, size) in groups.filter(|(_, key, _)| filter.passes(key)) {
            into.groups.push(number);
            into.keys.push(*key);
            into.sizes.push(size);
        }
        into.scores.clear();
        into.scores.resize(into.groups.len(), 0);
        if weights.affinity != 0 && !self.inquiry.weighted.is_empty() {
            self.score_affinity(counters, into);
            inter_pod_affinity::normalize(&mut into.raws);
            into.add(weights.affinity);
        }
        if weights.spread != 0 && !self.inquiry.weighed.is_empty() {
            self.score_spread(into);
            pod_topology_spread::normalize(&mut into.raws, &into.ignored);
            into.add(weights.spread);
        }
    }

    fn score_affinity(&self, counters: &Counters, into: &mut Appraisal) {
        into.raws.clear();
        let single = |key: &Key| self.layout.sum.map_or(0, |at| key[at]);
        into.raws.extend(into.keys.iter().map(single));
        for (count, weight) in &self.inquiry.weighted {
            let Some(at) = self.layout.domain(count.key) else { continue };
            let (counts, total) = counters.by_domain(count);
            if total == 0 {
                continue;
            }
            for (raw, key) in into.raws.iter_mut().zip(&into.keys) {
                *raw += i64::from(at_domain(counts, key[at])) * weight;
            }
        }
    }

    fn score_spread(&self, into: &mut Appraisal) {
        let Appraisal { keys, sizes, raws, costs, ignored, domains, .. } = into;
        let places = &self.layout.weighed;
        let lacks = |key: &Key| places.iter().any(|place| key[place.component()] == WITHOUT);
        ignored.clear();
        ignored.extend(keys.iter().map(|key| self.inquiry.requires_all_keys && lacks(key)));
        costs.clear();
        costs.resize(keys.len(), 0.0);
        for ((spread, tally), place) in self.inquiry.weighed.iter().zip(&self.weighed).zip(places) {
            let counted = keys.iter().zip(&*sizes).zip(&*ignored);
            let counted = counted.filter(|(_, ignored)| !**ignored).map(|(group, _)| group);
            let at = place.component();
            let size = match place {
                Place::Count(_) if spread.is_hostname => counted.map(|(_, size)| *size).sum(),
                Place::Count(_) => rows_with(counted.map(|(key, size)| (key[at], *size))),
                Place::Domain(_) => domains.distinct(counted.map(|(key, _)| key[at])),
            };
            let weight = pod_topology_spread::domain_weight(size as usize);
            for (cost, key) in costs.iter_mut().zip(&*keys) {
                let pods = match place {
                    _ if key[at] == WITHOUT => continue,
                    Place::Count(_) => key[at],
                    Place::Domain(_) => tally.at(domain(key[at])).into(),
                };
                *cost += pod_topology_spread::domain_cost(pods, weight, spread.max_skew);
            }
        }
        raws.clear();
        raws.extend(costs.iter().map(|cost| pod_topology_spread::rounded(*cost)));
        for (raw, _) in raws.iter_mut().zip(&*ignored).filter(|(_, ignored)| **ignored) {
            *raw = 0;
        }
    }
}

impl Appraisal {
    fn add(&mut self, weight: i64) {
        for (score, raw) in self.scores.iter_mut().zip(&self.raws) {
            *score = score.wrapping_add(raw.wrapping_mul(weight));
        }
    }
}

impl Place {
    fn component(self) -> usize {
        match self {
            Self::Count(at) | Self::Domain(at) => at,
        }
    }
}

/// How many domains rows are in that are single rows; rows without the label are in one together.
fn rows_with(rows: impl Iterator<Item = (i64, u32)>) -> u32 {
    let (mut with, mut without) = (0, 0);
    for (component, size) in rows {
        match component {
            WITHOUT => without = 1,
            _ => with += size,
        }
    }
    with + without
}

impl Seen {
    /// How many different domains there are; that of rows without the label is one.
    fn distinct(&mut self, components: impl Iterator<Item = i64>) -> u32 {
        self.round = self.round.wrapping_add(1);
        if self.round == 0 {
            self.rounds.clear();
            self.round = 1;
        }
        let (mut count, mut without) = (0, 0);
        for component in components {
            if component == WITHOUT {
                without = 1;
                continue;
            }
            let at = domain(component) as usize;
            if self.rounds.len() <= at {
                self.rounds.resize(at + 1, 0);
            }
            count += u32::from(std::mem::replace(&mut self.rounds[at], self.round) != self.round);
        }
        count + without
    }
}

/// What the filters measure against.
struct Filter<'a> {
    facets: &'a Facets,
    /// Component with the domain, and pods by domain.
    wanted: Vec<(usize, &'a [u32])>,
    is_first_of_series: bool,
    unwanted: Vec<(usize, &'a [u32])>,
    /// Of each constraint, how many pods a domain may have at most before the pod comes.
    pods_max: Vec<i64>,
}

impl<'a> Filter<'a> {
    fn new(facets: &'a Facets, counters: &'a Counters) -> Self {
        let Facets { inquiry, layout, .. } = facets;
        let by_domain =
            |count: &Count| Some((layout.domain(count.key)?, counters.by_domain(count).0));
        let is_nowhere = inquiry.wanted.iter().all(|count| counters.by_domain(count).1 == 0);
        let limits = inquiry.limits.iter().zip(&facets.limits);
        let pods_max = limits.map(|(limit, tally)| {
            let lowest = tally.lowest(limit.min_domains);
            i64::from(limit.max_skew) + lowest - i64::from(limit.is_selected)
        });
        Self {
            facets,
            wanted: inquiry.wanted.iter().filter_map(by_domain).collect(),
            is_first_of_series: is_nowhere && inquiry.selects_itself,
            unwanted: inquiry.unwanted.iter().filter_map(by_domain).collect(),
            pods_max: pods_max.collect(),
        }
    }

    fn passes(&self, key: &Key) -> bool {
        let Self { facets, wanted, unwanted, pods_max, .. } = self;
        let verdicts = facets.layout.verdicts.map_or(0, |at| key[at]);
        if verdicts & (LACKS | KEPT_AWAY) != 0
            || wanted.iter().any(|(at, _)| key[*at] == WITHOUT)
            || unwanted.iter().any(|(at, counts)| at_domain(counts, key[*at]) > 0)
        {
            return false;
        }
        let are_there = verdicts & ABSENT == 0
            && wanted.iter().all(|(at, counts)| at_domain(counts, key[*at]) > 0);
        let mut limits = facets.limits.iter().zip(&facets.layout.limits).zip(pods_max);
        (are_there || self.is_first_of_series)
            && limits.all(|((tally, place), pods_max)| match *place {
                Place::Count(at) => key[at] != WITHOUT && key[at] <= *pods_max,
                Place::Domain(at) => {
                    key[at] != WITHOUT && i64::from(tally.at(domain(key[at]))) <= *pods_max
                }
            })
    }
}

/// The number of a component's domain; 0 of rows without the label.
fn at_domain(counts: &[u32], component: i64) -> u32 {
    if component == WITHOUT { 0 } else { number(counts, domain(component)) }
}

/// A component that is a domain.
fn domain(component: i64) -> u32 {
    u32::try_from(component).unwrap_or(u32::MAX)
}
