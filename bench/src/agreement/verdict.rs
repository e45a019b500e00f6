//! Whether a decision is one that the reference could have made.

use std::collections::BTreeMap;

use pintle_scheduler_core::explain::Explanation;

/// What a scheduler did about a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Decision {
    /// Where the pod went.
    pub(super) node: Option<String>,
    /// What the condition `PodScheduled` says, if it went nowhere.
    pub(super) message: String,
    /// Where room was made for it.
    pub(super) nominated: Option<String>,
    /// The pods that are gone since, as `namespace/name`, in ascending order.
    pub(super) gone: Vec<String>,
}

/// How a decision compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// Among the best nodes.
    Bound,
    /// Nowhere, and for the same reasons.
    Unschedulable,
    /// Room was made on the same node by the same victims.
    Preempted,
    /// Room was made by other victims that are as important: one of several candidates.
    PreemptedAlike,
    /// Anything else.
    Differs,
}

impl Decision {
    /// `priorities`: of the pods that were there, by `namespace/name`.
    pub(super) fn compare(
        &self,
        expected: &Explanation,
        priorities: &BTreeMap<String, i64>,
    ) -> Verdict {
        if let Some(expected_node) = &expected.nominated {
            let mut victims = expected.victims.clone();
            victims.sort_unstable();
            let on = self.node.as_ref().or(self.nominated.as_ref());
            return if on == Some(expected_node) && self.gone == victims {
                Verdict::Preempted
            } else if on.is_some()
                && importance(&self.gone, priorities) == importance(&victims, priorities)
            {
                Verdict::PreemptedAlike
            } else {
                Verdict::Differs
            };
        }
        match &self.node {
            Some(node) if expected.best.contains(node) && self.gone.is_empty() => Verdict::Bound,
            None if expected.best.is_empty()
                && self.nominated.is_none()
                && self.message == expected.message =>
            {
                Verdict::Unschedulable
            }
            _ => Verdict::Differs,
        }
    }
}

/// The pods' priorities, in order.
fn importance(pods: &[String], priorities: &BTreeMap<String, i64>) -> Vec<Option<i64>> {
    let mut all: Vec<_> = pods.iter().map(|pod| priorities.get(pod).copied()).collect();
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(best: &[&str], message: &str, nominated: Option<&str>, of: &[&str]) -> Explanation {
        let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Explanation {
            pod: "default/p".to_owned(),
            node: None,
            message: message.to_owned(),
            best: all(best),
            feasible: all(best),
            nodes: Vec::new(),
            nominated: nominated.map(str::to_owned),
            victims: all(of),
        }
    }

    #[test]
    fn only_what_could_have_been_decided_agrees() {
        let priorities = [("a", 1), ("b", 1), ("c", 2)];
        let priorities = priorities.map(|(name, priority)| (name.to_owned(), priority)).into();
        let on = |node: &str, gone: &[&str]| Decision {
            node: Some(node.to_owned()),
            gone: gone.iter().map(|name| (*name).to_owned()).collect(),
            ..Decision::default()
        };
        let said = |text: &str| Decision { message: text.to_owned(), ..Decision::default() };
        let check = |decision: &Decision, expected: &Explanation, verdict| {
            assert_eq!(decision.compare(expected, &priorities), verdict, "{decision:?}");
        };

        let two = expected(&["m", "n"], "", None, &[]);
        check(&on("n", &[]), &two, Verdict::Bound);
        check(&on("o", &[]), &two, Verdict::Differs);
        check(&on("n", &["a"]), &two, Verdict::Differs);
        check(&said(""), &two, Verdict::Differs);

        let none = expected(&[], "0/1 nodes", None, &[]);
        check(&said("0/1 nodes"), &none, Verdict::Unschedulable);
        check(&said("0/2 nodes"), &none, Verdict::Differs);
        check(&on("n", &[]), &none, Verdict::Differs);
        let nominated = Decision { nominated: Some("n".to_owned()), ..said("0/1 nodes") };
        check(&nominated, &none, Verdict::Differs);

        let room = expected(&[], "0/1 nodes", Some("n"), &["b", "a"]);
        check(&on("n", &["a", "b"]), &room, Verdict::Preempted);
        check(&on("n", &["a", "c"]), &room, Verdict::Differs);
        check(&said("0/1 nodes"), &room, Verdict::Differs);
        let one = expected(&[], "0/1 nodes", Some("n"), &["a"]);
        check(&on("o", &["b"]), &one, Verdict::PreemptedAlike);
        check(&on("o", &["c"]), &one, Verdict::Differs);
        check(&on("o", &["?"]), &one, Verdict::Differs);
    }
}
