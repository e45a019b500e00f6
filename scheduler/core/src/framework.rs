//! What plugins are made of, as `k8s.io/kube-scheduler/framework` has it: extension points, codes,
//! the events that wake pods, and the profile that says which plugins run with which weights.
//!
//! A plugin keeps nothing between pods. What upstream's plugins put into CycleState at PreFilter and
//! PreScore is here the value those points return ([`NodeFilter`], [`NodeScore`]).

mod event;
mod extender;
mod plugin;
mod post_filter;
mod profile;
mod status;
mod step;

pub use event::{Action, ClusterEvent, Hint, Occurrence, Resource, Subject};
pub use extender::{Extender, ExtenderError, ExtenderFilter, PreemptionCandidate};
pub use plugin::{
    ExtensionPoint, MAX_NODE_SCORE, NodeFilter, NodeScore, Plugin, PluginName, PluginSet,
    PreFilter, PreScore,
};
pub use post_filter::{Help, Nomination, PostFilter, PostFilterContext, Preemption};
pub use profile::{Profile, Profiles, Weighted};
pub use status::{Code, Reason, Rejection, Verdict};
pub use step::Step;
