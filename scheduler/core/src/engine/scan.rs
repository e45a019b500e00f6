//! A scan over all nodes.

use std::collections::BTreeSet;
use std::sync::Arc;

use rand::{Rng, RngExt as _};

use super::Engine;
use crate::cache::Snapshot;
use crate::counters::Counters;
use crate::diagnosis::{Diagnosis, Refused};
use crate::framework::{NodeFilter, PluginName, PreFilter, PreScore, Profile};
use crate::pod::PodInfo;
use crate::reference::{left_out, nothing_left};

/// The buffers of a scan, and counters of pods by domain.
#[derive(Debug, Default)]
pub struct Scan {
    feasible: Vec<usize>,
    totals: Vec<i64>,
    scores: Vec<i64>,
    best: Vec<usize>,
    pub(super) counters: Counters,
}

impl Engine for Scan {
    fn decide(
        &mut self,
        profile: &Profile,
        snapshot: &Snapshot,
        pod: &Arc<PodInfo>,
        random: &mut dyn Rng,
    ) -> Result<usize, Box<Diagnosis>> {
        let best = self.best(profile, snapshot, pod)?;
        Ok(match best {
            [one] => *one,
            many => many[random.random_range(0..many.len())],
        })
    }
}

impl Scan {
    /// The best nodes, at least one and in the snapshot's order, or why there is none.
    pub fn best(
        &mut self,
        profile: &Profile,
        snapshot: &Snapshot,
        pod: &PodInfo,
    ) -> Result<&[usize], Box<Diagnosis>> {
        self.filter(profile, snapshot, pod)?;
        self.best.clear();
        if self.feasible.len() == 1 {
            self.best.push(self.feasible[0]);
            return Ok(&self.best);
        }
        self.score(profile, snapshot, pod);
        let highest = self.totals.iter().copied().max().unwrap_or_default();
        let ranked = self.feasible.iter().zip(&self.totals);
        self.best.extend(ranked.filter(|(_, total)| **total == highest).map(|(node, _)| *node));
        Ok(&self.best)
    }

    fn filter(
        &mut self,
        profile: &Profile,
        snapshot: &Snapshot,
        pod: &PodInfo,
    ) -> Result<(), Box<Diagnosis>> {
        self.feasible.clear();
        let Prepared { filters, allowed, mut diagnosis } =
            prepare(profile, snapshot, pod, &mut self.counters)?;
        let mut look_at = |node: usize| {
            let info = &snapshot.nodes()[node];
            for (plugin, filter) in &filters {
                if let Err(rejection) = filter.filter_at(node, info) {
                    diagnosis.plugins.insert(*plugin);
                    diagnosis.refused.push(Refused { node, plugin: *plugin, rejection });
                    return;
                }
            }
            self.feasible.push(node);
        };
        match allowed {
            Some(names) => {
                let mut nodes: Vec<usize> =
                    names.iter().filter_map(|name| snapshot.index_of(name)).collect();
                nodes.sort_unstable();
                nodes.into_iter().for_each(&mut look_at);
            }
            None => (0..snapshot.nodes().len()).for_each(&mut look_at),
        }
        if self.feasible.is_empty() { Err(Box::new(diagnosis)) } else { Ok(()) }
    }

    fn score(&mut self, profile: &Profile, snapshot: &Snapshot, pod: &PodInfo) {
        self.totals.clear();
        self.totals.resize(self.feasible.len(), 0);
        for weighted in &profile.score {
            let (plugin, feasible) = (&*weighted.plugin, &self.feasible);
            let counted = self.counters.pre_score(plugin, pod, snapshot, feasible);
            let pre_score = counted.unwrap_or_else(|| plugin.pre_score(pod, snapshot, feasible));
            let PreScore::Score(score) = pre_score else { continue };
            self.scores.clear();
            let nodes = feasible.iter().map(|&node| (node, &snapshot.nodes()[node]));
            self.scores.extend(nodes.map(|(at, node)| score.score_at(at, node)));
            score.normalize(&mut self.scores);
            for (total, score) in self.totals.iter_mut().zip(&self.scores) {
                *total = total.wrapping_add(score.wrapping_mul(weighted.weight));
            }
        }
    }
}

struct Prepared<'a> {
    filters: Vec<(PluginName, Box<dyn NodeFilter + 'a>)>,
    allowed: Option<BTreeSet<&'a str>>,
    /// Of the nodes that are not allowed.
    diagnosis: Diagnosis,
}

/// Runs every PreFilter once.
fn prepare<'a>(
    profile: &'a Profile,
    snapshot: &'a Snapshot,
    pod: &'a PodInfo,
    counters: &mut Counters,
) -> Result<Prepared<'a>, Box<Diagnosis>> {
    let node_count = snapshot.nodes().len();
    let refuse = |plugins: &[PluginName], rejection| {
        let plugins = plugins.iter().copied().collect();
        Box::new(Diagnosis::refused_by_pre_filter(node_count, plugins, rejection))
    };
    let mut filters = Vec::with_capacity(profile.filter.len());
    let mut allowed: Option<BTreeSet<&str>> = None;
    let mut narrowing = Vec::new();
    for plugin in &profile.filter {
        let counted = counters.pre_filter(&**plugin, pod, snapshot);
        let (nodes, filter) = match counted.unwrap_or_else(|| plugin.pre_filter(pod, snapshot)) {
            PreFilter::Skip => continue,
            PreFilter::Reject(rejection) => return Err(refuse(&[plugin.name()], rejection)),
            PreFilter::Filter { nodes, filter } => (nodes, filter),
        };
        filters.push((plugin.name(), filter));
        let Some(mut nodes) = nodes else { continue };
        narrowing.push(plugin.name());
        if let Some(before) = &allowed {
            nodes.retain(|name| before.contains(name));
        }
        if nodes.is_empty() {
            return Err(refuse(&narrowing, nothing_left(&narrowing)));
        }
        allowed = Some(nodes);
    }
    let mut diagnosis = Diagnosis { node_count, ..Diagnosis::default() };
    if allowed.is_some() {
        diagnosis.others = Some(left_out(&narrowing));
        diagnosis.plugins = narrowing.into_iter().collect();
    }
    Ok(Prepared { filters, allowed, diagnosis })
}
