//! The rows of a class in groups that are alike to the plugins of wider view.
//!
//! What InterPodAffinity and PodTopologySpread say of a row, and what the plugins whose scores are
//! relative to the highest of the feasible nodes say, depends on the row's key alone
//! ([`crate::counters::Facets`], raw scores). So a decision asks them once for each group of rows
//! with equal keys, and the best row of a group is the one with the highest of the other totals.
//! Within a group rows are listed by that total. A changed row is taken out of one list and put into
//! another.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::Draw;
use super::class::Class;
use super::plan::Plan;
use super::tournament::NONE;
use crate::cache::{ChangeLog, Snapshot};
use crate::counters::{Appraisal, Counters, FacetKey, Facets, Inquiry, WIDTH_MAX, Weights};
use crate::plugins::scaled;

/// The rows of one class in the eyes of one inquiry.
#[derive(Debug)]
pub(super) struct Partition {
    /// `None` if the rows are in too many groups, or there are too many facets.
    facets: Option<Facets>,
    groups: Vec<Group>,
    by_key: FxHashMap<FacetKey, usize>,
    /// Numbers of groups without rows.
    free: Vec<usize>,
    places: Vec<Place>,
    /// Lists that are not used at the moment.
    spare: Vec<Vec<u32>>,
    /// A buffer.
    best: Vec<u32>,
    /// Up to where [`ChangeLog::rows`] is taken over.
    cursor: u64,
    fixed_version: u64,
    /// Of which normalised plugins raw scores are in the keys.
    scales: Vec<bool>,
}

/// Rows with one key.
#[derive(Debug)]
struct Group {
    key: FacetKey,
    size: u32,
    /// Totals, from the lowest, and the rows that have them.
    levels: Vec<(i32, Vec<u32>)>,
}

/// Where a row is.
#[derive(Clone, Copy, Debug)]
struct Place {
    group: usize,
    total: i32,
    /// In the list of the total.
    at: u32,
}

/// The row is in no group: it is not feasible.
const NOWHERE: Place = Place { group: usize::MAX, total: NONE, at: 0 };

/// What a partition is kept up to date from. The class and the counters are up to date.
#[derive(Clone, Copy)]
pub(super) struct Sources<'a> {
    pub(super) plan: &'a Plan,
    pub(super) class: &'a Class,
    pub(super) inquiry: &'a Arc<Inquiry>,
    pub(super) snapshot: &'a Snapshot,
    pub(super) changes: &'a ChangeLog,
    pub(super) counters: &'a Counters,
}

/// What a decision is made with.
pub(super) struct Terms<'a> {
    pub(super) plan: &'a Plan,
    pub(super) weights: Weights,
    pub(super) counters: &'a Counters,
    pub(super) appraisal: &'a mut Appraisal,
}

/// Moving a row costs about as much as placing this many.
const MOVE_COST: usize = 2;

/// A group costs as much as a look at a few rows: with more groups than this share of the rows, a look
/// at all rows is cheaper. In tests few, so that both are.
const GROUPS_SHARE: usize = 4;
const GROUPS_MIN: usize = if cfg!(test) { 6 } else { 64 };

impl Default for Partition {
    fn default() -> Self {
        Self {
            facets: None,
            groups: Vec::new(),
            by_key: FxHashMap::default(),
            free: Vec::new(),
            places: Vec::new(),
            spare: Vec::new(),
            best: Vec::new(),
            cursor: u64::MAX,
            fixed_version: 0,
            scales: Vec::new(),
        }
    }
}

