//! What a plugin says of a pod, or of a pod on a node.

use std::borrow::Cow;

/// One reason, in Kubernetes' wording; it is counted over nodes in the FailedScheduling message.
pub type Reason = Cow<'static, str>;

/// What a plugin that may refuse answers.
pub type Verdict = Result<(), Rejection>;

/// The codes of `fwk.Status` that a decision can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// The plugin has no objection.
    Success,
    /// The plugin objects, and removing pods from the node might change that.
    Unschedulable,
    /// The plugin objects, and removing pods from the node would not change that.
    UnschedulableAndUnresolvable,
    /// The plugin has nothing to do for this pod; its next point is not run.
    Skip,
}

impl Code {
    /// Upstream's name of the code.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "Success",
            Self::Unschedulable => "Unschedulable",
            Self::UnschedulableAndUnresolvable => "UnschedulableAndUnresolvable",
            Self::Skip => "Skip",
        }
    }
}

/// A refusal: whether preemption could help, and why, at least one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    resolvable: bool,
    first: Reason,
    more: Vec<Reason>,
}

impl Rejection {
    /// A refusal that removing pods could lift.
    pub fn unschedulable(reason: impl Into<Reason>) -> Self {
        Self { resolvable: true, first: reason.into(), more: Vec::new() }
    }

    /// A refusal that removing pods cannot lift.
    pub fn unresolvable(reason: impl Into<Reason>) -> Self {
        Self { resolvable: false, first: reason.into(), more: Vec::new() }
    }

    /// Adds a reason; if `resolvable` is false the whole refusal is unresolvable.
    #[must_use]
    pub fn and(mut self, reason: impl Into<Reason>, resolvable: bool) -> Self {
        self.more.push(reason.into());
        self.resolvable &= resolvable;
        self
    }

    /// `Unschedulable` or `UnschedulableAndUnresolvable`.
    pub fn code(&self) -> Code {
        if self.resolvable { Code::Unschedulable } else { Code::UnschedulableAndUnresolvable }
    }

    /// All reasons, in the order they were found.
    pub fn reasons(&self) -> impl Iterator<Item = &Reason> {
        std::iter::once(&self.first).chain(&self.more)
    }

    /// The reasons as upstream's `Status.Message` joins them.
    pub fn message(&self) -> String {
        self.reasons().map(AsRef::as_ref).collect::<Vec<&str>>().join(", ")
    }
}
