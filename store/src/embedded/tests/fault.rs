//! A disk that fails: what is acknowledged stays, what is not is refused, and the reason is told.

use super::*;
use crate::log::fake::FakeDisk;

fn start(disk: &FakeDisk) -> Arc<EmbeddedStore> {
    let options =
        Options { segment_bytes: 4 << 10, snapshot_log_bytes: u64::MAX, ..Options::default() };
    match EmbeddedStore::start(Arc::new(disk.clone()), options, None) {
        Ok(store) => store,
        Err(_) => panic!("the store opens"),
    }
}

#[tokio::test]
async fn a_failed_flush_stops_writing_for_good() {
    let disk = FakeDisk::default();
    let store = start(&disk);
    store.txn(put("b", "1")).await.unwrap();
    disk.fail_syncs(true);
    let error = store.txn(put("b", "2")).await.unwrap_err();
    let StoreError::Closed(reason) = &error else { panic!("{error}") };
    assert!(reason.contains("flush wal-") && reason.contains("injected"), "{reason}");
    disk.fail_syncs(false);
    assert_eq!(store.txn(put("c", "3")).await, Err(error.clone()), "even if it works again");
    assert_eq!(store.health(), Err(error));
    assert_eq!(values(&store).await, [("b".to_owned(), "1".to_owned())], "reads go on");
    assert_eq!(store.revision().await.unwrap(), Revision(1));
}

#[tokio::test]
async fn a_failed_flush_shows_nothing_to_watchers() {
    let disk = FakeDisk::default();
    let store = start(&disk);
    let mut watch = store.watch(watch_all(0)).await.unwrap();
    disk.fail_syncs(true);
    store.txn(put("b", "1")).await.unwrap_err();
    store.close();
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn a_full_disk_refuses_writes_until_there_is_space() {
    let disk = FakeDisk::default();
    let store = start(&disk);
    let value = "v".repeat(500);
    disk.set_space(Some(10_000));
    let mut acknowledged = 0;
    let error = loop {
        match store.txn(put(&format!("k{acknowledged:03}"), &value)).await {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
    };
    assert!(acknowledged > 8, "two segments fit");
    assert!(matches!(&error, StoreError::NoSpace(text) if text.contains("wal-")), "{error}");
    assert!(matches!(store.txn(put("k", &value)).await, Err(StoreError::NoSpace(_))));
    assert_eq!(values(&store).await.len(), acknowledged);
    assert_eq!(store.health(), Ok(()));

    disk.set_space(None);
    let after = store.txn(put("later", "1")).await.unwrap();
    assert_eq!(after.revision, Revision(acknowledged as u64 + 1), "no revision was spent");
    store.close();
    assert_eq!(values(&start(&disk)).await.len(), acknowledged + 1);
}

#[tokio::test]
async fn a_full_disk_does_not_hide_in_a_crash() {
    let disk = FakeDisk::default();
    let store = start(&disk);
    let value = "v".repeat(500);
    disk.set_space(Some(9_000));
    let writes = (0..100).map(|i| store.txn(put(&format!("k{i:03}"), &value)));
    let outcomes = futures::future::join_all(writes).await;
    let acknowledged = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    for seed in 0..50 {
        let found = values(&start(&disk.crash(seed))).await.len();
        assert!(found >= acknowledged, "seed {seed}: {found} of {acknowledged}");
    }
}

#[tokio::test]
async fn a_snapshot_that_does_not_fit_is_no_harm() {
    let disk = FakeDisk::default();
    let options =
        Options { segment_bytes: 4 << 10, snapshot_log_bytes: 8 << 10, ..Options::default() };
    let start = || EmbeddedStore::start(Arc::new(disk.clone()), options.clone(), None);
    let Ok(store) = start() else { panic!("the store opens") };
    let value = "v".repeat(1000);
    disk.set_space(Some(30 << 10));
    let mut acknowledged = Vec::new();
    for i in 0..60 {
        if store.txn(put(&format!("k{i:03}"), &value)).await.is_ok() {
            acknowledged.push(format!("k{i:03}"));
        }
    }
    store.close();
    disk.set_space(None);
    let Ok(store) = start() else { panic!("the store opens again") };
    let found: Vec<String> = values(&store).await.into_iter().map(|(key, _)| key).collect();
    assert_eq!(found, acknowledged);
}
