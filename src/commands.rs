//! One module a subcommand; each turns its flags into checked configuration and wires crates
//! together.

mod agnhost;
mod apiserver;
mod control_plane;
mod daemon;
mod memory;
mod proxy;
mod scheduler;
mod simulate;
mod standalone;
mod table;

use std::process::ExitCode;

use anyhow::Context as _;

use crate::cli::{Cli, Command, ExplainCommand, LogArgs};
use crate::exit::UsageError;

pub(crate) fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let log = cli.log;
    match cli.command {
        Command::Agnhost(command) => agnhost::run(&command)?,
        Command::Apiserver(args) => block_on(&log, apiserver::run(args))?,
        Command::Bench(args) => block_on(&log, pintle_bench::run(args))?,
        Command::ControllerManager(args) => block_on(&log, daemon::controller_manager(args))?,
        Command::Explain(ExplainCommand::Pod(args)) => return simulate::explain_pod(&args),
        Command::Kubelet(args) => block_on(&log, daemon::kubelet(args))?,
        Command::Proxy(args) => return proxy::run(*args, &log),
        Command::RuntimeExec { args } => {
            return Ok(ExitCode::from(pintle_kubelet::runtime::process::shim::main(args)));
        }
        Command::Scheduler(args) => {
            let filter = scheduler::log_filter(&args, &log);
            block_on(&LogArgs { log: filter, ..log }, scheduler::run(*args))?;
        }
        Command::Simulate(args) => return simulate::run(&args),
        Command::Standalone(args) => block_on(&log, standalone::run(args))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Run a daemon to its end on a runtime of its own.
fn block_on(log: &LogArgs, daemon: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    pintle_component::init_logging(log.log_format, &log.log)
        .map_err(|error| UsageError(format!("--log {:?}: {error}", log.log)))?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the runtime")?
        .block_on(daemon)
}
