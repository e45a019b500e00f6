//! Many decisions in a row, with one thread or several.
//!
//! A *batch* of pods is drawn from the queue; one thread decides about them in order, against columns
//! that it keeps ahead of the cache ([`Engine::decide_batch`]), with others filling classes for it;
//! then the decisions are carried over into the tables, table by table. Where the classes of all
//! templates are known, two threads share the work instead ([`stream`]). The answers are those of
//! [`Scheduler::schedule_next`], pod by pod, whatever the number of threads.
//!
//! A batch ends before a pod that is not decided about so: one of which a plugin of wider view has
//! something to say, of a gang, nominated for a node, for another profile, being deleted, or for which
//! there is no node. That one is decided about alone.

mod stream;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use rand::Rng;

use super::bindings::{Binding, Bindings};
use super::{Attempt, Outcome, Scheduler};
use crate::cache::Places;
use crate::engine::Batch;
use crate::framework::{PluginName, Profile};
use crate::pod::PodInfo;
use crate::queue::Drawn;
use crate::time::Time;
use stream::Parcel;

/// So many attempts in a row are best for one thread: what they touch stays in its processor's caches,
/// and what a pod needs of memory is fetched while others' is. Who asks waits for a tenth of a
/// millisecond.
pub const ATTEMPTS_OF_ONE: usize = 128;

/// How batches are made, and their buffers.
#[derive(Debug)]
pub(super) struct Batches {
    /// Threads that decide together, the caller's among them.
    workers: usize,
    /// For fewer pods no batch is made.
    size_min: usize,
    /// How many pods the next batch is drawn of.
    size: usize,
    /// So many pods are decided about alone before a batch is tried again.
    rest: usize,
    /// How many that is at first.
    rest_min: usize,
    /// How many that will be if no batch comes of the next try either.
    next_rest: usize,
    /// For fewer pods a second thread is not started.
    stream_min: usize,
    current: Vec<Drawn>,
    rows: Vec<usize>,
    /// Buffers of streams.
    parcels: Vec<Parcel>,
    counts: BatchCounts,
}

/// Decisions made in batches since the start. Each thread counts what it does by itself; the counts are
/// added up when the threads have ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchCounts {
    /// How many batches there were.
    pub batches: u64,
    /// The pods in them that were decided about.
    pub decided: u64,
    /// Those of them that two threads shared.
    pub streamed: u64,
    /// How often the thread that decides waited for pods meanwhile.
    pub decider_waits: u64,
    /// How often the thread that draws pods and notes their nodes waited for nodes.
    pub carrier_waits: u64,
}

impl Default for Batches {
    fn default() -> Self {
        Self {
            workers: 1,
            size_min: SIZE_MIN,
            size: SIZE_MIN,
            rest: 0,
            rest_min: REST_MIN,
            next_rest: REST_MIN,
            stream_min: STREAM_MIN,
            current: Vec::new(),
            rows: Vec::new(),
            parcels: Vec::new(),
            counts: BatchCounts::default(),
        }
    }
}

/// For fewer pods a batch is not worth it.
const SIZE_MIN: usize = 64;
/// For fewer pods a second thread is not worth it: it takes as long to start as two hundred decisions.
const STREAM_MIN: usize = 1024;
/// So many pods are decided about alone after a batch that was not worth it; twice as many after
/// each that follows, so that trying costs nothing where no batch comes of it.
const REST_MIN: usize = 32;
const REST_MAX: usize = 4096;
/// What a batch touches of pods and tables fits into the caches of a processor.
const SIZE_MAX: usize = 256;

impl Scheduler {
    /// From now on decides with so many threads, the caller's among them, where it can.
    pub fn set_workers(&mut self, workers: usize) {
        self.batches.workers = workers.max(1);
    }

    /// How much was decided in batches.
    pub fn batch_counts(&self) -> BatchCounts {
        self.batches.counts
    }

    /// As up to `max` calls of [`Scheduler::schedule_next`], with all workers. Pushes what became of
    /// the pods; nothing if none is ready.
    pub fn schedule_many(
        &mut self,
        now: Time,
        random: &mut (dyn Rng + Send),
        max: usize,
        attempts: &mut Vec<Attempt>,
    ) {
        let before = attempts.len();
        let has_decided = !self.decided.is_empty();
        let least = self.batches.size_min;
        if self.batches.rest > 0 {
            self.batches.rest -= 1;
        } else if !has_decided && max >= least && self.queue.counts().active >= least {
            self.queue.flush(self.cache.snapshot(), now);
            self.run_batches(random, max, attempts);
            let batches = &mut self.batches;
            if attempts.len() >= before + least / 2 {
                batches.next_rest = batches.rest_min;
            } else {
                batches.rest = batches.next_rest;
                batches.next_rest = (batches.next_rest * 2).min(REST_MAX);
            }
        }
        if attempts.len() == before {
            attempts.extend(self.schedule_next(now, random));
        }
    }

