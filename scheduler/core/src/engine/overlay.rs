//! Decisions about pods of which plugins of wider view have something to say: what those answer, from
//! the counters, laid over the totals of the pod's class.
//!
//! This is for pods whose like was not seen before, and where nodes are too unlike each other for
//! groups of them ([`super::partition`]) to be worth their while. If the plugins only filter, one of
//! the rows that the draw says to try is taken if it has the highest total and passes. If they score,
//! or if none of those does, every node is looked at, which costs some array accesses a node instead
//! of all plugins' work.

use super::Draw;
use super::class::Class;
use super::plan::Plan;
use super::tournament::NONE;
use crate::cache::Snapshot;
use crate::counters::Counters;
use crate::framework::{NodeFilter, NodeScore, Plugin, PreFilter, PreScore, Weighted};
use crate::pod::PodInfo;

/// Buffers, kept from pod to pod.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    feasible: Vec<usize>,
    totals: Vec<i64>,
    scores: Vec<i64>,
    best: Vec<usize>,
}

/// What the plugins of wider view say of a pod, as far as it does not depend on the feasible nodes.
pub(super) struct Answers<'a> {
    filters: Vec<Box<dyn NodeFilter>>,
    /// Those that score.
    scores: Vec<&'a Weighted>,
}

/// What a decision depends on besides the counters.
#[derive(Clone, Copy)]
pub(super) struct Query<'a> {
    pub(super) answers: &'a Answers<'a>,
    pub(super) class: &'a Class,
    pub(super) plan: &'a Plan,
    pub(super) pod: &'a PodInfo,
    pub(super) snapshot: &'a Snapshot,
}

impl<'a> Answers<'a> {
    /// `None` if the counters do not have the answers.
    pub(super) fn new(
        counters: &mut Counters,
        plugins: &[&dyn Plugin],
        plan: &'a Plan,
        pod: &PodInfo,
        snapshot: &Snapshot,
    ) -> Option<Self> {
        let mut answers = Self { filters: Vec::new(), scores: Vec::new() };
        for plugin in plugins.iter().filter(|plugin| plan.filters(plugin.name())) {
            match counters.pre_filter(*plugin, pod, snapshot)? {
                PreFilter::Skip => {}
                PreFilter::Filter { nodes: None, filter } => answers.filters.push(filter),
                PreFilter::Filter { .. } | PreFilter::Reject(_) => return None,
            }
        }
        for weighted in plan.scores() {
            let is_asked = plugins.iter().any(|plugin| plugin.name() == weighted.plugin.name());
            if !is_asked {
                continue;
            }
            // Whether a plugin skips the pod does not depend on the feasible nodes.
            match counters.pre_score(&*weighted.plugin, pod, snapshot, &[])? {
                PreScore::Skip => {}
                PreScore::Score(_) => answers.scores.push(weighted),
            }
        }
        Some(answers)
    }

    fn passes(&self, row: usize, snapshot: &Snapshot) -> bool {
        let node = &snapshot.nodes()[row];
        self.filters.iter().all(|filter| filter.filter_at(row, node).is_ok())
    }
}

impl Overlay {
    /// A node for the pod; `None` if no node will do or the counters do not have the answers.
    pub(super) fn decide(
        &mut self,
        query: Query<'_>,
        counters: &mut Counters,
        draw: Draw,
    ) -> Option<usize> {
        let Query { answers, class, snapshot, .. } = query;
        let rows = snapshot.nodes().len();
        if answers.scores.is_empty() && !class.is_relative() {
            let highest = class.best()?.total;
            let is_best =
                |row: usize| class.rows()[row] == highest && answers.passes(row, snapshot);
            if let Some(row) = draw.first(rows, is_best) {
                return Some(row);
            }
        }
        let best = self.best(query, counters)?;
        Some(draw.choose(rows, best))
    }

    /// The best nodes, by a look at all of them; `None` as above.
    pub(super) fn best(&mut self, query: Query<'_>, counters: &mut Counters) -> Option<&[usize]> {
        let Query { answers, class, plan, pod, snapshot } = query;
        let rows = class.rows().iter().enumerate().filter(|(_, total)| **total != NONE);
        self.feasible.clear();
        self.feasible.extend(rows.map(|(row, _)| row));
        for filter in &answers.filters {
            filter.retain_rows(&mut self.feasible, snapshot.nodes());
        }
        let totals = self.feasible.iter().map(|&row| i64::from(class.rows()[row]));
        self.totals.clear();
        self.totals.extend(totals);
        self.best.clear();
        if self.feasible.is_empty() {
            return None;
        }
        class.rescale(plan, &self.feasible, &mut self.totals);
        for Weighted { plugin, weight } in answers.scores.iter().copied() {
            match counters.pre_score(&**plugin, pod, snapshot, &self.feasible)? {
                PreScore::Skip => {}
                PreScore::Score(score) => self.add(&*score, *weight, snapshot),
            }
        }
        let highest = self.totals.iter().copied().max()?;
        let ranked = self.feasible.iter().zip(&self.totals);
        self.best.extend(ranked.filter(|(_, total)| **total == highest).map(|(row, _)| *row));
        Some(&self.best)
    }

    fn add(&mut self, score: &dyn NodeScore, weight: i64, snapshot: &Snapshot) {
        self.scores.clear();
        score.score_rows(&self.feasible, snapshot.nodes(), &mut self.scores);
        score.normalize(&mut self.scores);
        for (total, score) in self.totals.iter_mut().zip(&self.scores) {
            *total = total.wrapping_add(score.wrapping_mul(weight));
        }
    }
}
