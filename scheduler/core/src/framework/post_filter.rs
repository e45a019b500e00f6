//! What may still be done for a pod that no node will have.

use std::sync::Arc;

use super::{PluginName, Profile, Reason, Step};
use crate::cache::Snapshot;
use crate::diagnosis::Diagnosis;
use crate::pod::PodInfo;
use crate::preemption::CandidateSearch;

/// What PostFilter plugins look at.
#[derive(Clone, Copy)]
pub struct PostFilterContext<'a> {
    /// The profile that the pod is scheduled with.
    pub profile: &'a Profile,
    /// The cluster.
    pub snapshot: &'a Snapshot,
    /// The pod.
    pub pod: &'a Arc<PodInfo>,
    /// Why no node will have it.
    pub diagnosis: &'a Diagnosis,
    /// A random number, for where to start looking.
    pub random: u64,
}

impl PostFilterContext<'_> {
    /// Asks one PostFilter plugin of the profile after the other, until one knows whom to evict.
    pub fn ask(&self, search: &mut dyn CandidateSearch) -> Help {
        let (mut help, mut messages) = (Help::default(), Vec::new());
        for plugin in &self.profile.post_filter {
            help.tried_preemption |= plugin.name() == PluginName::DefaultPreemption;
            match plugin.post_filter(self, search) {
                None => {}
                Some(PostFilter::Unhelped(message)) => messages.push(message),
                Some(PostFilter::Hopeless(message)) => {
                    help.nomination = Nomination::Clear;
                    messages.push(message);
                }
                Some(PostFilter::Write(message, more)) => {
                    help.steps.extend(more);
                    messages.push(message);
                }
                Some(PostFilter::Failed(message)) => {
                    return Help { message: message.into_owned(), ..help };
                }
                Some(PostFilter::Preempt(preemption)) => {
                    help.nomination = Nomination::Set(Arc::clone(&preemption.node));
                    help.preemption = Some(Box::new(preemption));
                    return help;
                }
            }
        }
        messages.retain(|message| !message.is_empty());
        help.message = messages.join(", ");
        help
    }
}

/// What all PostFilter plugins together answer.
#[derive(Clone, Debug)]
pub struct Help {
    /// What FailedScheduling adds; empty if pods are to be evicted.
    pub message: String,
    /// Whom to evict.
    pub preemption: Option<Box<Preemption>>,
    /// Whether DefaultPreemption was asked.
    pub tried_preemption: bool,
    /// What becomes of the pod's nomination.
    pub nomination: Nomination,
    /// What to write.
    pub steps: Vec<Step>,
}

impl Default for Help {
    /// None.
    fn default() -> Self {
        Self {
            message: String::new(),
            preemption: None,
            tried_preemption: false,
            nomination: Nomination::Keep,
            steps: Vec::new(),
        }
    }
}

/// What PostFilter answers.
#[derive(Clone, Debug)]
pub enum PostFilter {
    /// Nothing helps, and this is said of it (nothing if empty). The next plugin is asked.
    Unhelped(Reason),
    /// Nothing ever will as things are, and this is said of it: the pod loses its nomination. The
    /// next plugin is asked.
    Hopeless(Reason),
    /// Something went wrong, and this is said of it alone. No other plugin is asked.
    Failed(Reason),
    /// Evict pods; the pod then waits for their place.
    Preempt(Preemption),
    /// Carry out these steps; what they change will wake the pod. The message says so. The next
    /// plugin is asked.
    Write(Reason, Vec<Step>),
}

/// Pods to evict so that another fits.
#[derive(Clone, Debug)]
pub struct Preemption {
    /// Where the preemptor will fit then: its `status.nominatedNodeName`.
    pub node: Arc<str>,
    /// Who has to go, the most important first.
    pub victims: Vec<Arc<PodInfo>>,
    /// How many of them a PodDisruptionBudget would keep.
    pub pdb_violations: usize,
    /// Waiting pods nominated for the node that are less important: they lose their nomination.
    pub outranked: Vec<Arc<PodInfo>>,
}

/// What becomes of a refused pod's `status.nominatedNodeName`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nomination {
    /// It stays as it is.
    Keep,
    /// It is removed.
    Clear,
    /// It becomes this node.
    Set(Arc<str>),
}
