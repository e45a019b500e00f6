//! The search of production: what each node would cost a preemptor, kept from one to the next.
//!
//! It serves pods of which only plugins that look at one node at a time have something to say. For
//! those nothing but the node, the pods on it and nominated for it, and the budgets decide who has
//! to leave; so preemptors of equal signature and priority share a [`Column`] of costs, in which a
//! row is worked out when it is first asked for and again after the node changed. A search is then a
//! walk over numbers, and only the node that is chosen is looked at again, for its victims.
//!
//! With more pods on a node these plugins' filters only get stricter, so a pod that fits beside the
//! nominated ones also fits without them.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::choice::{Cost, cost};
use super::dry_run::refusal;
use super::{Budgets, importance, no_victim};
use crate::cache::{ChangeLog, NodeInfo, Snapshot};
use crate::diagnosis::{Refusals, Refused};
use crate::engine::{Local, Signature, nominated_from};
use crate::framework::{PostFilterContext, PreemptionCandidate, Rejection};
use crate::pod::PodInfo;

/// What nodes cost the preemptors of some classes.
#[derive(Debug, Default)]
pub(crate) struct Ranking {
    columns: Vec<Column>,
    /// Where in `columns` the next is given up.
    hand: usize,
    budgets: Budgets,
    budgets_at: Option<u64>,
}

/// What every node costs the preemptors of one class.
#[derive(Debug)]
struct Column {
    plan: usize,
    signature: Arc<Signature>,
    priority: i32,
    states: Vec<State>,
    /// Of the rows that are candidates.
    costs: Vec<Cost>,
    /// Of the rows that are refused.
    refused: Refusals,
    /// Up to where [`ChangeLog::rows`] is taken over; `u64::MAX` before the first time.
    cursor: u64,
    budgets_at: u64,
    is_recent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unknown,
    Candidate,
    Refused,
}

/// Who has to leave a node, and how many of them a budget would keep.
type Victims = (Vec<Arc<PodInfo>>, usize);

/// Columns together take at most about this.
const COLUMNS_BYTES_MAX: usize = 64 << 20;
/// Fewer columns than this are not kept, however many nodes there are: a million take 160 MB.
const COLUMNS_MIN: usize = 4;
/// And no more than this, however few.
const COLUMNS_MAX: usize = 64;

impl Ranking {
    /// The candidate that [`super::DryRun`] finds the best, or why there is none. Preemptors of one
    /// plan, signature and priority must have the same filters.
    pub(crate) fn best(
        &mut self,
        plan: usize,
        local: &Local<'_>,
        context: &PostFilterContext<'_>,
        changes: &ChangeLog,
        (nodes, enough): (&[usize], usize),
    ) -> Result<PreemptionCandidate, Refusals> {
        if self.budgets_at != Some(changes.budgets) {
            self.budgets = Budgets::new(context.snapshot.objects());
            self.budgets_at = Some(changes.budgets);
        }
        let at = self.column(plan, context);
        let search = Search { local, context, budgets: &self.budgets };
        let column = &mut self.columns[at];
        column.catch_up(context.snapshot, changes);
        match column.walk(&search, nodes, enough) {
            Some(row) => search.candidate(row),
            None => Err(column.refusals(&search, nodes)),
        }
    }

    fn column(&mut self, plan: usize, context: &PostFilterContext<'_>) -> usize {
        let (pod, rows) = (context.pod, context.snapshot.nodes().len());
        let mut columns = self.columns.iter();
        if let Some(at) = columns.position(|column| column.is_of(plan, pod)) {
            self.columns[at].is_recent = true;
            return at;
        }
        let fresh = Column {
            plan,
            signature: Arc::clone(&pod.signature),
            priority: pod.priority,
            states: Vec::new(),
            costs: Vec::new(),
            refused: Refusals::default(),
            cursor: u64::MAX,
            budgets_at: 0,
            is_recent: true,
        };
        let bytes = rows * size_of::<Cost>();
        let max = (COLUMNS_BYTES_MAX / bytes.max(1)).clamp(COLUMNS_MIN, COLUMNS_MAX);
        if self.columns.len() < max {
            self.columns.push(fresh);
            return self.columns.len() - 1;
        }
        while std::mem::take(&mut self.columns[self.hand].is_recent) {
            self.hand = (self.hand + 1) % self.columns.len();
        }
        self.columns[self.hand] = fresh;
        self.hand
    }
}

impl Column {
    fn is_of(&self, plan: usize, pod: &PodInfo) -> bool {
        self.plan == plan
            && self.priority == pod.priority
            && (Arc::ptr_eq(&self.signature, &pod.signature) || self.signature == pod.signature)
    }

    /// Forgets what changed since the last time.
    fn catch_up(&mut self, snapshot: &Snapshot, changes: &ChangeLog) {
        let rows = snapshot.nodes().len();
        let missed = changes.rows.since(self.cursor).filter(|missed| missed.len() < rows);
        match missed {
            Some(missed) => {
                self.states.resize(rows, State::Unknown);
                for row in missed.iter().map(|row| *row as usize).filter(|row| *row < rows) {
                    self.states[row] = State::Unknown;
                }
            }
            None => {
                self.states.clear();
                self.states.resize(rows, State::Unknown);
            }
        }
        self.costs.resize(rows, Cost::default());
        self.refused.truncate(rows);
        if self.budgets_at != changes.budgets {
            for state in self.states.iter_mut().filter(|state| **state == State::Candidate) {
                *state = State::Unknown;
            }
        }
        (self.cursor, self.budgets_at) = (changes.rows.end(), changes.budgets);
    }

