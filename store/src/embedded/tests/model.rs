//! The whole store against the model: transactions, ranges in the past, watches from anywhere,
//! compaction, restarts and power cuts, over a disk in memory.

use futures::StreamExt;
use proptest::prelude::*;

use super::*;
use crate::log::fake::FakeDisk;
use crate::mvcc::KeyRange;
use crate::mvcc::model::{Model, any_range, any_txn};

#[derive(Clone, Debug)]
enum Step {
    Compact(u64),
    /// Power cut in the middle of these writes, with this seed.
    Crash(Vec<Txn>, u64),
    Range(KeyRange, u64, usize),
    Restart,
    /// Submitted together.
    Txns(Vec<Txn>),
    Watch(KeyRange, u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let txns = || prop::collection::vec(any_txn(), 1..6);
    prop_oneof![
        1 => (0..=16u64).prop_map(Step::Compact),
        1 => (txns(), any::<u64>()).prop_map(|(txns, seed)| Step::Crash(txns, seed)),
        4 => (any_range(), 0..=16u64, 0..4usize).prop_map(|(r, at, n)| Step::Range(r, at, n)),
        1 => Just(Step::Restart),
        8 => txns().prop_map(Step::Txns),
        3 => (any_range(), 0..=16u64).prop_map(|(range, at)| Step::Watch(range, at)),
    ]
}

/// Segments of a few records and snapshots after a few segments.
fn small(buffer: usize) -> Options {
    Options {
        segment_bytes: 300,
        snapshot_log_bytes: 1500,
        watch_buffer_events_max: buffer,
        ..Options::default()
    }
}

struct World {
    disk: FakeDisk,
    options: Options,
    store: Arc<EmbeddedStore>,
    model: Model,
    watches: Vec<(KeyRange, Revision, WatchStream)>,
}

impl World {
    fn new(options: Options) -> World {
        let disk = FakeDisk::default();
        let store = start(&disk, &options);
        World { disk, options, store, model: Model::new(), watches: Vec::new() }
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Compact(share) => {
                let revision = self.revision_at(share);
                let already = revision <= self.store.stats().compacted;
                assert_eq!(self.store.compact(revision).await.is_err(), already);
            }
            Step::Crash(txns, seed) => self.crash(txns, seed).await,
            Step::Range(range, share, limit) => self.range(range, share, limit).await,
            Step::Restart => self.restart().await,
            Step::Txns(txns) => self.txns(&txns).await,
            Step::Watch(range, share) => {
                let after = self.revision_at(share);
                let request =
                    WatchRequest { start: range.start.clone(), end: range.end.clone(), after };
                match self.store.watch(request).await {
                    Ok(stream) => self.watches.push((range, after, stream)),
                    Err(error) => {
                        assert!(matches!(error, StoreError::Compacted { .. }), "{error}");
                        assert!(after < self.store.stats().compacted);
                    }
                }
            }
        }
        assert_eq!(self.store.revision().await.unwrap(), self.model.revision());
    }

    fn revision_at(&self, share: u64) -> Revision {
        Revision(self.model.revision().0 * share / 16)
    }

    async fn txns(&mut self, txns: &[Txn]) {
        let submitted = txns.iter().map(|txn| self.store.txn(txn.clone()));
        // Polled in order, so queued in order.
        for (txn, outcome) in txns.iter().zip(futures::future::join_all(submitted).await) {
            assert_eq!(outcome.unwrap(), self.model.txn(txn));
        }
    }

    async fn range(&self, range: KeyRange, share: u64, limit: usize) {
        let revision = self.revision_at(share);
        let request =
            RangeRequest { start: range.start, end: range.end, revision: Some(revision), limit };
        match self.store.range(request.clone()).await {
            Ok(found) => {
                assert_eq!((found.kvs, found.remaining), self.model.range(&request));
            }
            Err(error) => {
                assert!(matches!(error, StoreError::Compacted { .. }), "{error}");
                assert!(revision < self.store.stats().compacted);
            }
        }
    }

    async fn restart(&mut self) {
        self.check_watches().await;
        self.store.close();
        self.store = start(&self.disk, &self.options);
    }

    /// Cut the power while writes are under way: a first part of them survives, at least those
    /// that were acknowledged by then.
    async fn crash(&mut self, txns: Vec<Txn>, seed: u64) {
        self.check_watches().await;
        let acknowledged = self.model.revision();
        let store = self.store.clone();
        let submitted = txns.iter().map(|txn| store.txn(txn.clone()));
        let mut submitted = Box::pin(futures::future::join_all(submitted));
        let polled = futures::poll!(&mut submitted);
        let disk = self.disk.crash(seed);
        if polled.is_pending() {
            (&mut submitted).await;
        }
        drop(submitted);
        drop(store);
        txns.iter().for_each(|txn| drop(self.model.txn(txn)));
        self.store.close();
        self.disk = disk;
        self.store = start(&self.disk, &self.options);
        let found = self.store.revision().await.unwrap();
        assert!(found >= acknowledged, "{found} was found, {acknowledged} was acknowledged");
        self.model.truncate(found);
        let everything = KeyRange::starting_at(Bytes::from_static(b"a"));
        self.range(everything, 16, 0).await;
    }

    /// Every watch has delivered everything after where it began, in order, once.
    async fn check_watches(&mut self) {
        for (range, after, mut stream) in self.watches.drain(..) {
            let (mut at, mut events) = (after, Vec::new());
            let mut lagged = false;
            while at < self.model.revision() && !lagged {
                match stream.next().await.unwrap() {
                    Ok(batch) => {
                        assert!(batch.revision > at, "progress");
                        at = batch.revision;
                        events.extend(batch.events);
                    }
                    Err(error) => {
                        assert_eq!(error, StoreError::Lagged(at));
                        assert!(at < self.store.stats().compacted);
                        lagged = true;
                    }
                }
            }
            let mut expected = self.model.events(&range, after);
            expected.retain(|event| event.revision() <= at);
            assert_eq!(events, expected);
        }
    }
}

fn start(disk: &FakeDisk, options: &Options) -> Arc<EmbeddedStore> {
    match EmbeddedStore::start(Arc::new(disk.clone()), options.clone(), None) {
        Ok(store) => store,
        Err(StartError::Recover(error)) => panic!("recover: {error}"),
        Err(StartError::Thread(error)) => panic!("thread: {error}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn the_store_answers_as_the_model(
        steps in prop::collection::vec(any_step(), 1..40),
        buffer in 1..8usize,
    ) {
        // With paused time, an idle watch is told its progress at once.
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut world = World::new(small(buffer));
            for step in steps {
                world.take(step).await;
            }
            world.check_watches().await;
        });
    }
}

#[tokio::test]
async fn a_power_cut_at_any_write_loses_nothing_acknowledged() {
    for seed in 0..300 {
        let mut world = World::new(small(4));
        let mut random = crate::log::fake::Random(seed);
        for round in 0..3 {
            let value = "v".repeat(random.below(1500));
            let txns = |count| -> Vec<Txn> {
                (0..count).map(|i| put(&format!("k{i}"), &format!("{round}{value}"))).collect()
            };
            let calm = txns(random.below(6));
            world.take(Step::Txns(calm)).await;
            let storm = txns(1 + random.below(6));
            world.take(Step::Crash(storm, seed * 31 + round)).await;
        }
    }
}
