//! What is taken of the devices: kept from pod to pod, and brought up to date by what changed.
//!
//! Mirrors `allocatedDevices` and `GatherAllocatedState`. A [`Ledger`] follows one line of
//! [`Objects`]: where claims changed since, these are taken over one by one; where slices changed, it
//! is made anew. Whatever its past, it says the same as one made from the objects alone.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::resource::v1::{DeviceRequestAllocationResult, ResourceClaim};
use pintle_api::quantity::Quantity;
use pintle_api::resources::{Amounts, amounts};
use rustc_hash::FxHashMap;

use super::claim;
use super::extended;
use super::inventory::Inventory;
use super::memo::{Answer, Memo, Memos, Stamps};
use super::request::ClaimPlan;
use crate::cache::Objects;

/// The devices, and what is taken of them.
#[derive(Debug)]
pub(super) struct Ledger {
    versions: Versions,
    inventory: Inventory,
    holdings: FxHashMap<ClaimKey, Holding>,
    /// The claims made for a pod's extended resources, by the pod's uid: at most one, if all goes well.
    extended: FxHashMap<Box<str>, Vec<ClaimKey>>,
    uses: Vec<Use>,
    /// What those who share a device consume of its capacity, by the device's number.
    consumed: FxHashMap<usize, Amounts>,
    /// What is left of each pool's counters.
    left: Vec<Vec<Quantity>>,
    /// By what selects devices: which it selects.
    matches: Mutex<MatchesByExpressions>,
    /// How often something changed on each node, if every slice is one node's.
    stamps: Option<Stamps>,
    memos: Mutex<Memos>,
}

/// A claim's namespace and name.
type ClaimKey = (Box<str>, Box<str>);

type MatchesByExpressions = FxHashMap<Box<[Box<str>]>, Arc<Matches>>;

/// Of which objects a ledger tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Versions {
    slices: u64,
    rules: u64,
    claims: u64,
}

/// How many hold a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Use {
    /// For themselves.
    alone: u32,
    /// With others.
    shared: u32,
}

#[derive(Debug, Default, PartialEq)]
struct Holding {
    devices: Vec<Held>,
    /// Whose extended resources the claim is for.
    extended_for: Option<Box<str>>,
}

#[derive(Debug, PartialEq)]
struct Held {
    pool: usize,
    number: usize,
    /// What is consumed of a shared device.
    shared: Option<Amounts>,
}

/// Which devices some expressions select, by number, as far as it is known.
#[derive(Debug, Default)]
pub(super) struct Matches(Box<[AtomicU8]>);

const UNKNOWN: u8 = 0;
const NO: u8 = 1;
const YES: u8 = 2;

/// So many sets of expressions are kept: a cluster has a handful of device classes.
const MATCHES_MAX: usize = 64;

impl Matches {
    fn new(device_count: usize) -> Self {
        Self((0..device_count).map(|_| AtomicU8::new(UNKNOWN)).collect())
    }

    /// Whether the device is selected, if it is known.
    pub(super) fn get(&self, number: usize) -> Option<bool> {
        match self.0[number].load(Ordering::Relaxed) {
            UNKNOWN => None,
            known => Some(known == YES),
        }
    }

    pub(super) fn set(&self, number: usize, matches: bool) {
        self.0[number].store(if matches { YES } else { NO }, Ordering::Relaxed);
    }
}

impl Versions {
    fn of(objects: &Objects) -> Self {
        Self {
            slices: objects.resource_slices.version(),
            rules: objects.device_taint_rules.version(),
            claims: objects.resource_claims.version(),
        }
    }
}

impl Ledger {
    pub(super) fn new(objects: &Objects) -> Self {
        let rules: Vec<_> = objects.device_taint_rules.iter().collect();
        let inventory = Inventory::new(objects.resource_slices.iter(), &rules);
        let left = inventory.pools().iter().map(|pool| pool.counters.clone()).collect();
        let mut ledger = Self {
            versions: Versions::of(objects),
            uses: vec![Use::default(); inventory.device_count()],
            inventory,
            holdings: FxHashMap::default(),
            extended: FxHashMap::default(),
            consumed: FxHashMap::default(),
            left,
            matches: Mutex::default(),
            stamps: None,
            memos: Mutex::default(),
        };
        ledger.stamps = Stamps::new(&ledger.inventory);
        objects.resource_claims.iter().for_each(|claim| ledger.hold(claim));
        ledger
    }

