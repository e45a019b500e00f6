//! What extenders do to a decision: after the filters they refuse more nodes, after the scores they
//! add to totals.
//!
//! Mirrors `findNodesThatPassExtenders` and the second half of `prioritizeNodes`.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::cache::{NodeInfo, Snapshot};
use crate::diagnosis::{Diagnosis, Refused};
use crate::framework::{
    Extender, ExtenderError, ExtenderFilter, MAX_NODE_SCORE, Profile, Rejection,
};
use crate::pod::PodInfo;

/// The highest score that an extender gives (`extenderv1.MaxExtenderPriority`).
const MAX_EXTENDER_SCORE: i64 = 10;

/// The nodes (indices into the snapshot) that the extenders leave, in order. What they refuse goes
/// into the diagnosis, and so does the error of one that is not ignorable.
pub(crate) fn pass_extenders(
    profile: &Profile,
    snapshot: &Snapshot,
    pod: &PodInfo,
    mut feasible: Vec<usize>,
    diagnosis: &mut Diagnosis,
) -> Vec<usize> {
    for extender in interested(profile, pod).filter(|extender| extender.is_filter()) {
        if feasible.is_empty() {
            break;
        }
        let answer = match ask(extender, snapshot, pod, &feasible) {
            Ok(answer) => answer,
            Err(_) if extender.is_ignorable() => continue,
            Err(error) => {
                *diagnosis = Diagnosis::failed(diagnosis.node_count, error.to_string());
                return Vec::new();
            }
        };
        let before = feasible.len();
        feasible = note(answer, snapshot, &feasible, diagnosis);
        if feasible.len() != before {
            diagnosis.plugins.insert_extenders();
        }
    }
    feasible
}

/// What the extenders add to the total of each node.
pub(crate) fn extender_scores(
    profile: &Profile,
    snapshot: &Snapshot,
    pod: &PodInfo,
    feasible: &[usize],
) -> Vec<i64> {
    let mut totals = vec![0_i64; feasible.len()];
    for extender in interested(profile, pod).filter(|extender| extender.is_prioritizer()) {
        // An extender that fails gives no score.
        let Ok((scores, weight)) = extender.prioritize(pod, &infos(snapshot, feasible)) else {
            continue;
        };
        for (node, total) in feasible.iter().zip(&mut totals) {
            let score = scores.get(&**snapshot.nodes()[*node].name()).copied().unwrap_or(0);
            let scaled = score.wrapping_mul(weight);
            *total = total.wrapping_add(scaled.wrapping_mul(MAX_NODE_SCORE / MAX_EXTENDER_SCORE));
        }
    }
    totals
}

fn interested<'a>(
    profile: &'a Profile,
    pod: &'a PodInfo,
) -> impl Iterator<Item = &'a Arc<dyn Extender>> {
    profile.extenders.iter().filter(|extender| extender.is_interested(pod))
}

fn infos(snapshot: &Snapshot, nodes: &[usize]) -> Vec<Arc<NodeInfo>> {
    nodes.iter().map(|&node| Arc::clone(&snapshot.nodes()[node])).collect()
}

/// An extender that answers with a node it was not asked about has failed.
fn ask(
    extender: &Arc<dyn Extender>,
    snapshot: &Snapshot,
    pod: &PodInfo,
    nodes: &[usize],
) -> Result<ExtenderFilter, ExtenderError> {
    let answer = extender.filter(pod, &infos(snapshot, nodes))?;
    for name in &answer.feasible {
        if !snapshot.index_of(name).is_some_and(|node| nodes.contains(&node)) {
            let name = format!("{name:?}");
            return Err(ExtenderError(format!(
                "extender {:?} claims a filtered node {name} which is not found in the input node \
                 list",
                extender.name()
            )));
        }
    }
    Ok(answer)
}

