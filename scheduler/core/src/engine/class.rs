//! The pods with one signature: what every node is worth to them, and which nodes are best.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Draw;
use super::columns::{Columns, Demand, Row, sum};
use super::fixed::Fixed;
use super::holders::Holders;
use super::local::with_nominated;
use super::plan::Plan;
use super::probe::{Probe, Unusual};
use super::refused::Refused;
use super::signature::Signature;
use super::tournament::{Best, NONE, Tournament};
use crate::cache::{ChangeLog, NodeInfo, Snapshot};
use crate::plugins::scaled;
use crate::pod::PodInfo;

/// A scheduling class.
#[derive(Debug)]
pub(super) struct Class {
    pub(super) signature: Arc<Signature>,
    pub(super) plan: usize,
    /// Which [`Fixed`] it is built on.
    pub(super) fixed: usize,
    /// Its pods yield to nominated pods of at least this priority.
    pub(super) yields_from: Option<i32>,
    /// No other class ever has the same.
    pub(super) serial: u64,
    /// Whether it was used since the clock hand last passed.
    pub(super) is_recent: bool,
    /// Why nodes refuse its pods.
    pub(super) refused: Refused,
    /// Any pod of the class.
    pod: Arc<PodInfo>,
    demand: Option<Demand>,
    tree: Tournament,
    /// Up to where [`ChangeLog::rows`] is taken over; `u64::MAX` before the first time.
    cursor: u64,
    fixed_version: u64,
    /// For each normalised plugin in the plan's order what it counts; `None` if nodes do not differ.
    scales: Vec<Option<Scale>>,
    /// What the plugins that nodes do not differ in add to every total.
    offset: i64,
}

/// A plugin whose scores are relative to the highest raw score of the feasible nodes.
#[derive(Debug, Default)]
struct Scale {
    /// How many feasible nodes have each raw score.
    counts: BTreeMap<i32, u32>,
    highest: i32,
    /// By row the raw score that is counted; negative where none is.
    rows: Vec<i32>,
}

/// Everything outside of a class that it is kept up to date from.
pub(super) struct Sources<'a> {
    pub(super) plan: &'a Plan,
    pub(super) fixed: &'a Fixed,
    pub(super) snapshot: &'a Snapshot,
    pub(super) changes: &'a ChangeLog,
    pub(super) columns: &'a mut Columns,
    pub(super) holders: &'a mut Holders,
}

/// Patching a row costs about as much as filling this many.
const PATCH_COST: usize = 8;

impl Class {
    pub(super) fn new(
        pod: &Arc<PodInfo>,
        plan: usize,
        fixed: usize,
        yields_from: Option<i32>,
        serial: u64,
        demand: Option<Demand>,
    ) -> Self {
        Self {
            signature: Arc::clone(&pod.signature),
            plan,
            fixed,
            yields_from,
            serial,
            is_recent: true,
            refused: Refused::default(),
            pod: Arc::clone(pod),
            demand,
            tree: Tournament::default(),
            cursor: u64::MAX,
            fixed_version: 0,
            scales: Vec::new(),
            offset: 0,
        }
    }

    /// Becomes another class in the same memory.
    pub(super) fn reuse(&mut self, mut class: Self) {
        std::mem::swap(&mut class.tree, &mut self.tree);
        *self = class;
    }

    /// The highest total and how many nodes have it; `None` if no node will do.
    pub(super) fn best(&self) -> Option<Best> {
        self.tree.best()
    }

    /// One of the best rows; `None` if no node will do.
    #[inline]
    pub(super) fn choose(&self, draw: Draw) -> Option<usize> {
        self.tree.choose(draw)
    }

    /// The totals by row but for what is alike for all of them; [`NONE`] where a node will not do.
    pub(super) fn rows(&self) -> &[i32] {
        self.tree.totals()
    }

    /// Any pod of the class.
    pub(super) fn pod(&self) -> &Arc<PodInfo> {
        &self.pod
    }

    /// Grows when other rows than those that are logged may have changed.
    pub(super) fn fixed_version(&self) -> u64 {
        self.fixed_version
    }

    /// For each normalised plugin in the plan's order whether nodes differ in it.
    pub(super) fn scale_pattern(&self) -> impl Iterator<Item = bool> {
        self.scales.iter().map(Option::is_some)
    }

