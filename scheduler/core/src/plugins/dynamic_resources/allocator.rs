//! Which devices of a node satisfy claims.
//!
//! Mirrors `k8s.io/dynamic-resource-allocation/structured`, the variant with all features. Claims are
//! satisfied one after the other, each request after the other, device after device, in the order of
//! pools, slices and devices; what does not work out is taken back and the next is tried. The first
//! solution found is taken, so it is the one with the earliest alternatives and devices.
//!
//! The devices of one request are tried in ascending order only: which of them came first makes no
//! difference. The search is bounded by [`STEPS_MAX`] where upstream has a timeout.

#[cfg(test)]
mod tests;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::resource::v1::{Device, DeviceAttribute, DeviceToleration};
use pintle_api::quantity::Quantity;
use pintle_api::resources::Amounts;
use rustc_hash::FxHashMap;

use super::capacity;
use super::claim;
use super::inventory::{Candidate, Pool};
use super::ledger::Ledger;
use super::request::{Alternative, ClaimPlan, Constraint, Count, DEVICES_PER_CLAIM_MAX, Owner};
use super::selector::Selectors;
use crate::framework::Rejection;

/// How many devices may be looked at for one pod on one node, before the search is given up: a few
/// milliseconds. Upstream's filter gives up after 10 s.
const STEPS_MAX: usize = 100_000;

/// Why there is no solution where nothing is wrong.
pub(super) const NONE_FOUND: &str = "cannot allocate all claims";

/// What devices are looked for in.
#[derive(Clone, Copy)]
pub(super) struct Allocator<'p> {
    pub(super) ledger: &'p Ledger,
    pub(super) selectors: &'p Selectors,
}

/// The devices for one claim.
pub(super) struct Solution<'p> {
    /// Request by request.
    pub(super) devices: Vec<Chosen<'p>>,
    /// The alternative taken of each request.
    pub(super) taken: Vec<&'p Alternative>,
}

/// A device for a request.
pub(super) struct Chosen<'p> {
    pub(super) request: &'p Alternative,
    pub(super) candidate: Candidate<'p>,
    /// What is consumed of a device that others may have too.
    pub(super) shared: Option<Amounts>,
}

/// Why there is no solution, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoSolution {
    /// Not on this node (`ErrFailedAllocationOnNode` and the like).
    Here(&'static str),
    /// Something is wrong with a claim, its class or what is there for it: the attempt fails.
    Wrong(String),
}

impl From<NoSolution> for Rejection {
    fn from(reason: NoSolution) -> Self {
        match reason {
            NoSolution::Here(message) => Self::unresolvable(message),
            NoSolution::Wrong(message) => Self::error(message),
        }
    }
}

impl<'p> Allocator<'p> {
    /// Finds devices on the node for each claim, in their order.
    pub(super) fn allocate(
        self,
        claims: &'p [&'p ClaimPlan],
        node: &Node,
    ) -> Result<Vec<Solution<'p>>, NoSolution> {
        let (pools, candidates) = self.ledger.inventory().of_node(node);
        let mut search = Search::new(self, claims, candidates);
        search.count_all(&pools)?;
        if search.run()? {
            return Ok(search.solutions());
        }
        Err(NoSolution::Here(if search.steps == 0 {
            "timed out trying to allocate devices"
        } else if pools.iter().any(|pool| pool.is_invalid) {
            "invalid resource pools were encountered"
        } else {
            NONE_FOUND
        }))
    }
}

/// Where the search stands: what to find next.
#[derive(Clone, Copy, Debug)]
struct Position {
    claim: usize,
    request: usize,
    /// Which alternative of the request is being tried.
    alternative: Option<usize>,
    /// How many devices it has already.
    devices: usize,
    /// Where among the candidates, or for "all" among those that match, to look next.
    next: usize,
}

/// A choice that can be taken back.
#[derive(Clone, Copy, Debug)]
enum Choice {
    Alternative(Position),
    /// With the candidate.
    Device(Position, usize),
}

struct Search<'p> {
    allocator: Allocator<'p>,
    claims: &'p [&'p ClaimPlan],
    candidates: Vec<Candidate<'p>>,
    choices: Vec<Choice>,
    /// The devices of `choices`, in their order.
    taken: Vec<Taken>,
    /// How many devices each claim has.
    counts: Vec<usize>,
    /// What the devices of `taken` consume, by pool and counter.
    consumed: FxHashMap<(usize, usize), Quantity>,
    /// The candidates that match an alternative that wants all.
    all: FxHashMap<(usize, usize, usize), Vec<usize>>,
    /// What is left of [`STEPS_MAX`].
    steps: usize,
}

