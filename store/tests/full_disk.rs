//! A file system that is really full: a small tmpfs of the test's own.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use pintle_store::{EmbeddedStore, Op, Options, RangeRequest, Store, StoreError, Txn};

/// A mounted tmpfs, unmounted when dropped.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn mount(size: &str) -> Tmpfs {
        let tmpfs = Tmpfs(tempfile::tempdir().unwrap());
        tmpfs.apply(size, MsFlags::empty());
        tmpfs
    }

    fn apply(&self, size: &str, flags: MsFlags) {
        let options = format!("size={size}");
        mount(Some("tmpfs"), self.path(), Some("tmpfs"), flags, Some(&options[..])).unwrap();
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = umount2(self.path(), MntFlags::MNT_DETACH);
    }
}

fn put(number: usize) -> Txn {
    let key = format!("k{number:05}").into();
    let op = Op::Put { key, value: "v".repeat(1000).into() };
    Txn { ops: vec![op], ..Txn::default() }
}

async fn count(store: &EmbeddedStore) -> usize {
    let all = RangeRequest { start: "k".into(), end: Some("l".into()), ..Default::default() };
    store.range(all).await.unwrap().kvs.len()
}

#[tokio::test]
#[ignore = "needs root"]
async fn a_full_file_system_refuses_writes_and_loses_none() {
    let disk = Tmpfs::mount("2m");
    let options = Options { segment_bytes: 256 << 10, ..Options::default() };
    let store = EmbeddedStore::open(disk.path(), options.clone()).unwrap();
    let mut acknowledged = 0;
    let error = loop {
        match store.txn(put(acknowledged)).await {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::NoSpace(_)), "{error}");
    assert!(acknowledged > 1000, "{acknowledged}");
    assert_eq!(count(&store).await, acknowledged);
    store.close();
    let store = EmbeddedStore::open(disk.path(), options.clone()).unwrap();
    assert_eq!(count(&store).await, acknowledged, "it opens on a full disk");

    disk.apply("4m", MsFlags::MS_REMOUNT);
    store.txn(put(acknowledged)).await.unwrap();
    store.close();
    let store = EmbeddedStore::open(disk.path(), options).unwrap();
    assert_eq!(count(&store).await, acknowledged + 1);
}
