//! The command line of `pintle bench`.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};

use crate::{agreement, dataplane, scheduler};

/// Measure a part, or the short set of all.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    pub(crate) bench: Bench,
    /// How the results are printed
    #[arg(short, long, global = true, default_value = "table", value_name = "FORMAT")]
    pub(crate) output: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// One JSON object a bench.
    Json,
    /// A table a bench.
    Table,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Another scheduler's decisions, one by one, held to pintle's reference
    Agreement(agreement::Options),
    /// Every bench, short; the results are kept
    All {
        /// Write the results below this directory, by date and host
        #[arg(long, default_value = "bench/results", value_name = "DIR")]
        out: PathBuf,
        /// Also the workloads of a million pods and nodes, which take much memory and some minutes
        #[arg(long)]
        large: bool,
    },
    /// The Service dataplane against none and against kube-proxy's rules; needs root
    Dataplane(dataplane::Options),
    /// A process that the dataplane bench starts
    #[command(hide = true)]
    DataplaneAgent(dataplane::Agent),
    /// A pod's way from POST to bound and from bound to Running
    Pods {
        /// How many pods
        #[arg(long, default_value_t = 500, value_name = "N")]
        pods: usize,
        /// How many nodes
        #[arg(long, default_value_t = 5, value_name = "N")]
        nodes: usize,
    },
    /// Workloads of Kubernetes' scheduler_perf
    Scheduler(scheduler::Options),
    /// From the start of `pintle standalone` on an empty data directory to /readyz
    Startup {
        /// How many starts
        #[arg(long, default_value_t = 10, value_name = "N")]
        runs: usize,
    },
    /// Durable puts into the embedded store by 1, 16 and 64 writers
    Store {
        /// A directory on the disk to measure; not a tmpfs, where a flush is nothing
        #[arg(long, default_value = "/var/tmp", value_name = "DIR")]
        dir: PathBuf,
        /// How long each case is measured
        #[arg(long, default_value_t = 2.0, value_name = "SECONDS")]
        seconds: f64,
    },
}
