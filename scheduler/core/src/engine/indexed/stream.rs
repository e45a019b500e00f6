//! Decisions one after the other while another thread carries out those before.
//!
//! The pods are of templates whose classes are known before the first: each has a *lane*. So nothing of
//! the cluster is read but the columns, which follow the pods that are placed, and what was placed
//! since the begin, which every class takes over when it is next used. Nodes and change log may be
//! behind, and in other hands.

use std::sync::Arc;

use rand::Rng;

use super::super::columns::Demand;
use super::Indexed;
use super::ahead::is_placed_as_asked;
use crate::cache::Snapshot;
use crate::engine::Draw;
use crate::framework::Profile;
use crate::pod::{PodInfo, Template};

/// A stream under way; its buffers are kept.
#[derive(Debug, Default)]
pub(super) struct Stream {
    plan: usize,
    lanes: Vec<Lane>,
    /// The rows that were placed on, in order.
    taken: Vec<usize>,
    /// The position in the change log at which it began.
    start: u64,
    /// The columns hold what they should.
    is_exact: bool,
}

/// A template's class.
#[derive(Debug)]
struct Lane {
    class: usize,
    demand: Demand,
}

/// So many templates have a lane: each pod looks for its own among them.
const LANES_MAX: usize = 8;

impl Indexed {
    /// See [`crate::engine::Engine::begin_stream`].
    pub(super) fn open_stream(
        &mut self,
        profile: &Profile,
        snapshot: &Snapshot,
        pods: &mut dyn Iterator<Item = &Arc<PodInfo>>,
        templates: &mut Vec<Arc<Template>>,
    ) -> Option<()> {
        let changes = snapshot.changes()?;
        self.follow(changes);
        let plan = self.plan(profile);
        self.plans[plan].arithmetic?;
        self.columns.catch_up(snapshot, changes);
        if snapshot.has_nominations() || !self.columns.is_regular() {
            return None;
        }
        self.stream.lanes.clear();
        self.stream.taken.clear();
        (self.stream.plan, self.stream.start) = (plan, changes.rows.end());
        self.stream.is_exact = true;
        for pod in pods {
            if templates.iter().any(|known| Arc::ptr_eq(known, &pod.template)) {
                continue;
            }
            if templates.len() == LANES_MAX {
                return None;
            }
            let lane = self.lane(plan, snapshot, pod)?;
            self.stream.lanes.push(lane);
            templates.push(Arc::clone(&pod.template));
        }
        (!templates.is_empty()).then_some(())
    }

    /// `None` if pods of its template are not for a stream.
    fn lane(&mut self, plan: usize, snapshot: &Snapshot, pod: &Arc<PodInfo>) -> Option<Lane> {
        let is_told_all = self.plans[plan].has_no_extenders() && is_placed_as_asked(pod);
        if !is_told_all
            || !self.plans[plan].covers(pod, snapshot)
            || !self.plans[plan].wide(pod, snapshot).is_empty()
        {
            return None;
        }
        let class = *self.by_signature[plan].get(&pod.signature)?;
        self.classes[class].position()?;
        self.catch_up(class, snapshot)?;
        self.classes[class].is_recent = true;
        let demand = *self.classes[class].demand()?;
        Some(Lane { class, demand })
    }

    /// See [`crate::engine::Engine::decide_streamed`].
    pub(super) fn decide_in_stream(&mut self, lane: usize, random: &mut dyn Rng) -> Option<usize> {
        let Self { plans, fixed, classes, columns, stream, .. } = self;
        if !stream.is_exact {
            return None;
        }
        let Lane { class, demand } = &stream.lanes[lane];
        let class = &mut classes[*class];
        let from = usize::try_from(class.position()?.checked_sub(stream.start)?).ok()?;
        let sources = (&plans[stream.plan], &fixed[class.fixed]);
        let position = stream.start + stream.taken.len() as u64;
        let missed = stream.taken.get(from..)?.iter().copied();
        class.follow(sources, columns, missed, position).ok()?;
        // What is not decided about here draws nothing here.
        class.best()?;
        let row = class.choose(Draw::new(random))?;
        stream.taken.push(row);
        stream.is_exact = columns.place(row, demand);
        Some(row)
    }

    /// See [`crate::engine::Engine::end_stream`].
    pub(super) fn close_stream(&mut self) {
        let count = self.stream.taken.len();
        self.columns.skip(count, self.stream.is_exact);
        self.counts.indexed += count as u64;
    }
}
