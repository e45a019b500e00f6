//! `make demo`: a cluster of three nodes on this machine, a Deployment and a Service over eBPF.
//!
//! Starts `pintle standalone`, applies `examples/hello.yaml` through the HTTP API, opens connections
//! from inside a pod to the Service's cluster IP, deletes a pod while more are opened, prints what
//! happened, stops the cluster and checks that the machine is as it was. With `--keep` the cluster
//! stays up.
#![forbid(unsafe_code)]

#[path = "demo/client_pod.rs"]
mod client_pod;
#[path = "demo/cluster.rs"]
mod cluster;
#[path = "demo/footprint.rs"]
mod footprint;
#[path = "demo/report.rs"]
mod report;
#[path = "demo/step.rs"]
mod step;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use clap::Parser;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::Api;
use kube::api::{DeleteParams, ListParams};

use client_pod::ClientPod;
use cluster::Cluster;
use footprint::Footprint;
use step::Steps;

#[derive(Debug, Parser)]
#[command(about = "Bring up a cluster, schedule a Deployment, balance connections over eBPF")]
struct Args {
    /// The binary under demonstration
    #[arg(long, default_value = "target/release/pintle")]
    pintle: PathBuf,
    /// Objects to apply: a Deployment and a Service named hello
    #[arg(long, default_value = "examples/hello.yaml")]
    manifest: PathBuf,
    /// Leave the cluster up
    #[arg(long)]
    keep: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    match demo(&args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\ndemo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn demo(args: &Args) -> anyhow::Result<()> {
    let before = Footprint::take()?;
    let mut steps = Steps::new();
    let mut cluster = Cluster::new(&args.pintle)?;
    let interrupted = pintle_component::shutdown_on_signal().context("listen for signals")?;

    let outcome = tokio::select! {
        outcome = walk(args, &mut cluster, &mut steps) => outcome,
        () = interrupted.cancelled() => Err(anyhow::anyhow!("interrupted")),
    };
    if let Err(error) = outcome {
        steps.fail();
        let log = cluster.log_tail();
        let stopped = cluster.stop().await.context("stop the cluster after a failure");
        cluster.remove_remains().await.context("clean up after a failure")?;
        stopped?;
        before.compare(&Footprint::take()?).context("clean up after a failure")?;
        return Err(error.context(format!("the end of the cluster's log:\n{log}")));
    }
    if args.keep {
        steps.print();
        cluster.keep()?;
        return Ok(());
    }
    steps.run("stop the cluster", cluster.stop()).await?;
    before.compare(&Footprint::take()?)?;
    steps.print();
    println!("\nNothing is left behind: links, namespaces, cgroups, BPF programs as before.");
    Ok(())
}

async fn walk(args: &Args, cluster: &mut Cluster, steps: &mut Steps) -> anyhow::Result<()> {
    let client = steps.run("start a cluster of 3 nodes", cluster.start(NODES)).await?;
    steps.run("wait for the nodes", cluster::nodes_ready(&client, NODES)).await?;
    steps.run("apply examples/hello.yaml", cluster::apply(&client, &args.manifest)).await?;
    steps.run("wait for 6 ready pods", cluster::pods_ready(&client, REPLICAS)).await?;

    let service = Api::<Service>::default_namespaced(client.clone()).get("hello").await?;
    let address = service
        .spec
        .and_then(|spec| spec.cluster_ip)
        .map(|ip| format!("{ip}:80"))
        .context("Service hello has no cluster IP")?;
    println!("\n{}\n", report::pods(&cluster::hello_pods(&client).await?));

    let calm = ClientPod::new("client-calm", &address, CONNECTIONS, 0);
    let calm = steps
        .run("300 connections from inside a pod", calm.run(&client, cluster.data_dir()))
        .await?;

    let rolling = ClientPod::new("client-rolling", &address, CONNECTIONS, 10);
    rolling.create(&client).await?;
    rolling.running(&client).await?;
    let victim = delete_one(&client).await?;
    let rolling = steps
        .run("300 more while a pod is replaced", rolling.finished(&client, cluster.data_dir()))
        .await?;
    steps.run("wait for its replacement", cluster::replaced(&client, &victim, REPLICAS)).await?;

    println!("\n{}\n", report::pods(&cluster::hello_pods(&client).await?));
    println!("{}\n", report::connections(&address, &victim, &calm, &rolling));
    ensure!(calm.total_answered() == CONNECTIONS, "{} connections failed", calm.describe_failed());
    if rolling.total_answered() != CONNECTIONS {
        bail!("{} connections failed while {victim} was replaced", rolling.describe_failed());
    }
    Ok(())
}

async fn delete_one(client: &kube::Client) -> anyhow::Result<String> {
    let pods = Api::<Pod>::default_namespaced(client.clone());
    let victim = pods
        .list(&ListParams::default().labels("app=hello"))
        .await?
        .items
        .into_iter()
        .find_map(|pod| pod.metadata.name)
        .context("no pod of hello to delete")?;
    pods.delete(&victim, &DeleteParams::default()).await?;
    Ok(victim)
}

const NODES: usize = 3;
const REPLICAS: usize = 6;
const CONNECTIONS: u32 = 300;
