//! Two threads share a run of decisions: the *decider* finds a node for each pod and puts it there, the
//! *carrier* draws pods from the queue before and writes the other tables after.
//!
//! ```text
//!              parcels of drawn pods
//!   carrier ───────────────────────────► decider
//!   queue, pods, bindings                engine, nodes
//!           ◄───────────────────────────
//!              with the rows of their nodes
//! ```
//!
//! Each table has one thread, so neither waits for the other's locks, and what a table touches stays in
//! its thread's caches. Parcels go round; the carrier keeps a few on their way so that the decider always
//! has one. A parcel that comes back short was cut by the decider before a pod that it has no node for:
//! what was drawn after that is put back.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use rand::Rng;

use super::super::bindings::Bindings;
use super::super::{Attempt, Scheduler};
use super::{Batches, attempt, note, reserves_nothing};
use crate::cache::{Nodes, Places};
use crate::engine::{End, Engine, together};
use crate::pod::{PodInfo, Template};
use crate::queue::{Drawn, Queue, QueuedPod};

/// Pods on their way to nodes, and what comes back.
#[derive(Debug, Default)]
pub(super) struct Parcel {
    /// Each with the number of its template. None at all says that no more come.
    pods: Vec<(usize, Arc<PodInfo>)>,
    /// The rows of the first pods' nodes.
    rows: Vec<usize>,
}

/// Pods in a parcel: few, so that what one thread has written of them is near when the other reads it.
const PARCEL: usize = 128;
/// Parcels on their way: one with each thread, and one between them.
const PARCELS: usize = 3;

/// The way there and back.
struct Lanes {
    there: ArrayQueue<Parcel>,
    back: ArrayQueue<Parcel>,
}

impl Lanes {
    /// With room for all parcels and the last, which is empty.
    fn new() -> Self {
        Self { there: ArrayQueue::new(PARCELS + 1), back: ArrayQueue::new(PARCELS + 1) }
    }
}

/// The next parcel; `None` if the other side has ended and left none. Counts in `waits` if it was not
/// there yet.
fn receive(lane: &ArrayQueue<Parcel>, end: &End, waits: &mut u64) -> Option<Parcel> {
    let mut spins = 0;
    loop {
        // What is sent before the end is there when the end is seen.
        let is_over = end.is_reached();
        if let Some(parcel) = lane.pop() {
            return Some(parcel);
        }
        if is_over {
            return None;
        }
        *waits += u64::from(spins == 0);
        End::pause(&mut spins);
    }
}

fn send(lane: &ArrayQueue<Parcel>, parcel: Parcel) {
    lane.push(parcel).expect("there is room for all parcels");
}

impl Scheduler {
    /// The templates of the current batch, if it and pods like it can be shared between two threads
    /// and that is worth it.
    pub(super) fn begin_stream(&mut self, max: usize) -> Option<Vec<Arc<Template>>> {
        let Self { cache, queue, profiles, engine, batches, .. } = self;
        let Batches { workers, stream_min, current, .. } = batches;
        if *workers == 1 || max.min(current.len() + queue.counts().active) < *stream_min {
            return None;
        }
        let first = &current.first()?.pod().info;
        let profile = profiles.of(first).filter(|profile| reserves_nothing(profile))?;
        let is_same = |template: &Arc<Template>| {
            template.scheduler_name == first.template.scheduler_name
                && !template.signature.asks.workload
        };
        let mut pods = current.iter().map(|drawn| &drawn.pod().info);
        let mut templates = Vec::new();
        engine.begin_stream(profile, cache.snapshot(), &mut pods, &mut templates)?;
        let are_plain = current.iter().all(|drawn| is_plain(&drawn.pod().info));
        (are_plain && templates.iter().all(is_same)).then_some(templates)
    }

    /// Decides about the current batch, and on about pods of these templates, at most `max` in all;
    /// returns how many.
    pub(super) fn stream(
        &mut self,
        templates: &[Arc<Template>],
        max: usize,
        random: &mut (dyn Rng + Send),
        attempts: &mut Vec<Attempt>,
    ) -> usize {
        let Self { cache, queue, binding, engine, batches, .. } = self;
        let Batches { current, rows, parcels, counts, .. } = batches;
        rows.clear();
        let (nodes, places) = cache.split();
        let first = std::mem::take(current);
        let (lanes, lent) = (Lanes::new(), VecDeque::with_capacity(PARCELS));
        let carrier = Carrier {
            queue,
            places,
            binding,
            attempts,
            templates,
            left: max,
            lent,
            is_closed: false,
            waits: 0,
            parcels,
            drawn: Vec::new(),
        };
        let mut decider = Decider { engine: &mut **engine, nodes, templates, rows, waits: 0 };
        let decide = |end: &End| decider.run(random, &lanes, end);
        let carrier_waits =
            together(std::iter::once(decide), |end| carrier.run(first, &lanes, end));
        counts.decider_waits += decider.waits;
        counts.carrier_waits += carrier_waits;
        counts.streamed += rows.len() as u64;
        engine.end_stream();
        cache.came(rows);
        rows.len()
    }
}