/// A chosen device.
struct Taken {
    claim: usize,
    candidate: usize,
    /// What is consumed of a device that others may have too.
    shared: Option<Amounts>,
    /// Whether it is the one that consumes the device's counters.
    counts: bool,
}

impl<'p> Search<'p> {
    fn new(
        allocator: Allocator<'p>,
        claims: &'p [&'p ClaimPlan],
        candidates: Vec<Candidate<'p>>,
    ) -> Self {
        Self {
            allocator,
            claims,
            candidates,
            choices: Vec::new(),
            taken: Vec::new(),
            counts: vec![0; claims.len()],
            consumed: FxHashMap::default(),
            all: FxHashMap::default(),
            steps: STEPS_MAX,
        }
    }

    fn alternative(&self, at: Position) -> &'p Alternative {
        let request = &self.claims[at.claim].requests[at.request];
        &request.alternatives[at.alternative.unwrap_or(0)]
    }

    /// Works out how many "all" are. A pool that is being updated must not be taken for whole.
    fn count_all(&mut self, pools: &[&Pool]) -> Result<(), NoSolution> {
        for (claim, plan) in self.claims.iter().enumerate() {
            let mut least = 0_usize;
            for (request, wanted) in plan.requests.iter().enumerate() {
                let mut counts = Vec::new();
                for (alternative, wants) in wanted.alternatives.iter().enumerate() {
                    counts.push(match wants.count {
                        Count::Exact(count) => count,
                        Count::All => {
                            check_pools(plan, wants, pools)?;
                            let at = (claim, request, alternative);
                            let all = self.all_matching(at)?;
                            let count = all.len();
                            self.all.insert(at, all);
                            count
                        }
                    });
                }
                least = least.saturating_add(counts.into_iter().min().unwrap_or(0));
            }
            if least > DEVICES_PER_CLAIM_MAX {
                return Err(NoSolution::Wrong(format!(
                    "claim {}: number of requested devices {least} exceeds the claim limit of \
                     {DEVICES_PER_CLAIM_MAX}",
                    claim::key(&plan.claim)
                )));
            }
        }
        Ok(())
    }

    fn all_matching(&mut self, at: (usize, usize, usize)) -> Result<Vec<usize>, NoSolution> {
        let mut all = Vec::new();
        let alternative = &self.claims[at.0].requests[at.1].alternatives[at.2];
        for candidate in 0..self.candidates.len() {
            if self.is_match(at, candidate)? && self.shares(alternative, candidate).is_some() {
                all.push(candidate);
            }
        }
        Ok(all)
    }

    /// Searches; false if there is no solution or no step is left.
    fn run(&mut self) -> Result<bool, NoSolution> {
        let mut at = Position { claim: 0, request: 0, alternative: None, devices: 0, next: 0 };
        loop {
            match self.step(at)? {
                Step::Found => return Ok(true),
                Step::Go(next) => at = next,
                Step::Stuck => match self.take_back() {
                    Some(next) => at = next,
                    None => return Ok(false),
                },
            }
            if self.steps == 0 {
                return Ok(false);
            }
        }
    }

    /// One step on from the position.
    fn step(&mut self, at: Position) -> Result<Step, NoSolution> {
        let Some(plan) = self.claims.get(at.claim) else { return Ok(Step::Found) };
        let Some(request) = plan.requests.get(at.request) else {
            let claim = at.claim + 1;
            return Ok(Step::Go(Position {
                claim,
                request: 0,
                alternative: None,
                devices: 0,
                next: 0,
            }));
        };
        let Some(alternative) = at.alternative else {
            if request.alternatives.is_empty() {
                return Ok(Step::Stuck);
            }
            self.choices.push(Choice::Alternative(Position { alternative: Some(0), ..at }));
            return Ok(Step::Go(Position { alternative: Some(0), devices: 0, next: 0, ..at }));
        };
        let wanted = match request.alternatives[alternative].count {
            Count::Exact(count) => count,
            Count::All => match self.all[&(at.claim, at.request, alternative)].len() {
                0 => return Ok(Step::Stuck),
                count => count,
            },
        };
        if at.devices >= wanted {
            let request = at.request + 1;
            return Ok(Step::Go(Position {
                request,
                alternative: None,
                devices: 0,
                next: 0,
                ..at
            }));
        }
        let in_all = self.counts[at.claim].saturating_add(wanted - at.devices);
        if in_all > DEVICES_PER_CLAIM_MAX {
            return Ok(Step::Stuck);
        }
        self.choose(at, request.alternatives[alternative].count == Count::All)
    }

    /// Chooses the next device that will do.
    fn choose(&mut self, at: Position, all: bool) -> Result<Step, NoSolution> {
        let key = (at.claim, at.request, at.alternative.unwrap_or(0));
        if all {
            // All are needed: if this one cannot be had, no other will help.
            self.steps = self.steps.saturating_sub(1);
            let candidate = self.all[&key][at.devices];
            let Some(shared) = self.share(at, candidate) else { return Ok(Step::Stuck) };
            if !self.satisfies_constraints(at, candidate) {
                return Err(self.constraint_broken(at, candidate));
            }
            return Ok(self.take(at, candidate, shared));
        }
        for candidate in at.next..self.candidates.len() {
            self.steps = self.steps.saturating_sub(1);
            if self.steps == 0 {
                return Ok(Step::Stuck);
            }
            if self.candidates[candidate].is_usable
                && let Some(shared) = self.share(at, candidate)
                && self.is_match(key, candidate)?
                && self.satisfies_constraints(at, candidate)
            {
                return Ok(self.take(at, candidate, shared));
            }
        }
        Ok(Step::Stuck)
    }

    fn take(&mut self, at: Position, candidate: usize, shared: Option<Amounts>) -> Step {
        // What others may have too, may be had again.
        let next = candidate + usize::from(shared.is_none());
        let it = &self.candidates[candidate];
        let counts = !it.consumption.is_empty() && !self.is_counted(candidate);
        if counts {
            for (counter, amount) in it.consumption {
                let sum = self.consumed.entry((it.pool_at, *counter)).or_insert(Quantity::ZERO);
                *sum = sum.plus(*amount);
            }
        }
        self.choices.push(Choice::Device(at, candidate));
        self.counts[at.claim] += 1;
        self.taken.push(Taken { claim: at.claim, candidate, shared, counts });
        Step::Go(Position { devices: at.devices + 1, next, ..at })
    }

    fn put_back(&mut self) {
        let Some(Taken { claim, candidate, counts, .. }) = self.taken.pop() else { return };
        self.counts[claim] -= 1;
        if counts {
            let it = &self.candidates[candidate];
            for (counter, amount) in it.consumption {
                if let Some(sum) = self.consumed.get_mut(&(it.pool_at, *counter)) {
                    *sum = sum.minus(*amount);
                }
            }
        }
    }

    /// Takes back the last choice that leaves another; returns where to go on.
    fn take_back(&mut self) -> Option<Position> {
        while let Some(choice) = self.choices.pop() {
            match choice {
                Choice::Alternative(at) => {
                    let alternative = at.alternative.unwrap_or(0) + 1;
                    let request = &self.claims[at.claim].requests[at.request];
                    if alternative < request.alternatives.len() {
                        let at =
                            Position { alternative: Some(alternative), devices: 0, next: 0, ..at };
                        self.choices.push(Choice::Alternative(at));
                        return Some(at);
                    }
                }
                Choice::Device(at, candidate) => {
                    self.put_back();
                    if self.alternative(at).count != Count::All {
                        return Some(Position { next: candidate + 1, ..at });
                    }
                }
            }
        }
        None
    }

    /// What is consumed of the device if others may have it too; `None` if it is in use, has too little
    /// left, or is not tolerated.
    fn share(&self, at: Position, candidate: usize) -> Option<Option<Amounts>> {
        let (alternative, it) = (self.alternative(at), &self.candidates[candidate]);
        let mut chosen = self.taken.iter().filter(|taken| taken.candidate == candidate);
        let in_use = if is_shareable(it) {
            self.allocator.ledger.is_taken(it.number) && !alternative.admin_access
        } else if alternative.admin_access {
            chosen.any(|taken| taken.claim == at.claim)
        } else {
            let ledger = self.allocator.ledger;
            ledger.is_taken(it.number) || ledger.is_shared(it.number) || chosen.next().is_some()
        };
        if in_use || !self.has_counters(candidate) {
            return None;
        }
        let taints = it
            .device
            .taints
            .iter()
            .flatten()
            .map(|taint| (taint.key.as_str(), taint.value.as_deref(), taint.effect.as_str()));
        let mut taints = taints.chain(it.pool.ruled_taints(it.id.2));
        if !taints.all(|taint| is_tolerated(taint, &alternative.tolerations)) {
            return None;
        }
        self.shares(alternative, candidate)
    }

    /// What is consumed of the device if others may have it too; `None` if it has too little left.
    fn shares(&self, alternative: &Alternative, candidate: usize) -> Option<Option<Amounts>> {
        let it = &self.candidates[candidate];
        let is_shareable = is_shareable(it);
        if !is_shareable && alternative.capacity.is_empty() {
            return Some(None);
        }
        let used = self.allocator.ledger.consumed(it.number);
        let used = |name: &str| used.and_then(|used| used.get(name));
        let own = || self.taken.iter().filter(|taken| taken.candidate == candidate);
        let also = |name: &str| {
            let shares = own().filter_map(|taken| taken.shared.as_ref()?.get(name));
            shares.fold(Quantity::ZERO, |sum, amount| sum.plus(*amount))
        };
        let consumption = capacity::consumption(it.device, &alternative.capacity, used, also)?;
        Some(is_shareable.then_some(consumption))
    }

    /// Whether what the device consumes of its pool's counters is there.
    fn has_counters(&self, candidate: usize) -> bool {
        let it = &self.candidates[candidate];
        if it.consumption.is_empty() || self.is_counted(candidate) {
            return true;
        }
        // Counters below zero are of a driver's mistake: nothing more is taken of such a pool.
        let left = self.allocator.ledger.left(it.pool_at);
        left.iter().all(|left| !left.is_negative())
            && it.consumption.iter().all(|(counter, amount)| {
                let consumed = self.consumed.get(&(it.pool_at, *counter)).copied();
                consumed.unwrap_or(Quantity::ZERO).plus(*amount) <= left[*counter]
            })
    }

    /// Whether the device consumes its counters already, as others share it.
    fn is_counted(&self, candidate: usize) -> bool {
        let it = &self.candidates[candidate];
        let is_chosen = || self.taken.iter().any(|it| it.candidate == candidate && it.counts);
        is_shareable(it) && (self.allocator.ledger.is_shared(it.number) || is_chosen())
    }

    /// Whether the class's and the request's expressions select the device.
    fn is_match(
        &self,
        (claim, request, alternative): (usize, usize, usize),
        candidate: usize,
    ) -> Result<bool, NoSolution> {
        let plan = self.claims[claim];
        let alternative = &plan.requests[request].alternatives[alternative];
        let it = &self.candidates[candidate];
        if let Some(known) = alternative.matches.get(it.number) {
            return Ok(known);
        }
        let found = self.selects(plan, alternative, it)?;
        alternative.matches.set(it.number, found);
        Ok(found)
    }

    fn selects(
        &self,
        plan: &ClaimPlan,
        alternative: &Alternative,
        candidate: &Candidate<'_>,
    ) -> Result<bool, NoSolution> {
        // Devices that are to be made ready first (DRADeviceBindingConditions, alpha) are left out.
        if candidate.device.binding_conditions.as_ref().is_some_and(|c| !c.is_empty()) {
            return Ok(false);
        }
        for (owner, at, expression) in alternative.expressions() {
            let whose = || match owner {
                Owner::Class => {
                    let name = alternative.class.metadata.name.as_deref();
                    format!("class {}: selector #{at}", name.unwrap_or_default())
                }
                Owner::Claim => format!("claim {}: selector #{at}", claim::key(&plan.claim)),
            };
            let selector = self.allocator.selectors.get(expression);
            let selector = selector.map_err(|error| {
                NoSolution::Wrong(format!("{}: CEL compile error: {error}", whose()))
            })?;
            let matches = self.allocator.selectors.matches(&selector, candidate);
            let matches = matches.map_err(|error| {
                let (driver, pool, device) = candidate.id;
                let device = format!("{driver}/{pool}/{device}");
                NoSolution::Wrong(format!(
                    "{} on device {device}: CEL runtime error: {error}",
                    whose()
                ))
            })?;
            if !matches {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the device has the same values as those already chosen where it must, and others where
    /// it must.
    fn satisfies_constraints(&self, at: Position, candidate: usize) -> bool {
        let (plan, alternative) = (self.claims[at.claim], self.alternative(at));
        let mut concerned = plan.constraints.iter().filter(|c| c.concerns(alternative));
        concerned.all(|constraint| {
            let value =
                |candidate: usize| attribute(&self.candidates[candidate], &constraint.attribute);
            let Some(own) = value(candidate) else { return false };
            let mut others = self.concerned(at.claim, constraint);
            let is_as = |other: usize| value(other).is_some_and(|other| is_same(own, other));
            if constraint.is_match {
                // All that follow the first were compared with it.
                return others.next().is_none_or(is_as);
            }
            has_value(own) && !others.any(is_as)
        })
    }

    /// The devices chosen for the claim that the constraint concerns.
    fn concerned(&self, claim: usize, constraint: &Constraint) -> impl Iterator<Item = usize> {
        self.choices.iter().filter_map(move |choice| match choice {
            Choice::Device(at, candidate)
                if at.claim == claim && constraint.concerns(self.alternative(*at)) =>
            {
                Some(*candidate)
            }
            _ => None,
        })
    }

    fn constraint_broken(&self, at: Position, candidate: usize) -> NoSolution {
        let (driver, pool, device) = self.candidates[candidate].id;
        NoSolution::Wrong(format!(
            "claim {}, request {}: cannot add device {driver}/{pool}/{device} because a claim \
             constraint would not be satisfied",
            claim::key(&self.claims[at.claim].claim),
            self.alternative(at).name,
        ))
    }

    fn solutions(mut self) -> Vec<Solution<'p>> {
        let empty = |_| Solution { devices: Vec::new(), taken: Vec::new() };
        let mut solutions: Vec<Solution<'p>> = self.claims.iter().map(empty).collect();
        let mut taken = std::mem::take(&mut self.taken).into_iter();
        for choice in &self.choices {
            match choice {
                Choice::Alternative(at) => solutions[at.claim].taken.push(self.alternative(*at)),
                Choice::Device(at, candidate) => {
                    let request = self.alternative(*at);
                    let candidate = self.candidates[*candidate];
                    let shared = taken.next().and_then(|taken| taken.shared);
                    solutions[at.claim].devices.push(Chosen { request, candidate, shared });
                }
            }
        }
        solutions
    }
}

/// Whether several may have the device at once.
fn is_shareable(candidate: &Candidate<'_>) -> bool {
    candidate.device.allow_multiple_allocations == Some(true)
}

/// What one step came to.
enum Step {
    Found,
    Go(Position),
    Stuck,
}

fn check_pools(plan: &ClaimPlan, wants: &Alternative, pools: &[&Pool]) -> Result<(), NoSolution> {
    let unusable = |what: &str, pool: &Pool| {
        NoSolution::Wrong(format!(
            "claim {}, request {}: asks for all devices, but resource pool {}/{} is currently {what}",
            claim::key(&plan.claim),
            wants.name,
            pool.driver,
            pool.name
        ))
    };
    for pool in pools {
        if pool.is_incomplete {
            return Err(unusable("being updated", pool));
        }
        if pool.is_invalid {
            return Err(unusable("invalid", pool));
        }
    }
    Ok(())
}

/// The attribute of this full name; one of the driver's own domain may be without it.
fn attribute<'a>(candidate: &Candidate<'a>, name: &str) -> Option<&'a DeviceAttribute> {
    let device: &'a Device = candidate.device;
    let attributes = device.attributes.as_ref()?;
    attributes.get(name).or_else(|| {
        let (domain, id) = name.split_once('/')?;
        (domain == candidate.id.0).then(|| attributes.get(id)).flatten()
    })
}