impl Partition {
    /// Takes over what changed since the last time; false if the rows are too unlike each other.
    pub(super) fn catch_up(&mut self, sources: Sources<'_>) -> bool {
        let Sources { class, snapshot, changes, counters, .. } = sources;
        let rows = snapshot.nodes().len();
        let missed = changes.rows.since(self.cursor);
        if self.facets.is_none() && missed.is_some_and(|missed| missed.len() <= rows) {
            // Another attempt so soon would come to the same.
            return false;
        }
        let is_current = self.fixed_version == class.fixed_version()
            && self.facets.as_ref().is_some_and(|facets| facets.is_current(counters))
            && class.scale_pattern().eq(self.scales.iter().copied());
        match missed.filter(|missed| is_current && missed.len() * MOVE_COST <= rows) {
            Some([]) => {}
            Some(missed) => self.patch(sources, missed),
            None => self.refill(sources),
        }
        self.cursor = changes.rows.end();
        self.fixed_version = class.fixed_version();
        if self.groups.len() - self.free.len() > groups_max(rows) {
            *self = Self { cursor: self.cursor, ..Self::default() };
        }
        self.facets.is_some()
    }

    /// A node for the pod, one of the best; `None` if no node will do.
    pub(super) fn decide(&mut self, terms: &mut Terms<'_>, draw: Draw) -> Option<usize> {
        self.find_best(terms);
        let groups = &terms.appraisal.groups;
        let lists = || groups.iter().map(|group| self.groups[*group].best_rows());
        let count: usize = lists().map(<[u32]>::len).sum();
        if count <= 1 {
            return lists().flatten().next().map(|row| *row as usize);
        }
        let is_best = |row: usize| {
            let Place { group, total, .. } = self.places[row];
            groups.contains(&group) && total == self.groups[group].highest()
        };
        let tried = draw.first(self.places.len(), is_best);
        Some(tried.unwrap_or_else(|| self.nth_best(groups, draw.nth(count))))
    }

    /// Of the best rows of these groups the one with so many before it.
    fn nth_best(&mut self, groups: &[usize], nth: usize) -> usize {
        self.best.clear();
        self.best.extend(groups.iter().flat_map(|group| self.groups[*group].best_rows()));
        let (_, row, _) = self.best.select_nth_unstable(nth);
        *row as usize
    }

    /// The best rows; none if no node will do.
    #[cfg(test)]
    pub(super) fn all_best(&self, terms: &mut Terms<'_>) -> Vec<usize> {
        self.find_best(terms);
        let lists = terms.appraisal.groups.iter().map(|group| self.groups[*group].best_rows());
        let mut rows: Vec<usize> = lists.flatten().map(|row| *row as usize).collect();
        rows.sort_unstable();
        rows
    }

    /// Leaves the groups with the best rows in the appraisal.
    fn find_best(&self, terms: &mut Terms<'_>) {
        let Terms { plan, weights, counters, appraisal } = terms;
        appraisal.groups.clear();
        let Some(facets) = &self.facets else { return };
        let live = self.groups.iter().enumerate().filter(|(_, group)| group.size > 0);
        let live = live.map(|(number, group)| (number, &group.key, group.size));
        facets.appraise(live, *weights, counters, appraisal);
        self.add_scaled(facets.width(), plan, appraisal);
        let Appraisal { groups, scores, .. } = &mut **appraisal;
        let mut highest = i64::MIN;
        for (group, score) in groups.iter().zip(&mut *scores) {
            *score += i64::from(self.groups[*group].highest());
            highest = highest.max(*score);
        }
        let mut scores = scores.iter();
        groups.retain(|_| scores.next() == Some(&highest));
    }

    /// Adds the scores that are relative to the highest raw score of the groups.
    fn add_scaled(&self, mut at: usize, plan: &Plan, appraisal: &mut Appraisal) {
        let Appraisal { groups, scores, .. } = appraisal;
        for (is_kept, (weighted, reverse)) in self.scales.iter().zip(&plan.scaled_scores) {
            if !is_kept {
                continue;
            }
            let raws = || groups.iter().map(|group| self.groups[*group].key[at]);
            let highest = raws().max().unwrap_or(0).max(0);
            for (score, raw) in scores.iter_mut().zip(raws()) {
                *score += scaled(raw, highest, *reverse) * weighted.weight;
            }
            at += 1;
        }
    }

