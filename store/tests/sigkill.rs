//! Kill a process with SIGKILL while many writers write, fifty times over on one directory: every
//! write that was acknowledged is found.
//!
//! The test runs itself again as the process that is killed. The child prints each write after it
//! was acknowledged; the parent reads that, kills, opens the directory and compares.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pintle_store::{EmbeddedStore, Op, Options, RangeRequest, Store, Txn};

#[test]
fn fifty_sigkills_under_load_lose_no_acknowledged_write() {
    match std::env::var_os(DIR_VARIABLE) {
        Some(dir) => write_until_killed(Path::new(&dir)),
        None => kill_and_compare(),
    }
}

fn kill_and_compare() {
    let dir = tempfile::tempdir().unwrap();
    let mut counters = BTreeMap::new();
    let mut acknowledged_writes = 0;
    for round in 0..ROUNDS {
        let acknowledged = run_and_kill(dir.path(), round);
        let found = read_counters(dir.path());
        for (key, count) in &acknowledged {
            let found = found.get(key).copied().unwrap_or_default();
            // A writer has one write under way, which may have become durable unanswered.
            assert!(
                found == *count || found == count + 1,
                "round {round}: {key} was acknowledged at {count} and found at {found}"
            );
        }
        for (key, before) in &counters {
            assert!(found.get(key) >= Some(before), "round {round}: {key} went back");
        }
        let total: u64 = acknowledged.values().sum();
        let before: u64 = acknowledged.keys().map(|key| counters.get(key).unwrap_or(&0)).sum();
        acknowledged_writes += total - before;
        counters = found;
    }
    assert!(acknowledged_writes > ROUNDS * WRITERS, "only {acknowledged_writes} writes");
    eprintln!("{acknowledged_writes} acknowledged writes in {ROUNDS} rounds, none lost");
}

/// The highest count that each writer saw acknowledged before its process was killed.
fn run_and_kill(dir: &Path, round: u64) -> BTreeMap<String, u64> {
    let mut child = Killed(spawn(dir));
    let lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    let (first, started) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut acknowledged = BTreeMap::new();
        for line in lines.map_while(Result::ok) {
            if let Some((key, count)) = line.strip_prefix("ack ").and_then(parse) {
                acknowledged.insert(key, count);
                // Only the first one is waited for.
                let _ = first.send(());
            }
        }
        acknowledged
    });
    started.recv_timeout(Duration::from_secs(30)).expect("the child writes");
    // From "just begun" to "in the middle", at moments that do not repeat.
    std::thread::sleep(Duration::from_micros(round * 7919 % 80_000));
    drop(child);
    reader.join().unwrap()
}

fn spawn(dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "fifty_sigkills_under_load_lose_no_acknowledged_write", "--nocapture"])
        .env(DIR_VARIABLE, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

/// Killed with SIGKILL when dropped, also by a failing assertion.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn parse(text: &str) -> Option<(String, u64)> {
    let (key, count) = text.split_once(' ')?;
    Some((key.to_owned(), count.parse().ok()?))
}

fn write_until_killed(dir: &Path) {
    let store = EmbeddedStore::open(dir, small()).unwrap();
    let counters = counters(&store);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_time().build().unwrap();
    runtime.block_on(async {
        let writers = (0..WRITERS).map(|number| {
            let key = format!("writer-{number:02}");
            let count = counters.get(&key).copied().unwrap_or_default();
            tokio::spawn(write(store.clone(), key, count))
        });
        futures::future::join_all(writers).await
    });
}

async fn write(store: Arc<EmbeddedStore>, key: String, mut count: u64) {
    loop {
        count += 1;
        let value = format!("{count} {}", "x".repeat((count % 97) as usize * 20));
        let op = Op::Put { key: key.clone().into(), value: value.into() };
        store.txn(Txn { ops: vec![op], ..Txn::default() }).await.unwrap();
        // One write call, so that the line is in the pipe whole.
        std::io::stdout().lock().write_all(format!("ack {key} {count}\n").as_bytes()).unwrap();
    }
}

fn read_counters(dir: &Path) -> BTreeMap<String, u64> {
    counters(&EmbeddedStore::open(dir, small()).unwrap())
}

fn counters(store: &EmbeddedStore) -> BTreeMap<String, u64> {
    let request =
        RangeRequest { start: "writer-".into(), end: Some("writer.".into()), ..Default::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let found = runtime.block_on(store.range(request)).unwrap();
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let count = |value: String| value.split(' ').next().unwrap().parse().unwrap();
    found.kvs.iter().map(|kv| (text(&kv.key), count(text(&kv.value)))).collect()
}

/// Small enough that segments end and snapshots are taken within a round or two.
fn small() -> Options {
    Options { segment_bytes: 256 << 10, snapshot_log_bytes: 1 << 20, ..Options::default() }
}

const ROUNDS: u64 = 50;
const WRITERS: u64 = 32;
/// Set for the child: the data directory.
const DIR_VARIABLE: &str = "PINTLE_SIGKILL_TEST_DIR";
