//! What sets rows apart in the eyes of one inquiry.
//!
//! Rows with equal [`Key`]s get the same verdicts and raw scores from InterPodAffinity and
//! PodTopologySpread, whatever is counted by domain at the moment. A key's components are:
//!
//! * for a topology key of which some domain has several rows: the row's domain;
//! * for what is counted by a topology key whose domains are single rows: what is counted there, so
//!   that rows with equal numbers come together however many domains there are. Of terms that filter
//!   only what they come to is kept, and of terms that score the sum.
//!
//! So the key of a row changes when its own pods or its node change, and only then.

use std::sync::Arc;

use super::Counters;
use super::domain::{Keys, NONE};
use super::inquiry::{Inquiry, Spread};
use super::spread::requires_of_nodes;
use super::tally::Tally;
use crate::cache::{NodeInfo, Snapshot};
use crate::plugins::pod_topology_spread as spread;
use crate::pod::PodInfo;

/// More components than this are not kept apart.
pub const WIDTH_MAX: usize = 8;

/// What sets rows apart; components that are not used are 0.
pub type Key = [i64; WIDTH_MAX];

/// The component of a row without the label.
pub(super) const WITHOUT: i64 = -1;

/// A row lacks the label of a term that wants pods, in the component of verdicts.
pub(super) const LACKS: i64 = 1;
/// A term that wants pods finds none.
pub(super) const ABSENT: i64 = 2;
/// A term that keeps pods away finds one.
pub(super) const KEPT_AWAY: i64 = 4;

/// Makes keys, and keeps what constraints count.
#[derive(Debug)]
pub struct Facets {
    pub(super) inquiry: Arc<Inquiry>,
    /// Any pod that the inquiry is about, of one signature.
    pod: Arc<PodInfo>,
    pub(super) layout: Layout,
    pub(super) limits: Vec<Tally>,
    pub(super) weighed: Vec<Tally>,
    /// Whether the constraints' policies leave out nodes, in order of `limits`, then `weighed`.
    is_choosy: Vec<bool>,
}

/// Where in a key what is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    /// The topology keys, and whether their domains are single rows.
    keys: Vec<(usize, bool)>,
    /// Those of which domains are components: the first ones, in this order.
    domains: Vec<usize>,
    pub(super) verdicts: Option<usize>,
    pub(super) sum: Option<usize>,
    pub(super) limits: Vec<Place>,
    pub(super) weighed: Vec<Place>,
    width: usize,
}

/// Where a constraint's number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The number itself is this component.
    Count(usize),
    /// The domain is this component.
    Domain(usize),
}

impl Layout {
    /// `None` if there are too many components.
    fn new(inquiry: &Inquiry, keys: &Keys, width_max: usize) -> Option<Self> {
        let mut layout = Self::default();
        let terms = || inquiry.wanted.iter().chain(&inquiry.unwanted);
        let all = terms().chain(inquiry.weighted.iter().map(|(count, _)| count));
        all.for_each(|count| layout.see(count.key, keys));
        let by_domain = inquiry.weighed.iter().filter(|spread| !spread.is_hostname);
        inquiry.limits.iter().chain(by_domain).for_each(|spread| layout.see(spread.key, keys));
        layout.width = layout.domains.len();
        let is_unique = |key: usize| keys.get(key).is_unique();
        if terms().any(|count| is_unique(count.key)) {
            layout.verdicts = Some(layout.next());
        }
        if inquiry.weighted.iter().any(|(count, _)| is_unique(count.key)) {
            layout.sum = Some(layout.next());
        }
        for spread in &inquiry.limits {
            let place = layout.place(spread, is_unique(spread.key));
            layout.limits.push(place);
        }
        for spread in &inquiry.weighed {
            let place = layout.place(spread, spread.is_hostname || is_unique(spread.key));
            layout.weighed.push(place);
        }
        (layout.width <= width_max).then_some(layout)
    }

    fn see(&mut self, key: usize, keys: &Keys) {
        if self.keys.iter().all(|(seen, _)| *seen != key) {
            let is_unique = keys.get(key).is_unique();
            self.keys.push((key, is_unique));
            if !is_unique {
                self.domains.push(key);
            }
        }
    }

    fn next(&mut self) -> usize {
        self.width += 1;
        self.width - 1
    }

    fn place(&mut self, spread: &Spread, is_count: bool) -> Place {
        match self.domain(spread.key).filter(|_| !is_count) {
            Some(at) => Place::Domain(at),
            None => Place::Count(self.next()),
        }
    }

    /// The component with the row's domain of a topology key; `None` if domains are single rows.
    pub(super) fn domain(&self, key: usize) -> Option<usize> {
        self.domains.iter().position(|other| *other == key)
    }
}