    /// The row's raw scores of the plugins in which nodes differ.
    pub(super) fn raws(&self, row: usize) -> impl Iterator<Item = i32> {
        self.scales.iter().flatten().map(move |scale| scale.rows[row])
    }

    /// The row's total without the scores that are relative to the highest of the feasible nodes;
    /// [`NONE`] where a node will not do.
    pub(super) fn flat(&self, plan: &Plan, row: usize) -> i32 {
        let mut total = self.tree.totals()[row];
        if total == NONE {
            return NONE;
        }
        for (scale, (weighted, reverse)) in self.scales.iter().zip(&plan.scaled_scores) {
            let Some(scale) = scale else { continue };
            // Scores are bounded, or the class would not be up to date.
            total -= scale.score(row, weighted.weight, *reverse).unwrap_or(0);
        }
        total
    }

    /// Whether some scores are relative to the highest of the feasible nodes.
    pub(super) fn is_relative(&self) -> bool {
        self.scales.iter().any(Option::is_some)
    }

    /// Makes totals of some rows relative to the highest of these rows alone.
    pub(super) fn rescale(&self, plan: &Plan, rows: &[usize], totals: &mut [i64]) {
        for (scale, (weighted, reverse)) in self.scales.iter().zip(&plan.scaled_scores) {
            let Some(scale) = scale else { continue };
            let highest = rows.iter().map(|&row| scale.rows[row]).max().unwrap_or(0).max(0);
            if highest == scale.highest {
                continue;
            }
            for (&row, total) in rows.iter().zip(totals.iter_mut()) {
                let score = |highest: i32| {
                    scaled(scale.rows[row].into(), highest.into(), *reverse) * weighted.weight
                };
                *total += score(highest) - score(scale.highest);
            }
        }
    }

    /// The class itself, to be filled by another thread and put back in its place.
    pub(super) fn detach(&mut self) -> Self {
        let (yields_from, serial) = (self.yields_from, self.serial);
        let (pod, demand) = (&self.pod, self.demand);
        let mut detached = Self::new(pod, self.plan, self.fixed, yields_from, serial, demand);
        std::mem::swap(&mut detached.tree, &mut self.tree);
        std::mem::swap(&mut detached.refused, &mut self.refused);
        detached
    }

    /// What a pod of the class asks, if that can be computed with.
    pub(super) fn demand(&self) -> Option<&Demand> {
        self.demand.as_ref()
    }

    /// Up to which change of the log it is filled; `None` if it is not.
    pub(super) fn position(&self) -> Option<u64> {
        (self.cursor != u64::MAX).then_some(self.cursor)
    }

    /// Computes every total from columns that are ahead of the log, at `position`, without irregular
    /// rows.
    pub(super) fn fill(
        &mut self,
        (plan, fixed): (&Plan, &Fixed),
        columns: &Columns,
        position: u64,
    ) -> Result<(), Unusual> {
        self.cursor = u64::MAX;
        let demand = self.demand.as_ref().ok_or(Unusual)?;
        let mut totals = self.tree.take();
        totals.resize(fixed.base.len(), NONE);
        columns.score_all(demand, &fixed.base, &mut totals);
        self.rank(plan, fixed, &mut totals)?;
        self.tree.fill(totals);
        (self.cursor, self.fixed_version) = (position, fixed.version);
        Ok(())
    }

    /// Takes over `missed` from columns that are ahead of the log, at `position`, without irregular
    /// rows.
    #[inline]
    pub(super) fn follow(
        &mut self,
        (plan, fixed): (&Plan, &Fixed),
        columns: &Columns,
        missed: impl ExactSizeIterator<Item = usize>,
        position: u64,
    ) -> Result<(), Unusual> {
        if missed.len() * PATCH_COST > self.tree.totals().len() {
            return self.fill((plan, fixed), columns, position);
        }
        self.cursor = u64::MAX;
        for row in missed {
            let moving = self.demand.as_ref().ok_or(Unusual)?.score(&columns.row(row));
            if !self.set(plan, fixed, row, sum(fixed.base[row], moving))? {
                return self.fill((plan, fixed), columns, position);
            }
        }
        self.cursor = position;
        Ok(())
    }