    fn patch(&mut self, sources: Sources<'_>, missed: &[u32]) {
        let rows = sources.snapshot.nodes().len();
        let Some(mut facets) = self.facets.take() else { return };
        facets.truncate(rows);
        (rows..self.places.len()).for_each(|row| self.take_out(row));
        self.places.resize(rows, NOWHERE);
        // Past the end is a node that is gone; those that took its place are logged.
        let missed = || missed.iter().map(|row| *row as usize).filter(|row| *row < rows);
        for row in missed() {
            facets.take_over(row, sources.counters, sources.snapshot);
        }
        for row in missed() {
            self.place(row, &facets, sources);
        }
        self.facets = Some(facets);
    }

    fn refill(&mut self, sources: Sources<'_>) {
        let Sources { class, inquiry, snapshot, counters, .. } = sources;
        *self = Self { scales: class.scale_pattern().collect(), ..Self::default() };
        let scales = self.scales.iter().filter(|is_kept| **is_kept).count();
        let width_max = WIDTH_MAX.saturating_sub(scales);
        let Some(mut facets) = Facets::new(inquiry, class.pod(), counters, width_max) else {
            return;
        };
        let rows = snapshot.nodes().len();
        self.places.resize(rows, NOWHERE);
        for row in 0..rows {
            facets.take_over(row, counters, snapshot);
        }
        for row in 0..rows {
            self.place(row, &facets, sources);
            if self.groups.len() > groups_max(rows) {
                return;
            }
        }
        self.facets = Some(facets);
    }

    /// Puts the row where it belongs.
    fn place(&mut self, row: usize, facets: &Facets, sources: Sources<'_>) {
        let total = sources.class.flat(sources.plan, row);
        if total == NONE {
            return self.take_out(row);
        }
        let mut key = facets.key(row, sources.counters);
        let raws = sources.class.raws(row);
        for (component, raw) in key[facets.width()..].iter_mut().zip(raws) {
            *component = raw.into();
        }
        let old = self.places[row];
        let is_there =
            old.total == total && self.groups.get(old.group).is_some_and(|group| group.key == key);
        if !is_there {
            self.take_out(row);
            self.put_in(row, &key, total);
        }
    }

    fn take_out(&mut self, row: usize) {
        let Place { group: number, total, at } = std::mem::replace(&mut self.places[row], NOWHERE);
        let Some(group) = self.groups.get_mut(number) else { return };
        let Ok(level) = group.level(total) else { return };
        let list = &mut group.levels[level].1;
        list.swap_remove(at as usize);
        if let Some(moved) = list.get(at as usize) {
            self.places[*moved as usize].at = at;
        }
        if list.is_empty() {
            self.spare.push(group.levels.remove(level).1);
        }
        group.size -= 1;
        if group.size == 0 {
            self.by_key.remove(&group.key);
            self.free.push(number);
        }
    }

    fn put_in(&mut self, row: usize, key: &FacetKey, total: i32) {
        let number = match self.by_key.get(key) {
            Some(number) => *number,
            None => self.new_group(key),
        };
        let group = &mut self.groups[number];
        let level = group.level(total).unwrap_or_else(|level| {
            group.levels.insert(level, (total, self.spare.pop().unwrap_or_default()));
            level
        });
        let list = &mut group.levels[level].1;
        // More than 2^32 nodes do not fit into memory.
        let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        self.places[row] = Place { group: number, total, at: narrow(list.len()) };
        list.push(narrow(row));
        group.size += 1;
    }

    fn new_group(&mut self, key: &FacetKey) -> usize {
        let number = self.free.pop().unwrap_or_else(|| {
            self.groups.push(Group { key: *key, size: 0, levels: Vec::new() });
            self.groups.len() - 1
        });
        self.groups[number].key = *key;
        self.by_key.insert(*key, number);
        number
    }
}

impl Group {
    fn level(&self, total: i32) -> Result<usize, usize> {
        self.levels.binary_search_by_key(&total, |(total, _)| *total)
    }

    fn highest(&self) -> i32 {
        self.levels.last().map_or(NONE, |(total, _)| *total)
    }

    /// The rows with the highest total.
    fn best_rows(&self) -> &[u32] {
        self.levels.last().map_or(&[], |(_, rows)| rows)
    }
}

fn groups_max(rows: usize) -> usize {
    GROUPS_MIN.max(rows / GROUPS_SHARE)
}