/// The nodes that are left; the others go into the diagnosis.
fn note(
    answer: ExtenderFilter,
    snapshot: &Snapshot,
    asked: &[usize],
    diagnosis: &mut Diagnosis,
) -> Vec<usize> {
    let ExtenderFilter { feasible, failed, failed_and_unresolvable } = answer;
    let mut refusals: FxHashMap<usize, Rejection> = FxHashMap::default();
    for (name, reason) in failed {
        if let Some(node) = snapshot.index_of(&name) {
            refusals.insert(node, Rejection::unschedulable(reason));
        }
    }
    for (name, reason) in failed_and_unresolvable {
        if let Some(node) = snapshot.index_of(&name) {
            refusals.insert(node, Rejection::unresolvable(reason));
        }
    }
    let mut left: Vec<usize> = feasible.iter().filter_map(|name| snapshot.index_of(name)).collect();
    left.sort_unstable();
    left.dedup();
    for &node in asked.iter().filter(|node| left.binary_search(node).is_err()) {
        // Upstream forgets nodes that an extender drops without a word, and then counts them among
        // those that preemption will not help.
        let rejection = refusals.remove(&node).unwrap_or_else(|| Rejection::unresolvable(""));
        diagnosis.refused.push(Refused { node, plugin: None, rejection });
    }
    left
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::cache::Cache;
    use crate::framework::PreemptionCandidate;
    use crate::reference::{self, NodeVerdict};

    type Answer = Result<ExtenderFilter, ExtenderError>;

    /// Answers as it is told.
    #[derive(Debug)]
    struct Scripted {
        filter: Answer,
        scores: BTreeMap<Box<str>, i64>,
        is_ignorable: bool,
    }

    impl Extender for Scripted {
        fn name(&self) -> &str {
            "http://scripted"
        }

        fn is_interested(&self, _pod: &PodInfo) -> bool {
            true
        }

        fn is_filter(&self) -> bool {
            true
        }

        fn is_prioritizer(&self) -> bool {
            true
        }

        fn supports_preemption(&self) -> bool {
            false
        }

        fn is_ignorable(&self) -> bool {
            self.is_ignorable
        }

        fn filter(&self, _pod: &PodInfo, _nodes: &[Arc<NodeInfo>]) -> Answer {
            self.filter.clone()
        }

        fn prioritize(
            &self,
            _pod: &PodInfo,
            _nodes: &[Arc<NodeInfo>],
        ) -> Result<(BTreeMap<Box<str>, i64>, i64), ExtenderError> {
            Ok((self.scores.clone(), 3))
        }

        fn process_preemption(
            &self,
            _pod: &PodInfo,
            candidates: Vec<PreemptionCandidate>,
        ) -> Result<Vec<PreemptionCandidate>, ExtenderError> {
            Ok(candidates)
        }
    }

    /// Best nodes or message, by the reference, of a pod that fits a, b and c alike.
    fn decided(filter: Answer, is_ignorable: bool) -> Result<Vec<String>, String> {
        let mut cache = Cache::default();
        for name in ["a", "b", "c"] {
            let object = json!({"metadata": {"name": name}, "status": {"allocatable": {
                "cpu": "4", "memory": "8Gi", "pods": "10"}}});
            cache.set_node(Arc::new(serde_json::from_value(object).unwrap()));
        }
        let mut profile = Profile::default_plugins("default-scheduler");
        let scores = BTreeMap::from([("b".into(), 1), ("c".into(), 10)]);
        profile.extenders = vec![Arc::new(Scripted { filter, scores, is_ignorable })];
        let pod = Arc::new(PodInfo::new(Arc::default()));
        let snapshot = cache.snapshot();
        let evaluation = reference::evaluate(&profile, snapshot, &pod);
        let name = |&node: &usize| snapshot.nodes()[node].name().to_string();
        let expected: Vec<String> = evaluation.best.iter().map(name).collect();
        match crate::engine::Scan::default().best(&profile, snapshot, &pod) {
            Ok(best) => assert_eq!(best.iter().map(name).collect::<Vec<_>>(), expected),
            Err(diagnosis) => {
                assert_eq!(diagnosis.to_string(), evaluation.diagnosis.to_string());
                assert_eq!(diagnosis.plugins, evaluation.diagnosis.plugins);
            }
        }
        if let [NodeVerdict::Feasible { total: a, .. }, _, NodeVerdict::Feasible { total: c, .. }] =
            evaluation.nodes.as_slice()
        {
            assert_eq!(c - a, 10 * 3 * 10, "score, weight, and the scale");
        }
        if expected.is_empty() { Err(evaluation.diagnosis.to_string()) } else { Ok(expected) }
    }

    fn leaving(feasible: &[&str]) -> ExtenderFilter {
        let feasible = feasible.iter().map(|name| Box::from(*name)).collect();
        ExtenderFilter { feasible, ..ExtenderFilter::default() }
    }

    #[test]
    fn extenders_filter_and_score_after_the_plugins() {
        let named = |names: &[&str]| Ok(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(decided(Ok(leaving(&["a", "b", "c"])), false), named(&["c"]));
        assert_eq!(decided(Ok(leaving(&["a", "b"])), false), named(&["b"]));
        let refusing = ExtenderFilter {
            failed: BTreeMap::from([("a".into(), "busy".into()), ("b".into(), "busy".into())]),
            failed_and_unresolvable: BTreeMap::from([("b".into(), "broken".into())]),
            ..leaving(&[])
        };
        let message = "0/3 nodes are available: 1 broken, 1 busy.";
        assert_eq!(decided(Ok(refusing), false), Err(message.to_owned()));
    }

    #[test]
    fn one_that_fails_or_lies_counts_as_it_is_ignorable() {
        let broken = || Err(ExtenderError("connection refused".to_owned()));
        assert_eq!(decided(broken(), true), Ok(vec!["c".to_owned()]));
        assert_eq!(decided(broken(), false), Err("connection refused".to_owned()));
        let message = "extender \"http://scripted\" claims a filtered node \"z\" which is not found \
                       in the input node list";
        assert_eq!(decided(Ok(leaving(&["z"])), false), Err(message.to_owned()));
        assert_eq!(decided(Ok(leaving(&["z"])), true), Ok(vec!["c".to_owned()]));
    }
}
