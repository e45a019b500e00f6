//! The cluster that a simulation begins with: files, a live cluster, or files laid over one.

use std::collections::BTreeSet;

use anyhow::anyhow;
use pintle_scheduler_core::explain::Cluster;

use super::{live, read};
use crate::cli::ClusterArgs;
use crate::exit::UsageError;

/// Reads everything that the flags name. What is odd is told on standard error.
pub(super) fn cluster(args: &ClusterArgs) -> anyhow::Result<Cluster> {
    let mut cluster = Cluster::default();
    if args.kubeconfig.is_some() || args.filename.is_empty() {
        live::read(args.kubeconfig.as_deref(), &mut cluster)?;
    }
    let mut left_out = BTreeSet::new();
    for path in &args.filename {
        let name = path.display();
        let read = cluster.read(&read(path)?).map_err(|error| anyhow!("{name}: {error}"))?;
        read.warnings.iter().for_each(|warning| eprintln!("warning: {name}: {warning}"));
        left_out.extend(read.left_out);
    }
    if !left_out.is_empty() {
        let kinds = left_out.into_iter().collect::<Vec<_>>().join(", ");
        eprintln!("note: not read by the scheduler: {kinds}");
    }
    cluster.admit_priorities().iter().for_each(|warning| eprintln!("warning: {warning}"));
    what_if(args, &mut cluster)?;
    Ok(cluster)
}

fn what_if(args: &ClusterArgs, cluster: &mut Cluster) -> Result<(), UsageError> {
    for name in &args.cordon {
        if !cluster.cordon(name) {
            return Err(UsageError(format!("--cordon {name}: there is no such node")));
        }
    }
    for name in &args.without_node {
        if cluster.remove_node(name).is_none() {
            return Err(UsageError(format!("--without-node {name}: there is no such node")));
        }
        cluster.remove_pods_of(name);
    }
    Ok(())
}
