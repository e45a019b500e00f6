//! NodeAffinity: the pod's nodeSelector and node affinity, and what the configuration adds to every
//! pod (`addedAffinity`).

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    Node, NodeAffinity as Affinity, NodeSelector, NodeSelectorTerm, Pod, PreferredSchedulingTerm,
};
use pintle_api::node_affinity;

use super::normalize;
use crate::cache::{NodeInfo, Snapshot};
use crate::framework::{
    Action, ClusterEvent, Hint, NodeFilter, NodeScore, Occurrence, Plugin, PluginName, PreFilter,
    PreScore, Rejection, Resource, Subject, Verdict,
};
use crate::pod::PodInfo;

/// The plugin.
#[derive(Clone, Debug, Default)]
pub struct NodeAffinity {
    added: Affinity,
}

impl NodeAffinity {
    /// With `NodeAffinityArgs.addedAffinity`.
    pub fn with_added(added: Affinity) -> Self {
        Self { added }
    }

    fn added_required(&self) -> Option<&NodeSelector> {
        self.added.required_during_scheduling_ignored_during_execution.as_ref()
    }

    fn added_preferred(&self) -> &[PreferredSchedulingTerm] {
        let terms = self.added.preferred_during_scheduling_ignored_during_execution.as_deref();
        terms.unwrap_or_default()
    }

    fn is_enforced_on(&self, node: &Node) -> bool {
        self.added_required().is_none_or(|s| node_affinity::selector_matches(s, node))
    }
}

impl Plugin for NodeAffinity {
    fn name(&self) -> PluginName {
        PluginName::NodeAffinity
    }

    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, _snapshot: &'a Snapshot) -> PreFilter<'a> {
        let pod: &Pod = &pod.pod;
        let required = node_affinity::required_selector(pod);
        let has_selector = pod.spec.as_ref().is_some_and(|spec| spec.node_selector.is_some());
        if required.is_none() && self.added_required().is_none() && !has_selector {
            return PreFilter::Skip;
        }
        let nodes = required.and_then(|selector| named_nodes(&selector.node_selector_terms));
        if nodes.as_ref().is_some_and(BTreeSet::is_empty) {
            return PreFilter::Reject(Rejection::unresolvable("pod affinity terms conflict"));
        }
        PreFilter::Filter { nodes, filter: Box::new(Filter { plugin: self, pod }) }
    }

    fn pre_score<'a>(
        &'a self,
        pod: &'a PodInfo,
        _snapshot: &'a Snapshot,
        _feasible: &[usize],
    ) -> PreScore<'a> {
        let preferred = node_affinity::preferred_terms(&pod.pod);
        if preferred.is_empty() && self.added_preferred().is_empty() {
            return PreScore::Skip;
        }
        PreScore::each(Score { terms: [self.added_preferred(), preferred] })
    }

    fn events(&self) -> &'static [ClusterEvent] {
        const { &[ClusterEvent::new(Resource::Node, Action::ADD.or(Action::UPDATE_NODE_LABEL))] }
    }

    fn hint(&self, pod: &PodInfo, occurrence: &Occurrence, _snapshot: &Snapshot) -> Hint {
        let Subject::Node(old, Some(new)) = &occurrence.subject else { return Hint::Queue };
        let matches = |node: &Node| {
            self.is_enforced_on(node) && node_affinity::required_matches(&pod.pod, node)
        };
        Hint::queue_if(matches(new) && !old.as_deref().is_some_and(matches))
    }
}

/// The nodes that the terms name by `metadata.name`; `None` if some term names none, since terms
/// are alternatives.
fn named_nodes(terms: &[NodeSelectorTerm]) -> Option<BTreeSet<&str>> {
    let mut all = BTreeSet::new();
    for term in terms {
        let fields = term.match_fields.iter().flatten();
        let names = fields
            .filter(|field| field.key == "metadata.name" && field.operator == "In")
            .map(|field| field.values.iter().flatten().map(String::as_str).collect())
            .reduce(|a: BTreeSet<&str>, b| a.intersection(&b).copied().collect());
        all.extend(names?);
    }
    (!terms.is_empty()).then_some(all)
}

struct Filter<'a> {
    plugin: &'a NodeAffinity,
    pod: &'a Pod,
}

