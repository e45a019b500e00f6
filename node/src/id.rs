//! The short id of a cluster, from which the names of everything it makes on a machine follow.

use std::fmt;
use std::str::FromStr;

/// Eight lower-case hexadecimal digits. The fixed length keeps link names within the kernel's 15
/// characters, and keeps one cluster's prefix from being the start of another's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterId(String);

/// Why a text is no cluster id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cluster id must be {CLUSTER_ID_LENGTH} lower-case hexadecimal digits, not {0:?}")]
pub struct InvalidClusterId(String);

impl ClusterId {
    /// The id that belongs to a text, for example the absolute path of the data directory: the same
    /// text gives the same id on every start, so that leftovers are recognised.
    #[must_use]
    pub fn derive(text: &str) -> Self {
        // 64 bits folded to 32.
        let hash = fnv1a(text.as_bytes());
        Self(format!("{:08x}", (hash >> 32) as u32 ^ hash as u32))
    }

    /// The eight digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the names of all the cluster's links on the host begin with.
    pub(crate) fn link_prefix(&self) -> String {
        format!("pt{}", self.0)
    }

    /// The bridge on the host that joins the nodes.
    pub(crate) fn host_bridge(&self) -> String {
        format!("pt{}br", self.0)
    }

    /// The host's end of a node's link.
    pub(crate) fn node_link(&self, index: usize) -> String {
        format!("pt{}n{index}", self.0)
    }

    /// What the names of all the cluster's namespaces begin with.
    pub(crate) fn namespace_prefix(&self) -> String {
        format!("pintle-{}-", self.0)
    }

    /// A node's namespace.
    pub(crate) fn node_namespace(&self, index: usize) -> String {
        format!("pintle-{}-node-{index}", self.0)
    }

    /// A pod's namespace.
    pub(crate) fn pod_namespace(&self, pod: &str) -> String {
        format!("pintle-{}-pod-{pod}", self.0)
    }

    /// A number that spreads clusters over a range, in `0..bound`.
    pub(crate) fn spread(&self, bound: u64) -> u64 {
        fnv1a(self.0.as_bytes()) % bound
    }
}

impl FromStr for ClusterId {
    type Err = InvalidClusterId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if text.len() == CLUSTER_ID_LENGTH && digits {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidClusterId(text.to_owned()))
        }
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// FNV-1a, 64 bits: stable across releases, which the standard library's hasher does not promise.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    bytes.iter().fold(OFFSET_BASIS, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

const CLUSTER_ID_LENGTH: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_links_fit_the_kernel() {
        let id = ClusterId::derive("/var/lib/pintle");
        assert_eq!(id, ClusterId::derive("/var/lib/pintle"));
        assert_ne!(id, ClusterId::derive("/var/lib/pintle2"));
        assert!(id.host_bridge().len() <= 15, "{}", id.host_bridge());
        assert!(id.node_link(9999).len() <= 15, "{}", id.node_link(9999));
        assert_eq!(id.as_str().parse(), Ok(id));
    }

    #[test]
    fn only_eight_hexadecimal_digits_are_an_id() {
        for text in ["", "abc", "abcdefgh", "0123456", "012345678", "ABCDEF01", "../../.."] {
            assert_eq!(text.parse::<ClusterId>(), Err(InvalidClusterId(text.to_owned())));
        }
    }

    #[test]
    fn fnv1a_gives_the_published_values() {
        // http://www.isthe.com/chongo/tech/comp/fnv/
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
