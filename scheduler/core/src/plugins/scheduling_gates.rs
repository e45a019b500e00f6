//! SchedulingGates: a pod with a gate does not enter the active queue.

use crate::cache::Snapshot;
use crate::framework::{
    Action, ClusterEvent, Hint, Occurrence, Plugin, PluginName, Rejection, Resource, Subject,
    Verdict,
};
use crate::pod::PodInfo;

/// The plugin.
#[derive(Clone, Copy, Debug)]
pub struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> PluginName {
        PluginName::SchedulingGates
    }

    fn pre_enqueue(&self, pod: &PodInfo, _snapshot: &Snapshot) -> Verdict {
        let gates: Vec<&str> = pod.scheduling_gates().collect();
        if gates.is_empty() {
            return Ok(());
        }
        let reason = format!("waiting for scheduling gates: [{}]", gates.join(" "));
        Err(Rejection::unresolvable(reason))
    }

    fn events(&self) -> &'static [ClusterEvent] {
        const { &[ClusterEvent::new(Resource::TargetPod, Action::UPDATE_POD_GATES_ELIMINATED)] }
    }

    fn hint(&self, pod: &PodInfo, occurrence: &Occurrence, _snapshot: &Snapshot) -> Hint {
        let Subject::Pod(_, Some(new)) = &occurrence.subject else { return Hint::Queue };
        Hint::queue_if(new.uid == pod.uid)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plugins::testing::pod;

    #[test]
    fn gates_are_named() {
        let gated = pod(json!({"schedulingGates": [{"name": "foo"}, {"name": "bar"}]}));
        let rejection = SchedulingGates.pre_enqueue(&gated, &Snapshot::default()).unwrap_err();
        assert_eq!(rejection.message(), "waiting for scheduling gates: [foo bar]");
        assert_eq!(SchedulingGates.pre_enqueue(&pod(json!({})), &Snapshot::default()), Ok(()));
    }
}
