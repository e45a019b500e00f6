//! `pintle apiserver`: the API server over the embedded store, alone.

use anyhow::Context as _;

use crate::cli::ApiserverArgs;
use crate::commands::control_plane::ControlPlane;

pub(crate) async fn run(args: ApiserverArgs) -> anyhow::Result<()> {
    let shutdown = pintle_component::shutdown_on_signal().context("listen for signals")?;
    let mut plane = ControlPlane::start(&args.server).await?;
    for node in &args.kubelet_kubeconfig {
        let path = plane.keys().node_kubeconfig(node)?;
        tracing::info!(node, kubeconfig = %path.display(), "wrote a kubelet's kubeconfig");
    }
    let outcome = tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        failed = plane.failed() => Err(failed),
    };
    outcome.and(plane.stop().await)
}