/// Whether the pod is as its template says, and waits for a node.
fn is_plain(pod: &PodInfo) -> bool {
    !pod.is_terminating() && std::ptr::eq(pod.placed_nonzero(), &raw const pod.requests_nonzero)
}

/// Finds nodes, and puts pods on them.
struct Decider<'a> {
    engine: &'a mut (dyn Engine + Send),
    nodes: Nodes<'a>,
    templates: &'a [Arc<Template>],
    rows: &'a mut Vec<usize>,
    /// How often the other thread was waited for.
    waits: u64,
}

impl Decider<'_> {
    fn run(&mut self, random: &mut dyn Rng, lanes: &Lanes, end: &End) {
        while let Some(mut parcel) = receive(&lanes.there, end, &mut self.waits) {
            let wanted = parcel.pods.len();
            if wanted == 0 {
                return;
            }
            let choose =
                |(template, _): &(usize, _)| self.engine.decide_streamed(*template, random);
            parcel.rows.extend(parcel.pods.iter().map_while(choose));
            self.nodes.approach(&parcel.rows);
            for (row, (template, info)) in parcel.rows.iter().zip(parcel.pods.drain(..)) {
                self.nodes.add_of(*row, info, &self.templates[template]);
            }
            self.rows.extend_from_slice(&parcel.rows);
            let is_whole = parcel.rows.len() == wanted;
            send(&lanes.back, parcel);
            if !is_whole {
                return;
            }
        }
    }
}

/// Draws pods, and notes where they came to be.
struct Carrier<'a> {
    queue: &'a mut Queue,
    places: Places<'a>,
    binding: &'a mut Bindings,
    attempts: &'a mut Vec<Attempt>,
    templates: &'a [Arc<Template>],
    /// So many more may be drawn.
    left: usize,
    /// The pods on their way, parcel by parcel.
    lent: VecDeque<Vec<Drawn>>,
    is_closed: bool,
    /// How often the other thread was waited for.
    waits: u64,
    /// Buffers.
    parcels: &'a mut Vec<Parcel>,
    drawn: Vec<Vec<Drawn>>,
}

impl Carrier<'_> {
    /// Returns how often it waited.
    fn run(mut self, first: Vec<Drawn>, lanes: &Lanes, end: &End) -> u64 {
        self.lend(first, lanes);
        while !self.is_closed && self.lent.len() < PARCELS {
            self.draw(lanes);
        }
        while let Some(mut pods) = self.lent.pop_front() {
            let Some(mut parcel) = receive(&lanes.back, end, &mut self.waits) else { break };
            let undecided = pods.drain(parcel.rows.len()..);
            if undecided.len() > 0 {
                self.queue.take_back(undecided.chain(self.lent.drain(..).flatten()));
                self.is_closed = true;
            } else {
                drop(undecided);
            }
            // The decider first.
            if !self.is_closed {
                self.draw(lanes);
            }
            self.carry(&mut pods, &mut parcel.rows);
            self.parcels.push(parcel);
            self.drawn.push(pods);
        }
        self.waits
    }

    /// Draws the next parcel's pods; sends an empty one if there are none.
    fn draw(&mut self, lanes: &Lanes) {
        let mut pods = self.drawn.pop().unwrap_or_default();
        let (places, templates) = (&self.places, self.templates);
        let is_wanted = |pod: &QueuedPod| {
            let info = &pod.info;
            number(templates, info).is_some() && is_plain(info) && !places.has(info)
        };
        self.queue.draw(PARCEL.min(self.left), is_wanted, &mut pods);
        self.is_closed = pods.is_empty();
        self.lend(pods, lanes);
    }

    fn lend(&mut self, pods: Vec<Drawn>, lanes: &Lanes) {
        let mut parcel = self.parcels.pop().unwrap_or_default();
        let infos = pods.iter().map(|drawn| &drawn.pod().info);
        let numbered =
            infos.filter_map(|info| Some((number(self.templates, info)?, Arc::clone(info))));
        parcel.pods.extend(numbered);
        send(&lanes.there, parcel);
        self.left -= pods.len();
        if !pods.is_empty() {
            self.lent.push_back(pods);
        }
    }

    /// Notes the pods' nodes in the tables, and empties the buffers.
    fn carry(&mut self, pods: &mut Vec<Drawn>, rows: &mut Vec<usize>) {
        self.queue.settle(pods);
        let first = self.attempts.len();
        self.places.approach(rows);
        let (places, pods) = (&self.places, pods.drain(..).zip(rows.drain(..)));
        self.attempts.extend(pods.map(|(drawn, row)| attempt(drawn, places.name(row))));
        note(&self.attempts[first..], &mut self.places, self.binding);
    }
}

/// The number of the pod's template.
fn number(templates: &[Arc<Template>], pod: &PodInfo) -> Option<usize> {
    templates.iter().position(|template| Arc::ptr_eq(template, &pod.template))
}
