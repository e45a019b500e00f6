//! Questions about the pods on nodes, and how many pods of each node and domain are an answer.

use std::sync::Arc;

use pintle_api::labels::Selector;
use rustc_hash::FxHashMap;

use super::Row;
use super::domain::{Keys, NONE, add};
use super::look::Looks;
use crate::pod::PodInfo;

/// Which pods are counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Question {
    /// All must match: namespaces (`None` for every one, else ordered) and labels.
    pub(super) parts: Vec<(Option<Vec<Box<str>>>, Selector)>,
    /// Whether pods that are being deleted count.
    pub(super) counts_leaving: bool,
}

impl Question {
    fn selects(&self, pod: &PodInfo) -> bool {
        (self.counts_leaving || !pod.is_terminating())
            && self.parts.iter().all(|(namespaces, selector)| {
                let namespace = pod.namespace();
                namespaces.as_ref().is_none_or(|all| all.iter().any(|name| **name == *namespace))
                    && selector.matches(&pod.pod.metadata.labels)
            })
    }

    fn exact(&self) -> Option<(&str, &str)> {
        self.parts.iter().find_map(|(_, selector)| selector.exact())
    }
}

/// The numbers of one question.
#[derive(Debug)]
struct Selection {
    question: Question,
    /// No other selection ever has the same.
    serial: u64,
    by_row: Arc<Vec<u32>>,
    by_key: Vec<ByKey>,
    is_recent: bool,
}

#[derive(Debug)]
struct ByKey {
    key: usize,
    by_domain: Arc<Vec<u32>>,
    /// Of all domains together.
    total: u64,
}

/// The questions that were asked lately.
#[derive(Debug)]
pub(super) struct Selections {
    limits: Limits,
    all: Vec<Selection>,
    by_question: FxHashMap<Question, usize>,
    by_label: ByLabel,
    /// Where the search for a selection to give up goes on.
    hand: usize,
    /// The serial number of the next selection.
    next: u64,
    /// How many were given up.
    given_up: u64,
}

/// How many selections are kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// What the counts by row of all of them together take at most.
    pub(super) bytes_max: usize,
    /// At least so many, however many nodes there are; one or more.
    pub(super) min: usize,
    /// At most so many, however few nodes there are.
    pub(super) max: usize,
}

impl Default for Limits {
    /// With 5,000 nodes 3,355 selections, with 100,000 nodes 167.
    fn default() -> Self {
        Self { bytes_max: 64 << 20, min: 16, max: 4096 }
    }
}

