//! What the node objects alone say of pods with one fixed signature part.
//!
//! Filled once, then patched where a node's object changed. ImageLocality also reads how many nodes
//! hold an image, and of how many nodes: when that changes for an image of the pod, all is filled
//! anew.

use std::sync::Arc;

use super::plan::Plan;
use super::probe::{Probe, Unusual, bounded};
use super::tournament::NONE;
use crate::cache::{ChangeLog, ImageState, Snapshot};
use crate::framework::{NodeScore, PreScore};
use crate::plugins::normalized_image_name;
use crate::pod::PodInfo;

/// Verdicts and scores of the fixed plugins by row.
#[derive(Debug)]
pub(super) struct Fixed {
    /// Any pod with the signature.
    pod: Arc<PodInfo>,
    /// The weighted sum of scores; [`NONE`] where a filter refuses.
    pub(super) base: Vec<i32>,
    /// The highest of `base`.
    pub(super) highest: i32,
    /// Raw scores of the plugins that are normalised, in the plan's order.
    pub(super) raws: Vec<Raws>,
    /// Up to where [`ChangeLog::objects`] is taken over.
    cursor: u64,
    images_at: u64,
    images: Images,
    /// Grows when more than the changed rows may have changed.
    pub(super) version: u64,
    /// How many classes use it.
    pub(super) users: usize,
}

/// The raw scores of one plugin.
#[derive(Debug, Default)]
pub(super) struct Raws {
    /// By row; feasible or not.
    values: Vec<i32>,
    /// How many are not zero.
    nonzero: usize,
    /// The plugin has no score for the pod.
    pub(super) is_skipped: bool,
}

impl Raws {
    /// Whether nodes differ in it.
    pub(super) fn matters(&self) -> bool {
        self.nonzero > 0
    }

    pub(super) fn of(&self, row: usize) -> i32 {
        self.values[row]
    }

    fn set(&mut self, row: usize, value: i32) {
        let old = std::mem::replace(&mut self.values[row], value);
        self.nonzero += usize::from(value != 0);
        self.nonzero -= usize::from(old != 0);
    }

    fn resize(&mut self, rows: usize) {
        let gone = self.values.get(rows..).unwrap_or_default();
        self.nonzero -= gone.iter().filter(|value| **value != 0).count();
        self.values.resize(rows, 0);
    }
}

/// What the nodes together say of the pod's images: how many nodes there are, and each image.
type Images = (usize, Vec<Option<ImageState>>);

impl Fixed {
    pub(super) fn new(pod: &Arc<PodInfo>) -> Self {
        Self {
            pod: Arc::clone(pod),
            base: Vec::new(),
            highest: NONE,
            raws: Vec::new(),
            cursor: u64::MAX,
            images_at: 0,
            images: (0, Vec::new()),
            version: 0,
            users: 0,
        }
    }

    /// Takes over what changed since the last time.
    pub(super) fn catch_up(
        &mut self,
        plan: &Plan,
        snapshot: &Snapshot,
        changes: &ChangeLog,
    ) -> Result<(), Unusual> {
        let end = changes.objects.end();
        if self.cursor == end && self.images_at == changes.images {
            return Ok(());
        }
        let images_moved = self.images_moved(snapshot, changes);
        let missed = changes.objects.since(self.cursor).filter(|_| !images_moved);
        self.cursor = u64::MAX;
        let rows = snapshot.nodes().len();
        self.base.resize(rows, NONE);
        self.raws.resize_with(plan.scaled_scores.len(), Raws::default);
        self.raws.iter_mut().for_each(|raws| raws.resize(rows));
        match missed {
            Some(missed) => {
                let missed = missed.iter().map(|row| *row as usize);
                self.fill(plan, snapshot, missed.filter(|row| *row < rows))?;
            }
            None => {
                self.version += 1;
                self.fill(plan, snapshot, 0..rows)?;
            }
        }
        self.highest = self.base.iter().copied().max().unwrap_or(NONE);
        self.cursor = end;
        Ok(())
    }

    /// Whether the nodes together say something else of the pod's images than at the last time.
    fn images_moved(&mut self, snapshot: &Snapshot, changes: &ChangeLog) -> bool {
        if self.cursor != u64::MAX && self.images_at == changes.images {
            return false;
        }
        self.images_at = changes.images;
        let names = self.pod.containers().map(|c| c.image.as_deref().unwrap_or_default());
        let states = names.map(|name| snapshot.image(&normalized_image_name(name)));
        let states: Vec<Option<ImageState>> = states.collect();
        let is_known = states.iter().any(Option::is_some);
        let now = if is_known { (snapshot.nodes().len(), states) } else { (0, Vec::new()) };
        std::mem::replace(&mut self.images, now.clone()) != now
    }

    fn fill(
        &mut self,
        plan: &Plan,
        snapshot: &Snapshot,
        rows: impl Iterator<Item = usize>,
    ) -> Result<(), Unusual> {
        let pod = Arc::clone(&self.pod);
        let probe = Probe::new(&plan.fixed_filters, &plan.fixed_scores, &pod, snapshot)?;
        let scaled: Vec<Option<Box<dyn NodeScore + '_>>> = plan
            .scaled_scores
            .iter()
            .map(|(weighted, _)| match weighted.plugin.pre_score(&pod, snapshot, &[]) {
                PreScore::Score(score) => Some(score),
                PreScore::Skip => None,
            })
            .collect();
        for (raws, score) in self.raws.iter_mut().zip(&scaled) {
            raws.is_skipped = score.is_none();
        }
        for row in rows {
            let node = &snapshot.nodes()[row];
            self.base[row] = probe.ask(node)?;
            for (raws, score) in self.raws.iter_mut().zip(&scaled) {
                if let Some(score) = score {
                    raws.set(row, bounded(score.score(node))?);
                }
            }
        }
        Ok(())
    }
}
