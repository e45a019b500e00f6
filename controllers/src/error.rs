//! Why the controllers stop or a sync fails.

use crate::ConfigError;

/// Why the controllers could not run, or why one sync failed and is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request to the API server failed.
    #[error("{act}")]
    Api {
        /// The act and its object, such as `create replica set default/web-5d8c`.
        act: String,
        /// What the server or the transport said.
        #[source]
        source: Box<kube::Error>,
    },
    /// The configuration cannot work.
    #[error("configuration")]
    Config(#[from] ConfigError),
}