    /// Whether it tells of these objects.
    pub(super) fn is_of(&self, objects: &Objects) -> bool {
        self.versions == Versions::of(objects)
    }

    /// Takes over what changed; false if that is not known.
    pub(super) fn follow(&mut self, objects: &Objects) -> bool {
        let versions = Versions { claims: self.versions.claims, ..Versions::of(objects) };
        let changed = objects.resource_claims.changes_since(self.versions.claims);
        let Some(changed) = changed.filter(|_| versions == self.versions) else { return false };
        for (namespace, name) in changed {
            self.release(namespace, name);
            if let Some(claim) = objects.resource_claims.get(namespace, name) {
                self.hold(claim);
            }
        }
        self.versions = Versions::of(objects);
        true
    }

    pub(super) fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// Whether somebody has the device for itself.
    pub(super) fn is_taken(&self, number: usize) -> bool {
        self.uses[number].alone > 0
    }

    /// Whether some share the device.
    pub(super) fn is_shared(&self, number: usize) -> bool {
        self.uses[number].shared > 0
    }

    /// What those who share the device consume of its capacity.
    pub(super) fn consumed(&self, number: usize) -> Option<&Amounts> {
        self.consumed.get(&number)
    }

    /// What is left of a pool's counters.
    pub(super) fn left(&self, pool: usize) -> &[Quantity] {
        &self.left[pool]
    }

    /// The claim made for the extended resources of the pod, by namespace and name.
    pub(super) fn extended_claim_of(&self, pod_uid: &str) -> Option<(&str, &str)> {
        let (namespace, name) = self.extended.get(pod_uid)?.first()?;
        Some((namespace, name))
    }

    /// Which devices the expressions select; the same for the same expressions.
    pub(super) fn matches(&self, expressions: &[&str]) -> Arc<Matches> {
        let key: Box<[Box<str>]> = expressions.iter().map(|text| Box::from(*text)).collect();
        let mut all = self.matches.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MATCHES_MAX && !all.contains_key(&key) {
            all.clear();
        }
        let count = self.inventory.device_count();
        Arc::clone(all.entry(key).or_insert_with(|| Arc::new(Matches::new(count))))
    }

    fn hold(&mut self, claim: &ResourceClaim) {
        let results = claim::allocation(claim).and_then(|allocation| allocation.devices.as_ref());
        let results = results.and_then(|devices| devices.results.as_deref()).unwrap_or_default();
        // Those used with admin access are not taken by that.
        let results = results.iter().filter(|result| result.admin_access != Some(true));
        let holding = Holding {
            devices: results.filter_map(|result| self.held(result)).collect(),
            extended_for: extended::pod_of(claim).map(Box::from),
        };
        if holding == Holding::default() {
            return;
        }
        holding.devices.iter().for_each(|held| self.take(held));
        let (namespace, name) = (&claim.metadata.namespace, &claim.metadata.name);
        let key = |text: &Option<String>| Box::<str>::from(text.as_deref().unwrap_or_default());
        if let Some(pod) = &holding.extended_for {
            let claims = self.extended.entry(pod.clone()).or_default();
            claims.push((key(namespace), key(name)));
        }
        self.holdings.insert((key(namespace), key(name)), holding);
    }

    fn release(&mut self, namespace: &str, name: &str) {
        let key = (namespace.into(), name.into());
        let Some(holding) = self.holdings.remove(&key) else { return };
        holding.devices.iter().for_each(|held| self.give_back(held));
        let Some(pod) = &holding.extended_for else { return };
        if let Some(claims) = self.extended.get_mut(pod) {
            claims.retain(|claim| *claim != key);
            if claims.is_empty() {
                self.extended.remove(pod);
            }
        }
    }

    /// `None` for a device that is not there.
    fn held(&self, result: &DeviceRequestAllocationResult) -> Option<Held> {
        let (pool, number) = self.inventory.find((&result.driver, &result.pool, &result.device))?;
        let shared = result.share_id.is_some();
        let shared = shared.then(|| amounts(result.consumed_capacity.as_ref()));
        Some(Held { pool, number, shared })
    }