    /// The row of the best candidate, of equals the first, among those that a search ends with.
    fn walk(&mut self, search: &Search<'_>, nodes: &[usize], enough: usize) -> Option<usize> {
        let own = search.nominated_row();
        let (mut count, mut best) = (0, None::<(Cost, usize)>);
        for &row in nodes {
            let cost = match self.states[row] {
                _ if own == Some(row) => search.cost(row).ok(),
                State::Unknown => self.work_out(search, row),
                State::Candidate => Some(self.costs[row]),
                State::Refused => None,
            };
            let Some(cost) = cost else { continue };
            count += 1;
            if best.is_none_or(|(least, _)| cost < least) {
                best = Some((cost, row));
            }
            if count >= enough && best.is_some_and(|(least, _)| least.pdb_violations == 0) {
                break;
            }
        }
        best.map(|(_, row)| row)
    }

    fn work_out(&mut self, search: &Search<'_>, row: usize) -> Option<Cost> {
        match search.cost(row) {
            Ok(cost) => {
                (self.states[row], self.costs[row]) = (State::Candidate, cost);
                self.refused.set(row, None);
                Some(cost)
            }
            Err(rejection) => {
                self.states[row] = State::Refused;
                self.refused.set(row, Some((None, rejection)));
                None
            }
        }
    }

    /// Why all these nodes are refused.
    fn refusals(&self, search: &Search<'_>, nodes: &[usize]) -> Refusals {
        let own = search.nominated_row();
        let refusal = |&node: &usize| {
            let rejection = match own == Some(node) {
                true => search.victims(node).err(),
                false => self.refused.get(node).map(|kind| kind.rejection.clone()),
            };
            Some(Refused { node, plugin: None, rejection: rejection? })
        };
        nodes.iter().filter_map(refusal).collect()
    }
}

/// One preemptor's search.
struct Search<'a> {
    local: &'a Local<'a>,
    context: &'a PostFilterContext<'a>,
    budgets: &'a Budgets,
}

impl Search<'_> {
    /// The row that the preemptor itself is nominated for: there it does not yield to itself, as
    /// others of its class do.
    fn nominated_row(&self) -> Option<usize> {
        let PostFilterContext { snapshot, pod, .. } = self.context;
        snapshot.index_of(snapshot.nomination_of(&pod.uid)?)
    }

    fn candidate(&self, row: usize) -> Result<PreemptionCandidate, Refusals> {
        let node = Arc::clone(&self.context.snapshot.nodes()[row]);
        match self.victims(row) {
            Ok((victims, pdb_violations)) => {
                Ok(PreemptionCandidate { node, victims, pdb_violations })
            }
            Err(rejection) => {
                Err([Refused { node: row, plugin: None, rejection }].into_iter().collect())
            }
        }
    }

    fn cost(&self, row: usize) -> Result<Cost, Rejection> {
        self.victims(row).map(|(victims, pdb_violations)| cost(&victims, pdb_violations))
    }

    /// Who has to leave the node, the most important first.
    fn victims(&self, row: usize) -> Result<Victims, Rejection> {
        let PostFilterContext { snapshot, pod, .. } = self.context;
        let node = &snapshot.nodes()[row];
        let is_lesser = |other: &&Arc<PodInfo>| other.priority < pod.priority;
        let mut potential: Vec<Arc<PodInfo>> =
            node.pods().iter().filter(is_lesser).cloned().collect();
        if potential.is_empty() {
            return Err(Rejection::unresolvable("No preemption victims found for incoming pod"));
        }
        let mut left = NodeInfo::clone(node);
        potential.iter().for_each(|victim| {
            left.remove_pod(&victim.uid);
        });
        let nominated = nominated_from(node, snapshot, pod.priority);
        nominated.filter(|other| other.uid != pod.uid).for_each(|other| {
            left.add_pod(Arc::clone(other));
        });
        self.local.check(&left).map_err(refusal)?;
        potential.sort_by_cached_key(|victim| importance(victim));
        let (violating, harmless) = self.budgets.split(potential);
        let mut reprieve = |victim: &Arc<PodInfo>| {
            left.add_pod(Arc::clone(victim));
            let stays = self.local.has_room(&left);
            if !stays {
                left.remove_pod(&victim.uid);
            }
            stays
        };
        let mut victims = violating;
        victims.retain(|victim| !reprieve(victim));
        let pdb_violations = victims.len();
        victims.extend(harmless.into_iter().filter(|victim| !reprieve(victim)));
        victims.sort_by_cached_key(|victim| importance(victim));
        if victims.is_empty() {
            return Err(Rejection::error(no_victim(node.name())));
        }
        Ok((victims, pdb_violations))
    }
}
