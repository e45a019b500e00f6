//! DefaultPreemption: makes room for a pod that no node will have by evicting less important ones.
//!
//! What it decides is in [`crate::preemption`]. While the victims are being evicted the pod is kept
//! out of the active queue: its turn would be wasted, and it might evict others.

use crate::cache::Snapshot;
use crate::framework::{
    Action, ClusterEvent, Hint, Occurrence, Plugin, PluginName, PostFilter, PostFilterContext,
    Rejection, Resource, Verdict,
};
use crate::pod::PodInfo;
use crate::preemption::{CandidateSearch, Shortlist, preempt};

/// The plugin.
#[derive(Clone, Copy, Debug, Default)]
pub struct DefaultPreemption {
    /// How many candidates are enough.
    pub shortlist: Shortlist,
}

impl Plugin for DefaultPreemption {
    fn name(&self) -> PluginName {
        PluginName::DefaultPreemption
    }

    fn pre_enqueue(&self, pod: &PodInfo, snapshot: &Snapshot) -> Verdict {
        if snapshot.is_preempting(&pod.uid) {
            let reason = "waiting for the preemption for this pod to be finished";
            return Err(Rejection::unresolvable(reason));
        }
        Ok(())
    }

    fn post_filter(
        &self,
        context: &PostFilterContext<'_>,
        search: &mut dyn CandidateSearch,
    ) -> Option<PostFilter> {
        Some(preempt(context, self.shortlist, search))
    }

    /// Registered so that a pod held back here hears of it; whether it helps is for those plugins
    /// to say that refused the pod.
    fn events(&self) -> &'static [ClusterEvent] {
        const { &[ClusterEvent::new(Resource::AssignedPod, Action::DELETE)] }
    }

    fn hint(&self, _pod: &PodInfo, _occurrence: &Occurrence, _snapshot: &Snapshot) -> Hint {
        Hint::Skip
    }
}
