//! Durable puts by concurrent writers: the embedded store against engines that could have carried
//! it, in one run on one disk. The table of `docs/store.md` comes from here.
//!
//! `cargo bench -p pintle-store --bench engines [-- DIR]`. Every engine gets the same help: one
//! thread that gathers what is queued into one commit, with one flush to disk.
#![expect(clippy::unwrap_used, reason = "a bench")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pintle_store::{EmbeddedStore, Op, Options, Store, Txn};
use tokio::sync::{mpsc, oneshot};

fn main() {
    // Cargo adds `--bench`.
    let dir = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let dir = PathBuf::from(dir.unwrap_or_else(|| "/var/tmp".into()));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    println!("| engine | value | writers | puts/s | p50 us | p99 us |\n|---|---|---|---|---|---|");
    for value_bytes in [256, 2048] {
        for writers in [1, 16, 64] {
            for engine in [Engine::Pintle, Engine::Fjall, Engine::Redb] {
                let dir = tempfile::tempdir_in(&dir).unwrap();
                runtime.block_on(measure(engine, dir.path(), value_bytes, writers));
            }
        }
    }
    let dir = tempfile::tempdir_in(&dir).unwrap();
    runtime.block_on(restart(dir.path()));
}

/// How long opening takes with as much log as there ever is before a snapshot.
async fn restart(dir: &Path) {
    let store = EmbeddedStore::open(dir, Options::default()).unwrap();
    let value = Bytes::from(vec![b'v'; 2048]);
    let deadline = Instant::now() + 10 * MEASURED;
    let mut rounds = 0;
    while store.stats().log_bytes < (60 << 20) {
        assert!(Instant::now() < deadline, "the disk is too slow for this");
        let puts = (0..500).map(|i| {
            let op = Op::Put { key: format!("{rounds}-{i}").into(), value: value.clone() };
            store.txn(Txn { ops: vec![op], ..Txn::default() })
        });
        futures::future::try_join_all(puts).await.unwrap();
        rounds += 1;
    }
    let stats = store.stats();
    store.close();
    let start = Instant::now();
    let store = EmbeddedStore::open(dir, Options::default()).unwrap();
    let took = start.elapsed();
    assert_eq!(store.stats().keys, stats.keys);
    println!("\nopened {} keys, {} bytes of log, in {took:.0?}", stats.keys, stats.log_bytes);
}

#[derive(Clone, Copy, Debug)]
enum Engine {
    Fjall,
    Pintle,
    Redb,
}

#[derive(Clone)]
enum Handle {
    Group(mpsc::Sender<Put>),
    Pintle(Arc<EmbeddedStore>),
}

struct Put {
    key: Bytes,
    value: Bytes,
    done: oneshot::Sender<()>,
}

impl Handle {
    async fn put(&self, key: Bytes, value: Bytes) {
        match self {
            Handle::Group(queue) => {
                let (done, durable) = oneshot::channel();
                assert!(queue.send(Put { key, value, done }).await.is_ok());
                durable.await.unwrap();
            }
            Handle::Pintle(store) => {
                let ops = vec![Op::Put { key, value }];
                store.txn(Txn { ops, ..Txn::default() }).await.unwrap();
            }
        }
    }
}

async fn measure(engine: Engine, dir: &Path, value_bytes: usize, writers: usize) {
    let handle = match engine {
        Engine::Fjall => Handle::Group(fjall(dir)),
        Engine::Pintle => Handle::Pintle(EmbeddedStore::open(dir, Options::default()).unwrap()),
        Engine::Redb => Handle::Group(redb(dir)),
    };
    let value = Bytes::from(vec![b'v'; value_bytes]);
    let start = Instant::now();
    let tasks = (0..writers)
        .map(|writer| tokio::spawn(write(handle.clone(), writer, value.clone(), start + MEASURED)));
    let samples = futures::future::try_join_all(tasks).await.unwrap();
    let elapsed = start.elapsed();
    let mut samples: Vec<Duration> = samples.into_iter().flatten().collect();
    samples.sort();
    let quantile = |q: f64| samples[(samples.len() as f64 * q) as usize].as_micros();
    let rate = samples.len() as f64 / elapsed.as_secs_f64();
    let (p50, p99) = (quantile(0.5), quantile(0.99));
    println!("| {engine:?} | {value_bytes} | {writers} | {rate:.0} | {p50} | {p99} |");
}

async fn write(handle: Handle, writer: usize, value: Bytes, deadline: Instant) -> Vec<Duration> {
    let mut samples = Vec::new();
    while Instant::now() < deadline {
        let key = format!("/registry/configmaps/bench/{writer}-{}", samples.len() % 1000);
        let start = Instant::now();
        handle.put(key.into(), value.clone()).await;
        samples.push(start.elapsed());
    }
    samples
}

fn fjall(dir: &Path) -> mpsc::Sender<Put> {
    let database = fjall::Database::builder(dir).open().unwrap();
    let keyspace = database.keyspace("kv", fjall::KeyspaceCreateOptions::default).unwrap();
    grouped(move |group| {
        let mut batch = database.batch().durability(Some(fjall::PersistMode::SyncData));
        for put in group {
            batch.insert(&keyspace, &put.key[..], &put.value[..]);
        }
        batch.commit().unwrap();
    })
}

fn redb(dir: &Path) -> mpsc::Sender<Put> {
    let table = redb::TableDefinition::<&[u8], &[u8]>::new("kv");
    let database = redb::Database::create(dir.join("redb")).unwrap();
    grouped(move |group| {
        let transaction = database.begin_write().unwrap();
        let mut table = transaction.open_table(table).unwrap();
        for put in group {
            table.insert(&put.key[..], &put.value[..]).unwrap();
        }
        drop(table);
        transaction.commit().unwrap();
    })
}

/// A thread that makes whatever is queued durable with one `commit`, then answers.
fn grouped(commit: impl Fn(&[Put]) + Send + 'static) -> mpsc::Sender<Put> {
    let (queue, mut puts) = mpsc::channel::<Put>(4096);
    std::thread::spawn(move || {
        let mut group = Vec::new();
        while puts.blocking_recv_many(&mut group, 512) > 0 {
            commit(&group);
            group.drain(..).for_each(|put| put.done.send(()).unwrap());
        }
    });
    queue
}

const MEASURED: Duration = Duration::from_secs(2);
