//! Decisions from an index of totals per class of pods, kept up to date row by row.
//!
//! The life of a decision is told in `docs/scheduler-engine.md`. In short: find the pod's class, let
//! it take over the rows that changed since it was last used, pick one of its best nodes. What the
//! index does not hold exactly ([`super::scope`]) is decided by [`Scan`].

mod ahead;
mod stream;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use rand::Rng;
use rustc_hash::{FxHashMap, FxHashSet};

use super::class::{Class, Sources};
use super::columns::{Blocks, Columns, Demand, Wanted, sum};
use super::fixed::{Fixed, Raws};
use super::holders::Holders;
use super::local::Local;
use super::overlay::{Answers, Overlay, Query};
use super::partition::{Partition, Sources as Parts, Terms};
use super::partitions::Partitions;
use super::plan::Plan;
use super::probe::Probe;
use super::signature::Signature;
use super::tournament::NONE;
use super::{Batch, Draw, Engine, Scan};
use crate::cache::{CacheId, ChangeLog, Snapshot};
use crate::counters::{Appraisal, Counters, Inquiry};
use crate::diagnosis::{Diagnosis, Refusals};
use crate::framework::{PostFilterContext, PreemptionCandidate, Profile};
use crate::pod::{PodInfo, Template};
use crate::preemption::{CandidateSearch, DryRun, Ranking};
use ahead::Ahead;
use stream::Stream;

/// The engine of production.
#[derive(Debug, Default)]
pub struct Indexed {
    scan: Scan,
    /// Whose changes everything below follows.
    cache: Option<CacheId>,
    plans: Vec<Plan>,
    columns: Columns,
    blocks: Blocks,
    holders: Holders,
    overlay: Overlay,
    fixed: Vec<Fixed>,
    /// By plan; looked up without memory of its own for a pod.
    fixed_by_bytes: Vec<FxHashMap<Box<[u8]>, usize>>,
    classes: Vec<Class>,
    by_signature: Vec<FxHashMap<Arc<Signature>, usize>>,
    /// The same of classes that yield to nominated pods: by plan and from which priority on.
    yielding: FxHashMap<(usize, i32), FxHashMap<Arc<Signature>, usize>>,
    ranking: Ranking,
    /// The serial number of the latest class.
    serial: u64,
    partitions: Partitions,
    appraisal: Appraisal,
    /// Signatures that were seen once.
    seen: FxHashSet<Arc<Signature>>,
    /// Where the search for a fixed part that is not used goes on.
    fixed_hand: usize,
    /// Where the search for a class to give up goes on.
    hand: usize,
    ahead: Ahead,
    stream: Stream,
    counts: IndexCounts,
}

/// How decisions were made since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexCounts {
    /// From the index.
    pub indexed: u64,
    /// Those of them that were made from groups of nodes that are alike to the plugins of wider view.
    pub grouped: u64,
    /// Those that were made by laying what these plugins say over the totals of a class.
    pub overlaid: u64,
    /// Those that were made without a class, for the first pod of a signature.
    pub searched: u64,
    /// By a scan of all nodes.
    pub scanned: u64,
}

/// Where a pod's class is.
#[derive(Clone, Copy)]
struct Place {
    plan: usize,
    /// Its pods yield to nominated pods of at least this priority.
    yields_from: Option<i32>,
    /// `None` if there is none yet.
    known: Option<usize>,
}

/// Totals of all classes together take at most about this.
const TOTALS_BYTES_MAX: usize = 256 << 20;
/// More classes than this at once are not kept, however few nodes there are.
const CLASSES_MAX: usize = 4096;
/// Fewer than this are not kept, however many nodes there are: with a million nodes they take 320 MB.
const CLASSES_MIN: usize = 64;
/// Fixed parts that no class uses are kept for pods that are all different; with 100,000 nodes each
/// takes a megabyte.
const UNUSED_MAX: usize = 16;
/// For a pod that asks for what more nodes have than this a class is made at once.
const FEW_MAX: usize = 256;
/// Signatures that were seen once are forgotten beyond this; a few hundred bytes each.
const SEEN_MAX: usize = 4096;

