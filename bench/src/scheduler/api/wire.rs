//! HTTPS to the API server that leaves it as much of the processors as it can: HTTP/1.1 on kept
//! connections, all of them on one thread, so that no request wakes another one.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Method};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use kube::Config;
use kube::client::ConfigExt as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::runtime::{Handle, Runtime};
use tokio_rustls::TlsConnector;

/// Where the API server is and who asks. Cheap to clone; the last one stops the thread.
#[derive(Clone)]
pub(super) struct Wire {
    thread: Arc<Thread>,
    tls: TlsConnector,
    server: ServerName<'static>,
    authority: Arc<str>,
    host: HeaderValue,
}

struct Thread(Option<Runtime>);

impl Drop for Thread {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// One connection, for one request at a time.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: HeaderValue,
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
            tls: TlsConnector::from(Arc::new(config.rustls_client_config()?)),
            server,
            host: HeaderValue::from_str(authority.as_str())?,
            authority: authority.as_str().into(),
        })
    }

    /// Where connections have to be made and used.
    pub(super) fn handle(&self) -> &Handle {
        self.thread.0.as_ref().expect("it is there until dropped").handle()
    }

    pub(super) async fn connect(&self) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(&*self.authority).await?;
        stream.set_nodelay(true)?;
        let stream = self.tls.connect(self.server.clone(), stream).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            // Whoever waits for an answer is told.
            let _ = connection.await;
        });
        Ok(Connection { sender, host: self.host.clone() })
    }
}

impl Connection {
    /// Whether it can be used again.
    pub(super) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    pub(super) async fn send(
        &mut self,
        method: &Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<http::Response<Incoming>> {
        let kind = content_type(method);
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.host.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static(kind))
            .body(Full::new(body))?;
        self.sender.ready().await?;
        Ok(self.sender.send_request(request).await?)
    }

    /// Send, and read the answer; its body only where it says why there was none.
    pub(super) async fn call(
        &mut self,
        method: &Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<()> {
        let mut answer = self.send(method, path, body).await?;
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