impl Facets {
    /// `None` if there are more components than `width_max`.
    pub fn new(
        inquiry: &Arc<Inquiry>,
        pod: &Arc<PodInfo>,
        counters: &Counters,
        width_max: usize,
    ) -> Option<Self> {
        let layout = Layout::new(inquiry, &counters.keys, width_max.min(WIDTH_MAX))?;
        let is_required = requires_of_nodes(pod);
        let is_choosy = |s: &Spread| s.honors_taints || (s.honors_affinity && is_required);
        let tallies = |all: &[Spread]| all.iter().map(|_| Tally::default()).collect();
        Some(Self {
            layout,
            limits: tallies(&inquiry.limits),
            weighed: tallies(&inquiry.weighed),
            is_choosy: inquiry.limits.iter().chain(&inquiry.weighed).map(is_choosy).collect(),
            inquiry: Arc::clone(inquiry),
            pod: Arc::clone(pod),
        })
    }

    /// Whether keys are still made of the same.
    pub fn is_current(&self, counters: &Counters) -> bool {
        let keys = &self.layout.keys;
        keys.iter().all(|(key, is_unique)| counters.keys.get(*key).is_unique() == *is_unique)
    }

    /// How many components are used.
    pub fn width(&self) -> usize {
        self.layout.width
    }

    /// Forgets the rows from this one on.
    pub fn truncate(&mut self, rows: usize) {
        self.limits.iter_mut().chain(&mut self.weighed).for_each(|tally| tally.truncate(rows));
    }

    /// Takes over what changed of a row. Of several rows, all come before the key of any is made.
    pub fn take_over(&mut self, row: usize, counters: &Counters, snapshot: &Snapshot) {
        let node = &snapshot.nodes()[row];
        let Self { inquiry, pod, limits, weighed, is_choosy, .. } = self;
        let (of_limits, of_weighed) = is_choosy.split_at(limits.len());
        tally(&inquiry.limits, limits, of_limits, true, (row, node), pod, counters);
        let all_keys = inquiry.requires_all_keys;
        tally(&inquiry.weighed, weighed, of_weighed, all_keys, (row, node), pod, counters);
    }

    /// The row's key.
    pub fn key(&self, row: usize, counters: &Counters) -> Key {
        let Self { inquiry, layout, .. } = self;
        let mut key = [0; WIDTH_MAX];
        let domain = |of: usize| counters.keys.get(of).at(row);
        for (component, of) in key.iter_mut().zip(&layout.domains) {
            *component = component_of(domain(*of));
        }
        if let Some(at) = layout.verdicts {
            key[at] = self.verdicts(row, counters);
        }
        if let Some(at) = layout.sum {
            let single = inquiry.weighted.iter().filter(|(count, _)| self.is_single(count.key));
            let parts = single.map(|(count, weight)| {
                i64::from(counters.in_domain(count, domain(count.key))) * weight
            });
            key[at] = parts.sum();
        }
        let limits = inquiry.limits.iter().zip(&self.limits).zip(&layout.limits);
        let weighed = inquiry.weighed.iter().zip(&self.weighed).zip(&layout.weighed);
        for (is_weighed, ((spread, tally), place)) in
            limits.map(|all| (false, all)).chain(weighed.map(|all| (true, all)))
        {
            let Place::Count(at) = *place else { continue };
            key[at] = match domain(spread.key) {
                NONE => WITHOUT,
                _ if is_weighed && spread.is_hostname => counters.in_row(spread, row).into(),
                domain => tally.at(domain).into(),
            };
        }
        key
    }

    /// Whether domains of the topology key are single rows.
    fn is_single(&self, key: usize) -> bool {
        self.layout.domain(key).is_none()
    }

    /// What the terms that filter say of the row, as far as their domains are single rows.
    fn verdicts(&self, row: usize, counters: &Counters) -> i64 {
        let domain = |of: usize| counters.keys.get(of).at(row);
        let mut verdicts = 0;
        for count in self.inquiry.wanted.iter().filter(|count| self.is_single(count.key)) {
            match domain(count.key) {
                NONE => verdicts |= LACKS,
                domain if counters.in_domain(count, domain) == 0 => verdicts |= ABSENT,
                _ => {}
            }
        }
        let mut unwanted = self.inquiry.unwanted.iter().filter(|count| self.is_single(count.key));
        if unwanted.any(|count| counters.in_domain(count, domain(count.key)) > 0) {
            verdicts |= KEPT_AWAY;
        }
        verdicts
    }
}

/// Counts a row for each constraint, if it counts.
fn tally(
    spreads: &[Spread],
    tallies: &mut [Tally],
    is_choosy: &[bool],
    requires_all_keys: bool,
    (row, node): (usize, &NodeInfo),
    pod: &PodInfo,
    counters: &Counters,
) {
    let domain = |spread: &Spread| counters.keys.get(spread.key).at(row);
    let is_out = requires_all_keys && spreads.iter().any(|spread| domain(spread) == NONE);
    for ((spread, tally), is_choosy) in spreads.iter().zip(tallies).zip(is_choosy) {
        let counts = !is_out
            && (!is_choosy
                || spread::includes(spread.honors_affinity, spread.honors_taints, pod, node));
        match counts {
            true => tally.set(row, domain(spread), counters.in_row(spread, row)),
            false => tally.set(row, NONE, 0),
        }
    }
}

fn component_of(domain: u32) -> i64 {
    if domain == NONE { WITHOUT } else { domain.into() }
}
