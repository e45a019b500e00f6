//! The calls: a thread and a runtime for each extender, so that the scheduling loop may wait for an
//! answer wherever it runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::{BodyExt as _, Limited};
use kube::client::Body;
use kube::config::AuthInfo;
use pintle_scheduler_core::framework::ExtenderError;
use serde::Serialize;
use serde_json::Value;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{mpsc, oneshot};

use crate::configuration::{Extender, ExtenderTLSConfig};

/// Why an extender cannot be called at all.
#[derive(Debug, thiserror::Error)]
pub enum ExtenderSetupError {
    /// Its URL or its certificates are no good.
    #[error("set up extender {url}")]
    Client {
        /// The extender.
        url: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// A certificate, key or CA cannot be read.
    #[error("set up extender {url}: read {}", path.display())]
    File {
        /// The extender.
        url: String,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A CA is not PEM.
    #[error("set up extender {url}: its CA is not PEM")]
    Pem {
        /// The extender.
        url: String,
    },
    /// No thread to call it from.
    #[error("set up extender {url}: start its thread")]
    Thread {
        /// The extender.
        url: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

type Job = BoxFuture<'static, ()>;

/// Calls one extender.
pub(super) struct Caller {
    url: String,
    timeout: Duration,
    client: kube::Client,
    /// Each job has somebody who waits for it: the loop, or one of the bindings under way.
    jobs: mpsc::UnboundedSender<Job>,
}

/// A call under way.
pub(super) struct Call {
    answer: oneshot::Receiver<Result<Value, ExtenderError>>,
}

impl Caller {
    pub(super) fn start(settings: &Extender) -> Result<Self, ExtenderSetupError> {
        let url = settings.url_prefix.trim_end_matches('/').to_owned();
        let thread = |source| ExtenderSetupError::Thread { url: url.clone(), source };
        let config = client_config(settings, &url)?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(thread)?;
        let client = {
            let _inside = runtime.enter();
            kube::Client::try_from(config).map_err(|source| ExtenderSetupError::Client {
                url: url.clone(),
                source: Box::new(source),
            })?
        };
        let (jobs, mut queue) = mpsc::unbounded_channel::<Job>();
        let work = async move {
            while let Some(job) = queue.recv().await {
                tokio::spawn(job);
            }
        };
        std::thread::Builder::new()
            .name("extender".to_owned())
            .spawn(move || runtime.block_on(work))
            .map_err(thread)?;
        let given = settings.http_timeout.to_std();
        let timeout = if given.is_zero() { TIMEOUT_DEFAULT } else { given };
        Ok(Self { url, timeout, client, jobs })
    }

    /// Sends the arguments; the answer is the call's.
    pub(super) fn post(
        &self,
        verb: &str,
        arguments: &impl Serialize,
    ) -> Result<Call, ExtenderError> {
        let failed = |error: &dyn std::fmt::Display| ExtenderError(error.to_string());
        let body = serde_json::to_vec(arguments).map_err(|error| failed(&error))?;
        let url = format!("{}/{verb}", self.url);
        let request = http::Request::post(format!("/{verb}"))
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Body::from(body))
            .map_err(|error| failed(&error))?;
        let (client, timeout, verb) = (self.client.clone(), self.timeout, verb.to_owned());
        let (reply, answer) = oneshot::channel();
        let job = async move {
            let asked = tokio::time::timeout(timeout, ask(&client, request, &verb, &url));
            let answer = asked.await.unwrap_or_else(|_| {
                let why = "context deadline exceeded (Client.Timeout exceeded while awaiting \
                           headers)";
                Err(ExtenderError(format!("Post {url:?}: {why}")))
            });
            // Whoever asked may have given up.
            let _ = reply.send(answer);
        };
        self.jobs.send(Box::pin(job)).map_err(|_| gone())?;
        Ok(Call { answer })
    }
}

impl Call {
    pub(super) async fn wait(self) -> Result<Value, ExtenderError> {
        self.answer.await.map_err(|_| gone())?
    }

    /// Waits on this thread; other tasks of a runtime with several threads move elsewhere.
    pub(super) fn wait_blocking(self) -> Result<Value, ExtenderError> {
        let wait = || futures::executor::block_on(self.wait());
        match Handle::try_current().map(|handle| handle.runtime_flavor()) {
            Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(wait),
            _ => wait(),
        }
    }
}

fn gone() -> ExtenderError {
    ExtenderError("the thread that calls the extender is gone".to_owned())
}

async fn ask(
    client: &kube::Client,
    request: http::Request<Body>,
    verb: &str,
    url: &str,
) -> Result<Value, ExtenderError> {
    let failed = |error: &dyn std::fmt::Display| ExtenderError(format!("Post {url:?}: {error}"));
    let response = client.send(request).await.map_err(|error| failed(&error))?;
    let (head, body) = response.into_parts();
    if head.status != http::StatusCode::OK {
        let code = head.status.as_u16();
        let message = format!("failed {verb} with extender at URL {url}, code {code}");
        return Err(ExtenderError(message));
    }
    let body: Bytes = Limited::new(body, ANSWER_BYTES_MAX)
        .collect()
        .await
        .map_err(|error| failed(&error))?
        .to_bytes();
    serde_json::from_slice(&body).map_err(|error| failed(&error))
}

fn client_config(settings: &Extender, url: &str) -> Result<kube::Config, ExtenderSetupError> {
    // Checked with the configuration.
    let uri = url.parse().unwrap_or_default();
    let mut config = kube::Config::new(uri);
    config.default_retry = false;
    config.connect_timeout = None;
    config.headers = Vec::new();
    let tls = settings.tls_config.clone().unwrap_or_default();
    let ca = pem(url, &tls.ca_data.0, &tls.ca_file)?;
    // As upstream: HTTPS without a CA is not verified.
    config.accept_invalid_certs = tls.insecure || (settings.enable_https && ca.is_none());
    config.root_cert = ca.as_deref().map(|ca| certificates(url, ca)).transpose()?;
    config.tls_server_name = Some(tls.server_name.clone()).filter(|name| !name.is_empty());
    config.auth_info = auth_info(url, &tls)?;
    Ok(config)
}

fn auth_info(url: &str, tls: &ExtenderTLSConfig) -> Result<AuthInfo, ExtenderSetupError> {
    let encode = |pem: Vec<u8>| base64::engine::general_purpose::STANDARD.encode(pem);
    let certificate = pem(url, &tls.cert_data.0, &tls.cert_file)?.map(encode);
    let key = pem(url, &tls.key_data.0, &tls.key_file)?.map(encode);
    Ok(AuthInfo {
        client_certificate_data: certificate,
        client_key_data: key.map(Into::into),
        ..AuthInfo::default()
    })
}

/// Data, or a file's; data takes precedence.
fn pem(url: &str, data: &[u8], file: &str) -> Result<Option<Vec<u8>>, ExtenderSetupError> {
    if !data.is_empty() {
        return Ok(Some(data.to_vec()));
    }
    if file.is_empty() {
        return Ok(None);
    }
    let read = std::fs::read(Path::new(file));
    read.map(Some).map_err(|source| ExtenderSetupError::File {
        url: url.to_owned(),
        path: PathBuf::from(file),
        source,
    })
}

fn certificates(url: &str, pem: &[u8]) -> Result<Vec<Vec<u8>>, ExtenderSetupError> {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject as _;
    let all: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(pem).map(|it| it.map(|der| der.to_vec())).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        _ => Err(ExtenderSetupError::Pem { url: url.to_owned() }),
    }
}

/// Upstream's DefaultExtenderTimeout.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// 5,000 nodes of 12 KiB; an extender that answers more is not one to trust.
const ANSWER_BYTES_MAX: usize = 64 << 20;
