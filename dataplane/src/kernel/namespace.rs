//! The node's own network namespace: which addresses it has, and the kernel's number of it.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use nix::ifaddrs::getifaddrs;
use pintle_node::{NetNs, NetworkError};

use super::syscall::netns_cookie;

/// Where the node's own addresses are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NodeNamespace {
    /// Where this process is.
    #[default]
    Own,
    /// A node that is simulated on this machine.
    Named(NetNs),
}

/// The node's network namespace could not be looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NamespaceError {
    /// The namespace cannot be entered.
    #[error("enter the node's network namespace {}", path.display())]
    Enter {
        /// Where it stands.
        path: PathBuf,
        /// Why not.
        #[source]
        source: NetworkError,
    },
    /// The kernel says nothing of it.
    #[error("ask for {0} of the node's network namespace")]
    Ask(&'static str, #[source] io::Error),
}

impl NodeNamespace {
    /// The addresses of all its links.
    pub fn addresses(&self) -> Result<Vec<IpAddr>, NamespaceError> {
        let list = || {
            let all = getifaddrs()?;
            let ips = all.filter_map(|one| {
                let address = one.address?;
                let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
                v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
            });
            Ok::<Vec<IpAddr>, io::Error>(ips.collect())
        };
        self.run(list)?.map_err(|source| NamespaceError::Ask("the addresses", source))
    }

    /// The kernel's cookie of it.
    pub(super) fn cookie(&self) -> Result<u64, NamespaceError> {
        self.run(netns_cookie)?.map_err(|source| NamespaceError::Ask("the cookie", source))
    }

    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NamespaceError> {
        match self {
            Self::Own => Ok(work()),
            Self::Named(namespace) => namespace
                .run_in(work)
                .map_err(|source| NamespaceError::Enter { path: namespace.path(), source }),
        }
    }
}