    /// The rows' totals as the reference has them; `None` where a node will not do.
    #[cfg(test)]
    pub(super) fn totals(&self) -> Vec<Option<i64>> {
        let total = |total: &i32| (*total != NONE).then(|| i64::from(*total) + self.offset);
        self.tree.totals().iter().map(total).collect()
    }

    /// Takes over what changed since the last time.
    #[inline]
    pub(super) fn catch_up(&mut self, mut sources: Sources<'_>) -> Result<(), Unusual> {
        let end = sources.changes.rows.end();
        if self.cursor == end && self.fixed_version == sources.fixed.version {
            return Ok(());
        }
        let rows = sources.snapshot.nodes().len();
        let missed = sources.changes.rows.since(self.cursor).filter(|missed| {
            self.fixed_version == sources.fixed.version
                && missed.len() * PATCH_COST <= rows
                && self.tree.totals().len() == rows
                && self.has_scales_of(sources.fixed)
        });
        self.cursor = u64::MAX;
        let is_patched = match missed {
            Some(missed) => self.patch(&sources, missed)?,
            None => false,
        };
        if !is_patched {
            self.refill(&mut sources)?;
        }
        self.cursor = end;
        self.fixed_version = sources.fixed.version;
        Ok(())
    }

    /// Whether nodes still differ in the same plugins.
    fn has_scales_of(&self, fixed: &Fixed) -> bool {
        self.scales.len() == fixed.raws.len()
            && self.scales.iter().zip(&fixed.raws).all(|(a, b)| a.is_some() == b.matters())
    }

