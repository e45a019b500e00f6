//! HTTPS to the API server that leaves it as much of the processors as it can: HTTP/2, as clients
//! of Kubernetes have it, so that requests under way at one time share records and system calls;
//! the watch alone on a connection of HTTP/1.1. All on one thread, so that no request wakes another
//! one.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Method, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::Config;
use kube::client::ConfigExt as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::runtime::{Handle, Runtime};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Where the API server is and who asks. Cheap to clone; the last one stops the thread.
#[derive(Clone)]
pub(super) struct Wire {
    thread: Arc<Thread>,
    tls: Arc<rustls::ClientConfig>,
    server: ServerName<'static>,
    authority: Authority,
}

struct Thread(Option<Runtime>);

impl Drop for Thread {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// One connection, for any number of requests at a time. Cheap to clone.
#[derive(Clone)]
pub(super) struct Connection {
    sender: http2::SendRequest<Full<Bytes>>,
    authority: Authority,
}

impl Wire {
    pub(super) async fn new(kubeconfig: &Path) -> anyhow::Result<Self> {
        let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
        let config =
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let url = &config.cluster_url;
        let authority = url.authority().context("the API server has no address")?;
        let server = ServerName::try_from(authority.host().to_owned())?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("bench-client")
            .enable_all()
            .build()?;
        Ok(Self {
            thread: Arc::new(Thread(Some(runtime))),
            tls: Arc::new(config.rustls_client_config()?),
            server,
            authority: authority.clone(),
        })
    }

    /// Where connections have to be made and used.
    pub(super) fn handle(&self) -> &Handle {
        self.thread.0.as_ref().expect("it is there until dropped").handle()
    }

    pub(super) async fn connect(&self) -> anyhow::Result<Connection> {
        let stream = TokioIo::new(self.dial(b"h2").await?);
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .handshake(stream)
            .await?;
        tokio::spawn(async move {
            // Whoever waits for an answer is told.
            let _ = connection.await;
        });
        Ok(Connection { sender, authority: self.authority.clone() })
    }

    /// GET a path whose answer does not end, on a connection of its own.
    pub(super) async fn follow(&self, path: &str) -> anyhow::Result<http::Response<Incoming>> {
        let stream = TokioIo::new(self.dial(b"http/1.1").await?);
        let (mut sender, connection) = http1::handshake(stream).await?;
        tokio::spawn(async move {
            // Whoever reads the answer is told.
            let _ = connection.await;
        });
        let request =
            http::Request::get(path).header(HOST, self.authority.as_str()).body(Full::default())?;
        let request: http::Request<Full<Bytes>> = request;
        Ok(sender.send_request(request).await?)
    }

    async fn dial(&self, protocol: &[u8]) -> anyhow::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.authority.as_str()).await?;
        stream.set_nodelay(true)?;
        let mut tls = rustls::ClientConfig::clone(&self.tls);
        tls.alpn_protocols = vec![protocol.to_vec()];
        Ok(TlsConnector::from(Arc::new(tls)).connect(self.server.clone(), stream).await?)
    }
}

impl Connection {
    /// Whether it can be used again.
    pub(super) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Send, and read the answer; its body only where it says why there was none.
    pub(super) async fn call(
        &mut self,
        method: &Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<()> {
        let uri = Uri::builder().scheme(Scheme::HTTPS).authority(self.authority.clone());
        let request = http::Request::builder()
            .method(method)
            .uri(uri.path_and_query(path).build()?)
            .header(CONTENT_TYPE, HeaderValue::from_static(content_type(method)))
            .body(Full::new(body))?;
        self.sender.ready().await?;
        let mut answer = self.sender.send_request(request).await?;
        if !answer.status().is_success() {
            let status = answer.status();
            let body = answer.into_body().collect().await?.to_bytes();
            return Err(super::requests::refusal(status, &body));
        }
        while let Some(frame) = answer.body_mut().frame().await {
            frame?;
        }
        Ok(())
    }
}

/// What the body of a request of this method is.
pub(super) fn content_type(method: &Method) -> &'static str {
    match *method {
        Method::PATCH => "application/merge-patch+json",
        _ => "application/json",
    }
}

/// What the API server may send before it is told that it was read: more than is under way.
const WINDOW_BYTES: u32 = 4 << 20;
