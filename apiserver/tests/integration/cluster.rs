//! A server on loopback with a data directory of its own.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{Request, Response};
use http_body_util::BodyExt as _;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use pintle_apiserver::{ApiServer, Config, InProcess, UserInfo, pki};
use pintle_component::Daemon;
use pintle_store::EmbeddedStore;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub(crate) struct Cluster {
    pub(crate) client: kube::Client,
    pub(crate) pki: pki::Pki,
    pub(crate) store: Arc<EmbeddedStore>,
    pub(crate) address: SocketAddr,
    pub(crate) server: ApiServer,
    /// The server as a scheduler in its process has it.
    pub(crate) scheduler: InProcess,
    shutdown: CancellationToken,
    _dir: tempfile::TempDir,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.store.close();
    }
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self::start_with(Config::default()).await
    }

    pub(crate) async fn start_with(config: Config) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(&dir.path().join("store"), Default::default()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let sans = pki::Sans::new(address, [10, 96, 0, 1].into(), None);
        let pki = pki::ensure(dir.path(), &sans).unwrap();
        let daemon = Daemon::default();
        let shutdown = daemon.shutdown.clone();
        let server = ApiServer::new(store.clone(), config, &daemon).await.unwrap();
        let tls = pki.server_config().unwrap();
        let scheduler = server.in_process(UserInfo::new("system:kube-scheduler", []));
        let (serving, stop) = (server.clone(), shutdown.clone());
        tokio::spawn(async move { serving.serve(listener, tls, stop).await.unwrap() });
        let kubeconfig = Kubeconfig::read_from(&pki.admin_kubeconfig).unwrap();
        let options = KubeConfigOptions::default();
        let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
        // A refusal is to be seen, not tried again for minutes.
        config.default_retry = false;
        let client = kube::Client::try_from(config).unwrap();
        Self { client, pki, store, address, server, scheduler, shutdown, _dir: dir }
    }

    /// Send a request with a JSON body as the administrator.
    pub(crate) async fn send(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let (head, value) = self.send_as(method, path, "application/json", text).await;
        (head.status.as_u16(), value)
    }

    pub(crate) async fn send_as(
        &self,
        method: &str,
        path: &str,
        media_type: &str,
        body: impl Into<Vec<u8>>,
    ) -> (http::response::Parts, Value) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", media_type)
            .body(Body::from(body.into()))
            .unwrap();
        let response: Response<Body> = self.client.send(request).await.unwrap();
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (head, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        self.send("GET", path, &Value::Null).await
    }
}
