//! Why no node will do, and how FailedScheduling says so.
//!
//! Mirrors `framework.Diagnosis` and `FitError.Error`: reasons are counted over nodes and sorted as
//! text, so "10 x" comes before "9 x", as upstream's.

mod refusals;

use std::collections::BTreeMap;
use std::fmt;

use crate::framework::{Code, PluginName, PluginSet, Rejection};

pub use refusals::{RefusalKind, Refusals};

/// What each node lacks for a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnosis {
    /// How many nodes there are.
    pub node_count: usize,
    /// Nodes that a filter or an extender refused, and why.
    pub refused: Refusals,
    /// What holds for all nodes not in `refused`: a PreFilter refused the pod, or left them out.
    pub others: Option<Rejection>,
    /// PreFilter's message if it refused the pod as a whole.
    pub pre_filter_message: Option<String>,
    /// The plugins (and extenders) that refused; events are matched against these.
    pub plugins: PluginSet,
    /// What is said instead of all that of a pod whose group does not fit.
    pub group_message: Option<String>,
    /// What PostFilter says if it did not help; empty without PostFilter plugins.
    pub post_filter_message: String,
    /// What went wrong; then nothing else holds.
    pub error: Option<String>,
}

/// One node that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Index into the snapshot's nodes.
    pub node: usize,
    /// The first plugin that refused it; `None` if it was an extender.
    pub plugin: Option<PluginName>,
    /// How and why.
    pub rejection: Rejection,
}

impl Diagnosis {
    /// These plugins' PreFilters refused the pod as a whole.
    pub fn refused_by_pre_filter(
        node_count: usize,
        plugins: &[PluginName],
        rejection: Rejection,
    ) -> Self {
        if rejection.code() == Code::Error {
            let plugin = plugins.first().map_or("", |plugin| plugin.as_str());
            let message = rejection.message();
            let error = format!("running PreFilter plugin \"{plugin}\": {message}");
            return Self::failed(node_count, error);
        }
        Self {
            node_count,
            plugins: plugins.iter().copied().collect(),
            pre_filter_message: Some(rejection.message()),
            others: Some(rejection),
            ..Self::default()
        }
    }

    /// Nothing is said of nodes: the pod's group is what does not fit.
    pub fn of_group(message: String) -> Self {
        Self { group_message: Some(message), ..Self::default() }
    }

    /// A plugin could not take what the pod needs on the node that was chosen.
    pub fn of_reservation(plugins: PluginSet, rejection: Rejection) -> Self {
        Self { node_count: 1, others: Some(rejection), plugins, ..Self::default() }
    }

    /// Something went wrong.
    pub fn failed(node_count: usize, error: String) -> Self {
        Self { node_count, error: Some(error), ..Self::default() }
    }

    /// What holds for the node; `None` if nothing is known of it.
    pub fn rejection(&self, node: usize) -> Option<&Rejection> {
        self.refused.get(node).map(|kind| &kind.rejection).or(self.others.as_ref())
    }

    /// The nodes on which preemption may help, in order.
    pub fn resolvable(&self) -> Vec<usize> {
        let is_resolvable = |rejection: &Rejection| rejection.code() == Code::Unschedulable;
        let others = self.others.as_ref().is_some_and(is_resolvable);
        self.refused.select(self.node_count, others, is_resolvable)
    }

    /// `N reason`, sorted as text.
    fn histogram(&self) -> Vec<String> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for kind in self.refused.kinds() {
            for reason in kind.rejection.reasons() {
                *counts.entry(reason).or_default() += kind.count;
            }
        }
        let rest = self.node_count.saturating_sub(self.refused.len());
        for reason in self.others.iter().filter(|_| rest > 0).flat_map(Rejection::reasons) {
            *counts.entry(reason).or_default() += rest;
        }
        // An extender may refuse a node without a word.
        counts.remove("");
        let mut lines: Vec<String> =
            counts.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        lines.sort_unstable();
        lines
    }
}

/// The error of a filter that could not tell.
pub(crate) fn failed_filter(plugin: PluginName, rejection: &Rejection) -> String {
    format!("running \"{plugin}\" filter plugin: {}", rejection.message())
}

impl fmt::Display for Diagnosis {
    /// The message of the FailedScheduling event.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(message) = self.error.as_ref().or(self.group_message.as_ref()) {
            return f.write_str(message);
        }
        if self.node_count == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        write!(f, "0/{} nodes are available:", self.node_count)?;
        match &self.pre_filter_message {
            Some(message) => write!(f, " {message}.")?,
            None => {
                let histogram = self.histogram();
                if !histogram.is_empty() {
                    write!(f, " {}.", histogram.join(", "))?;
                }
            }
        }
        if !self.post_filter_message.is_empty() {
            write!(f, " {}", self.post_filter_message)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(node: usize, reason: &'static str) -> Refused {
        let rejection = Rejection::unschedulable(reason);
        Refused { node, plugin: Some(PluginName::NodeResourcesFit), rejection }
    }

    #[test]
    fn reasons_are_counted_and_sorted_as_text() {
        let mut diagnosis = Diagnosis { node_count: 13, ..Diagnosis::default() };
        diagnosis.refused = (0..10).map(|node| refused(node, "Insufficient memory")).collect();
        diagnosis.refused.extend((10..12).map(|node| refused(node, "Insufficient cpu")));
        diagnosis.refused.push(Refused {
            rejection: Rejection::unschedulable("Insufficient cpu").and("Too many pods", true),
            ..refused(12, "")
        });
        assert_eq!(
            diagnosis.to_string(),
            "0/13 nodes are available: 1 Too many pods, 10 Insufficient memory, 3 Insufficient cpu."
        );
        diagnosis.post_filter_message =
            "preemption: 0/13 nodes are available: 13 No preemption victims found for incoming pod."
                .to_owned();
        assert_eq!(
            diagnosis.to_string(),
            "0/13 nodes are available: 1 Too many pods, 10 Insufficient memory, 3 Insufficient \
             cpu. preemption: 0/13 nodes are available: 13 No preemption victims found for \
             incoming pod."
        );
    }

    #[test]
    fn nodes_left_out_by_pre_filter_are_counted() {
        let mut diagnosis = Diagnosis { node_count: 5, ..Diagnosis::default() };
        diagnosis.refused.push(refused(3, "Insufficient cpu"));
        diagnosis.others =
            Some(Rejection::unresolvable("node(s) didn't satisfy plugin(s) [NodeAffinity]"));
        assert_eq!(
            diagnosis.to_string(),
            "0/5 nodes are available: 1 Insufficient cpu, 4 node(s) didn't satisfy plugin(s) \
             [NodeAffinity]."
        );
    }

    #[test]
    fn a_pod_refused_as_a_whole_has_one_reason() {
        let rejection = Rejection::unresolvable("pod affinity terms conflict");
        let diagnosis = Diagnosis::refused_by_pre_filter(3, &[], rejection);
        assert_eq!(diagnosis.to_string(), "0/3 nodes are available: pod affinity terms conflict.");
    }

    #[test]
    fn no_node_at_all() {
        assert_eq!(Diagnosis::default().to_string(), "no nodes available to schedule pods");
    }
}
