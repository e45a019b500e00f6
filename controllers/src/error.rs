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
    /// The object cannot be synced yet, or never as it is.
    #[error("{0}")]
    Object(String),
}

impl Error {
    /// For `map_err`: a failed request, named by its act.
    pub(crate) fn api(act: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        move |source| Self::Api { act: act.into(), source: Box::new(source) }
    }

    /// Whether the server refused because the object had changed or was there already.
    pub(crate) fn is_conflict(&self) -> bool {
        self.status().is_some_and(|status| status.code == 409)
    }

    /// Whether the object, or its namespace, is gone.
    pub(crate) fn is_not_found(&self) -> bool {
        self.status().is_some_and(kube::core::Status::is_not_found)
    }

    /// What the server said, if it said anything.
    pub(crate) fn status(&self) -> Option<&kube::core::Status> {
        match self {
            Self::Api { source, .. } => match &**source {
                kube::Error::Api(status) => Some(status),
                _ => None,
            },
            _ => None,
        }
    }
}
