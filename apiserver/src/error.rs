//! Why the API server could not start or go on.

use std::io;
use std::path::PathBuf;

use pintle_store::StoreError;

/// Why the API server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An object that every cluster has could not be made.
    #[error("bootstrap {object}: {message}")]
    Bootstrap {
        /// Kind and name.
        object: String,
        /// What the API said.
        message: String,
    },
    /// The first read of the store failed.
    #[error("read the store into the watch cache")]
    Cache(#[source] StoreError),
    /// The listener broke.
    #[error("accept connections")]
    Listen(#[source] io::Error),
    /// The network for Services is too small to hold the `kubernetes` Service.
    #[error("service CIDR {0} holds fewer than two addresses")]
    ServiceCidr(ipnet::Ipv4Net),
    /// The TLS configuration does not hold together.
    #[error("set up TLS")]
    Tls(#[source] rustls::Error),
    /// A line of the token file is not `token,user,uid,"groups"`.
    #[error("token file {}, line {line}: want token,user,uid[,\"group1,group2\"]", path.display())]
    TokenLine {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// The token file could not be read.
    #[error("read token file {}", path.display())]
    TokenRead {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The client CA could not be used to check client certificates.
    #[error("trust the client CA")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
}
