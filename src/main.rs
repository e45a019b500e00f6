//! The `pintle` binary: command line and wiring. What the parts do lives in their crates.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;

mod cli;
mod commands;
mod exit;

/// Objects are trees of small pieces, made by one thread and given back by another: what glibc's
/// allocator is slow at. It took a quarter of the API server's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match commands::run(cli) {
        Ok(code) => code,
        Err(error) => exit::report(&error),
    }
}
