//! Removal of everything that a cluster's id names on this machine, whoever made it and however far
//! it came.

use crate::{ClusterId, NetNs, Netlink, NetworkError, cgroup};

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Cgroups; the processes in them were killed.
    pub cgroups: usize,
    /// Links on the host.
    pub links: usize,
    /// Network namespaces.
    pub namespaces: usize,
}

/// Kill the cluster's processes, then remove its cgroups, links (and with them the routes over
/// them) and namespaces. What is not there is fine.
pub async fn cleanup(id: &ClusterId) -> Result<Cleaned, NetworkError> {
    let cgroups = cgroup::remove_cluster(id)
        .await
        .map_err(|error| NetworkError::io("remove the cluster's cgroups", into_io(error)))?;
    let mut cleaned = Cleaned { cgroups, ..Cleaned::default() };
    let netlink = Netlink::open(None).await?;
    for link in netlink.list_links(&id.link_prefix()).await? {
        netlink.delete_link(&link).await?;
        cleaned.links += 1;
    }
    for namespace in NetNs::list(&id.namespace_prefix())? {
        namespace.delete()?;
        cleaned.namespaces += 1;
    }
    if cleaned != Cleaned::default() {
        tracing::info!(cluster = %id, ?cleaned, "removed what the cluster left on this machine");
    }
    Ok(cleaned)
}

fn into_io(error: cgroup::CgroupError) -> std::io::Error {
    std::io::Error::other(error)
}
