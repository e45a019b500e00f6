//! The flags of `simulate` and `explain`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// The cluster that a simulation begins with.
#[derive(Debug, Args)]
pub(crate) struct ClusterArgs {
    /// Objects, in YAML or JSON, as `kubectl get -o yaml` prints them; - is standard input. May be
    /// given several times; an object replaces one of its name that was read before
    #[arg(short, long, value_name = "FILE")]
    pub(crate) filename: Vec<PathBuf>,
    /// Begin with the objects of this cluster, which are only read. Without any -f it is found as
    /// kubectl finds it
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// KubeSchedulerConfiguration; else the default plugins
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// What is random is drawn from this: the choice among equally good nodes
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) seed: u64,
    /// As if this node were cordoned. May be given several times
    #[arg(long, value_name = "NODE")]
    pub(crate) cordon: Vec<String>,
    /// As if this node and its pods were gone. May be given several times
    #[arg(long, value_name = "NODE")]
    pub(crate) without_node: Vec<String>,
    /// Show at most so many feasible nodes, those with the highest totals, and count the others by
    /// what refuses them
    #[arg(long, value_name = "N")]
    pub(crate) top: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people
    Table,
    /// A table with more columns
    Wide,
    /// One object a pod, each on a line
    Json,
    /// One document a pod
    Yaml,
}

#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table, value_name = "FORMAT")]
    pub(crate) output: OutputFormat,
    /// For each pod also every node: who refuses it and why, or every score
    #[arg(long)]
    pub(crate) explain: bool,
    /// Print this pod alone; all are scheduled. May be given several times
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub(crate) pod: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ExplainCommand {
    /// One pod against every node as the cluster stands
    Pod(ExplainPodArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ExplainPodArgs {
    /// The pod; without a namespace it is default's
    #[arg(value_name = "NAMESPACE/NAME")]
    pub(crate) pod: String,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table, value_name = "FORMAT")]
    pub(crate) output: OutputFormat,
}
