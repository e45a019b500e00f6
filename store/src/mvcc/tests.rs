//! The table against the model, and the retention rule.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::model::{Model, any_key, any_range, any_txn};
use super::*;
use crate::options::Options;
use crate::types::{Op, RangeRequest, Revision, StoreError, Txn};

#[derive(Clone, Debug)]
enum Step {
    /// Compact to this share (of 16) of the way from the compacted to the newest revision.
    Compact(u64),
    /// Decide these together, then apply.
    Group(Vec<Txn>),
    Purge(usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec(any_txn(), 1..5).prop_map(Step::Group),
        1 => (1..=16u64).prop_map(Step::Compact),
        2 => (0..8usize).prop_map(Step::Purge),
    ]
}

fn take(step: Step, table: &mut Table, model: &mut Model) {
    match step {
        Step::Compact(share) => {
            let span = table.revision().0 - table.compacted().0;
            let target = Revision(table.compacted().0 + span * share / 16);
            let refused = table.compact(target).is_err();
            assert_eq!(refused, span * share / 16 == 0, "only what is compacted is refused");
        }
        Step::Group(txns) => {
            let mut pending = Pending::new(table);
            for txn in &txns {
                assert_eq!(pending.stage(table, txn), model.txn(txn));
            }
            table.apply(pending.into_events());
            assert_eq!(table.revision(), model.revision());
        }
        Step::Purge(events) => {
            table.purge(events);
        }
    }
}

fn check_ranges(table: &Table, model: &Model, range: &KeyRange, limit: usize) {
    for at in 0..=table.revision().0 {
        let request = RangeRequest {
            start: range.start.clone(),
            end: range.end.clone(),
            revision: Some(Revision(at)),
            limit,
        };
        match table.range(&request) {
            Err(StoreError::Compacted { .. }) => assert!(Revision(at) < table.compacted()),
            found => {
                let found = found.unwrap();
                assert_eq!((found.kvs, found.remaining), model.range(&request), "at {at}");
            }
        }
    }
}

fn check_events(table: &Table, model: &Model, range: &KeyRange, scan_max: usize) {
    for after in table.compacted().0..=table.revision().0 {
        let (mut at, mut events) = (Revision(after), Vec::new());
        loop {
            let piece = table.events_after(at, range, scan_max).unwrap();
            assert!(piece.complete || piece.revision > at, "it gets on");
            events.extend(piece.events);
            at = piece.revision;
            if piece.complete {
                break;
            }
        }
        assert_eq!((at, events), (table.revision(), model.events(range, Revision(after))));
    }
}

proptest! {
    #[test]
    fn the_table_answers_as_the_model(
        steps in prop::collection::vec(any_step(), 1..20),
        range in any_range(),
        limit in 0..4usize,
        scan_max in 1..5usize,
    ) {
        let (mut table, mut model) = (Table::default(), Model::new());
        for step in steps {
            take(step, &mut table, &mut model);
            check_ranges(&table, &model, &range, limit);
            check_events(&table, &model, &range, scan_max);
        }
        let everything = RangeRequest { end: Some("zz".into()), ..RangeRequest::default() };
        let live = model.range(&everything).0;
        prop_assert_eq!(table.live_keys(), live.len());
        let bytes: usize = live.iter().map(|kv| kv.key.len() + kv.value.len()).sum();
        prop_assert_eq!(table.live_bytes(), bytes as u64);
    }

    #[test]
    fn compacting_everything_frees_everything(
        groups in prop::collection::vec(any_txn(), 1..30),
    ) {
        let (mut table, mut model) = (Table::default(), Model::new());
        take(Step::Group(groups), &mut table, &mut model);
        let newest = table.revision();
        if newest > Revision(0) {
            table.compact(newest).unwrap();
            prop_assert!(!table.purge(usize::MAX));
        }
        prop_assert_eq!((table.history_events(), table.history_bytes()), (0, 0));
        prop_assert_eq!(table.versions(), table.live_keys());
    }

    #[test]
    fn a_pinned_revision_stays_as_it_was(
        before in prop::collection::vec(any_txn(), 1..10),
        after in prop::collection::vec(any_txn(), 1..10),
        key in any_key(),
    ) {
        let (mut table, mut model) = (Table::default(), Model::new());
        take(Step::Group(before), &mut table, &mut model);
        let pinned = table.revision();
        table.pin(pinned);
        let range = KeyRange::starting_at(key);
        let seen = table.page(&range, pinned, usize::MAX);
        take(Step::Group(after), &mut table, &mut model);
        let newest = table.revision();
        // Refused only if there is nothing to compact.
        let _ = table.compact(newest);
        table.purge(usize::MAX);
        prop_assert_eq!(table.page(&range, pinned, usize::MAX), seen);
        table.unpin(pinned);
        table.purge(usize::MAX);
        prop_assert_eq!(table.versions(), table.live_keys());
    }
}

fn put(table: &mut Table, key: &'static str, bytes: usize) {
    let op = Op::Put { key: key.into(), value: Bytes::from(vec![0; bytes]) };
    let mut pending = Pending::new(table);
    pending.stage(table, &Txn { ops: vec![op], ..Txn::default() });
    table.apply(pending.into_events());
}

#[test]
fn history_is_kept_for_its_age() {
    let options = Options { history_age: Duration::from_secs(10), ..Options::default() };
    let (mut table, mut retention) = (Table::default(), Retention::new(&options));
    for second in 0..=10 {
        put(&mut table, "a", 1);
        assert_eq!(retention.observe(&table, second * 1000), None);
    }
    put(&mut table, "a", 1);
    assert_eq!(retention.observe(&table, 11_000), Some(Revision(1)));
}

#[test]
fn history_is_bounded_by_count_and_by_bytes() {
    let by_count = Options { history_events_max: 3, ..Options::default() };
    let by_bytes = Options { history_bytes_max: 10_000, ..Options::default() };
    let (mut table, mut count) = (Table::default(), Retention::new(&by_count));
    let mut bytes = Retention::new(&by_bytes);
    (0..5).for_each(|_| put(&mut table, "a", 1));
    assert_eq!(count.observe(&table, 0), Some(Revision(2)));
    assert_eq!(bytes.observe(&table, 0), None);
    put(&mut table, "b", 20_000);
    assert_eq!(bytes.observe(&table, 0), Some(Revision(6)));
}

#[test]
fn a_transaction_beyond_the_limits_is_refused() {
    let delete = |key: String| Op::Delete { key: key.into() };
    let many = (0..=stage::TXN_OPS_MAX).map(|i| delete(i.to_string())).collect();
    let long = vec![delete("k".repeat(stage::KEY_BYTES_MAX + 1))];
    let value = Bytes::from(vec![0; stage::TXN_BYTES_MAX]);
    let large = vec![Op::Put { key: "k".into(), value }];
    for (ops, word) in [(many, "1025 operations"), (long, "4097 bytes"), (large, "16777217 bytes")]
    {
        let error = check_txn(&Txn { ops, ..Txn::default() }).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}