impl Engine for Indexed {
    fn decide(
        &mut self,
        profile: &Profile,
        snapshot: &Snapshot,
        pod: &Arc<PodInfo>,
        draw: Draw,
    ) -> Result<usize, Box<Diagnosis>> {
        if let Some(node) = self.find(profile, snapshot, pod, draw) {
            self.counts.indexed += 1;
            return Ok(node);
        }
        if let Some(diagnosis) = self.explain(profile, snapshot, pod) {
            self.counts.indexed += 1;
            return Err(diagnosis);
        }
        self.counts.scanned += 1;
        self.scan.decide(profile, snapshot, pod, draw)
    }

    fn decide_batch(&mut self, batch: Batch<'_>, random: &mut dyn Rng, out: &mut Vec<usize>) {
        self.decide_in_order(batch, random, out);
    }

    fn begin_stream(
        &mut self,
        profile: &Profile,
        snapshot: &Snapshot,
        pods: &mut dyn Iterator<Item = &Arc<PodInfo>>,
        templates: &mut Vec<Arc<Template>>,
    ) -> Option<()> {
        self.open_stream(profile, snapshot, pods, templates)
    }

    fn decide_streamed(&mut self, template: usize, random: &mut dyn Rng) -> Option<usize> {
        self.decide_in_stream(template, random)
    }

    fn end_stream(&mut self) {
        self.close_stream();
    }
}

impl CandidateSearch for Indexed {
    fn best(
        &mut self,
        context: &PostFilterContext<'_>,
        nodes: &[usize],
        enough: usize,
    ) -> Result<PreemptionCandidate, Refusals> {
        let PostFilterContext { profile, snapshot, pod, .. } = *context;
        let Some((plan, changes)) = self.local_plan(profile, snapshot, pod) else {
            return DryRun.best(context, nodes, enough);
        };
        let Some(local) = Local::new(profile, pod, snapshot) else {
            return DryRun.best(context, nodes, enough);
        };
        self.ranking.best(plan, &local, context, changes, (nodes, enough))
    }
}

impl Indexed {
    /// How decisions were made so far.
    pub fn counts(&self) -> IndexCounts {
        self.counts
    }

