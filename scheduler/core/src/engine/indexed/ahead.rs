//! Many decisions in a row, before any of them is carried out.
//!
//! What decides about pod after pod is what decides about one ([`super::Indexed`]), in the same order
//! and with the same draws, only that it reads the nodes' amounts from the columns, where it puts the
//! pods itself, instead of from the snapshot. The answers are those of deciding and assuming one by
//! one. The first pod of a signature is searched for; for the second a class is made, which helpers
//! can fill meanwhile. A helper has columns of its own, which follow the rows taken; the class it fills
//! is that many pods behind when its turn comes, and takes those rows over as any class does.

use std::sync::Arc;

use rand::Rng;

use super::super::class::{Class, Sources};
use super::super::columns::{Blocks, Columns, Demand, Wanted};
use super::super::fixed::Fixed;
use super::super::plan::Plan;
use super::super::workers::{Claims, End, RowsTaken, together};
use super::Indexed;
use crate::cache::Snapshot;
use crate::engine::{Batch, Draw};
use crate::pod::{PodInfo, Template};

/// Buffers, kept from batch to batch.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    turns: Vec<Turn>,
    kinds: Vec<Kind>,
    fills: Vec<FillAt>,
    claims: Claims<Class>,
    taken: RowsTaken,
    /// The helpers' columns.
    replicas: Vec<Columns>,
    /// By class the batch that last used it.
    used_by: Vec<u64>,
    /// Which batch this is.
    pub(super) batch: u64,
}

/// A pod's turn.
#[derive(Clone, Copy, Debug)]
struct Turn {
    kind: u32,
    /// The fill that must be done by then.
    fill: Option<u32>,
}

/// Pods that are decided about alike.
#[derive(Clone, Copy, Debug)]
struct Kind {
    way: Way,
    demand: Demand,
}

/// How a node is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// From this class.
    Class(usize),
    /// By a search from the columns, with this fixed part.
    Search(usize),
}

/// Whose class a fill is, and before which turn it is wanted.
#[derive(Clone, Copy, Debug)]
struct FillAt {
    class: usize,
    turn: usize,
}

/// What decider and helpers share.
struct Shared<'a> {
    plan: &'a Plan,
    fixed: &'a [Fixed],
    turns: &'a [Turn],
    kinds: &'a [Kind],
    fills: &'a [FillAt],
    claims: &'a Claims<Class>,
    taken: &'a RowsTaken,
    /// The position in the change log at which the batch begins.
    start: u64,
    /// How far behind its turn a class may be filled.
    window: usize,
}

/// A class is filled at most this many turns early for each thread: every turn costs it a patch
/// later, about a hundredth of the fill of 5,000 rows.
const WINDOW: usize = 2;

/// Of the classes that may be kept, a batch makes at most one in this many.
const NEW_CLASSES_SHARE: usize = 4;

impl Ahead {
    /// Whether the class must not be given up.
    pub(super) fn holds(&self, class: usize) -> bool {
        self.used_by.get(class) == Some(&self.batch)
    }

    fn restart(&mut self) {
        self.batch += 1;
        self.turns.clear();
        self.kinds.clear();
        self.fills.clear();
    }

    /// A pod's turn.
    fn push(&mut self, way: Way, demand: Demand, fill: Option<u32>) {
        let is_of_last = |last: &Kind| matches!(way, Way::Class(_)) && last.way == way;
        if !self.kinds.last().is_some_and(is_of_last) {
            self.kinds.push(Kind { way, demand });
        }
        self.turns.push(Turn { kind: self.kinds.len() as u32 - 1, fill });
    }

    /// Another turn like the one before, which is of a class.
    fn repeat(&mut self) {
        let kind = self.kinds.len() as u32 - 1;
        self.turns.push(Turn { kind, fill: None });
    }

    /// The fixed parts that searches read.
    fn searched(&self) -> impl Iterator<Item = usize> {
        self.kinds.iter().filter_map(|kind| match kind.way {
            Way::Class(_) => None,
            Way::Search(fixed) => Some(fixed),
        })
    }
}

