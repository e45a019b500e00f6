//! The store and the API server over it, as `standalone` and `apiserver` start them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use pintle_apiserver::pki::{Pki, Sans};
use pintle_apiserver::{ApiServer, InProcess, UserInfo, pki};
use pintle_component::Daemon;
use pintle_store::{EmbeddedStore, Options};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::cli::ServerArgs;
use crate::commands::memory;

/// A running API server.
pub(crate) struct ControlPlane {
    daemon: Daemon,
    keys: Pki,
    server: ApiServer,
    serving: JoinHandle<Result<(), pintle_apiserver::Error>>,
    store: Arc<EmbeddedStore>,
}

impl ControlPlane {
    /// Open the store in the data directory, make what keys are missing, and listen.
    pub(crate) async fn start(args: &ServerArgs) -> anyhow::Result<Self> {
        memory::use_small_pages();
        let ServerArgs { data_dir, listen, token_auth_file, event_ttl } = args;
        let store = EmbeddedStore::open(&data_dir.join("store"), Options::default())?;
        let listener =
            TcpListener::bind(listen).await.with_context(|| format!("listen on {listen}"))?;
        let listen = listener.local_addr().context("read the listener's address")?;
        let token_file = token_auth_file.clone();
        let event_ttl = event_ttl.to_std();
        let config = pintle_apiserver::Config { token_file, event_ttl, ..configure(listen) };
        let keys = ensure_keys(data_dir, listen, &config)?;
        let daemon = Daemon::default();
        let server = ApiServer::new(Arc::clone(&store) as _, config, &daemon).await?;
        let tls = keys.server_config()?;
        let serving = tokio::spawn({
            let (server, shutdown) = (server.clone(), daemon.shutdown.clone());
            async move { server.serve(listener, tls, shutdown).await }
        });
        let kubeconfig = keys.admin_kubeconfig.display();
        tracing::info!(address = %listen, %kubeconfig, "API server is listening");
        Ok(Self { daemon, keys, server, serving, store })
    }

    /// Health, metrics and the shutdown of the API server itself.
    pub(crate) fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    /// The keys and certificates of the data directory.
    pub(crate) fn keys(&self) -> &Pki {
        &self.keys
    }

    /// A client under an identity, answered in this process.
    pub(crate) fn client(&self, user: UserInfo) -> kube::Client {
        pintle_client::in_process(self.in_process(user))
    }

    /// The server's handlers under an identity.
    pub(crate) fn in_process(&self, user: UserInfo) -> InProcess {
        self.server.in_process(user)
    }

    /// Wait for the server to end by itself, which it never should.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        match (&mut self.serving).await {
            Ok(Ok(())) => anyhow!("the API server ended"),
            Ok(Err(error)) => anyhow::Error::new(error).context("run the API server"),
            Err(error) => anyhow::Error::new(error).context("run the API server"),
        }
    }

    /// Answer what is under way, stop listening, close the store.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.daemon.shutdown.cancel();
        let outcome = if self.serving.is_finished() {
            Ok(())
        } else {
            self.serving.await.context("stop the API server")?.context("stop the API server")
        };
        self.store.close();
        outcome
    }
}

fn configure(listen: SocketAddr) -> pintle_apiserver::Config {
    let advertise_address = match listen.ip() {
        IpAddr::V4(address) if !address.is_unspecified() => address,
        _ => Ipv4Addr::LOCALHOST,
    };
    pintle_apiserver::Config {
        advertise_address,
        advertise_port: listen.port(),
        ..pintle_apiserver::Config::default()
    }
}

fn ensure_keys(
    data_dir: &Path,
    listen: SocketAddr,
    config: &pintle_apiserver::Config,
) -> anyhow::Result<Pki> {
    let hostname = hostname();
    let service = config.service_cidr.hosts().next().unwrap_or(config.service_cidr.addr());
    let sans = Sans::new(listen, IpAddr::V4(service), hostname.as_deref());
    Ok(pki::ensure(data_dir, &sans)?)
}

/// The machine's name, where the kernel tells one.
pub(crate) fn hostname() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim().to_lowercase();
    (!name.is_empty()).then_some(name)
}
