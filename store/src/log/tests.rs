//! Frames and payloads round trip; damage is refused, torn tails are cut.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::fake::FakeDisk;
use super::segment::Log;
use super::*;
use crate::mvcc::Pending;
use crate::mvcc::Table;
use crate::mvcc::model::any_txn;
use crate::types::{Op, Txn};

fn put(value: &str) -> Txn {
    let op = Op::Put { key: "k".into(), value: Bytes::from(value.to_owned()) };
    Txn { ops: vec![op], ..Txn::default() }
}

fn encoded(events: &[crate::Event]) -> Vec<u8> {
    let mut payload = b"of before".to_vec();
    encode_events(&mut payload, events);
    payload
}

/// A disk with one segment of `count` frames, and where each begins.
fn written(count: usize) -> (FakeDisk, Vec<usize>) {
    let disk = FakeDisk::default();
    let mut log = Log::new(Arc::new(disk.clone()), 64 << 10, 1);
    let mut table = Table::default();
    let mut offsets = vec![frame::HEADER_BYTES];
    for number in 0..count {
        let mut pending = Pending::new(&table);
        pending.stage(&table, &put(&format!("value {number}")));
        let events = pending.into_events();
        let bytes = log.append(&encoded(&events)).unwrap();
        offsets.push(offsets[number] + bytes as usize);
        table.apply(events);
    }
    (disk, offsets)
}

fn recovered_revision(disk: &FakeDisk) -> Result<u64, RecoverError> {
    recover(disk, |_| ()).map(|recovered| recovered.table.revision().0)
}

#[test]
fn an_empty_directory_is_an_empty_store() {
    assert_eq!(recovered_revision(&FakeDisk::default()).unwrap(), 0);
}

#[test]
fn what_was_written_is_read_back() {
    let (disk, _) = written(5);
    assert_eq!(recovered_revision(&disk).unwrap(), 5);
}

#[test]
fn a_broken_last_record_is_cut_off() {
    let (disk, offsets) = written(5);
    disk.corrupt("wal-0000000000000001.log", offsets[4] + 20);
    assert_eq!(recovered_revision(&disk).unwrap(), 4);
    let length = disk.content("wal-0000000000000001.log").len();
    assert_eq!(length, offsets[4], "the tail is gone");
    assert_eq!(recovered_revision(&disk).unwrap(), 4, "and stays gone");
}

#[test]
fn a_broken_record_in_the_middle_is_refused_by_name_and_place() {
    for byte in [0, 4, 8, 20] {
        let (disk, offsets) = written(5);
        disk.corrupt("wal-0000000000000001.log", offsets[2] + byte);
        let error = recovered_revision(&disk).unwrap_err().to_string();
        let place = format!("wal-0000000000000001.log is corrupt at byte {}", offsets[2]);
        assert!(error.starts_with(&place), "{error}");
    }
}

#[test]
fn a_broken_header_before_records_is_refused() {
    let (disk, _) = written(1);
    disk.corrupt("wal-0000000000000001.log", 9);
    assert!(matches!(recovered_revision(&disk), Err(RecoverError::Corrupt { offset: 0, .. })));
}

#[test]
fn a_missing_segment_is_refused() {
    let disk = FakeDisk::default();
    let mut log = Log::new(Arc::new(disk.clone()), 256, 1);
    let mut table = Table::default();
    for number in 0..10 {
        let mut pending = Pending::new(&table);
        pending.stage(&table, &put(&number.to_string().repeat(100)));
        let events = pending.into_events();
        log.append(&encoded(&events)).unwrap();
        table.apply(events);
    }
    assert!(disk.list().unwrap().len() > 3);
    disk.remove("wal-0000000000000002.log").unwrap();
    let error = recovered_revision(&disk).unwrap_err().to_string();
    assert!(error.contains("wal-0000000000000003.log is corrupt"), "{error}");
}

#[test]
fn a_damaged_snapshot_is_refused() {
    let disk = FakeDisk::default();
    let mut writer = SnapshotWriter::create(&disk, crate::Revision(7)).unwrap();
    let mut table = Table::default();
    let mut pending = Pending::new(&table);
    pending.stage(&table, &put("v"));
    table.apply(pending.into_events());
    writer.add(table.newest(b"k").unwrap()).unwrap();
    writer.finish().unwrap();
    assert_eq!(recovered_revision(&disk).unwrap(), 7);
    disk.corrupt("snapshot-0000000000000007.snap", 60);
    assert!(matches!(recovered_revision(&disk), Err(RecoverError::Corrupt { .. })));
}

proptest! {
    #[test]
    fn changes_survive_encoding(txns in prop::collection::vec(any_txn(), 1..20)) {
        let mut table = Table::default();
        let mut pending = Pending::new(&table);
        for txn in &txns {
            pending.stage(&table, txn);
        }
        let events = pending.into_events();
        if !events.is_empty() {
            let (first, decoded) = decode_events(&encoded(&events)).unwrap();
            prop_assert_eq!(first, crate::Revision(1));
            let mut again = Pending::new(&table);
            for txn in &decoded {
                again.stage(&table, txn);
            }
            prop_assert_eq!(again.into_events(), events.clone());
            table.apply(events);
        }
    }

    #[test]
    fn bytes_from_anywhere_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_events(&bytes);
        let _ = codec::decode_kvs(&bytes);
        let _ = frame::decode(&bytes, 0, 1, 0);
        let _ = frame::any_later(&bytes, 0, 1, 0);
    }
}
