//! Many decisions in a row, with one thread or several.
//!
//! What must be done in order is little: taking pods from the queue, and deciding about each once the
//! one before has its node. The rest is tables: who waits, who is where, what is being bound, what is
//! on each node. So a *batch* of pods is drawn from the queue; one thread decides about them in order,
//! against columns that it keeps ahead of the cache ([`Engine::decide_batch`]), with others filling
//! classes for it; meanwhile another draws the next batch; then all of them carry the decisions over
//! into the tables, each table and each part of the nodes by one. The answers are those of
//! [`Scheduler::schedule_next`], pod by pod, whatever the number of threads.
//!
//! A batch ends before a pod that is not decided about so: one of which a plugin of wider view has
//! something to say, of a gang, nominated for a node, for another profile, being deleted, or for which
//! there is no node. That one is decided about alone.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crossbeam::queue::SegQueue;
use rand::Rng;

use super::{Attempt, Binding, Outcome, Scheduler};
use crate::engine::{Batch, End, together};
use crate::framework::{PluginName, Profile};
use crate::pod::PodInfo;
use crate::queue::Drawn;
use crate::time::Time;

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
    current: Vec<Drawn>,
    next: Vec<Drawn>,
    rows: Vec<usize>,
    names: Vec<Arc<str>>,
    counts: BatchCounts,
}

/// Decisions made in batches since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchCounts {
    /// How many batches there were.
    pub batches: u64,
    /// The pods in them that were decided about.
    pub decided: u64,
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
            current: Vec::new(),
            next: Vec::new(),
            rows: Vec::new(),
            names: Vec::new(),
            counts: BatchCounts::default(),
        }
    }
}

/// For fewer pods a batch is not worth it: threads take as long to start as some thirty decisions.
const SIZE_MIN: usize = 64;
/// So many pods are decided about alone after a batch that was not worth it; twice as many after
/// each that follows, so that trying costs nothing where no batch comes of it.
const REST_MIN: usize = 32;
const REST_MAX: usize = 4096;
/// The tables that a batch changes fit into the caches of a processor, and starting threads does not
/// count any more.
const SIZE_MAX: usize = 2048;

/// What a thread can do beside others.
type Task<'a> = Box<dyn FnOnce() + Send + 'a>;

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
        random: &mut dyn Rng,
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

    fn run_batches(&mut self, random: &mut dyn Rng, max: usize, attempts: &mut Vec<Attempt>) {
        let mut left = max;
        self.draw_first(left);
        while !self.batches.current.is_empty() {
            left -= self.batches.current.len();
            self.decide(left, random);
            let decided = self.batches.rows.len();
            let is_whole = decided == self.batches.current.len();
            if !is_whole {
                let undecided = self.batches.current.drain(decided..);
                self.queue.take_back(undecided.chain(self.batches.next.drain(..)));
            }
            self.carry_over(attempts);
            let size = if is_whole { self.batches.size * 2 } else { decided * 2 };
            self.batches.size = size.clamp(self.batches.size_min, SIZE_MAX);
            self.batches.counts.batches += 1;
            self.batches.counts.decided += decided as u64;
            std::mem::swap(&mut self.batches.current, &mut self.batches.next);
        }
    }

    fn draw_first(&mut self, max: usize) {
        let (cache, batches) = (&self.cache, &mut self.batches);
        let size = batches.size.min(max);
        self.queue.draw(size, |pod| !cache.has_placed(&pod.info), &mut batches.current);
    }

    /// Decides about the current batch and draws the next, of at most `left` pods.
    fn decide(&mut self, left: usize, random: &mut dyn Rng) {
        let Self { cache, queue, profiles, engine, batches, .. } = self;
        let Batches { workers, size_min, size, current, next, rows, names, .. } = batches;
        rows.clear();
        names.clear();
        let Some(first) = current.first() else { return };
        let Some(profile) = profiles.of(&first.pod().info) else { return };
        if !reserves_nothing(profile) {
            return;
        }
        let is_of_batch = |pod: &&Arc<PodInfo>| {
            let is_same = profiles.of(pod).is_some_and(|own| std::ptr::eq(own, profile));
            is_same && !pod.is_terminating() && !pod.signature.asks.workload
        };
        let left = left.min((*size * 2).min(SIZE_MAX));
        let (cache, snapshot) = (&*cache, cache.snapshot());
        // Not before one batch of the run was whole. One thread alone ends the run here.
        let draws = *workers > 1 && left > 0 && *size > *size_min && queue.counts().active > 0;
        let draw = draws.then_some(|_: &End| {
            queue.draw(left, |pod| !cache.has_placed(&pod.info), next);
        });
        together(draw.into_iter(), |_| {
            let mut pods = current.iter().map(|drawn| &drawn.pod().info).take_while(is_of_batch);
            let batch = Batch { profile, snapshot, pods: &mut pods, helpers: *workers - 1 };
            engine.decide_batch(batch, random, rows);
            names.extend(rows.iter().map(|row| Arc::clone(snapshot.nodes()[*row].name())));
        });
    }

    /// Takes the decisions over into every table, and out of the current batch.
    fn carry_over(&mut self, attempts: &mut Vec<Attempt>) {
        let Self { cache, queue, binding, batches, .. } = self;
        let Batches { workers, current, rows, names, .. } = batches;
        if rows.is_empty() {
            return;
        }
        let tasks = SegQueue::<Task<'_>>::new();
        {
            let (pods, rows, names) = (&*current, &*rows, &*names);
            let infos = move || pods.iter().map(|drawn| &drawn.pod().info);
            let (parts, mut table) = cache.split(rows, *workers);
            tasks.push(Box::new(move || queue.settle(pods)));
            tasks.push(Box::new(move || {
                infos().zip(names).for_each(|(info, name)| table.add(info, name));
            }));
            tasks.push(Box::new(move || {
                for drawn in pods {
                    let pod = drawn.popped();
                    binding.insert(pod.info.uid.clone(), Binding { pod, steps: Vec::new() });
                }
            }));
            for part in parts {
                tasks.push(Box::new(move || part.add(rows, infos())));
            }
        }
        run(&tasks, *workers);
        // What they borrow is free again.
        drop(tasks);
        let places = current.drain(..).zip(names.drain(..));
        attempts.extend(places.map(|(drawn, node)| {
            let outcome = Outcome::Bind { node, steps: Vec::new() };
            Attempt { pod: drawn.into_popped(), outcome }
        }));
    }
}

/// Does the tasks with so many threads.
fn run(tasks: &SegQueue<Task<'_>>, workers: usize) {
    let work = |_: &End| {
        while let Some(task) = tasks.pop() {
            task();
        }
    };
    together(std::iter::repeat_n(work, workers - 1), work);
}

/// Whether the profile's Reserve plugins have nothing to reserve for pods without volumes and claims.
fn reserves_nothing(profile: &Profile) -> bool {
    let is_known = |name| matches!(name, PluginName::VolumeBinding | PluginName::DynamicResources);
    profile.reserve.iter().all(|plugin| is_known(plugin.name()))
}
