//! Connections to a remote API server, found as client-go finds them.

use std::path::{Path, PathBuf};

use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::RateLimit;

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
    /// The address of the server is none.
    #[error("connect to {address:?}: not a URL")]
    Server {
        /// As it was given.
        address: String,
    },
}

/// How the API server is found, and how hard it may be asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConnectOptions<'a> {
    /// A kubeconfig; else `$KUBECONFIG`, `~/.kube/config` or the pod's service account.
    pub kubeconfig: Option<&'a Path>,
    /// The server's address, in place of the kubeconfig's.
    pub server: Option<&'a str>,
    /// No limit if there is none.
    pub rate_limit: Option<RateLimit>,
}

/// Connect by an explicit kubeconfig, or else by `$KUBECONFIG`, `~/.kube/config` or the pod's
/// service account, in this order.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<kube::Client, ConnectError> {
    connect_with(&ConnectOptions { kubeconfig, ..ConnectOptions::default() }).await
}

/// Connect as the options say.
pub async fn connect_with(options: &ConnectOptions<'_>) -> Result<kube::Client, ConnectError> {
    let server = options.server.map(parse_server).transpose()?;
    let mut config = match (options.kubeconfig, &server) {
        (Some(path), _) => from_file(path).await?,
        // An address alone will do, as it does for client-go.
        (None, Some(server)) => {
            kube::Config::infer().await.unwrap_or_else(|_| kube::Config::new(server.clone()))
        }
        (None, None) => kube::Config::infer().await.map_err(ConnectError::Infer)?,
    };
    if let Some(server) = server {
        config.cluster_url = server;
    }
    let builder = ClientBuilder::try_from(config).map_err(ConnectError::Client)?;
    Ok(match &options.rate_limit {
        Some(limit) => builder.with_layer(limit).build(),
        None => builder.build(),
    })
}

fn parse_server(address: &str) -> Result<http::Uri, ConnectError> {
    let text =
        if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    let parsed: Result<http::Uri, _> = text.parse();
    parsed
        .ok()
        .filter(|uri| uri.authority().is_some())
        .ok_or_else(|| ConnectError::Server { address: address.to_owned() })
}

async fn from_file(path: &Path) -> Result<kube::Config, ConnectError> {
    let failed = |source| ConnectError::Kubeconfig { path: path.to_path_buf(), source };
    let kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
    kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(failed)
}
