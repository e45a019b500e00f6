//! The embedded store as its callers see it, on real files.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;

use super::*;
use crate::types::{Compare, Event, Op, WatchBatch};

mod fault;
mod model;

fn put(key: &str, value: &str) -> Txn {
    let op = Op::Put { key: Bytes::from(key.to_owned()), value: Bytes::from(value.to_owned()) };
    Txn { ops: vec![op], ..Txn::default() }
}

fn all() -> RangeRequest {
    RangeRequest { start: "a".into(), end: Some("zzzz".into()), ..RangeRequest::default() }
}

fn watch_all(after: u64) -> WatchRequest {
    WatchRequest { start: "a".into(), end: Some("zzzz".into()), after: Revision(after) }
}

fn open_in(dir: &tempfile::TempDir) -> Arc<EmbeddedStore> {
    EmbeddedStore::open(dir.path(), Options::default()).unwrap()
}

async fn values(store: &EmbeddedStore) -> Vec<(String, String)> {
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let found = store.range(all()).await.unwrap();
    found.kvs.iter().map(|kv| (text(&kv.key), text(&kv.value))).collect()
}

#[tokio::test]
async fn a_reopened_store_holds_what_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_in(&dir);
    store.txn(put("b", "1")).await.unwrap();
    let second = store.txn(put("c", "2")).await.unwrap();
    store.txn(Txn { ops: vec![Op::Delete { key: "b".into() }], ..Txn::default() }).await.unwrap();
    drop(store);

    let store = open_in(&dir);
    assert_eq!(values(&store).await, [("c".to_owned(), "2".to_owned())]);
    assert_eq!(store.revision().await.unwrap(), Revision(3));
    let past = RangeRequest { revision: Some(second.revision), ..all() };
    assert_eq!(store.range(past).await.unwrap().kvs.len(), 2, "history survives too");
}

#[tokio::test]
async fn of_two_writers_that_compare_the_same_revision_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_in(&dir);
    let create = || {
        let compare = vec![Compare { key: "b".into(), mod_revision: Revision(0) }];
        store.txn(Txn { compare, ..put("b", "1") })
    };
    let outcomes = futures::future::join_all((0..64).map(|_| create())).await;
    let outcomes: Vec<TxnResponse> = outcomes.into_iter().map(Result::unwrap).collect();
    assert_eq!(outcomes.iter().filter(|outcome| outcome.succeeded).count(), 1);
    for outcome in outcomes {
        assert_eq!(outcome.revision, Revision(1));
        assert_eq!(outcome.current[0].as_ref().unwrap().mod_revision, Revision(1));
    }
}

#[tokio::test]
async fn concurrent_writers_share_flushes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_in(&dir);
    let writes = (0..1000).map(|i| store.txn(put(&format!("k{i}"), "v")));
    futures::future::join_all(writes).await;
    let stats = store.stats();
    assert_eq!(stats.keys, 1000);
    assert!(stats.commits < 500, "{} flushes for 1000 writes", stats.commits);
}

#[tokio::test]
async fn a_second_opener_is_told_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_in(&dir);
    let Err(error) = EmbeddedStore::open(dir.path(), Options::default()) else {
        panic!("opened twice")
    };
    let message = error.to_string();
    assert!(message.contains(&dir.path().display().to_string()), "{message}");
    assert!(message.contains(&format!("pid {}", std::process::id())), "{message}");
    drop(store);
    open_in(&dir);
}

#[tokio::test]
async fn the_directory_is_private() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("data/store");
    let store = EmbeddedStore::open(&dir, Options::default()).unwrap();
    store.txn(put("b", "1")).await.unwrap();
    assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    for entry in std::fs::read_dir(&dir).unwrap() {
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0);
    }
}

#[tokio::test]
async fn a_closed_store_refuses_writes_and_ends_watches() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_in(&dir);
    store.txn(put("b", "1")).await.unwrap();
    let mut watch = store.watch(watch_all(1)).await.unwrap();
    store.close();
    assert!(matches!(store.txn(put("b", "2")).await, Err(StoreError::Closed(_))));
    assert_eq!(values(&store).await.len(), 1);
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn requests_that_break_a_rule_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_in(&dir);
    let twice = [put("b", "1").ops, put("b", "2").ops].concat();
    let after = Txn { then: twice.clone(), ..Txn::default() };
    for txn in [put("", "1"), Txn { ops: twice, ..Txn::default() }, after] {
        assert!(matches!(store.txn(txn).await, Err(StoreError::Invalid(_))));
    }
    let future = RangeRequest { revision: Some(Revision(1)), ..all() };
    assert!(matches!(store.range(future).await, Err(StoreError::FutureRevision { .. })));
    let future = store.watch(watch_all(1)).await.map(|_| ());
    assert!(matches!(future, Err(StoreError::FutureRevision { .. })));
}