impl Selections {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            all: Vec::new(),
            by_question: FxHashMap::default(),
            by_label: ByLabel::default(),
            hand: 0,
            next: 0,
            given_up: 0,
        }
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    /// A pod came to a row (`sign` is 1) or went (-1).
    pub(super) fn count(&mut self, row: usize, pod: &PodInfo, sign: i32, keys: &Keys) {
        for at in self.by_label.of(pod) {
            let selection = &mut self.all[at];
            if !selection.question.selects(pod) {
                continue;
            }
            add(Arc::make_mut(&mut selection.by_row), row, sign);
            for ByKey { key, by_domain, total } in &mut selection.by_key {
                let domain = keys.get(*key).at(row);
                if domain != NONE {
                    add(Arc::make_mut(by_domain), domain as usize, sign);
                    *total = total.wrapping_add_signed(sign.into());
                }
            }
        }
    }

    /// The number of a selection, made by a look at every pod if the question is new. It is kept at
    /// least until the next question.
    pub(super) fn number(&mut self, question: Question, rows: &[Row], looks: &Looks) -> usize {
        if let Some(&at) = self.by_question.get(&question) {
            self.all[at].is_recent = true;
            return at;
        }
        let is_selected = looks.which(|pod| question.selects(pod));
        let count = |row: &Row| {
            let count = row.pods.iter().filter(|seen| is_selected[seen.look]).count();
            u32::try_from(count).unwrap_or(u32::MAX)
        };
        let by_row = Arc::new(rows.iter().map(count).collect());
        let key = question.clone();
        let serial = self.next;
        self.next += 1;
        let selection = Selection { question, serial, by_row, by_key: Vec::new(), is_recent: true };
        let at = self.place(selection, rows.len());
        self.by_label.insert(key.exact(), at);
        self.by_question.insert(key, at);
        at
    }

    /// How many selections were given up so far: while it stays, all numbers stay what they are.
    pub(super) fn given_up(&self) -> u64 {
        self.given_up
    }

    /// What tells the selection from others that had or will have its number.
    pub(super) fn serial(&self, at: usize) -> u64 {
        self.all[at].serial
    }

    /// Keeps the selection of this number and serial number for a while; false if it is given up.
    pub(super) fn touch(&mut self, at: usize, serial: u64) -> bool {
        let Some(selection) = self.all.get_mut(at) else { return false };
        selection.is_recent |= selection.serial == serial;
        selection.serial == serial
    }

    /// How many pods of the selection are in each domain of a key that was asked for before.
    pub(super) fn known(&self, at: usize, key: usize) -> (&[u32], u64) {
        let known = self.all[at].by_key.iter().find(|known| known.key == key);
        known.map_or((&[], 0), |known| (known.by_domain.as_slice(), known.total))
    }

    /// How many pods of the selection are in each row.
    pub(super) fn by_row(&self, at: usize) -> &Arc<Vec<u32>> {
        &self.all[at].by_row
    }

    /// How many pods of the selection are in each domain of a key, and in all of them.
    pub(super) fn by_domain(&mut self, at: usize, key: usize, keys: &Keys) -> (Arc<Vec<u32>>, u64) {
        let selection = &mut self.all[at];
        if let Some(known) = selection.by_key.iter().find(|known| known.key == key) {
            return (Arc::clone(&known.by_domain), known.total);
        }
        let (mut by_domain, mut total) = (Vec::new(), 0);
        for (row, count) in selection.by_row.iter().enumerate() {
            let domain = keys.get(key).at(row);
            if domain != NONE && *count > 0 {
                add(&mut by_domain, domain as usize, i32::try_from(*count).unwrap_or(i32::MAX));
                total += u64::from(*count);
            }
        }
        let by_domain = Arc::new(by_domain);
        selection.by_key.push(ByKey { key, by_domain: Arc::clone(&by_domain), total });
        (by_domain, total)
    }

    fn place(&mut self, selection: Selection, rows: usize) -> usize {
        let bytes = (rows * size_of::<u32>()).max(1);
        let Limits { bytes_max, min, max } = self.limits;
        let max = (bytes_max / bytes).clamp(min, max);
        if self.all.len() < max {
            self.all.push(selection);
            return self.all.len() - 1;
        }
        let at = self.give_up();
        self.all[at] = selection;
        at
    }

    /// A selection that was not asked for in a while, which is forgotten.
    fn give_up(&mut self) -> usize {
        loop {
            self.hand = (self.hand + 1) % self.all.len();
            let selection = &mut self.all[self.hand];
            if !std::mem::take(&mut selection.is_recent) {
                self.by_label.remove(selection.question.exact(), self.hand);
                self.by_question.remove(&selection.question);
                self.given_up += 1;
                return self.hand;
            }
        }
    }
}

/// Numbers of conditions on labels, by a label that must have one value where there is such a one.
#[derive(Debug, Default)]
pub(super) struct ByLabel {
    exact: FxHashMap<Box<str>, FxHashMap<Box<str>, Vec<usize>>>,
    others: Vec<usize>,
}

impl ByLabel {
    pub(super) fn insert(&mut self, exact: Option<(&str, &str)>, number: usize) {
        self.list(exact).push(number);
    }

    pub(super) fn remove(&mut self, exact: Option<(&str, &str)>, number: usize) {
        let list = self.list(exact);
        list.retain(|other| *other != number);
        if list.is_empty()
            && let Some((key, value)) = exact
            && let Some(values) = self.exact.get_mut(key)
        {
            values.remove(value);
            if values.is_empty() {
                self.exact.remove(key);
            }
        }
    }

    /// Those that may match the pod's labels, each once.
    pub(super) fn of<'a>(&'a self, pod: &'a PodInfo) -> impl Iterator<Item = usize> + 'a {
        let labels = pod.pod.metadata.labels.iter().flatten();
        let lists = labels.filter_map(|(key, value)| self.exact.get(&**key)?.get(&**value));
        lists.flatten().chain(&self.others).copied()
    }

    fn list(&mut self, exact: Option<(&str, &str)>) -> &mut Vec<usize> {
        match exact {
            Some((key, value)) => {
                self.exact.entry(key.into()).or_default().entry(value.into()).or_default()
            }
            None => &mut self.others,
        }
    }
}
