//! A scan over all nodes.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Draw, Engine};
use crate::cache::{NodeInfo, Snapshot};
use crate::counters::Counters;
use crate::diagnosis::{Diagnosis, Refused, failed_filter};
use crate::extension::{extender_scores, pass_extenders};
use crate::fit::{NamedFilter, Refusal, fits_beside_nominated, to_yield_to};
use crate::framework::{Code, PluginName, PreFilter, PreScore, Profile};
use crate::pod::PodInfo;
use crate::preemption::CandidateSearch;
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
        draw: Draw,
    ) -> Result<usize, Box<Diagnosis>> {
        let best = self.best(profile, snapshot, pod)?;
        Ok(draw.choose(snapshot.nodes().len(), best))
    }
}

impl CandidateSearch for Scan {}

impl Scan {
    /// The best nodes, at least one and in the snapshot's order, or why there is none.
    pub fn best(
        &mut self,
        profile: &Profile,
        snapshot: &Snapshot,
        pod: &PodInfo,
    ) -> Result<&[usize], Box<Diagnosis>> {
        self.best.clear();
        let filters = prepare(profile, snapshot, pod, &mut self.counters)?;
        if let Some(node) = nominated(profile, snapshot, pod) {
            self.best.push(node);
            return Ok(&self.best);
        }
        let mut diagnosis = self.filter(profile, snapshot, pod, filters)?;
        let feasible = std::mem::take(&mut self.feasible);
        self.feasible = pass_extenders(profile, snapshot, pod, feasible, &mut diagnosis);
        match self.feasible.as_slice() {
            [] => return Err(Box::new(diagnosis)),
            [one] => self.best.push(*one),
            _ => self.choose(profile, snapshot, pod),
        }
        Ok(&self.best)
    }

    fn choose(&mut self, profile: &Profile, snapshot: &Snapshot, pod: &PodInfo) {
        self.score(profile, snapshot, pod);
        if !profile.extenders.is_empty() {
            let more = extender_scores(profile, snapshot, pod, &self.feasible);
            for (total, more) in self.totals.iter_mut().zip(more) {
                *total = total.wrapping_add(more);
            }
        }
        let highest = self.totals.iter().copied().max().unwrap_or_default();
        let ranked = self.feasible.iter().zip(&self.totals);
        self.best.extend(ranked.filter(|(_, total)| **total == highest).map(|(node, _)| *node));
    }

    /// Leaves the nodes that pass every filter in `feasible`.
    fn filter(
        &mut self,
        profile: &Profile,
        snapshot: &Snapshot,
        pod: &PodInfo,
        Prepared { filters, allowed, mut diagnosis }: Prepared,
    ) -> Result<Diagnosis, Box<Diagnosis>> {
        self.feasible.clear();
        let mut what_if = snapshot.has_nominations().then(|| snapshot.what_if());
        let mut look_at = |node: usize| -> Result<(), Box<Diagnosis>> {
            let verdict = match &mut what_if {
                Some(what_if) if to_yield_to(snapshot, pod, node).next().is_some() => {
                    fits_beside_nominated(profile, what_if, pod, node)
                }
                _ => first_refusal_at(&filters, node, &snapshot.nodes()[node]),
            };
            let Err((plugin, rejection)) = verdict else {
                self.feasible.push(node);
                return Ok(());
            };
            if rejection.code() == Code::Error {
                let error = failed_filter(plugin, &rejection);
                return Err(Box::new(Diagnosis::failed(diagnosis.node_count, error)));
            }
            diagnosis.plugins.insert(plugin);
            diagnosis.refused.push(Refused { node, plugin: Some(plugin), rejection });
            Ok(())
        };
        match allowed {
            Some(names) => {
                let mut nodes: Vec<usize> =
                    names.iter().filter_map(|name| snapshot.index_of(name)).collect();
                nodes.sort_unstable();
                nodes.into_iter().try_for_each(&mut look_at)?;
            }
            None => (0..snapshot.nodes().len()).try_for_each(&mut look_at)?,
        }
        Ok(diagnosis)
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

/// Puts the node (an index into the snapshot) before one filter after the other.
fn first_refusal_at(filters: &[NamedFilter], at: usize, node: &NodeInfo) -> Result<(), Refusal> {
    filters.iter().try_for_each(|(plugin, filter)| {
        filter.filter_at(at, node).map_err(|rejection| (*plugin, rejection))
    })
}

/// The node that the pod is nominated for, if it fits there: no other is looked at then.
fn nominated(profile: &Profile, snapshot: &Snapshot, pod: &PodInfo) -> Option<usize> {
    let node = snapshot.index_of(snapshot.nomination_of(&pod.uid)?)?;
    fits_beside_nominated(profile, &mut snapshot.what_if(), pod, node).ok()?;
    let mut unused = Diagnosis::default();
    pass_extenders(profile, snapshot, pod, vec![node], &mut unused).first().copied()
}

struct Prepared<'a> {
    filters: Vec<NamedFilter<'a>>,
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
