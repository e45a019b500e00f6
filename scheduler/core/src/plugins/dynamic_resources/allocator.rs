//! Which devices of a node satisfy claims.
//!
//! Mirrors `k8s.io/dynamic-resource-allocation/structured`, the stable variant. Claims are
//! satisfied one after the other, each request after the other, device after device, in the order of
//! pools, slices and devices; what does not work out is taken back and the next is tried. The first
//! solution found is taken, so it is the one with the earliest alternatives and devices.
//!
//! The devices of one request are tried in ascending order only: which of them came first makes no
//! difference. The search is bounded by [`STEPS_MAX`] where upstream has a timeout.

#[cfg(test)]
mod tests;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::resource::v1::{Device, DeviceAttribute, DeviceTaint, DeviceToleration};
use rustc_hash::{FxHashMap, FxHashSet};

use super::claim;
use super::inventory::{Candidate, DeviceId, Inventory, Pool};
use super::request::{Alternative, ClaimPlan, Count, DEVICES_PER_CLAIM_MAX, MatchAttribute, Owner};
use super::selector::Selectors;

/// How many devices may be looked at for one pod on one node, before the search is given up: a few
/// milliseconds. Upstream's filter gives up after 10 s.
const STEPS_MAX: usize = 100_000;

/// What is the same for all nodes.
pub(super) struct Allocator<'a> {
    pub(super) claims: Vec<ClaimPlan<'a>>,
    pub(super) inventory: Inventory<'a>,
    /// What claims have already.
    pub(super) allocated: FxHashSet<DeviceId<'a>>,
    pub(super) selectors: &'a Selectors,
}

