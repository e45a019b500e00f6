//! The scoring strategies of NodeResourcesFit: spread, pack, or a shape of one's own.

use super::super::resource_score::Allocation;
use crate::framework::MAX_NODE_SCORE;

/// `ScoringStrategy` of `NodeResourcesFitArgs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScoringStrategy {
    /// Prefer the emptiest node.
    LeastAllocated,
    /// Prefer the fullest node.
    MostAllocated,
    /// Prefer by utilization, linearly between the points of a shape; not empty, utilization rising.
    RequestedToCapacityRatio(Vec<ShapePoint>),
}

/// A point of `requestedToCapacityRatio.shape`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShapePoint {
    /// In percent, 0..=100.
    pub utilization: i64,
    /// 0..=10, as configured.
    pub score: i64,
}

/// The highest score of a [`ShapePoint`].
const MAX_CUSTOM_PRIORITY_SCORE: i64 = 10;
/// The highest utilization of a [`ShapePoint`].
const MAX_UTILIZATION: i64 = 100;

impl ScoringStrategy {
    /// The score of a node, 0..=100: the weighted mean over the resources.
    pub(super) fn score(&self, allocations: impl Iterator<Item = Allocation>) -> i64 {
        let (mut sum, mut weights) = (0_i64, 0_i64);
        for allocation in allocations {
            let score = self.score_one(allocation);
            if score == 0 && matches!(self, Self::RequestedToCapacityRatio(_)) {
                continue;
            }
            sum += score * allocation.weight;
            weights += allocation.weight;
        }
        match self {
            _ if weights == 0 => 0,
            Self::RequestedToCapacityRatio(_) => rounded_ratio(sum, weights),
            _ => sum / weights,
        }
    }

    fn score_one(&self, Allocation { requested, allocatable, .. }: Allocation) -> i64 {
        match self {
            Self::LeastAllocated if requested > allocatable => 0,
            Self::LeastAllocated => share(allocatable.wrapping_sub(requested), allocatable),
            Self::MostAllocated => share(requested.min(allocatable), allocatable),
            Self::RequestedToCapacityRatio(shape) if requested > allocatable => {
                on_shape(shape, MAX_UTILIZATION)
            }
            Self::RequestedToCapacityRatio(shape) => on_shape(shape, share(requested, allocatable)),
        }
    }
}

fn share(part: i64, whole: i64) -> i64 {
    part.wrapping_mul(MAX_NODE_SCORE).wrapping_div(whole)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "int64(math.Round(float64(sum) / float64(weights))), as in Go"
)]
fn rounded_ratio(sum: i64, weights: i64) -> i64 {
    (sum as f64 / weights as f64).round() as i64
}

fn on_shape(shape: &[ShapePoint], utilization: i64) -> i64 {
    let scaled = |point: &ShapePoint| point.score * (MAX_NODE_SCORE / MAX_CUSTOM_PRIORITY_SCORE);
    let Some(right) = shape.iter().position(|point| utilization <= point.utilization) else {
        return shape.last().map_or(0, scaled);
    };
    let after = &shape[right];
    let Some(before) = right.checked_sub(1).map(|left| &shape[left]) else {
        return scaled(after);
    };
    let rise = scaled(after) - scaled(before);
    // Above zero: utilizations rise.
    let run = (after.utilization - before.utilization).max(1);
    scaled(before) + rise * (utilization - before.utilization) / run
}
