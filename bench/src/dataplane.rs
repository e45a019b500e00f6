//! The Service dataplane against no dataplane and against kube-proxy's rules, by number of Services.
//!
//! For each number of Services every mode gets a world of namespaces of its own ([`world`]) and makes
//! all Services known in it; then the modes take turns ([`traffic`]), so that they are compared
//! under the same noise ([`figures`]). Everything that was made is removed, on errors and on SIGINT
//! too.

mod agent;
mod api;
mod client;
mod cluster;
mod express;
mod feature;
mod figures;
mod iptables;
mod mode;
mod netfilter;
mod nftables;
mod packet;
mod paired;
mod pintle;
mod report;
mod server;
mod traffic;
mod world;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{bail, ensure};
use clap::ValueEnum as _;
use indicatif::ProgressBar;

use crate::interrupt;
use crate::outcome::Outcome;
pub(crate) use agent::{Agent, run as run_agent};
use cluster::{Cluster, ENDPOINTS_MAX};
use figures::Measured;
use mode::{Mode, Programmed, Proxy};
use paired::{OnOneProcessor, Pairs, Side};
pub(crate) use report::write as write_report;
use traffic::Load;
use world::World;

/// What is measured.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// The numbers of Services
    #[arg(long, value_delimiter = ',', default_values_t = [10, 1_000, 10_000, 50_000, 100_000],
          value_name = "N")]
    services: Vec<usize>,
    /// The modes, by default all that this machine has
    #[arg(long, value_delimiter = ',', value_enum, value_name = "MODE")]
    modes: Vec<Mode>,
    /// How many endpoints each Service has
    #[arg(long, default_value_t = 10, value_name = "N")]
    endpoints: usize,
    /// How many times the modes take turns
    #[arg(long, default_value_t = 15, value_name = "N")]
    rounds: usize,
    /// How many calls of connect() to each address a mode makes in a turn
    #[arg(long, default_value_t = 300, value_name = "N")]
    connects: usize,
    /// For how long a mode sends requests in a turn
    #[arg(long, default_value_t = 0.1, value_name = "SECONDS")]
    slice: f64,
    /// How many endpoints are changed, one after the other
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    changes: usize,
    /// A mode that takes longer than this to learn of all Services is left out
    #[arg(long, default_value_t = 60.0, value_name = "SECONDS")]
    program_limit: f64,
    /// Write a page with plots, and the JSON, into this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,
}

impl Options {
    /// Few and many Services, for a few seconds.
    pub(crate) fn short() -> Self {
        Self {
            services: vec![10, 10_000],
            modes: Vec::new(),
            endpoints: 10,
            rounds: 7,
            connects: 300,
            slice: 0.1,
            changes: 1_000,
            program_limit: 5.0,
            report: None,
        }
    }

    fn check(&self) -> anyhow::Result<()> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "the dataplane bench needs root, to make namespaces and load programs"
        );
        ensure!(self.rounds > 0 && self.connects > 1, "--rounds and --connects must be positive");
        ensure!((1..=1024).contains(&self.endpoints), "--endpoints must be 1 to 1024");
        let most = ENDPOINTS_MAX / self.endpoints;
        for services in &self.services {
            ensure!((1..=most).contains(services), "--services must be 1 to {most}");
        }
        Ok(())
    }

    /// The modes that can be measured. Those that cannot are named, with what they lack.
    fn available(&self, progress: &ProgressBar) -> Vec<Mode> {
        let all = Mode::value_variants();
        let wanted = if self.modes.is_empty() { all } else { &self.modes };
        let mut modes = wanted.to_vec();
        modes.sort_unstable();
        modes.dedup();
        modes.retain(|mode| match mode.missing() {
            None => true,
            Some(missing) => {
                progress.println(format!("dataplane: {mode} is left out: {missing}"));
                false
            }
        });
        modes
    }
}

/// Measure.
pub(crate) async fn run(options: &Options, progress: &ProgressBar) -> anyhow::Result<Vec<Outcome>> {
    options.check()?;
    let stop = interrupt::flag()?;
    let (options, progress) = (options.clone(), progress.clone());
    tokio::task::spawn_blocking(move || {
        world::sweep()?;
        let mut bench = Bench { modes: options.available(&progress), options, progress, stop };
        bench.run()
    })
    .await?
}

struct Bench {
    options: Options,
    /// Those that are still measured.
    modes: Vec<Mode>,
    progress: ProgressBar,
    stop: Arc<AtomicBool>,
}

