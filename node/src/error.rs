//! What can fail while namespaces, links and routes are made.

use std::io;

use crate::PoolError;

/// Why a part of the network could not be set up, read or removed. `act` names what was tried and
/// on which object.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The pod addresses of a node ran out, or were never given.
    #[error("allocate an address for pod {pod}")]
    Address {
        /// The pod's key.
        pod: String,
        /// Why there is none.
        #[source]
        source: PoolError,
    },
    /// A system call or a file of /proc or /run failed.
    #[error("{act}")]
    Io {
        /// What was tried.
        act: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The link that an act needs is not there.
    #[error("{act}: there is no link named {link}")]
    NoLink {
        /// What was tried.
        act: String,
        /// The missing link.
        link: String,
    },
    /// No free subnet was found for the nodes.
    #[error("find a free /24 in {range} for {nodes} nodes: every one is used by this machine")]
    NoSubnet {
        /// Where it was looked for.
        range: ipnet::Ipv4Net,
        /// How many nodes were asked for.
        nodes: usize,
    },
    /// The nodes do not fit their subnet.
    #[error("give {nodes} nodes addresses in {subnet}: it holds {room}")]
    SubnetTooSmall {
        /// The subnet of the nodes.
        subnet: ipnet::Ipv4Net,
        /// How many nodes were asked for.
        nodes: usize,
        /// How many fit.
        room: usize,
    },
    /// The thread that worked inside a namespace panicked.
    #[error("{act}: the thread inside the namespace died")]
    ThreadDied {
        /// What was tried.
        act: String,
    },
}

impl NetworkError {
    pub(crate) fn io(act: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Io { act: act.into(), source: source.into() }
    }

    pub(crate) fn netlink(act: impl Into<String>, source: rtnetlink::Error) -> Self {
        let source = match source {
            rtnetlink::Error::NetlinkError(message) => message.to_io(),
            other => io::Error::other(other.to_string()),
        };
        Self::Io { act: act.into(), source }
    }

    /// The kernel's error number, where a system call failed.
    #[must_use]
    pub fn os_error(&self) -> Option<i32> {
        match self {
            Self::Io { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}
