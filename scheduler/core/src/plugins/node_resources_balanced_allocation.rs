//! NodeResourcesBalancedAllocation: prefers nodes whose resources would be used alike.
//!
//! The score is (1 - the standard deviation of the used fractions) * 100, as up to release 1.35;
//! later releases score the difference that the pod makes.

use std::any::Any;

use super::resource_score::{Allocation, Counted, PodAllocation, ResourceWeight};
use crate::cache::{NodeInfo, Snapshot};
use crate::framework::{MAX_NODE_SCORE, NodeScore, Plugin, PluginName, PreScore};
use crate::pod::PodInfo;

/// The plugin, with `NodeResourcesBalancedAllocationArgs`.
#[derive(Clone, Debug)]
pub struct NodeResourcesBalancedAllocation {
    /// What is balanced; the weights do not count.
    pub resources: Vec<ResourceWeight>,
}

impl Default for NodeResourcesBalancedAllocation {
    /// Over CPU and memory.
    fn default() -> Self {
        Self { resources: ResourceWeight::cpu_and_memory() }
    }
}

impl Plugin for NodeResourcesBalancedAllocation {
    fn name(&self) -> PluginName {
        PluginName::NodeResourcesBalancedAllocation
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }

    fn pre_score<'a>(
        &'a self,
        pod: &'a PodInfo,
        _snapshot: &'a Snapshot,
        _feasible: &[usize],
    ) -> PreScore<'a> {
        let allocation = PodAllocation::new(&self.resources, Counted::Real, pod);
        if allocation.is_nothing() {
            return PreScore::Skip;
        }
        PreScore::each(Score { allocation })
    }
}

struct Score<'a> {
    allocation: PodAllocation<'a>,
}

impl NodeScore for Score<'_> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "int64((1 - std) * float64(MaxNodeScore)), as in Go"
    )]
    fn score(&self, node: &NodeInfo) -> i64 {
        let mut first_two = [0.0; 2];
        let (mut count, mut sum) = (0_usize, 0.0);
        for fraction in self.allocation.on(node).map(fraction) {
            if let Some(slot) = first_two.get_mut(count) {
                *slot = fraction;
            }
            count += 1;
            sum += fraction;
        }
        let deviation = match count {
            0 | 1 => 0.0,
            2 => ((first_two[0] - first_two[1]) / 2.0).abs(),
            _ => {
                let mean = sum / count as f64;
                let square = |fraction: f64| (fraction - mean) * (fraction - mean);
                let squares = self.allocation.on(node).map(fraction).map(square);
                (squares.fold(0.0, |sum, square| sum + square) / count as f64).sqrt()
            }
        };
        ((1.0 - deviation) * MAX_NODE_SCORE as f64) as i64
    }
}

#[expect(clippy::cast_precision_loss, reason = "float64(requested) / float64(allocatable)")]
fn fraction(allocation: Allocation) -> f64 {
    (allocation.requested as f64 / allocation.allocatable as f64).min(1.0)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::needless_pass_by_value, reason = "json! reads best in place")]

    use serde_json::{Value, json};

    use super::*;
    use crate::plugins::testing::{node_with, pod, scores};

    fn asking(requests: Value) -> PodInfo {
        pod(json!({"containers": [{"name": "c", "resources": {"requests": requests}}]}))
    }

    fn score(resources: &[&str], wanted: &Value, on: Vec<PodInfo>) -> Option<i64> {
        let weight = |name: &&str| ResourceWeight { name: (*name).to_owned(), weight: 1 };
        let plugin =
            NodeResourcesBalancedAllocation { resources: resources.iter().map(weight).collect() };
        let node = node_with(
            json!({"status": {"allocatable": {
                "cpu": "10", "memory": "20000", "example.com/gpu": "4", "pods": "9"}}}),
            on,
        );
        Some(scores(&plugin, &asking(wanted.clone()), &[node])?[0])
    }

    #[test]
    fn two_resources() {
        let both = ["cpu", "memory"];
        for (wanted, on, expected) in [
            // Nothing asked for: not scored at all.
            (json!({}), vec![], None),
            // 30% and 25%: 1 - 0.025.
            (json!({"cpu": "3", "memory": "5000"}), vec![], Some(97)),
            // 60% and 25%: 1 - 0.175.
            (json!({"cpu": "3", "memory": "5000"}), vec![asking(json!({"cpu": "3"}))], Some(82)),
            // Over the limit counts as full: 100% and 25%.
            (json!({"cpu": "30", "memory": "5000"}), vec![], Some(62)),
        ] {
            assert_eq!(score(&both, &wanted, on), expected, "{wanted}");
        }
    }

    #[test]
    fn three_resources_use_the_population_deviation() {
        let three = ["cpu", "memory", "example.com/gpu"];
        // 30%, 25%, 50%: mean 35%, variance (25 + 100 + 225)/3 of 1e-4, deviation 0.10801.
        let wanted = json!({"cpu": "3", "memory": "5000", "example.com/gpu": "2"});
        assert_eq!(score(&three, &wanted, vec![]), Some(89));
        // An extended resource that is not asked for is left out.
        assert_eq!(score(&three, &json!({"cpu": "3", "memory": "5000"}), vec![]), Some(97));
    }
}
