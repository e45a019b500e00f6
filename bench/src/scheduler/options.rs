//! The command line of `pintle bench scheduler`.

use std::path::PathBuf;

use clap::ValueEnum;

/// What schedules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// The core alone, state in memory
    Engine,
    /// pintle's API server with its durable store and its scheduler, end to end
    Api,
    /// The same API server, and the scheduler of --scheduler-command
    External,
}

impl Mode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Engine => "engine",
            Self::External => "external",
        }
    }

    /// The label of workloads that run if none is named.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Api | Self::External => "api",
            Self::Engine => "performance",
        }
    }
}

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// A file in the format of scheduler_perf; templates are found beside it
    #[arg(long, default_value = CONFIG, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Which workloads, as NAME/SIZE, or NAME for all its sizes; several with commas or repeated
    /// [default: those with the label `performance`, or `api` in the other modes]
    #[arg(long, value_delimiter = ',', value_name = "NAME[/SIZE]")]
    pub(crate) workload: Vec<String>,
    /// Only workloads with this label
    #[arg(long, value_name = "LABEL")]
    pub(crate) label: Option<String>,
    /// Say which workloads there are, with their labels, and run none
    #[arg(long)]
    pub(crate) list: bool,
    /// What schedules
    #[arg(long, default_value = "engine", value_name = "MODE")]
    pub(crate) mode: Mode,
    /// The scheduler of --mode external: a command in which {config} stands for the path of a
    /// KubeSchedulerConfiguration made for it, and {kubeconfig} for that of a kubeconfig
    #[arg(long, value_name = "COMMAND")]
    pub(crate) scheduler_command: Option<String>,
    /// Where the choice among equal nodes starts; the same seed gives the same placements
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) seed: u64,
    /// Threads that decide together in --mode engine; placements do not depend on how many
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) workers: usize,
    /// Give up on a workload in which nothing was scheduled for so long
    #[arg(long, default_value_t = PATIENCE, value_name = "SECONDS")]
    pub(crate) patience: u64,
    /// Cut a workload short that takes longer than this, preparation included
    #[arg(long, default_value_t = LIMIT, value_name = "SECONDS")]
    pub(crate) limit: u64,
    /// Write a page with plots, and the raw data, into this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,
    /// Run this one workload in this process, and print what it found for the process that asked
    #[arg(long, hide = true, value_name = "NAME/SIZE")]
    pub(crate) alone: Option<String>,
}

impl Options {
    /// The mode as figures name it: that of several workers is one of its own.
    pub(crate) fn mode_name(&self) -> String {
        match (self.mode, self.workers) {
            (Mode::Engine, 2..) => format!("{}-{}", self.mode.name(), self.workers),
            _ => self.mode.name().to_owned(),
        }
    }

    /// What belongs to the short set of all benches.
    pub(crate) fn short(mode: Mode) -> Self {
        Self {
            config: PathBuf::from(CONFIG),
            workload: Vec::new(),
            label: None,
            list: false,
            mode,
            scheduler_command: None,
            seed: 1,
            workers: 1,
            patience: PATIENCE,
            limit: LIMIT,
            report: None,
            alone: None,
        }
    }

    /// The workloads with the label `large`, which take some minutes each.
    pub(crate) fn large() -> Self {
        let label = Some("large".to_owned());
        Self { label, limit: LIMIT_OF_LARGE, ..Self::short(Mode::Engine) }
    }
}

const CONFIG: &str = "bench/workloads/performance-config.yaml";
const PATIENCE: u64 = 60;
const LIMIT: u64 = 120;
const LIMIT_OF_LARGE: u64 = 600;
