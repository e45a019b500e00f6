//! Why a kubelet cannot go on.

/// Why a kubelet stopped before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The node object could not be registered.
    #[error("register node {node}")]
    Register {
        /// The node.
        node: String,
        /// The API server's answer.
        #[source]
        source: Box<kube::Error>,
    },
    /// A hollow kubelet was configured for a runtime of processes.
    #[error("run node {node} hollow: its configuration names another runtime")]
    NotHollow {
        /// The node.
        node: String,
    },
}
