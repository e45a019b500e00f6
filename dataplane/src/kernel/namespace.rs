//! The node's own network namespace: which addresses it has, and the kernel's number of it.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use nix::ifaddrs::getifaddrs;
use pintle_node::{NetNs, NetworkError};

use super::route;
use super::syscall::{self, netns_cookie};

/// A link of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number of it.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether its packets have Ethernet headers; the loopback device's are not counted.
    pub ethernet: bool,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// How long a packet may be that leaves by it, from its IP header on; 0: it is not known.
    pub mtu: u32,
    /// What it is in the node's network.
    pub role: LinkRole,
}

/// What a link can be in the node's network, as far as its kind tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkRole {
    /// A bridge's port: what comes in by it the bridge hands on as its own, or to another port.
    Port,
    /// It leads to other namespaces of this machine alone, or to virtual machines: half of a veth pair, or
    /// a bridge whose ports are such.
    Inner,
    /// It may lead anywhere.
    #[default]
    Outer,
}

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
    /// Its links that have an IP address.
    pub fn links(&self) -> Result<Vec<Link>, NamespaceError> {
        self.run(list_links)?.map_err(|source| NamespaceError::Ask("the links", source))
    }

    /// The kernel's cookie of it.
    pub(super) fn cookie(&self) -> Result<u64, NamespaceError> {
        self.run(netns_cookie)?.map_err(|source| NamespaceError::Ask("the cookie", source))
    }

    pub(crate) fn run<T: Send + 'static>(
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

fn list_links() -> io::Result<Vec<Link>> {
    let mut links = BTreeMap::<String, Link>::new();
    for one in getifaddrs()? {
        let name = one.interface_name;
        let link = links.entry(name.clone()).or_insert_with(|| Link {
            index: 0,
            name,
            ethernet: false,
            addresses: Vec::new(),
            mtu: 0,
            role: LinkRole::Outer,
        });
        let Some(address) = one.address else { continue };
        if let Some(v4) = address.as_sockaddr_in() {
            link.addresses.push(v4.ip().into());
        } else if let Some(v6) = address.as_sockaddr_in6() {
            link.addresses.push(v6.ip().into());
        } else if let Some(hardware) = address.as_link_addr() {
            link.index = u32::try_from(hardware.ifindex()).unwrap_or(0);
            link.ethernet = hardware.hatype() == ARPHRD_ETHER;
        }
    }
    let mut links: Vec<Link> =
        links.into_values().filter(|link| !link.addresses.is_empty()).collect();
    let roles = route::roles()?;
    for link in &mut links {
        link.role = roles.get(&link.index).copied().unwrap_or_default();
        // One that is gone meanwhile has none.
        link.mtu = syscall::mtu(&link.name).unwrap_or(0);
    }
    Ok(links)
}

// uapi/linux/if_arp.h
const ARPHRD_ETHER: u16 = 1;
