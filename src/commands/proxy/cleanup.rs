//! `pintle proxy --cleanup`: nothing of ours stays in the kernel.

use anyhow::Context as _;
use pintle_dataplane::Pins;

use super::{PINS_OF_THIS_MACHINE, kube_proxy_rules};

/// Remove the pins of this node, and with them the programs, links and maps; the bpf file system too
/// if it is ours and nobody else uses it.
pub(super) fn run(node_name: &str, clear_kube_proxy_rules: bool) -> anyhow::Result<()> {
    let pins = Pins::of(PINS_OF_THIS_MACHINE, node_name);
    pins.remove().context("remove what is pinned")?;
    tracing::info!(pins = %pins.path().display(), "nothing is left");
    for other in Pins::list() {
        let (cluster, name) = other.names();
        if cluster == PINS_OF_THIS_MACHINE {
            tracing::warn!("the tables of node {name} stay: --hostname-override {name} names them");
        }
    }
    if Pins::unmount().context("remove the bpf file system")? {
        tracing::info!("unmounted the bpf file system, which was ours and empty");
    }
    if clear_kube_proxy_rules {
        kube_proxy_rules::look(true);
    }
    Ok(())
}