/// The devices for one claim.
pub(super) struct Solution<'a, 'p> {
    /// Request by request.
    pub(super) devices: Vec<(&'p Alternative<'a>, Candidate<'a>)>,
    /// The alternative taken of each request.
    pub(super) taken: Vec<&'p Alternative<'a>>,
}

/// Why there is no solution, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NoSolution(pub(super) String);

impl<'a> Allocator<'a> {
    /// Finds devices on the node for each claim, in their order.
    pub(super) fn allocate(&self, node: &Node) -> Result<Vec<Solution<'a, '_>>, NoSolution> {
        let (pools, candidates) = self.inventory.of_node(node);
        let mut search = Search::new(self, &pools, candidates);
        search.count_all(&pools)?;
        if search.run()? {
            return Ok(search.solutions());
        }
        Err(NoSolution(if search.steps == 0 {
            "timed out trying to allocate devices".to_owned()
        } else if pools.iter().any(|pool| pool.is_invalid) {
            "invalid resource pools were encountered".to_owned()
        } else {
            "cannot allocate all claims".to_owned()
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

struct Search<'a, 'p> {
    allocator: &'p Allocator<'a>,
    candidates: Vec<Candidate<'a>>,
    /// Of each candidate, whether a claim had it before.
    is_allocated: Vec<bool>,
    /// Of each candidate, the claims it is chosen for.
    chosen_for: Vec<Vec<usize>>,
    /// Of each claim, the chosen candidates.
    chosen: Vec<Vec<usize>>,
    choices: Vec<Choice>,
    /// Whether a candidate matches an alternative.
    matches: FxHashMap<(usize, usize, usize, usize), bool>,
    /// The candidates that match an alternative that wants all.
    all: FxHashMap<(usize, usize, usize), Vec<usize>>,
    /// What is left of [`STEPS_MAX`].
    steps: usize,
}

impl<'a, 'p> Search<'a, 'p> {
    fn new(
        allocator: &'p Allocator<'a>,
        _pools: &[&Pool<'a>],
        candidates: Vec<Candidate<'a>>,
    ) -> Self {
        let is_allocated = candidates.iter().map(|c| allocator.allocated.contains(&c.id)).collect();
        Self {
            allocator,
            is_allocated,
            chosen_for: vec![Vec::new(); candidates.len()],
            candidates,
            chosen: vec![Vec::new(); allocator.claims.len()],
            choices: Vec::new(),
            matches: FxHashMap::default(),
            all: FxHashMap::default(),
            steps: STEPS_MAX,
        }
    }

    fn alternative(&self, at: Position) -> &'p Alternative<'a> {
        let request = &self.allocator.claims[at.claim].requests[at.request];
        &request.alternatives[at.alternative.unwrap_or(0)]
    }

    /// Works out how many "all" are. A pool that is being updated must not be taken for whole.
    fn count_all(&mut self, pools: &[&Pool<'a>]) -> Result<(), NoSolution> {
        let allocator = self.allocator;
        for (claim, plan) in allocator.claims.iter().enumerate() {
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
                return Err(NoSolution(format!(
                    "claim {}: number of requested devices {least} exceeds the claim limit of \
                     {DEVICES_PER_CLAIM_MAX}",
                    claim::key(plan.claim)
                )));
            }
        }
        Ok(())
    }

    fn all_matching(&mut self, at: (usize, usize, usize)) -> Result<Vec<usize>, NoSolution> {
        let mut all = Vec::new();
        for candidate in 0..self.candidates.len() {
            if self.is_match(at, candidate)? {
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
        let Some(plan) = self.allocator.claims.get(at.claim) else { return Ok(Step::Found) };
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
        let in_all = self.chosen[at.claim].len().saturating_add(wanted - at.devices);
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
            if !self.is_free(at, candidate) {
                return Ok(Step::Stuck);
            }
            if !self.satisfies_constraints(at, candidate) {
                return Err(self.constraint_broken(at, candidate));
            }
            return Ok(self.take(at, candidate, self.candidates.len()));
        }
        for candidate in at.next..self.candidates.len() {
            self.steps = self.steps.saturating_sub(1);
            if self.steps == 0 {
                return Ok(Step::Stuck);
            }
            if self.candidates[candidate].is_usable
                && self.is_free(at, candidate)
                && self.is_match(key, candidate)?
                && self.satisfies_constraints(at, candidate)
            {
                return Ok(self.take(at, candidate, candidate + 1));
            }
        }
        Ok(Step::Stuck)
    }

    fn take(&mut self, at: Position, candidate: usize, next: usize) -> Step {
        self.choices.push(Choice::Device(at, candidate));
        self.chosen[at.claim].push(candidate);
        self.chosen_for[candidate].push(at.claim);
        Step::Go(Position { devices: at.devices + 1, next, ..at })
    }

    /// Takes back the last choice that leaves another; returns where to go on.
    fn take_back(&mut self) -> Option<Position> {
        while let Some(choice) = self.choices.pop() {
            match choice {
                Choice::Alternative(at) => {
                    let alternative = at.alternative.unwrap_or(0) + 1;
                    let request = &self.allocator.claims[at.claim].requests[at.request];
                    if alternative < request.alternatives.len() {
                        let at =
                            Position { alternative: Some(alternative), devices: 0, next: 0, ..at };
                        self.choices.push(Choice::Alternative(at));
                        return Some(at);
                    }
                }
                Choice::Device(at, candidate) => {
                    self.chosen[at.claim].pop();
                    self.chosen_for[candidate].pop();
                    if self.alternative(at).count != Count::All {
                        return Some(Position { next: candidate + 1, ..at });
                    }
                }
            }
        }
        None
    }

    /// Whether the device is not in use, usable at all, and tolerated.
    fn is_free(&self, at: Position, candidate: usize) -> bool {
        let alternative = self.alternative(at);
        let device = self.candidates[candidate].device;
        let in_use = if alternative.admin_access {
            self.chosen_for[candidate].contains(&at.claim)
        } else {
            self.is_allocated[candidate] || !self.chosen_for[candidate].is_empty()
        };
        !in_use
            && device.consumes_counters.as_ref().is_none_or(Vec::is_empty)
            && device.taints.iter().flatten().all(|t| is_tolerated(t, alternative.tolerations))
    }

    /// Whether the class's and the request's expressions select the device.
    fn is_match(
        &mut self,
        at: (usize, usize, usize),
        candidate: usize,
    ) -> Result<bool, NoSolution> {
        let (claim, request, alternative) = at;
        let key = (claim, request, alternative, candidate);
        if let Some(known) = self.matches.get(&key) {
            return Ok(*known);
        }
        let plan = &self.allocator.claims[claim];
        let alternative = &plan.requests[request].alternatives[alternative];
        let found = self.selects(plan, alternative, &self.candidates[candidate])?;
        self.matches.insert(key, found);
        Ok(found)
    }

    fn selects(
        &self,
        plan: &ClaimPlan<'_>,
        alternative: &Alternative<'_>,
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
                Owner::Claim => format!("claim {}: selector #{at}", claim::key(plan.claim)),
            };
            let selector = self.allocator.selectors.get(expression);
            let selector = selector
                .map_err(|error| NoSolution(format!("{}: CEL compile error: {error}", whose())))?;
            let matches = self.allocator.selectors.matches(&selector, candidate);
            let matches = matches.map_err(|error| {
                let (driver, pool, device) = candidate.id;
                let device = format!("{driver}/{pool}/{device}");
                NoSolution(format!("{} on device {device}: CEL runtime error: {error}", whose()))
            })?;
            if !matches {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the device has the same values as those already chosen where it must.
    fn satisfies_constraints(&self, at: Position, candidate: usize) -> bool {
        let (plan, alternative) = (&self.allocator.claims[at.claim], self.alternative(at));
        let mut concerned = plan.constraints.iter().filter(|c| c.concerns(alternative));
        concerned.all(|constraint| {
            let Some(value) = attribute(&self.candidates[candidate], constraint.attribute) else {
                return false;
            };
            let chosen = self.first_concerned(at.claim, constraint);
            chosen.is_none_or(|chosen| {
                attribute(&self.candidates[chosen], constraint.attribute)
                    .is_some_and(|other| is_same(value, other))
            })
        })
    }

    /// The first device chosen for the claim that the constraint concerns: all that follow were
    /// compared with it.
    fn first_concerned(&self, claim: usize, constraint: &MatchAttribute<'_>) -> Option<usize> {
        self.choices.iter().find_map(|choice| match choice {
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
        NoSolution(format!(
            "claim {}, request {}: cannot add device {driver}/{pool}/{device} because a claim \
             constraint would not be satisfied",
            claim::key(self.allocator.claims[at.claim].claim),
            self.alternative(at).name,
        ))
    }

    fn solutions(&self) -> Vec<Solution<'a, 'p>> {
        let empty = |_| Solution { devices: Vec::new(), taken: Vec::new() };
        let mut solutions: Vec<Solution<'a, 'p>> =
            self.allocator.claims.iter().map(empty).collect();
        for choice in &self.choices {
            match choice {
                Choice::Alternative(at) => solutions[at.claim].taken.push(self.alternative(*at)),
                Choice::Device(at, candidate) => {
                    let device = (self.alternative(*at), self.candidates[*candidate]);
                    solutions[at.claim].devices.push(device);
                }
            }
        }
        solutions
    }
}

/// What one step came to.
enum Step {
    Found,
    Go(Position),
    Stuck,
}

fn check_pools(
    plan: &ClaimPlan<'_>,
    wants: &Alternative<'_>,
    pools: &[&Pool<'_>],
) -> Result<(), NoSolution> {
    let unusable = |what: &str, pool: &Pool<'_>| {
        NoSolution(format!(
            "claim {}, request {}: asks for all devices, but resource pool {}/{} is currently {what}",
            claim::key(plan.claim),
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

/// Whether the taint lets the device be had: only these effects prevent it.
fn is_tolerated(taint: &DeviceTaint, tolerations: &[DeviceToleration]) -> bool {
    !matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute")
        || tolerations.iter().any(|toleration| tolerates(toleration, taint))
}

fn tolerates(toleration: &DeviceToleration, taint: &DeviceTaint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    let is_meant =
        (effect.is_empty() || effect == taint.effect) && (key.is_empty() || key == taint.key);
    is_meant
        && match toleration.operator.as_deref().unwrap_or_default() {
            "" | "Equal" => {
                toleration.value.as_deref().unwrap_or_default()
                    == taint.value.as_deref().unwrap_or_default()
            }
            "Exists" => true,
            _ => false,
        }
}