/// Whether both have the same value of the same kind; values of unknown kinds are never the same.
fn is_same(a: &DeviceAttribute, b: &DeviceAttribute) -> bool {
    if a.string.is_some() {
        a.string == b.string
    } else if a.int.is_some() {
        a.int == b.int
    } else if a.bool.is_some() {
        a.bool == b.bool
    } else {
        a.version.is_some() && a.version == b.version
    }
}

/// Whether the value is of a kind that is known.
fn has_value(value: &DeviceAttribute) -> bool {
    value.string.is_some() || value.int.is_some() || value.bool.is_some() || value.version.is_some()
}

/// A taint's key, value and effect.
type Taint<'a> = (&'a str, Option<&'a str>, &'a str);

/// Whether the taint lets the device be had: only these effects prevent it.
fn is_tolerated(taint: Taint<'_>, tolerations: &[DeviceToleration]) -> bool {
    !matches!(taint.2, "NoSchedule" | "NoExecute")
        || tolerations.iter().any(|toleration| tolerates(toleration, taint))
}

fn tolerates(toleration: &DeviceToleration, taint: Taint<'_>) -> bool {
    let (taint_key, taint_value, taint_effect) = taint;
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    let is_meant =
        (effect.is_empty() || effect == taint_effect) && (key.is_empty() || key == taint_key);
    is_meant
        && match toleration.operator.as_deref().unwrap_or_default() {
            "" | "Equal" => {
                toleration.value.as_deref().unwrap_or_default() == taint_value.unwrap_or_default()
            }
            "Exists" => true,
            _ => false,
        }
}