impl NodeFilter for Filter<'_> {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        if !self.plugin.is_enforced_on(node.node()) {
            let reason = "node(s) didn't match scheduler-enforced node affinity";
            return Err(Rejection::unresolvable(reason));
        }
        if !node_affinity::required_matches(self.pod, node.node()) {
            let reason = "node(s) didn't match Pod's node affinity/selector";
            return Err(Rejection::unresolvable(reason));
        }
        Ok(())
    }
}

struct Score<'a> {
    terms: [&'a [PreferredSchedulingTerm]; 2],
}

impl NodeScore for Score<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let terms = self.terms.into_iter().flatten();
        let matching = terms.filter(|t| {
            // Upstream leaves out weight 0 and terms without a condition; neither adds anything.
            node_affinity::term_matches(&t.preference, node.node())
        });
        matching.map(|term| i64::from(term.weight)).sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        normalize::by_highest(scores, false);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::needless_pass_by_value, reason = "json! reads best in place")]

    use serde_json::{Value, json};

    use super::*;
    use crate::plugins::testing::{filter, node, normalized, pod, pre_filter_nodes, scores};

    fn at(name: &str, zone: &str) -> std::sync::Arc<NodeInfo> {
        node(json!({"metadata": {"name": name, "labels": {"zone": zone}}}))
    }

    fn requiring(terms: Value) -> PodInfo {
        pod(json!({"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}}))
    }

    fn named(names: &[&str]) -> Value {
        json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": names}]})
    }

    #[test]
    fn selectors_refuse_unresolvably() {
        let plugin = NodeAffinity::default();
        let zonal = pod(json!({"nodeSelector": {"zone": "a"}}));
        assert_eq!(filter(&plugin, &zonal, &at("n", "a")), Ok(()));
        assert_eq!(
            filter(&plugin, &zonal, &at("n", "b")),
            Err(Rejection::unresolvable("node(s) didn't match Pod's node affinity/selector"))
        );
    }

    #[test]
    fn added_affinity_is_enforced_on_every_pod() {
        let plugin = NodeAffinity::with_added(
            serde_json::from_value(json!({
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}]},
                "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 4, "preference":
                    {"matchExpressions": [{"key": "zone", "operator": "Exists"}]}}],
            }))
            .unwrap(),
        );
        let plain = pod(json!({}));
        assert_eq!(filter(&plugin, &plain, &at("n", "a")), Ok(()));
        assert_eq!(
            filter(&plugin, &plain, &at("n", "b")),
            Err(Rejection::unresolvable("node(s) didn't match scheduler-enforced node affinity"))
        );
        assert_eq!(scores(&plugin, &plain, &[at("n", "a")]), Some(vec![4]));
    }

    #[test]
    fn names_narrow_the_nodes() {
        let nodes = |terms| pre_filter_nodes(&NodeAffinity::default(), &requiring(terms));
        assert_eq!(
            nodes(json!([named(&["a"]), named(&["b"])])),
            Ok(Some(vec!["a".to_owned(), "b".to_owned()]))
        );
        assert_eq!(nodes(json!([named(&["a"]), {}])), Ok(None));
        let both = json!([{"matchFields": [
            {"key": "metadata.name", "operator": "In", "values": ["a"]},
            {"key": "metadata.name", "operator": "In", "values": ["b"]}]}]);
        assert_eq!(nodes(both), Err("pod affinity terms conflict".to_owned()));
    }

    #[test]
    fn preferences_are_summed_and_scaled() {
        let preferring = pod(json!({"affinity": {"nodeAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 2, "preference": {"matchExpressions": [
                    {"key": "zone", "operator": "In", "values": ["a", "b"]}]}},
                {"weight": 4, "preference": {"matchExpressions": [
                    {"key": "zone", "operator": "In", "values": ["b"]}]}}]}}}));
        let nodes = [at("1", "a"), at("2", "b"), at("3", "c")];
        let plugin = NodeAffinity::default();
        assert_eq!(scores(&plugin, &preferring, &nodes), Some(vec![2, 6, 0]));
        assert_eq!(normalized(&plugin, &preferring, &nodes), Some(vec![33, 100, 0]));
        assert_eq!(scores(&plugin, &pod(json!({})), &nodes), None);
    }
}
