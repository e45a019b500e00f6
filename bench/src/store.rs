//! Durable puts a second into the embedded store, and how long one takes, by number of writers.
//!
//! Each writer puts to a key of its own and waits for the answer before the next. As a yardstick
//! the same disk's bare overwrite + fdatasync is measured first, with one writer.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use indicatif::ProgressBar;
use pintle_store::{EmbeddedStore, Op, Options, Store as _, Txn};

use crate::outcome::Outcome;
use crate::stats::quantile;

/// Measure below `dir`, each case for `seconds`.
pub(crate) async fn run(
    dir: &Path,
    seconds: f64,
    progress: &ProgressBar,
) -> anyhow::Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    let took = Duration::from_secs_f64(seconds);
    for value_bytes in [256, 2048] {
        progress.set_message(format!("store: fdatasync, {value_bytes} B"));
        let case = format!("put/{value_bytes}B/1-writers");
        outcomes.extend(summary(&case, "fdatasync", bare(dir, value_bytes, took)?)?);
        for writers in [1, 16, 64] {
            progress.set_message(format!("store: {writers} writers, {value_bytes} B"));
            let case = format!("put/{value_bytes}B/{writers}-writers");
            let samples = embedded(dir, value_bytes, writers, took).await?;
            outcomes.extend(summary(&case, "embedded", samples)?);
        }
    }
    Ok(outcomes)
}

/// What a run took, and how long each of its writes took, in µs.
struct Samples {
    elapsed: Duration,
    latencies_us: Vec<f64>,
}

fn summary(case: &str, mode: &str, mut samples: Samples) -> anyhow::Result<Vec<Outcome>> {
    let rate = samples.latencies_us.len() as f64 / samples.elapsed.as_secs_f64();
    let mut outcomes = vec![Outcome::new(case, mode, "throughput", "ops/s", rate)];
    for (name, q) in [("latency_p50", 0.5), ("latency_p99", 0.99)] {
        let value = quantile(&mut samples.latencies_us, q).context("nothing was written")?;
        outcomes.push(Outcome::new(case, mode, name, "us", value));
    }
    Ok(outcomes)
}

fn bare(dir: &Path, value_bytes: usize, took: Duration) -> anyhow::Result<Samples> {
    let file = tempfile::tempfile_in(dir).with_context(|| format!("write in {}", dir.display()))?;
    let value = vec![b'v'; value_bytes];
    file.write_all_at(&vec![0; BARE_FILE_BYTES], 0)?;
    file.sync_all()?;
    let start = Instant::now();
    let mut latencies_us = Vec::new();
    while start.elapsed() < took {
        let offset = latencies_us.len() * value_bytes % (BARE_FILE_BYTES - value_bytes);
        latencies_us.push(overwrite(&file, offset as u64, &value)?);
    }
    Ok(Samples { elapsed: start.elapsed(), latencies_us })
}

fn overwrite(file: &File, offset: u64, value: &[u8]) -> anyhow::Result<f64> {
    let start = Instant::now();
    file.write_all_at(value, offset)?;
    file.sync_data()?;
    Ok(microseconds(start))
}

async fn embedded(
    dir: &Path,
    value_bytes: usize,
    writers: usize,
    took: Duration,
) -> anyhow::Result<Samples> {
    let data = tempfile::Builder::new().prefix("pintle-bench-").tempdir_in(dir)?;
    let store = EmbeddedStore::open(data.path(), Options::default())?;
    let value = bytes::Bytes::from(vec![b'v'; value_bytes]);
    let start = Instant::now();
    let tasks = (0..writers).map(|writer| {
        let key = format!("/registry/configmaps/bench/writer-{writer}");
        tokio::spawn(put_until(store.clone(), key, value.clone(), start + took))
    });
    let mut latencies_us = Vec::new();
    for samples in futures::future::try_join_all(tasks).await? {
        latencies_us.extend(samples?);
    }
    let elapsed = start.elapsed();
    tokio::task::spawn_blocking(move || store.close()).await?;
    Ok(Samples { elapsed, latencies_us })
}

async fn put_until(
    store: Arc<EmbeddedStore>,
    key: String,
    value: bytes::Bytes,
    deadline: Instant,
) -> anyhow::Result<Vec<f64>> {
    let key = bytes::Bytes::from(key);
    let mut samples = Vec::new();
    while Instant::now() < deadline {
        let op = Op::Put { key: key.clone(), value: value.clone() };
        let start = Instant::now();
        store.txn(Txn { ops: vec![op], ..Txn::default() }).await?;
        samples.push(microseconds(start));
    }
    Ok(samples)
}

fn microseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e6
}

/// Overwritten in a circle, so that no block is allocated while the clock runs.
const BARE_FILE_BYTES: usize = 16 << 20;