    fn run_batches(
        &mut self,
        random: &mut (dyn Rng + Send),
        max: usize,
        attempts: &mut Vec<Attempt>,
    ) {
        let mut left = max;
        loop {
            self.draw(left);
            let drawn = self.batches.current.len();
            if drawn == 0 {
                return;
            }
            let stream = self.begin_stream(left);
            let is_shared = stream.is_some();
            let decided = match stream {
                Some(templates) => self.stream(&templates, left, random, attempts),
                None => self.run_batch(random, attempts),
            };
            left -= decided;
            self.batches.counts.batches += 1;
            self.batches.counts.decided += decided as u64;
            let size = if decided < drawn { decided * 2 } else { self.batches.size * 2 };
            self.batches.size = size.clamp(self.batches.size_min, SIZE_MAX);
            // What comes of many that one thread decides about would only fill new memory.
            if decided < drawn || !is_shared && max - left >= ATTEMPTS_OF_ONE {
                return;
            }
        }
    }

    /// Decides about the current batch alone; returns how many were decided about.
    fn run_batch(&mut self, random: &mut dyn Rng, attempts: &mut Vec<Attempt>) -> usize {
        self.decide(random);
        let decided = self.batches.rows.len();
        self.queue.take_back(self.batches.current.drain(decided..));
        self.carry_over(attempts);
        decided
    }

    fn draw(&mut self, max: usize) {
        let (cache, batches) = (&self.cache, &mut self.batches);
        let size = batches.size.min(max);
        self.queue.draw(size, |pod| !cache.has_placed(&pod.info), &mut batches.current);
    }

    /// Decides about the current batch.
    fn decide(&mut self, random: &mut dyn Rng) {
        let Self { cache, profiles, engine, batches, .. } = self;
        let Batches { workers, current, rows, .. } = batches;
        rows.clear();
        let Some(first) = current.first() else { return };
        let Some(profile) = profiles.of(&first.pod().info) else { return };
        if !reserves_nothing(profile) {
            return;
        }
        let is_of_batch = |pod: &&Arc<PodInfo>| {
            let is_same = profiles.of(pod).is_some_and(|own| std::ptr::eq(own, profile));
            is_same && !pod.is_terminating() && !pod.signature.asks.workload
        };
        let mut pods = current.iter().map(|drawn| &drawn.pod().info).take_while(is_of_batch);
        let snapshot = cache.snapshot();
        let batch = Batch { profile, snapshot, pods: &mut pods, helpers: *workers - 1 };
        engine.decide_batch(batch, random, rows);
    }

    /// Takes the decisions over into every table, and out of the current batch.
    fn carry_over(&mut self, attempts: &mut Vec<Attempt>) {
        let Self { cache, queue, binding, batches, .. } = self;
        let Batches { current, rows, .. } = batches;
        queue.settle(current);
        let (mut nodes, mut places) = cache.split();
        let first = attempts.len();
        nodes.approach(rows);
        attempts.extend(current.drain(..).zip(&*rows).map(|(drawn, row)| {
            nodes.add(*row, Arc::clone(&drawn.pod().info));
            attempt(drawn, places.name(*row))
        }));
        note(&attempts[first..], &mut places, binding);
        cache.came(rows);
    }
}

/// What became of a pod that has this node.
fn attempt(drawn: Drawn, node: Arc<str>) -> Attempt {
    Attempt { pod: drawn.into_popped(), outcome: Outcome::Bind { node, steps: Vec::new() } }
}

/// Notes where the pods are, and that they are to be bound.
fn note(attempts: &[Attempt], places: &mut Places<'_>, binding: &mut Bindings) {
    for Attempt { pod, outcome } in attempts {
        if let Outcome::Bind { node, .. } = outcome {
            places.add(&pod.info, node);
        }
    }
    for Attempt { pod, .. } in attempts {
        binding.insert(Binding { pod: pod.clone(), steps: Vec::new() });
    }
}

/// Whether the profile's Reserve plugins have nothing to reserve for pods without volumes and claims.
fn reserves_nothing(profile: &Profile) -> bool {
    let is_known = |name| matches!(name, PluginName::VolumeBinding | PluginName::DynamicResources);
    profile.reserve.iter().all(|plugin| is_known(plugin.name()))
}