    /// The plan, if only plugins that look at one node at a time have something to say of the pod,
    /// and the changes that the index follows.
    fn local_plan<'a>(
        &mut self,
        profile: &Profile,
        snapshot: &'a Snapshot,
        pod: &Arc<PodInfo>,
    ) -> Option<(usize, &'a ChangeLog)> {
        let changes = snapshot.changes()?;
        self.follow(changes);
        let at = self.plan(profile);
        let is_local = self.plans[at].covers(pod, snapshot) && self.is_local(at, pod, snapshot);
        is_local.then_some((at, changes))
    }

    /// Whether only plugins that look at one node at a time have something to say of the pod. That
    /// others may have is not enough to the contrary: in a cluster with Services, pods of none of them
    /// are asked about as well.
    fn is_local(&mut self, plan: usize, pod: &Arc<PodInfo>, snapshot: &Snapshot) -> bool {
        let wide = self.plans[plan].wide(pod, snapshot);
        if wide.is_empty() {
            return true;
        }
        let asked = self.plans[plan].asked(plan, &wide);
        let counters = &mut self.scan.counters;
        let inquiry = asked.and_then(|asked| counters.inquiry(&asked, pod, snapshot));
        inquiry.is_some_and(|inquiry| inquiry.is_empty())
    }

    /// Why no node will have the pod; `None` if the index does not hold the answer.
    fn explain(
        &mut self,
        profile: &Profile,
        snapshot: &Snapshot,
        pod: &Arc<PodInfo>,
    ) -> Option<Box<Diagnosis>> {
        let (_, changes) = self.local_plan(profile, snapshot, pod)?;
        // The first of a DaemonSet's pods have no class: nodes that are named are scanned.
        self.locate(profile, snapshot, pod)?.known?;
        let at = self.class_at(profile, snapshot, pod)?;
        let local = Local::new(profile, pod, snapshot)?;
        let class = &mut self.classes[at];
        if class.best().is_some() {
            return None;
        }
        class.refused.diagnosis(&local, snapshot, changes, pod, class.yields_from)
    }

    /// A node from the index; `None` if it does not hold the answer, or no node will do.
    fn find(
        &mut self,
        profile: &Profile,
        snapshot: &Snapshot,
        pod: &Arc<PodInfo>,
        draw: Draw,
    ) -> Option<usize> {
        let place = self.locate(profile, snapshot, pod)?;
        if place.known.is_none() && self.is_first(pod) {
            if pod.signature.asks.named_nodes {
                return None;
            }
            if let Some(row) = self.search(place, pod, snapshot, draw) {
                self.counts.searched += 1;
                return Some(row);
            }
        }
        let at = self.class_in(place, pod, snapshot)?;
        let class = &self.classes[at];
        let plan = &self.plans[class.plan];
        let wide = plan.wide(pod, snapshot);
        let counters = &mut self.scan.counters;
        let inquiry = match wide.as_slice() {
            [] => None,
            wide => Some(counters.inquiry(&plan.asked(class.plan, wide)?, pod, snapshot)?),
        };
        let inquiry = inquiry.filter(|inquiry| !inquiry.is_empty());
        if inquiry.is_some() && !is_alone(class, pod, snapshot) {
            // It is also said beside nominated pods, which the counters do not know.
            return None;
        }
        if snapshot.nomination_of(&pod.uid).is_some()
            && let Some((row, Ok(()))) =
                Local::new(profile, pod, snapshot)?.check_nominated(snapshot, pod)
        {
            return Some(row);
        }
        let Some(inquiry) = inquiry else {
            return class.choose(draw);
        };
        if let Some(partition) =
            partition(&mut self.partitions, class, plan, &inquiry, snapshot, counters)
        {
            let appraisal = &mut self.appraisal;
            let mut terms = Terms { plan, weights: plan.weights(), counters, appraisal };
            let row = partition.decide(&mut terms, draw)?;
            self.counts.grouped += 1;
            return Some(row);
        }
        let answers = Answers::new(counters, &wide, plan, pod, snapshot)?;
        let query = Query { answers: &answers, class, plan, pod, snapshot };
        let row = self.overlay.decide(query, counters, draw)?;
        self.counts.overlaid += 1;
        Some(row)
    }

    /// The best nodes as the index has them, by every way in which it finds them; `None` for what it
    /// does not hold, or if no node will do.
    #[cfg(test)]
    pub(super) fn best(
        &mut self,
        profile: &Profile,
        snapshot: &Snapshot,
        pod: &Arc<PodInfo>,
    ) -> [Option<Vec<usize>>; 2] {
        let Some(at) = self.class_at(profile, snapshot, pod) else { return [None, None] };
        let class = &self.classes[at];
        let plan = &self.plans[class.plan];
        let wide = plan.wide(pod, snapshot);
        if !wide.is_empty() && !is_alone(class, pod, snapshot) {
            return [None, None];
        }
        let counters = &mut self.scan.counters;
        let overlaid = Answers::new(counters, &wide, plan, pod, snapshot);
        let overlaid = overlaid.and_then(|answers| {
            let query = Query { answers: &answers, class, plan, pod, snapshot };
            self.overlay.best(query, counters).map(<[usize]>::to_vec)
        });
        let asked = plan.asked(class.plan, &wide);
        let inquiry = asked.and_then(|asked| counters.inquiry(&asked, pod, snapshot));
        let grouped = inquiry.and_then(|inquiry| {
            let partitions = &mut self.partitions;
            let partition = partition(partitions, class, plan, &inquiry, snapshot, counters)?;
            let appraisal = &mut self.appraisal;
            let mut terms = Terms { plan, weights: plan.weights(), counters, appraisal };
            Some(partition.all_best(&mut terms))
        });
        [overlaid, grouped]
    }

    /// The pod's class, up to date; `None` if the index does not hold the answer.
    fn class_at(
        &mut self,
        profile: &Profile,
        snapshot: &Snapshot,
        pod: &Arc<PodInfo>,
    ) -> Option<usize> {
        let place = self.locate(profile, snapshot, pod)?;
        self.class_in(place, pod, snapshot)
    }

    /// Where the pod's class is or would be; `None` if the index does not hold the answer.
    fn locate(
        &mut self,
        profile: &Profile,
        snapshot: &Snapshot,
        pod: &Arc<PodInfo>,
    ) -> Option<Place> {
        self.follow(snapshot.changes()?);
        let plan = self.plan(profile);
        if !self.plans[plan].covers(pod, snapshot) {
            return None;
        }
        let yields_from = snapshot.yields_from(pod.priority);
        let known = self.known_classes(plan, yields_from).get(&pod.signature).copied();
        Some(Place { plan, yields_from, known })
    }

    fn class_in(
        &mut self,
        Place { plan, yields_from, known }: Place,
        pod: &Arc<PodInfo>,
        snapshot: &Snapshot,
    ) -> Option<usize> {
        let changes = snapshot.changes()?;
        let rows = snapshot.nodes().len();
        let at = known.unwrap_or_else(|| self.new_class(plan, yields_from, pod, rows));
        let class = &mut self.classes[at];
        class.is_recent = true;
        let plan = &self.plans[plan];
        let fixed = &mut self.fixed[class.fixed];
        fixed.catch_up(plan, snapshot, changes).ok()?;
        let (columns, holders) = (&mut self.columns, &mut self.holders);
        class.catch_up(Sources { plan, fixed, snapshot, changes, columns, holders }).ok()?;
        Some(at)
    }

    /// Whether the pod is the first of its signature. A class is made for the second: a DaemonSet names
    /// another node in each of its pods, and pods that are all different have no use for classes.
    fn is_first(&mut self, pod: &PodInfo) -> bool {
        if self.seen.len() == SEEN_MAX {
            self.seen.clear();
        }
        self.seen.insert(Arc::clone(&pod.signature))
    }

    /// A node without a class, from the columns; `None` if that is not possible, or no node will do.
    fn search(
        &mut self,
        place: Place,
        pod: &Arc<PodInfo>,
        snapshot: &Snapshot,
        draw: Draw,
    ) -> Option<usize> {
        let changes = snapshot.changes()?;
        let is_alone = place.yields_from.is_none() && snapshot.nomination_of(&pod.uid).is_none();
        if !is_alone || !self.is_local(place.plan, pod, snapshot) {
            return None;
        }
        if pod.signature.asks.scalars {
            return self.search_holders(place.plan, pod, snapshot, draw);
        }
        let demand = Demand::new(self.plans[place.plan].arithmetic?, pod)?;
        let fixed = self.fixed_of(place.plan, pod);
        let fixed = &mut self.fixed[fixed];
        fixed.catch_up(&self.plans[place.plan], snapshot, changes).ok()?;
        let wanted = Wanted::new(&demand, fixed)?;
        self.columns.catch_up(snapshot, changes);
        if !self.columns.is_regular() {
            return None;
        }
        self.blocks.catch_up(&self.columns, changes);
        let highest = self.blocks.highest(wanted)?;
        self.blocks.choose(wanted, &self.columns, highest, draw)
    }

    /// The same for a pod that asks for a resource which few nodes have, from these alone.
    fn search_holders(
        &mut self,
        plan: usize,
        pod: &Arc<PodInfo>,
        snapshot: &Snapshot,
        draw: Draw,
    ) -> Option<usize> {
        let changes = snapshot.changes()?;
        let fixed = self.fixed_of(plan, pod);
        let (plan, fixed) = (&self.plans[plan], &mut self.fixed[fixed]);
        let few = self.holders.of_rarest(plan.required(pod), snapshot, changes)?;
        fixed.catch_up(plan, snapshot, changes).ok()?;
        if few.len() > FEW_MAX || fixed.raws.iter().any(Raws::matters) {
            return None;
        }
        let probe = Probe::new(&plan.moving_filters, &plan.moving_scores, pod, snapshot).ok()?;
        let (mut highest, mut best) = (NONE, Vec::new());
        for row in few.iter().copied().filter(|row| fixed.base[*row] != NONE) {
            let total = sum(fixed.base[row], probe.ask(&snapshot.nodes()[row]).ok()?);
            if total > highest {
                highest = total;
                best.clear();
            }
            if total == highest && total != NONE {
                best.push(row);
            }
        }
        (!best.is_empty()).then(|| draw.choose(snapshot.nodes().len(), &best))
    }

    /// Starts anew if the changes are another cache's.
    fn follow(&mut self, changes: &ChangeLog) {
        if self.cache.as_ref().is_some_and(|cache| changes.is_of(cache)) {
            return;
        }
        *self = Self { counts: self.counts, cache: Some(changes.cache()), ..Self::default() };
    }

    fn plan(&mut self, profile: &Profile) -> usize {
        if let Some(at) = self.plans.iter().position(|plan| plan.is_of(profile)) {
            return at;
        }
        self.plans.push(Plan::new(profile));
        self.by_signature.push(FxHashMap::default());
        self.fixed_by_bytes.push(FxHashMap::default());
        self.plans.len() - 1
    }

    fn known_classes(
        &mut self,
        plan: usize,
        yields_from: Option<i32>,
    ) -> &mut FxHashMap<Arc<Signature>, usize> {
        match yields_from {
            Some(priority) => self.yielding.entry((plan, priority)).or_default(),
            None => &mut self.by_signature[plan],
        }
    }

    fn new_class(
        &mut self,
        plan: usize,
        yields_from: Option<i32>,
        pod: &Arc<PodInfo>,
        rows: usize,
    ) -> usize {
        let fixed = self.fixed_of(plan, pod);
        self.fixed[fixed].users += 1;
        let demand = self.plans[plan].arithmetic.and_then(|a| Demand::new(a, pod));
        self.serial += 1;
        let class = Class::new(pod, plan, fixed, yields_from, self.serial, demand);
        let at = if self.classes.len() < Self::classes_max(rows) {
            self.classes.push(class);
            self.classes.len() - 1
        } else {
            let at = self.give_up();
            self.classes[at].reuse(class);
            at
        };
        self.known_classes(plan, yields_from).insert(Arc::clone(&pod.signature), at);
        at
    }

    fn classes_max(rows: usize) -> usize {
        let bytes = rows * size_of::<i32>();
        (TOTALS_BYTES_MAX / bytes.max(1)).clamp(CLASSES_MIN, CLASSES_MAX)
    }

    /// A class that was not used for a while, which is forgotten.
    fn give_up(&mut self) -> usize {
        loop {
            self.hand = (self.hand + 1) % self.classes.len();
            if self.ahead.holds(self.hand) {
                continue;
            }
            let class = &mut self.classes[self.hand];
            if !std::mem::take(&mut class.is_recent) {
                self.fixed[class.fixed].users -= 1;
                let (plan, yields_from) = (class.plan, class.yields_from);
                let signature = Arc::clone(&class.signature);
                self.known_classes(plan, yields_from).remove(&signature);
                self.yielding.retain(|_, classes| !classes.is_empty());
                return self.hand;
            }
        }
    }

    fn fixed_of(&mut self, plan: usize, pod: &Arc<PodInfo>) -> usize {
        let bytes = pod.signature.fixed();
        if let Some(&at) = self.fixed_by_bytes[plan].get(bytes) {
            return at;
        }
        let is_full = self.fixed.len() > self.classes.len() + UNUSED_MAX;
        let from = self.fixed_hand;
        let mut rows = (from..self.fixed.len()).chain(0..from.min(self.fixed.len()));
        let unused = rows.find(|at| is_full && self.fixed[*at].users == 0);
        let at = match unused {
            Some(at) => {
                self.fixed_hand = at + 1;
                let known = self.fixed_by_bytes.iter_mut();
                known.for_each(|known| known.retain(|_, other| *other != at));
                self.fixed[at] = Fixed::new(pod);
                at
            }
            None => {
                self.fixed.push(Fixed::new(pod));
                self.fixed.len() - 1
            }
        };
        self.fixed_by_bytes[plan].insert(Box::from(bytes), at);
        at
    }
}

/// Whether no nominated pod matters to the pod, nor is it nominated itself.
fn is_alone(class: &Class, pod: &PodInfo, snapshot: &Snapshot) -> bool {
    class.yields_from.is_none() && snapshot.nomination_of(&pod.uid).is_none()
}

/// The class's partition for the inquiry, up to date; `None` if there is none that is of use.
fn partition<'a>(
    partitions: &'a mut Partitions,
    class: &Class,
    plan: &Plan,
    inquiry: &Arc<Inquiry>,
    snapshot: &Snapshot,
    counters: &Counters,
) -> Option<&'a mut Partition> {
    if counters.is_ambiguous(inquiry) {
        return None;
    }
    let changes = snapshot.changes()?;
    partitions.find(Parts { plan, class, inquiry, snapshot, changes, counters })
}