impl Indexed {
    /// See [`crate::engine::Engine::decide_batch`].
    pub(super) fn decide_in_order(
        &mut self,
        batch: Batch<'_>,
        random: &mut dyn Rng,
        out: &mut Vec<usize>,
    ) {
        let Batch { profile, snapshot, pods, helpers } = batch;
        let Some(changes) = snapshot.changes() else { return };
        self.follow(changes);
        let plan = self.plan(profile);
        if self.plans[plan].arithmetic.is_none() || snapshot.has_nominations() {
            return;
        }
        self.columns.catch_up(snapshot, changes);
        if self.columns.irregular_count() > 0 {
            return;
        }
        self.ahead.restart();
        let mut last: Option<&Arc<Template>> = None;
        for pod in pods {
            if last.is_some_and(|last| Arc::ptr_eq(last, &pod.template)) && is_placed_as_asked(pod)
            {
                self.ahead.repeat();
                continue;
            }
            let Some(are_alike) = self.prepare(plan, snapshot, pod) else { break };
            last = are_alike.then_some(&pod.template);
        }
        let start = changes.rows.end();
        let decided_before = out.len();
        if self.ahead.searched().next().is_some() {
            self.blocks.catch_up(&self.columns, changes);
        }
        self.take_turns(plan, start, helpers, random, out);
        let turns = &self.ahead.turns[..out.len() - decided_before];
        self.counts.indexed += turns.len() as u64;
        let is_search =
            |turn: &&Turn| matches!(self.ahead.kinds[turn.kind as usize].way, Way::Search(_));
        self.counts.searched += turns.iter().filter(is_search).count() as u64;
        // From here on any class and any fixed part may be given up.
        self.ahead.batch += 1;
        self.ahead.searched().for_each(|fixed| self.fixed[fixed].users -= 1);
    }

    /// Notes the pod's turn, and says whether the same may be noted for the next of its template;
    /// `None` if it ends the batch.
    fn prepare(&mut self, plan: usize, snapshot: &Snapshot, pod: &Arc<PodInfo>) -> Option<bool> {
        let changes = snapshot.changes()?;
        if !self.plans[plan].covers(pod, snapshot) || !is_placed_as_asked(pod) {
            return None;
        }
        let wide = self.plans[plan].wide(pod, snapshot);
        let are_alike = wide.is_empty() && self.plans[plan].has_no_extenders();
        if !wide.is_empty() {
            let asked = self.plans[plan].asked(plan, &wide)?;
            if !self.scan.counters.inquiry(&asked, pod, snapshot)?.is_empty() {
                return None;
            }
        }
        let known = self.by_signature[plan].get(&pod.signature).copied();
        if known.is_none()
            && Demand::new(self.plans[plan].arithmetic?, pod).is_some()
            && self.is_searched_for(pod)
            && self.prepare_search(plan, snapshot, pod).is_some()
        {
            return Some(false);
        }
        let (class, is_new) = match known {
            Some(class) if self.ahead.holds(class) => (class, false),
            Some(class) => {
                let is_filled = self.classes[class].position().is_some();
                if is_filled {
                    self.catch_up(class, snapshot)?;
                }
                (class, !is_filled)
            }
            None => {
                // A few nodes are looked at one by one, and what columns do not hold is not made.
                let is_other =
                    pod.signature.asks.named_nodes && !self.seen.contains(&pod.signature);
                let arithmetic = self.plans[plan].arithmetic?;
                Demand::new(arithmetic, pod).filter(|_| !is_other)?;
                let rows = snapshot.nodes().len();
                if self.ahead.fills.len() >= Self::classes_max(rows) / NEW_CLASSES_SHARE {
                    return None;
                }
                (self.new_class(plan, None, pod, rows), true)
            }
        };
        if is_new {
            let fixed = &mut self.fixed[self.classes[class].fixed];
            fixed.catch_up(&self.plans[plan], snapshot, changes).ok()?;
        }
        let demand = *self.classes[class].demand()?;
        self.note(class, demand, is_new);
        Some(are_alike)
    }

    /// Whether the pod is the first of its signature, so that no class is made for it.
    fn is_searched_for(&mut self, pod: &PodInfo) -> bool {
        !pod.signature.asks.named_nodes && self.is_first(pod)
    }

