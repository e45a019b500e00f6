//! `pintle bench` without the rest of pintle, which builds faster:
//! `cargo run --release -p pintle-bench --example bench -- scheduler --label performance`.

use clap::Parser;

/// The program's own, as figures depend on it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measure a part.
#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: pintle_bench::Args,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    pintle_bench::run(Cli::parse().args).await
}