    /// Takes the rows over one by one; returns false if an extreme moved and all totals with it.
    fn patch(&mut self, sources: &Sources<'_>, rows: &[u32]) -> Result<bool, Unusual> {
        let pod = Arc::clone(&self.pod);
        let mut probe = None;
        for row in rows.iter().map(|row| *row as usize) {
            // Past the end is a node that is gone; those that took its place are logged.
            let Some(node) = sources.snapshot.nodes().get(row) else { continue };
            let base = sources.fixed.base[row];
            let mut moving = self.moving(node, &mut probe, sources, &pod)?;
            if moving != NONE
                && let Some(node) = with_nominated(node, sources.snapshot, self.yields_from)
                && self.moving(&node, &mut probe, sources, &pod)? == NONE
            {
                moving = NONE;
            }
            if !self.set(sources.plan, sources.fixed, row, sum(base, moving))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What the pods on the node leave of its worth.
    #[inline]
    fn moving<'a>(
        &self,
        node: &NodeInfo,
        probe: &mut Option<Probe<'a>>,
        sources: &Sources<'a>,
        pod: &'a PodInfo,
    ) -> Result<i32, Unusual> {
        match self.arithmetic(node) {
            Some(score) => Ok(score),
            None => slow(probe, sources, pod)?.ask(node),
        }
    }

    /// Leaves out the nodes that do not have room for a pod beside those nominated for them.
    fn yield_rows(&self, sources: &Sources<'_>, totals: &mut [i32]) -> Result<(), Unusual> {
        let (pod, snapshot) = (Arc::clone(&self.pod), sources.snapshot);
        let mut probe = None;
        for row in snapshot.nodes_with_nominations().filter_map(|name| snapshot.index_of(name)) {
            if totals[row] != NONE
                && let Some(node) =
                    with_nominated(&snapshot.nodes()[row], snapshot, self.yields_from)
                && self.moving(&node, &mut probe, sources, &pod)? == NONE
            {
                totals[row] = NONE;
            }
        }
        Ok(())
    }

    /// Sets a row's total but for its normalised scores; returns false if an extreme moved.
    #[inline]
    fn set(
        &mut self,
        plan: &Plan,
        fixed: &Fixed,
        row: usize,
        mut total: i32,
    ) -> Result<bool, Unusual> {
        let scales = self.scales.iter_mut().zip(&fixed.raws);
        for ((scale, raws), (weighted, reverse)) in scales.zip(&plan.scaled_scores) {
            let Some(scale) = scale else { continue };
            if scale.count(row, if total == NONE { NONE } else { raws.of(row) }) {
                return Ok(false);
            }
            total = sum(total, scale.score(row, weighted.weight, *reverse)?);
        }
        self.tree.set(row, total);
        Ok(true)
    }

    #[inline]
    fn arithmetic(&self, node: &NodeInfo) -> Option<i32> {
        Some(self.demand.as_ref()?.score(&Row::of(node)?))
    }

    /// Computes every total.
    fn refill(&mut self, sources: &mut Sources<'_>) -> Result<(), Unusual> {
        let Sources { plan, fixed, snapshot, changes, columns, holders } = sources;
        let rows = snapshot.nodes().len();
        let pod = Arc::clone(&self.pod);
        let probe = || Probe::new(&plan.moving_filters, &plan.moving_scores, &pod, snapshot);
        let mut totals = self.tree.take();
        totals.resize(rows, NONE);
        match &self.demand {
            Some(demand) => {
                columns.catch_up(snapshot, changes);
                columns.score_all(demand, &fixed.base, &mut totals);
                let mut irregular = columns.irregular().peekable();
                if irregular.peek().is_some() {
                    let probe = probe()?;
                    for row in irregular {
                        totals[row] = sum(fixed.base[row], probe.ask(&snapshot.nodes()[row])?);
                    }
                }
            }
            None => {
                let probe = probe()?;
                let few = holders.of_rarest(plan.required(&pod), snapshot, changes);
                if few.is_some() {
                    totals.fill(NONE);
                }
                let mut ask = |row: usize| {
                    totals[row] = match fixed.base[row] {
                        NONE => NONE,
                        base => sum(base, probe.ask(&snapshot.nodes()[row])?),
                    };
                    Ok(())
                };
                match few {
                    Some(few) => few.iter().copied().try_for_each(&mut ask)?,
                    None => (0..rows).try_for_each(&mut ask)?,
                }
            }
        }
        if self.yields_from.is_some() {
            self.yield_rows(sources, &mut totals)?;
        }
        self.rank(sources.plan, sources.fixed, &mut totals)?;
        self.tree.fill(totals);
        Ok(())
    }

    /// Adds the normalised scores to all totals.
    fn rank(&mut self, plan: &Plan, fixed: &Fixed, totals: &mut [i32]) -> Result<(), Unusual> {
        self.scales.clear();
        self.offset = 0;
        for (raws, (weighted, reverse)) in fixed.raws.iter().zip(&plan.scaled_scores) {
            if !raws.matters() {
                let score = if raws.is_skipped { 0 } else { scaled(0, 0, *reverse) };
                self.offset += score * weighted.weight;
                self.scales.push(None);
                continue;
            }
            let mut scale = Scale { rows: vec![NONE; totals.len()], ..Scale::default() };
            for (row, total) in totals.iter().enumerate() {
                scale.count(row, if *total == NONE { NONE } else { raws.of(row) });
            }
            for (row, total) in totals.iter_mut().enumerate() {
                *total = sum(*total, scale.score(row, weighted.weight, *reverse)?);
            }
            self.scales.push(Some(scale));
        }
        Ok(())
    }
}

fn slow<'a, 'b>(
    probe: &'b mut Option<Probe<'a>>,
    sources: &Sources<'a>,
    pod: &'a PodInfo,
) -> Result<&'b Probe<'a>, Unusual> {
    let plan = sources.plan;
    if probe.is_none() {
        let fresh = Probe::new(&plan.moving_filters, &plan.moving_scores, pod, sources.snapshot)?;
        *probe = Some(fresh);
    }
    probe.as_ref().ok_or(Unusual)
}

impl Scale {
    /// Counts the row with another raw score, or with none if that is [`NONE`]. Returns whether the
    /// highest changed.
    fn count(&mut self, row: usize, raw: i32) -> bool {
        let old = std::mem::replace(&mut self.rows[row], raw);
        if old == raw {
            return false;
        }
        if let Some(count) = self.counts.get_mut(&old) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&old);
            }
        }
        if raw != NONE {
            *self.counts.entry(raw).or_default() += 1;
        }
        let highest = self.counts.last_key_value().map_or(0, |(raw, _)| *raw);
        std::mem::replace(&mut self.highest, highest) != highest
    }

    /// The row's weighted score; [`NONE`] if the row is not counted.
    fn score(&self, row: usize, weight: i64, reverse: bool) -> Result<i32, Unusual> {
        match self.rows[row] {
            NONE => Ok(NONE),
            raw => {
                let score = scaled(raw.into(), self.highest.into(), reverse) * weight;
                super::probe::bounded(score)
            }
        }
    }
}