    /// Notes the turn of a pod that no class is made for; `None` if there must be one.
    fn prepare_search(
        &mut self,
        plan: usize,
        snapshot: &Snapshot,
        pod: &Arc<PodInfo>,
    ) -> Option<()> {
        let demand = Demand::new(self.plans[plan].arithmetic?, pod)?;
        let at = self.fixed_of(plan, pod);
        let fixed = &mut self.fixed[at];
        fixed.catch_up(&self.plans[plan], snapshot, snapshot.changes()?).ok()?;
        Wanted::new(&demand, fixed)?;
        // It is not given up before the batch is over.
        fixed.users += 1;
        self.ahead.push(Way::Search(at), demand, None);
        Some(())
    }

    /// The class and what it is built on take over what changed.
    pub(super) fn catch_up(&mut self, class: usize, snapshot: &Snapshot) -> Option<()> {
        let changes = snapshot.changes()?;
        let class = &mut self.classes[class];
        let (plan, fixed) = (&self.plans[class.plan], &mut self.fixed[class.fixed]);
        fixed.catch_up(plan, snapshot, changes).ok()?;
        let (columns, holders) = (&mut self.columns, &mut self.holders);
        class.catch_up(Sources { plan, fixed, snapshot, changes, columns, holders }).ok()
    }

    fn note(&mut self, class: usize, demand: Demand, is_new: bool) {
        self.classes[class].is_recent = true;
        let ahead = &mut self.ahead;
        if ahead.used_by.len() <= class {
            ahead.used_by.resize(class + 1, 0);
        }
        ahead.used_by[class] = ahead.batch;
        let fill = is_new.then_some(ahead.fills.len() as u32);
        if is_new {
            ahead.fills.push(FillAt { class, turn: ahead.turns.len() });
            ahead.claims.push(self.classes[class].detach());
        }
        ahead.push(Way::Class(class), demand, fill);
    }

    /// Turn after turn, with helpers if there is something to fill.
    fn take_turns(
        &mut self,
        plan: usize,
        start: u64,
        helpers: usize,
        random: &mut dyn Rng,
        out: &mut Vec<usize>,
    ) {
        let Self { plans, fixed, classes, columns, blocks, ahead, .. } = self;
        let searches = ahead.searched().next().is_some();
        let helpers = helpers.min(ahead.fills.len().saturating_sub(1));
        ahead.taken.restart(ahead.turns.len());
        if ahead.replicas.len() < helpers {
            ahead.replicas.resize_with(helpers, Columns::default);
        }
        let shared = Shared {
            plan: &plans[plan],
            fixed,
            turns: &ahead.turns,
            kinds: &ahead.kinds,
            fills: &ahead.fills,
            claims: &ahead.claims,
            taken: &ahead.taken,
            start,
            window: WINDOW * (helpers + 1),
        };
        let replicas = &mut ahead.replicas[..helpers];
        replicas.iter_mut().for_each(|replica| replica.copy_from(columns));
        let shared = &shared;
        let helpers = replicas.iter_mut().map(|replica| move |end: &End| shared.help(replica, end));
        let is_exact = together(helpers, |end| {
            let mut amounts = Amounts { columns, blocks: searches.then_some(&mut *blocks) };
            shared.decide(classes, &mut amounts, (random, out), end)
        });
        columns.skip(ahead.taken.length(), is_exact);
        if searches {
            blocks.skip(ahead.taken.length(), is_exact);
        }
        for (fill, class) in ahead.claims.end() {
            classes[ahead.fills[fill].class] = class;
        }
    }
}

/// What the decider keeps ahead of the cache.
struct Amounts<'a> {
    columns: &'a mut Columns,
    /// If some pod of the batch is searched for.
    blocks: Option<&'a mut Blocks>,
}

impl Amounts<'_> {
    /// A node without a class; `None` if none will do.
    fn search(&mut self, demand: &Demand, fixed: &Fixed, random: &mut dyn Rng) -> Option<usize> {
        let blocks = self.blocks.as_mut()?;
        let wanted = Wanted::new(demand, fixed)?;
        let highest = blocks.highest(wanted)?;
        blocks.choose(wanted, self.columns, highest, Draw::new(random))
    }

    /// False if the columns are not exact any more.
    #[inline]
    fn place(&mut self, row: usize, demand: &Demand) -> bool {
        let is_exact = self.columns.place(row, demand);
        if let Some(blocks) = &mut self.blocks {
            blocks.changed(row, self.columns);
        }
        is_exact
    }
}