impl Bench {
    fn run(&mut self) -> anyhow::Result<Vec<Outcome>> {
        let mut sizes = self.options.services.clone();
        sizes.sort_unstable();
        let mut outcomes = Vec::new();
        for services in sizes {
            outcomes.extend(self.case(Cluster { services, endpoints: self.options.endpoints })?);
        }
        Ok(outcomes)
    }

    fn case(&mut self, cluster: Cluster) -> anyhow::Result<Vec<Outcome>> {
        let case = format!("services/{}", cluster.services);
        let mut outcomes = Vec::new();
        let mut worlds = Vec::new();
        for mode in self.modes.clone() {
            self.check_stop()?;
            self.progress.set_message(format!("dataplane: {case}, {mode} learns of the Services"));
            let world = World::make(&mode.to_string())?;
            let limit = Duration::from_secs_f64(self.options.program_limit);
            let Some(programmed) = Proxy::program(mode, &world, cluster, limit)? else {
                self.progress.println(format!(
                    "dataplane: {mode} is left out from {case} on: not done after {limit:?}"
                ));
                self.modes.retain(|other| *other != mode);
                continue;
            };
            let Programmed { proxy, took } = programmed;
            if mode != Mode::Direct {
                let took = took.as_secs_f64();
                let mode = mode.to_string();
                outcomes.push(Outcome::new(&case, &mode, "program_all_seconds", "s", took));
            }
            // In this order they are removed: what a proxy has made is in its world.
            worlds.push((mode, proxy, world));
        }
        let measured = self.traffic(&case, cluster, &worlds)?;
        for (mode, proxy, world) in &worlds {
            self.check_stop()?;
            self.progress.set_message(format!("dataplane: {case}, {mode}: changes"));
            outcomes.extend(proxy.figures(&case, *mode, world, cluster, self.options.changes)?);
        }
        outcomes.extend(figures::of_modes(&case, &measured));
        outcomes.extend(figures::ratios(&case, &measured));
        outcomes.extend(self.paired(&case, cluster, &worlds)?);
        Ok(outcomes)
    }

    /// The rounds. Who is first changes, so that each comes after each other.
    fn traffic(
        &self,
        case: &str,
        cluster: Cluster,
        worlds: &[(Mode, Proxy, World)],
    ) -> anyhow::Result<Vec<Measured>> {
        let slice = Duration::from_secs_f64(self.options.slice);
        let load = Load { connects: self.options.connects, slice };
        let mut measured: Vec<Measured> =
            worlds.iter().map(|(mode, ..)| (*mode, Vec::new())).collect();
        for number in 0..self.options.rounds {
            self.progress.set_message(format!("dataplane: {case}, round {number}"));
            for turn in 0..worlds.len() {
                self.check_stop()?;
                let forward = (turn + number / 2) % worlds.len();
                let place = if number % 2 == 0 { forward } else { worlds.len() - 1 - forward };
                let (mode, _, world) = &worlds[place];
                measured[place].1.push(traffic::round(*mode, world, cluster, load)?);
            }
        }
        Ok(measured)
    }

    /// pintle and no dataplane, in pairs.
    fn paired(
        &self,
        case: &str,
        cluster: Cluster,
        worlds: &[(Mode, Proxy, World)],
    ) -> anyhow::Result<Vec<Outcome>> {
        let of = |wanted: Mode| worlds.iter().find(|(mode, ..)| *mode == wanted);
        let mut outcomes = Vec::new();
        let Some((_, _, direct)) = of(Mode::Direct) else { return Ok(outcomes) };
        let _pinned = OnOneProcessor::move_to()?;
        let to = |mode| traffic::targets(mode, cluster, |one| Some(cluster.cluster_ip(one)));
        let none = to(Mode::Direct);
        for mode in [Mode::Pintle, Mode::PintleSockets] {
            let Some((_, _, world)) = of(mode) else { continue };
            let addresses = to(mode);
            let sides =
                [Side { world: direct, targets: &none }, Side { world, targets: &addresses }];
            let mut pairs = Pairs::default();
            for number in 0..self.options.rounds {
                self.check_stop()?;
                self.progress.set_message(format!("dataplane: {case}, {mode} in pairs, {number}"));
                pairs.measure(sides, 3 * self.options.connects)?;
            }
            outcomes.extend(pairs.ratios(case, &format!("{mode}/{}", Mode::Direct)));
        }
        Ok(outcomes)
    }

    fn check_stop(&self) -> anyhow::Result<()> {
        if self.stop.load(Ordering::Acquire) {
            bail!("interrupted");
        }
        Ok(())
    }
}
