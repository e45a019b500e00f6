//! Connections to a remote API server, found as client-go finds them.

use std::path::{Path, PathBuf};

use kube::config::{KubeConfigOptions, Kubeconfig};

/// Why no connection could be set up.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The client could not be built from the configuration.
    #[error("build a client for the API server")]
    Client(#[source] kube::Error),
    /// Neither a kubeconfig nor an in-cluster environment was found.
    #[error(
        "find the API server: no --kubeconfig, no $KUBECONFIG, no ~/.kube/config, not in a pod"
    )]
    Infer(#[source] kube::config::InferConfigError),
    /// The kubeconfig could not be read or lacks what its context names.
    #[error("read kubeconfig {}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What was wrong with it.
        #[source]
        source: kube::config::KubeconfigError,
    },
}

/// Connect by an explicit kubeconfig, or else by `$KUBECONFIG`, `~/.kube/config` or the pod's
/// service account, in this order.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<kube::Client, ConnectError> {
    let config = match kubeconfig {
        Some(path) => from_file(path).await?,
        None => kube::Config::infer().await.map_err(ConnectError::Infer)?,
    };
    kube::Client::try_from(config).map_err(ConnectError::Client)
}

async fn from_file(path: &Path) -> Result<kube::Config, ConnectError> {
    let failed = |source| ConnectError::Kubeconfig { path: path.to_path_buf(), source };
    let kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
    kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(failed)
}
