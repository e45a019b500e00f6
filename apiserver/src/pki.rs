//! The cluster's certificates: a CA, the serving certificate and one client certificate for each
//! part of the control plane, with kubeconfigs that embed them.
//!
//! Mirrors what kubeadm writes to `/etc/kubernetes`: `CN` is the user, `O` its groups. Everything is
//! kept in `<data-dir>/pki` and reused at the next start; the serving certificate is reissued when
//! the names it must answer for have changed. It does not rotate anything while running.

mod files;
mod issue;
mod kubeconfig;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::Error;

pub use issue::NodeClient;

/// Why the certificates could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file could not be read or written.
    #[error("{act} {}", path.display())]
    File {
        /// `read`, `write` or `create`.
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A certificate could not be issued.
    #[error("issue the certificate {name}")]
    Issue {
        /// Its file name without the extension.
        name: String,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// A file that is there does not hold a certificate or key.
    #[error("parse {}: remove it to have it made anew", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// What the serving certificate and the kubeconfigs have to name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sans {
    /// DNS names.
    pub names: BTreeSet<String>,
    /// Addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// The URL that goes into the kubeconfigs, such as `https://127.0.0.1:6443`.
    pub server_url: String,
}

impl Sans {
    /// The names that every API server has, for one that listens at `listen` and whose
    /// `kubernetes` Service has the address `service`.
    #[must_use]
    pub fn new(listen: std::net::SocketAddr, service: IpAddr, hostname: Option<&str>) -> Self {
        let fixed = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            "localhost",
        ];
        let names = fixed.into_iter().chain(hostname).map(str::to_owned).collect();
        let loopback = IpAddr::from([127, 0, 0, 1]);
        let mut addresses = BTreeSet::from([loopback, service]);
        let reachable = if listen.ip().is_unspecified() { loopback } else { listen.ip() };
        addresses.insert(reachable);
        let server_url = format!("https://{}", std::net::SocketAddr::new(reachable, listen.port()));
        Self { names, addresses, server_url }
    }
}

/// The certificates of a data directory.
#[derive(Clone, Debug)]
pub struct Pki {
    /// The CA's certificate, PEM.
    pub ca_pem: String,
    /// The serving certificate, PEM.
    pub serving_pem: String,
    /// `<data-dir>/admin.kubeconfig`.
    pub admin_kubeconfig: PathBuf,
    serving_key_pem: String,
    issuer: Arc<issue::Authority>,
    dir: PathBuf,
    server_url: String,
}

/// Read the certificates of `data_dir`, making what is missing: `pki/{ca,apiserver,admin,...}.{crt,
/// key}`, `admin.kubeconfig`, and a kubeconfig in `pki/` for the scheduler, the controller manager
/// and the proxy. Keys and kubeconfigs have mode 0600.
pub fn ensure(data_dir: &Path, sans: &Sans) -> Result<Pki, PkiError> {
    let dir = data_dir.join("pki");
    files::create_dir(data_dir)?;
    files::create_dir(&dir)?;
    let issuer = Arc::new(issue::Authority::ensure(&dir)?);
    let serving = issuer.ensure_serving(&dir, sans)?;
    let pki = Pki {
        ca_pem: issuer.certificate_pem.clone(),
        serving_pem: serving.certificate_pem,
        serving_key_pem: serving.key_pem,
        admin_kubeconfig: data_dir.join("admin.kubeconfig"),
        issuer,
        dir,
        server_url: sans.server_url.clone(),
    };
    for client in issue::CLIENTS {
        let path = match client.name {
            "admin" => pki.admin_kubeconfig.clone(),
            name => pki.dir.join(format!("{name}.kubeconfig")),
        };
        pki.write_kubeconfig(client, &path)?;
    }
    Ok(pki)
}

impl Pki {
    /// The kubeconfig of the node agent of `node`, made if it is not there: user
    /// `system:node:<node>`, group `system:nodes`.
    pub fn node_kubeconfig(&self, node: &str) -> Result<PathBuf, PkiError> {
        let path = self.dir.join(format!("kubelet-{node}.kubeconfig"));
        let client = NodeClient::new(node);
        self.write_kubeconfig(&client.borrow(), &path)?;
        Ok(path)
    }

    /// The kubeconfig of a part of the control plane: `kube-scheduler`, `kube-controller-manager`
    /// or `kube-proxy`.
    #[must_use]
    pub fn component_kubeconfig(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.kubeconfig"))
    }

    /// TLS for [`crate::ApiServer::serve`]: HTTP/2 and HTTP/1.1, client certificates optional and
    /// checked against the CA.
    pub fn server_config(&self) -> Result<Arc<rustls::ServerConfig>, Error> {
        let pem = |_| Error::Tls(rustls::Error::General("certificate is not PEM".to_owned()));
        let ca = CertificateDer::from_pem_slice(self.ca_pem.as_bytes()).map_err(pem)?;
        let serving = CertificateDer::from_pem_slice(self.serving_pem.as_bytes()).map_err(pem)?;
        let key = PrivateKeyDer::from_pem_slice(self.serving_key_pem.as_bytes()).map_err(pem)?;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(ca).map_err(Error::Tls)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::clone(&provider),
        )
        .allow_unauthenticated()
        .build()
        .map_err(Error::Verifier)?;
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(Error::Tls)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![serving], key)
            .map_err(Error::Tls)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    fn write_kubeconfig(&self, client: &issue::Client<'_>, path: &Path) -> Result<(), PkiError> {
        let pair = self.issuer.ensure_client(&self.dir, client)?;
        let text = kubeconfig::render(&kubeconfig::Fields {
            server_url: &self.server_url,
            ca_pem: &self.ca_pem,
            user: client.common_name,
            certificate_pem: &pair.certificate_pem,
            key_pem: &pair.key_pem,
        });
        files::write_private_if_changed(path, &text)
    }
}

#[cfg(test)]
mod tests;
