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
    /// The plugin could not tell: the pod's turn ends here, and it backs off.
    Error,
}

impl Code {
    /// Upstream's name of the code.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "Success",
            Self::Unschedulable => "Unschedulable",
            Self::UnschedulableAndUnresolvable => "UnschedulableAndUnresolvable",
            Self::Skip => "Skip",
            Self::Error => "Error",
        }
    }
}

/// A refusal: of which kind, and why, at least one reason.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rejection {
    code: Code,
    first: Reason,
    more: Vec<Reason>,
}

impl Rejection {
    /// A refusal that removing pods could lift.
    pub fn unschedulable(reason: impl Into<Reason>) -> Self {
        Self::new(Code::Unschedulable, reason.into())
    }

    /// A refusal that removing pods cannot lift.
    pub fn unresolvable(reason: impl Into<Reason>) -> Self {
        Self::new(Code::UnschedulableAndUnresolvable, reason.into())
    }

    /// The plugin could not tell, as when an object that it needs makes no sense. This ends the
    /// pod's turn with an error.
    pub fn error(reason: impl Into<Reason>) -> Self {
        Self::new(Code::Error, reason.into())
    }

    fn new(code: Code, first: Reason) -> Self {
        Self { code, first, more: Vec::new() }
    }

    /// Adds a reason; if `resolvable` is false the whole refusal is unresolvable.
    #[must_use]
    pub fn and(mut self, reason: impl Into<Reason>, resolvable: bool) -> Self {
        self.more.push(reason.into());
        if !resolvable && self.code == Code::Unschedulable {
            self.code = Code::UnschedulableAndUnresolvable;
        }
        self
    }

    /// `Unschedulable`, `UnschedulableAndUnresolvable` or `Error`.
    pub fn code(&self) -> Code {
        self.code
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
