//! `pintle standalone`: every part in one process, talking to the API server without a socket.
//!
//! Start: store → API server → controllers and scheduler → nodes. Stop goes the other way round, so
//! that every part can still write what it has to: a kubelet its last status, a controller the end
//! of its work.

mod nodes;
mod parts;

use std::sync::Arc;

use anyhow::Context as _;
use pintle_apiserver::UserInfo;
use pintle_kubelet::RuntimeKind;
use pintle_scheduler_runner::{InProcessFeed, InProcessWriter};
use tokio_util::sync::CancellationToken;

use self::nodes::Nodes;
use self::parts::Parts;
use crate::cli::StandaloneArgs;
use crate::commands::control_plane::ControlPlane;
use crate::exit::UsageError;

pub(crate) async fn run(args: StandaloneArgs) -> anyhow::Result<()> {
    check(&args)?;
    let shutdown = pintle_component::shutdown_on_signal().context("listen for signals")?;
    let mut plane = ControlPlane::start(&args.server).await?;
    let outcome = run_parts(&args, &mut plane, &shutdown).await;
    outcome.and(plane.stop().await)
}

fn check(args: &StandaloneArgs) -> anyhow::Result<()> {
    let (runtime, most) = match args.runtime {
        RuntimeKind::Hollow => ("hollow", HOLLOW_NODES_MAX),
        RuntimeKind::Process => ("process", PROCESS_NODES_MAX),
    };
    if args.nodes > most {
        let text = format!("--nodes: at most {most} with --runtime {runtime}, not {}", args.nodes);
        return Err(UsageError(text).into());
    }
    if args.runtime == RuntimeKind::Process && args.nodes > 0 && !nix::unistd::geteuid().is_root() {
        let text = "--runtime process: network namespaces, cgroups and eBPF need root; \
                    use --runtime hollow, --nodes 0, or sudo";
        return Err(UsageError(text.to_owned()).into());
    }
    Ok(())
}

/// Run controllers, scheduler and nodes until a signal, or until one of them fails.
async fn run_parts(
    args: &StandaloneArgs,
    plane: &mut ControlPlane,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let mut control = start_control(args, plane);
    let mut node_parts = Parts::new(plane.daemon());
    let nodes = Nodes::start(args, plane, &mut node_parts).await;
    let (nodes, outcome) = match nodes {
        Ok(nodes) => {
            let outcome = tokio::select! {
                () = shutdown.cancelled() => Ok(()),
                failed = control.failed() => Err(failed),
                failed = node_parts.failed() => Err(failed),
                failed = plane.failed() => Err(failed),
            };
            (Some(nodes), outcome)
        }
        Err(error) => (None, Err(error)),
    };
    let outcome = outcome.and(node_parts.stop().await);
    let removed = match nodes {
        Some(nodes) => nodes.remove().await,
        None => Ok(()),
    };
    outcome.and(removed).and(control.stop().await)
}

fn start_control(args: &StandaloneArgs, plane: &ControlPlane) -> Parts {
    let mut control = Parts::new(plane.daemon());
    if !args.disable_controller_manager {
        let config = pintle_controllers::Config {
            cluster_cidr: nodes::cluster_cidr(args.nodes),
            ..pintle_controllers::Config::default()
        };
        let client = plane.client(UserInfo::new("system:kube-controller-manager", []));
        control
            .start("controller-manager", |daemon| pintle_controllers::run(client, config, daemon));
    }
    if !args.disable_scheduler {
        let user = UserInfo::new("system:kube-scheduler", []);
        let api_server = Arc::new(plane.in_process(user.clone()));
        let feed = Some(InProcessFeed(Arc::clone(&api_server) as _));
        let writer = Some(InProcessWriter(api_server));
        let config = pintle_scheduler_runner::Config { feed, writer, ..Default::default() };
        let client = plane.client(user);
        control.start("scheduler", |daemon| pintle_scheduler_runner::run(client, config, daemon));
    }
    control
}

/// As many as the pods' range has /24 for.
const HOLLOW_NODES_MAX: u32 = 32_768;
/// As many as a /24 has addresses beside the host's.
const PROCESS_NODES_MAX: u32 = 253;
