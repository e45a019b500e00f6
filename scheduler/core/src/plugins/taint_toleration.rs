//! TaintToleration: refuses nodes with a NoSchedule or NoExecute taint that the pod does not
//! tolerate, and prefers nodes with few such PreferNoSchedule taints.

use k8s_openapi::api::core::v1::{Node, Toleration};
use pintle_api::taint;

use super::{normalize, taints};
use crate::cache::{NodeInfo, Snapshot};
use crate::framework::{
    Action, ClusterEvent, Hint, NodeFilter, NodeScore, Occurrence, Plugin, PluginName, PreFilter,
    PreScore, Rejection, Resource, Subject, Verdict,
};
use crate::pod::PodInfo;

/// The plugin.
#[derive(Clone, Copy, Debug)]
pub struct TaintToleration;

impl Plugin for TaintToleration {
    fn name(&self) -> PluginName {
        PluginName::TaintToleration
    }

    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, _snapshot: &'a Snapshot) -> PreFilter<'a> {
        PreFilter::every_node(Filter { pod })
    }

    fn pre_score<'a>(
        &'a self,
        pod: &'a PodInfo,
        _snapshot: &'a Snapshot,
        _feasible: &[usize],
    ) -> PreScore<'a> {
        let may_prefer = |toleration: &&Toleration| {
            let effect = toleration.effect.as_deref().unwrap_or_default();
            effect.is_empty() || effect == taint::PREFER_NO_SCHEDULE
        };
        PreScore::each(Score {
            tolerations: pod.tolerations().iter().filter(may_prefer).cloned().collect(),
        })
    }

    fn events(&self) -> &'static [ClusterEvent] {
        const {
            &[
                ClusterEvent::new(Resource::Node, Action::ADD.or(Action::UPDATE_NODE_TAINT)),
                ClusterEvent::new(Resource::TargetPod, Action::UPDATE_POD_TOLERATION),
            ]
        }
    }

    fn hint(&self, pod: &PodInfo, occurrence: &Occurrence, _snapshot: &Snapshot) -> Hint {
        match &occurrence.subject {
            Subject::Node(old, Some(new)) => {
                let forbids = |node: &Node| taints::keep_off(taints::of(node), pod);
                Hint::queue_if(old.as_deref().is_none_or(forbids) && !forbids(new))
            }
            Subject::Pod(_, Some(new)) => Hint::queue_if(new.uid == pod.uid),
            _ => Hint::Queue,
        }
    }
}

struct Filter<'a> {
    pod: &'a PodInfo,
}

impl NodeFilter for Filter<'_> {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        if taints::keep_off(node.taints(), self.pod) {
            // Up to 1.34 the taint was named; #134740 took it out of the message.
            return Err(Rejection::unresolvable("node(s) had untolerated taint(s)"));
        }
        Ok(())
    }
}

struct Score {
    tolerations: Vec<Toleration>,
}

impl NodeScore for Score {
    fn score(&self, node: &NodeInfo) -> i64 {
        let soft = node.taints().iter().filter(|t| t.effect == taint::PREFER_NO_SCHEDULE);
        let count = soft.filter(|t| !taint::is_tolerated(&self.tolerations, t)).count();
        i64::try_from(count).unwrap_or(i64::MAX)
    }

    fn normalize(&self, scores: &mut [i64]) {
        normalize::by_highest(scores, true);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::plugins::testing::{filter, node, normalized, pod, scores};

    fn tainted(taints: &Value) -> std::sync::Arc<NodeInfo> {
        node(json!({"spec": {"taints": taints}}))
    }

    #[test]
    fn hard_taints_refuse() {
        let tolerant = pod(json!({"tolerations": [{"key": "gpu", "operator": "Exists"}]}));
        for (effect, refused) in
            [("NoSchedule", true), ("NoExecute", true), ("PreferNoSchedule", false)]
        {
            let node = tainted(&json!([{"key": "gpu", "effect": effect}]));
            let verdict = filter(&TaintToleration, &pod(json!({})), &node);
            let expected = Err(Rejection::unresolvable("node(s) had untolerated taint(s)"));
            assert_eq!(verdict, if refused { expected } else { Ok(()) }, "{effect}");
            assert_eq!(filter(&TaintToleration, &tolerant, &node), Ok(()), "{effect}");
        }
    }

    #[test]
    fn soft_taints_cost() {
        let nodes = [
            tainted(&json!([])),
            tainted(&json!([{"key": "a", "effect": "PreferNoSchedule"}])),
            tainted(&json!([{"key": "a", "effect": "PreferNoSchedule"},
                            {"key": "b", "effect": "PreferNoSchedule"}])),
        ];
        let plain = pod(json!({}));
        assert_eq!(scores(&TaintToleration, &plain, &nodes), Some(vec![0, 1, 2]));
        assert_eq!(normalized(&TaintToleration, &plain, &nodes), Some(vec![100, 50, 0]));
        let all = pod(json!({"tolerations": [{"operator": "Exists"}]}));
        assert_eq!(normalized(&TaintToleration, &all, &nodes), Some(vec![100, 100, 100]));
        // A toleration of another effect does not count here.
        let hard = pod(json!({"tolerations": [
            {"key": "a", "operator": "Exists", "effect": "NoSchedule"}]}));
        assert_eq!(scores(&TaintToleration, &hard, &nodes), Some(vec![0, 1, 2]));
    }
}
