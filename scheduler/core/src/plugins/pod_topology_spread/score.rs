//! The preference of nodes by how full their domains are.

use super::constraint::{Constraint, has_all_keys};
use super::{Counts, HOSTNAME};
use crate::cache::{NodeInfo, Snapshot};
use crate::framework::{MAX_NODE_SCORE, NodeScore};
use crate::pod::PodInfo;

/// The score for one pod.
pub(super) struct Score<'a> {
    pod: &'a PodInfo,
    constraints: Vec<Constraint>,
    /// Whether nodes that lack a key are left out.
    requires_all_keys: bool,
    /// Empty for constraints by hostname, whose pods are counted when the node is scored.
    counts: Vec<Counts>,
    /// `ln(domains + 2)` of each constraint.
    weights: Vec<f64>,
    /// Of the feasible nodes in order: whether it is left out.
    ignored: Vec<bool>,
}

impl<'a> Score<'a> {
    pub(super) fn new(
        pod: &'a PodInfo,
        constraints: Vec<Constraint>,
        requires_all_keys: bool,
        snapshot: &Snapshot,
        feasible: &[usize],
    ) -> Self {
        let counts = vec![Counts::default(); constraints.len()];
        let (weights, ignored) = (Vec::new(), Vec::with_capacity(feasible.len()));
        let mut score = Self { pod, constraints, requires_all_keys, counts, weights, ignored };
        score.find_domains(snapshot, feasible);
        score.weigh();
        score.count(snapshot);
        score
    }

    /// Only domains with a feasible node matter. A node that lacks a key but is not left out is in
    /// the domain of the empty value.
    fn find_domains(&mut self, snapshot: &Snapshot, feasible: &[usize]) {
        for node in feasible.iter().map(|&node| &snapshot.nodes()[node]) {
            let ignored = self.leaves_out(node);
            self.ignored.push(ignored);
            if ignored {
                continue;
            }
            for (constraint, counts) in not_by_hostname(&self.constraints, &mut self.counts) {
                counts.entry(constraint.domain(node).unwrap_or_default().into()).or_default();
            }
        }
    }

    fn weigh(&mut self) {
        let hosts = self.ignored.iter().filter(|ignored| !**ignored).count();
        let weigh = |(constraint, counts): (&Constraint, &Counts)| {
            let size = if *constraint.key == *HOSTNAME { hosts } else { counts.len() };
            domain_weight(size)
        };
        self.weights = self.constraints.iter().zip(&self.counts).map(weigh).collect();
    }

    fn count(&mut self, snapshot: &Snapshot) {
        for node in snapshot.nodes() {
            if self.leaves_out(node) {
                continue;
            }
            for (constraint, counts) in not_by_hostname(&self.constraints, &mut self.counts) {
                let domain = constraint.domain(node).unwrap_or_default();
                if constraint.includes(self.pod, node)
                    && let Some(count) = counts.get_mut(domain)
                {
                    *count += constraint.count(self.pod, node);
                }
            }
        }
    }

    fn leaves_out(&self, node: &NodeInfo) -> bool {
        self.requires_all_keys && !has_all_keys(&self.constraints, node.node())
    }
}

fn not_by_hostname<'a>(
    constraints: &'a [Constraint],
    counts: &'a mut [Counts],
) -> impl Iterator<Item = (&'a Constraint, &'a mut Counts)> {
    constraints.iter().zip(counts).filter(|(constraint, _)| *constraint.key != *HOSTNAME)
}

impl NodeScore for Score<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        if self.leaves_out(node) {
            return 0;
        }
        let mut score = 0.0;
        for ((constraint, counts), weight) in
            self.constraints.iter().zip(&self.counts).zip(&self.weights)
        {
            let Some(domain) = constraint.domain(node) else { continue };
            let count = if *constraint.key == *HOSTNAME {
                constraint.count(self.pod, node)
            } else {
                counts.get(domain).copied().unwrap_or(0)
            };
            score += domain_cost(count, *weight, constraint.max_skew);
        }
        rounded(score)
    }

    fn normalize(&self, scores: &mut [i64]) {
        normalize(scores, &self.ignored);
    }
}

/// What a pod in a domain of a topology with so many domains costs.
#[expect(clippy::cast_precision_loss, reason = "math.Log(float64(size + 2)), as in Go")]
pub(crate) fn domain_weight(size: usize) -> f64 {
    ((size + 2) as f64).ln()
}

/// What a domain with so many pods costs.
#[expect(clippy::cast_precision_loss, reason = "float64(count)*weight + float64(maxSkew-1)")]
pub(crate) fn domain_cost(count: i64, weight: f64, max_skew: i32) -> f64 {
    count as f64 * weight + f64::from(max_skew.wrapping_sub(1))
}

/// The cost of all domains as a score.
#[expect(clippy::cast_possible_truncation, reason = "int64(math.Round(score)), as in Go")]
pub(crate) fn rounded(score: f64) -> i64 {
    score.round() as i64
}

/// The cheapest domain scores 100; nodes that are left out score 0.
pub(crate) fn normalize(scores: &mut [i64], ignored: &[bool]) {
    let counted = || scores.iter().zip(ignored).filter(|(_, ignored)| !**ignored);
    let lowest = counted().map(|(score, _)| *score).min().unwrap_or(0);
    let highest = counted().map(|(score, _)| *score).max().unwrap_or(0).max(0);
    for (score, ignored) in scores.iter_mut().zip(ignored) {
        *score = match (ignored, highest) {
            (true, _) => 0,
            (false, 0) => MAX_NODE_SCORE,
            (false, _) => MAX_NODE_SCORE * (highest + lowest - *score) / highest,
        };
    }
}
