//! The certificate of a daemon's own listener, and the listener that speaks TLS.
//!
//! Like `k8s.io/apiserver`'s secure serving: from files, or made up at the start if there are none;
//! probes do not verify it.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Why there is no certificate to serve with.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or is not PEM.
    #[error("read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// None could be made up.
    #[error("make a certificate")]
    Make(#[source] rcgen::Error),
    /// Certificate and key do not go together.
    #[error("use the certificate")]
    Use(#[source] rustls::Error),
}

/// A certificate of our own for these host names and addresses.
pub fn self_signed(names: &[&str]) -> Result<Arc<ServerConfig>, TlsError> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).map_err(TlsError::Make)?;
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    config(vec![made.cert.der().clone()], key)
}

/// The certificate chain and key of two PEM files.
pub fn from_files(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| TlsError::File { path, source }
    };
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
    let chain = chain.map_err(failed(certificate))?;
    config(chain, PrivateKeyDer::from_pem_file(key).map_err(failed(key))?)
}

fn config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Use)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(TlsError::Use)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Accepts connections and shakes hands beside it, so that a silent client holds nobody up.
pub(crate) struct TlsListener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    handshakes: JoinSet<Option<(TlsStream<TcpStream>, SocketAddr)>>,
}

impl TlsListener {
    pub(crate) fn new(listener: TcpListener, config: Arc<ServerConfig>) -> Self {
        let acceptor = TlsAcceptor::from(config);
        Self { listener, acceptor, handshakes: JoinSet::new() }
    }
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            tokio::select! {
                Some(done) = self.handshakes.join_next() => {
                    if let Ok(Some(connection)) = done {
                        return connection;
                    }
                }
                accepted = self.listener.accept(), if self.handshakes.len() < HANDSHAKES_MAX => {
                    let Ok((stream, address)) = accepted else {
                        // Out of file descriptors, most likely; later there may be some.
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    };
                    let handshake = self.acceptor.accept(stream);
                    self.handshakes.spawn(async move {
                        let done = tokio::time::timeout(HANDSHAKE_MAX, handshake).await;
                        Some((done.ok()?.ok()?, address))
                    });
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Handshakes at once; probes and scrapers need a few.
const HANDSHAKES_MAX: usize = 64;
/// How long a client may take to shake hands.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// How long not to accept after accepting failed.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