    /// What is known of nodes for claims that want this; `None` if nothing can be kept.
    pub(super) fn memo(&self, claims: &[Arc<ClaimPlan>]) -> Option<Arc<Memo>> {
        let stamps = self.stamps.as_ref()?;
        Some(self.memos.lock().unwrap_or_else(PoisonError::into_inner).of(claims, stamps))
    }

    /// What the memo knows of the node.
    pub(super) fn recall(&self, memo: &Memo, node: &str) -> Option<Answer> {
        memo.get(self.stamps.as_ref()?, node)
    }

    /// Lets the memo know of the node.
    pub(super) fn keep(&self, memo: &Memo, node: &str, answer: Answer) {
        if let Some(stamps) = &self.stamps {
            memo.set(stamps, node, answer);
        }
    }

    fn touch(&mut self, held: &Held) {
        if let Some(stamps) = &mut self.stamps {
            stamps.touch(held.pool);
        }
    }

    fn take(&mut self, held: &Held) {
        self.touch(held);
        let used = &mut self.uses[held.number];
        // A device consumes its counters once, whoever shares it.
        if *used == Use::default() {
            for (at, amount) in self.inventory.consumption(held.pool, held.number) {
                let left = &mut self.left[held.pool][*at];
                *left = left.minus(*amount);
            }
        }
        let Some(shared) = &held.shared else {
            used.alone += 1;
            return;
        };
        used.shared += 1;
        let consumed = self.consumed.entry(held.number).or_default();
        for (name, amount) in shared {
            let sum = consumed.entry(name.clone()).or_insert(Quantity::ZERO);
            *sum = sum.plus(*amount);
        }
    }

    fn give_back(&mut self, held: &Held) {
        self.touch(held);
        let used = &mut self.uses[held.number];
        if let Some(shared) = &held.shared {
            used.shared -= 1;
            if let Some(consumed) = self.consumed.get_mut(&held.number) {
                subtract(consumed, shared);
                if used.shared == 0 {
                    self.consumed.remove(&held.number);
                }
            }
        } else {
            used.alone -= 1;
        }
        if *used == Use::default() {
            for (at, amount) in self.inventory.consumption(held.pool, held.number) {
                let left = &mut self.left[held.pool][*at];
                *left = left.plus(*amount);
            }
        }
    }
}

fn subtract(from: &mut BTreeMap<String, Quantity>, amounts: &Amounts) {
    for (name, amount) in amounts {
        if let Some(sum) = from.get_mut(name) {
            *sum = sum.minus(*amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::cache::Object;
    use crate::testing;

    /// What a ledger tells.
    fn told(ledger: &Ledger) -> String {
        let mut holdings: Vec<_> = ledger.holdings.iter().collect();
        holdings.sort_by_key(|(key, _)| *key);
        let mut consumed: Vec<_> = ledger.consumed.iter().collect();
        consumed.sort_by_key(|(number, _)| **number);
        format!("{holdings:?} {:?} {consumed:?} {:?}", ledger.uses, ledger.left)
    }

    proptest! {
        #[test]
        fn a_ledger_that_follows_says_what_a_new_one_says(
            steps in vec((testing::device(), any::<bool>(), prop::bool::weighted(0.2)), 1..40),
        ) {
            let mut objects = Objects::default();
            let mut ledger = Ledger::new(&objects);
            for (object, is_assumed, is_gone) in steps {
                match &object {
                    Object::ResourceClaim(_, Some(claim)) if is_gone => {
                        let gone = Object::ResourceClaim(Some(Arc::clone(claim)), None);
                        objects.apply(&gone);
                    }
                    Object::ResourceClaim(_, Some(claim)) if is_assumed => {
                        objects.resource_claims.assume(claim);
                    }
                    object => objects.apply(object),
                }
                let fresh = Ledger::new(&objects);
                if !ledger.follow(&objects) {
                    ledger = Ledger::new(&objects);
                }
                prop_assert!(ledger.is_of(&objects));
                prop_assert_eq!(told(&ledger), told(&fresh));
            }
        }
    }
}
