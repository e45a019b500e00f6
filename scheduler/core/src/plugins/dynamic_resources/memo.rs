//! Answers that are kept from pod to pod: whether a node has devices for what is wanted.
//!
//! Where every slice is one node's, the answer depends on what is wanted and on what is taken of that
//! node's pools. Nodes have a stamp that changes with what is taken of theirs; an answer counts as long
//! as its node's stamp is the same. What is wanted is the same for claims of one template.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustc_hash::FxHashMap;

use super::inventory::Inventory;
use super::request::ClaimPlan;

/// The nodes that have slices of their own, with a number each, and how often something changed there.
/// All other nodes are number 0.
#[derive(Debug, Default)]
pub(super) struct Stamps {
    numbers: FxHashMap<Box<str>, usize>,
    /// The numbers of the nodes that a pool is on.
    of_pool: Vec<Vec<usize>>,
    stamps: Vec<u64>,
}

impl Stamps {
    /// `None` if some slice may be reached from many nodes.
    pub(super) fn new(inventory: &Inventory) -> Option<Self> {
        let nodes = inventory.local()?;
        let mut stamps = Self {
            of_pool: vec![Vec::new(); inventory.pools().len()],
            stamps: vec![1],
            ..Self::default()
        };
        for (node, slices) in nodes {
            let number = stamps.stamps.len();
            stamps.stamps.push(1);
            stamps.numbers.insert(node.into(), number);
            for (pool, _) in slices {
                let nodes = &mut stamps.of_pool[*pool];
                if nodes.last() != Some(&number) {
                    nodes.push(number);
                }
            }
        }
        Some(stamps)
    }

    /// Something of the pool was taken or given back.
    pub(super) fn touch(&mut self, pool: usize) {
        for number in &self.of_pool[pool] {
            self.stamps[*number] += 1;
        }
    }

    /// The node's number, and its stamp.
    fn of(&self, node: &str) -> (usize, u64) {
        let number = self.numbers.get(node).copied().unwrap_or(0);
        (number, self.stamps[number])
    }
}

/// The answers for one want, by the nodes' numbers.
#[derive(Debug)]
pub(super) struct Memo(Box<[AtomicU64]>);

/// What is known of a node: whether it has the devices, and then how much the alternatives that were
/// found are preferred.
pub(super) type Answer = Option<i64>;

/// An entry is a stamp and below it an answer; 0 is none. A preference above this is not kept.
const PREFERENCE_MAX: i64 = (1 << BITS) - 3;
const BITS: u32 = 16;
const REFUSED: u64 = 1;
const PREFERRED_FROM: u64 = 2;

impl Memo {
    pub(super) fn new(stamps: &Stamps) -> Self {
        Self(stamps.stamps.iter().map(|_| AtomicU64::new(0)).collect())
    }

    pub(super) fn get(&self, stamps: &Stamps, node: &str) -> Option<Answer> {
        let (number, stamp) = stamps.of(node);
        let entry = self.0[number].load(Ordering::Relaxed);
        match (entry >> BITS == stamp, entry & ((1 << BITS) - 1)) {
            (false, _) | (_, 0) => None,
            (true, REFUSED) => Some(None),
            (true, answer) => Some(i64::try_from(answer - PREFERRED_FROM).ok()),
        }
    }

    pub(super) fn set(&self, stamps: &Stamps, node: &str, answer: Answer) {
        let answer = match answer {
            None => REFUSED,
            Some(preference @ 0..=PREFERENCE_MAX) => preference.unsigned_abs() + PREFERRED_FROM,
            Some(_) => return,
        };
        let (number, stamp) = stamps.of(node);
        self.0[number].store(stamp << BITS | answer, Ordering::Relaxed);
    }
}

/// Answers by what is wanted.
#[derive(Debug, Default)]
pub(super) struct Memos(Vec<(Vec<Arc<ClaimPlan>>, Arc<Memo>)>);

/// So many wants are kept: as many as there are templates of claims under way at a time.
const MEMOS_MAX: usize = 64;

impl Memos {
    /// The answers for what these claims want.
    pub(super) fn of(&mut self, claims: &[Arc<ClaimPlan>], stamps: &Stamps) -> Arc<Memo> {
        let is_same = |known: &[Arc<ClaimPlan>]| {
            known.len() == claims.len()
                && known.iter().zip(claims).all(|(known, claim)| known.wants_as(claim))
        };
        if let Some((_, memo)) = self.0.iter().find(|(known, _)| is_same(known)) {
            return Arc::clone(memo);
        }
        if self.0.len() >= MEMOS_MAX {
            self.0.clear();
        }
        let memo = Arc::new(Memo::new(stamps));
        self.0.push((claims.to_vec(), Arc::clone(&memo)));
        memo
    }
}
