//! The affinity terms of the pods on nodes: how many pods of each domain have one.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::Row;
use super::domain::{Keys, NONE, add};
use super::selection::ByLabel;
use crate::pod::{AffinityTerm, PodInfo};

/// What a term is to the pod that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Required,
    RequiredAnti,
    Preferred,
    PreferredAnti,
}

/// One term, whoever has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Identity {
    kind: Kind,
    /// 0 for required terms.
    weight: i32,
    term: Arc<AffinityTerm>,
}

/// A term that pods on nodes have.
#[derive(Debug)]
pub(super) struct Group {
    identity: Identity,
    /// Where it is among all, and a number that no other ever has.
    pub(super) at: usize,
    pub(super) serial: u64,
    /// The number of the term's topology key.
    pub(super) key: usize,
    pub(super) by_domain: Arc<Vec<u32>>,
    /// Of all domains together.
    pub(super) total: u64,
    /// How many times pods have it, in a domain or not.
    uses: u32,
}

impl Group {
    pub(super) fn kind(&self) -> Kind {
        self.identity.kind
    }

    pub(super) fn weight(&self) -> i32 {
        self.identity.weight
    }
}

/// The terms of all pods on nodes.
#[derive(Debug, Default)]
pub(super) struct Groups {
    all: Vec<Option<Group>>,
    free: Vec<usize>,
    by_identity: FxHashMap<Identity, usize>,
    by_label: ByLabel,
    /// How many terms are not counted because there are too many keys.
    uncounted: u32,
    /// Grows when a group comes or goes; the serial number of the next one.
    version: u64,
}

impl Groups {
    /// A pod came to a row (`sign` is 1) or went (-1).
    pub(super) fn count(
        &mut self,
        row: usize,
        pod: &PodInfo,
        sign: i32,
        keys: &mut Keys,
        rows: &[Row],
    ) {
        let terms = pod.affinity();
        let required = terms.required.iter().map(|term| (Kind::Required, 0, term));
        let required_anti = terms.required_anti.iter().map(|term| (Kind::RequiredAnti, 0, term));
        let preferred = terms.preferred.iter().map(|t| (Kind::Preferred, t.weight, &t.term));
        let anti = terms.preferred_anti.iter().map(|t| (Kind::PreferredAnti, t.weight, &t.term));
        for (kind, weight, term) in required.chain(required_anti).chain(preferred).chain(anti) {
            let identity = Identity { kind, weight, term: Arc::clone(term) };
            self.count_one(row, identity, sign, keys, rows);
        }
    }

    fn count_one(
        &mut self,
        row: usize,
        identity: Identity,
        sign: i32,
        keys: &mut Keys,
        rows: &[Row],
    ) {
        let Some(key) = keys.number(&identity.term.topology_key, rows) else {
            self.uncounted = self.uncounted.wrapping_add_signed(sign);
            self.version += 1;
            return;
        };
        let at = match self.by_identity.get(&identity) {
            Some(&at) => at,
            None => self.insert(identity, key),
        };
        let Some(group) = &mut self.all[at] else { return };
        group.uses = group.uses.wrapping_add_signed(sign);
        let domain = keys.get(key).at(row);
        if domain != NONE {
            add(Arc::make_mut(&mut group.by_domain), domain as usize, sign);
            group.total = group.total.wrapping_add_signed(sign.into());
        }
        if group.uses == 0
            && let Some(group) = self.all[at].take()
        {
            self.by_label.remove(group.identity.term.selector.exact(), at);
            self.by_identity.remove(&group.identity);
            self.free.push(at);
            self.version += 1;
        }
    }

    /// The groups whose terms are about the pod, whose namespace has these labels; `None` if some
    /// terms are not counted.
    pub(super) fn about<'a>(
        &'a self,
        pod: &'a PodInfo,
        labels: Option<&'a BTreeMap<String, String>>,
    ) -> Option<impl Iterator<Item = &'a Group>> {
        if self.uncounted > 0 {
            return None;
        }
        let groups = self.by_label.of(pod).filter_map(|at| self.all[at].as_ref());
        Some(groups.filter(move |group| group.identity.term.matches(pod, labels)))
    }

    /// Grows when other groups are about pods than before.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// The group of this number.
    pub(super) fn get(&self, at: usize) -> Option<&Group> {
        self.all.get(at)?.as_ref()
    }

    fn insert(&mut self, identity: Identity, key: usize) -> usize {
        let at = self.free.pop().unwrap_or_else(|| {
            self.all.push(None);
            self.all.len() - 1
        });
        self.by_label.insert(identity.term.selector.exact(), at);
        self.by_identity.insert(identity.clone(), at);
        let (serial, by_domain) = (self.version, Arc::default());
        self.version += 1;
        self.all[at] = Some(Group { identity, at, serial, key, by_domain, total: 0, uses: 0 });
        at
    }
}