#[tokio::test]
async fn a_watch_reads_the_past_and_then_the_present() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_in(&dir);
    store.txn(put("b", "1")).await.unwrap();
    store.txn(put("c", "2")).await.unwrap();
    let mut watch = store.watch(watch_all(1)).await.unwrap();
    let past = watch.next().await.unwrap().unwrap();
    assert_eq!((past.revision, past.events.len()), (Revision(2), 1));
    store.txn(put("b", "3")).await.unwrap();
    let present = watch.next().await.unwrap().unwrap();
    let Event::Put { kv, previous } = &present.events[0] else { panic!("{present:?}") };
    assert_eq!((&kv.value[..], kv.version), (&b"3"[..], 2));
    assert_eq!(previous.as_ref().unwrap().value, "1");
}

#[tokio::test]
async fn an_idle_watch_is_told_how_far_the_store_has_come() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { progress_interval: Duration::from_millis(10), ..Options::default() };
    let store = EmbeddedStore::open(dir.path(), options).unwrap();
    let request = WatchRequest { start: "x".into(), end: None, after: Revision(0) };
    let mut watch = store.watch(request).await.unwrap();
    store.txn(put("b", "1")).await.unwrap();
    let progress = watch.next().await.unwrap().unwrap();
    assert_eq!(progress, WatchBatch { revision: Revision(1), events: vec![] });
}

#[tokio::test]
async fn a_slow_watch_reads_the_history_and_lags_only_when_that_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { watch_buffer_events_max: 4, ..Options::default() };
    let store = EmbeddedStore::open(dir.path(), options).unwrap();
    let mut patient = store.watch(watch_all(0)).await.unwrap();
    let mut lagging = store.watch(watch_all(0)).await.unwrap();
    store.txn(put("b", "0")).await.unwrap();
    assert_eq!(patient.next().await.unwrap().unwrap().events.len(), 1);
    assert_eq!(lagging.next().await.unwrap().unwrap().events.len(), 1);
    for i in 0..20 {
        store.txn(put("b", &i.to_string())).await.unwrap();
    }
    assert_eq!(patient.next().await.unwrap().unwrap().events.len(), 20);
    store.compact(Revision(10)).await.unwrap();
    assert_eq!(lagging.next().await, Some(Err(StoreError::Lagged(Revision(1)))));
    assert_eq!(lagging.next().await, None);
}

#[tokio::test]
async fn a_compacted_revision_is_refused_and_the_newest_state_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_in(&dir);
    for i in 1..=5 {
        store.txn(put("b", &i.to_string())).await.unwrap();
    }
    store.compact(Revision(4)).await.unwrap();
    let gone = store.range(RangeRequest { revision: Some(Revision(3)), ..all() }).await;
    let expected = StoreError::Compacted { requested: Revision(3), compacted: Revision(4) };
    assert_eq!(gone, Err(expected));
    assert!(matches!(store.watch(watch_all(3)).await, Err(StoreError::Compacted { .. })));
    let kept = store.range(RangeRequest { revision: Some(Revision(4)), ..all() }).await.unwrap();
    assert_eq!(kept.kvs[0].value, "4");
    assert_eq!(
        store.watch(watch_all(4)).await.unwrap().next().await.unwrap().unwrap().events.len(),
        1
    );
}

#[tokio::test]
async fn snapshots_bound_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let options =
        Options { segment_bytes: 16 << 10, snapshot_log_bytes: 64 << 10, ..Options::default() };
    let store = EmbeddedStore::open(dir.path(), options.clone()).unwrap();
    let value = "v".repeat(1000);
    for i in 0..2000 {
        store.txn(put(&format!("k{}", i % 20), &format!("{i}{value}"))).await.unwrap();
    }
    drop(store);
    let sizes =
        std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().len());
    let bytes: u64 = sizes.sum();
    assert!(bytes < 1 << 20, "{bytes} bytes on disk after 2 MB of writes to 20 keys");

    let store = EmbeddedStore::open(dir.path(), options).unwrap();
    assert_eq!(store.revision().await.unwrap(), Revision(2000));
    assert_eq!(values(&store).await.len(), 20);
    assert!(store.stats().compacted > Revision(1000), "history begins at the snapshot");
}
