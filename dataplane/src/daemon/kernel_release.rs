//! What an old kernel lacks, in words that say what to do: named after something has failed, since a
//! distribution's kernel may have more than its number says.

/// A feature of the kernel, and since when it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Feature {
    /// What it is.
    pub(super) name: &'static str,
    since: (u32, u32),
    /// What is to be done without it.
    pub(super) instead: &'static str,
}

/// Programs on links (tcx).
pub(super) const TCX: Feature = Feature {
    name: "tcx links (kernel 6.6)",
    since: (6, 6),
    instead: "the processes of this node are served, clients elsewhere are not: let kube-proxy run \
              beside for those",
};

/// `bpf_set_retval` in the socket hooks.
pub(super) const SET_RETVAL: Feature = Feature {
    name: "bpf_set_retval (kernel 5.18)",
    since: (5, 18),
    instead: "keep kube-proxy on this node",
};

impl Feature {
    /// Whether a kernel of this release is too old to have it.
    pub(super) fn is_missing(&self, release: &str) -> bool {
        number(release).is_some_and(|number| number < self.since)
    }
}

/// The running kernel's release; empty if it tells none.
pub(super) fn running() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    text.trim().to_owned()
}

/// `6.1.0-18-amd64` is 6.1.
fn number(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_kernels_are_known_by_their_number() {
        for (release, tcx, set_retval) in [
            ("5.15.0-91-generic", true, true),
            ("5.18", true, false),
            ("6.1.0-18-amd64", true, false),
            ("6.6.0", false, false),
            ("10.0-rc1", false, false),
            ("unknown", false, false),
            ("", false, false),
        ] {
            assert_eq!(TCX.is_missing(release), tcx, "{release}");
            assert_eq!(SET_RETVAL.is_missing(release), set_retval, "{release}");
        }
        assert!(number(&running()).is_some());
    }
}