impl Shared<'_> {
    /// Decides in order until a pod cannot be decided about; false if the columns are not exact any
    /// more.
    fn decide(
        &self,
        classes: &mut [Class],
        amounts: &mut Amounts<'_>,
        (random, out): (&mut dyn Rng, &mut Vec<usize>),
        end: &End,
    ) -> bool {
        for (at, turn) in self.turns.iter().enumerate() {
            let Kind { way, demand } = &self.kinds[turn.kind as usize];
            let row = match *way {
                Way::Class(class) => {
                    let class = &mut classes[class];
                    if let Some(fill) = turn.fill {
                        *class = self.obtain(fill as usize, at, amounts.columns, end);
                    }
                    self.choose(class, at, amounts.columns, random)
                }
                Way::Search(fixed) => amounts.search(demand, &self.fixed[fixed], random),
            };
            let Some(row) = row else { return true };
            out.push(row);
            self.taken.push(row);
            if !amounts.place(row, demand) {
                return false;
            }
        }
        true
    }

    /// One of the best rows of the class at this turn; `None` if there is none.
    #[inline]
    fn choose(
        &self,
        class: &mut Class,
        at: usize,
        columns: &Columns,
        random: &mut dyn Rng,
    ) -> Option<usize> {
        let from = usize::try_from(class.position()?.checked_sub(self.start)?).ok()?;
        let missed = self.taken.between(from, at);
        let sources = (self.plan, &self.fixed[class.fixed]);
        class.follow(sources, columns, missed, self.start + at as u64).ok()?;
        // What is not decided about here draws nothing here.
        class.best()?;
        class.choose(Draw::new(random))
    }

    /// The filled class that this turn needs: from a helper, or filled here. While a helper is at it,
    /// those of later turns are filled.
    fn obtain(&self, fill: usize, at: usize, columns: &Columns, end: &End) -> Class {
        let (mut later, mut spins) = (fill + 1, 0);
        loop {
            if let Some(class) = self.claims.take(fill) {
                return class;
            }
            if let Some(mut class) = self.claims.claim(fill) {
                self.fill(&mut class, columns, at);
                return class;
            }
            if later < self.fills.len() && self.fills[later].turn <= at + self.window {
                if let Some(mut class) = self.claims.claim(later) {
                    self.fill(&mut class, columns, at);
                    self.claims.finish(later, class);
                }
                later += 1;
            } else {
                // What it had claimed will never be finished.
                assert!(!end.is_reached(), "a worker has panicked");
                End::pause(&mut spins);
            }
        }
    }

    /// Fills classes, each when its turn is near, until none is left or the batch is over.
    fn help(&self, columns: &mut Columns, end: &End) {
        let mut known = 0;
        for (at, fill) in self.fills.iter().enumerate() {
            let mut spins = 0;
            while fill.turn > self.taken.length() + self.window {
                if end.is_reached() {
                    return;
                }
                End::pause(&mut spins);
            }
            let Some(mut class) = self.claims.claim(at) else { continue };
            let length = self.taken.length();
            let rows = self.taken.between(known, length);
            let turns = &self.turns[known..length];
            let mut placed = turns
                .iter()
                .zip(rows)
                .map(|(turn, row)| columns.place(row, &self.kinds[turn.kind as usize].demand));
            let is_exact = placed.all(|is_exact| is_exact);
            known = length;
            if is_exact {
                self.fill(&mut class, columns, length);
            }
            self.claims.finish(at, class);
            if !is_exact {
                return;
            }
        }
    }

    /// Where that fails the class stays without a position, and ends the batch at its turn.
    fn fill(&self, class: &mut Class, columns: &Columns, turns: usize) {
        let sources = (self.plan, &self.fixed[class.fixed]);
        let _ = class.fill(sources, columns, self.start + turns as u64);
    }
}

/// Whether the pod takes of its node what its signature says.
pub(super) fn is_placed_as_asked(pod: &PodInfo) -> bool {
    std::ptr::eq(pod.placed_nonzero(), &raw const pod.requests_nonzero)
}
