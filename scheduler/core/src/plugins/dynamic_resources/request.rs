//! What claims ask for, worked out once for all nodes.
//!
//! Mirrors `validateDeviceRequest` and the request accessors of the allocator. A request asks for
//! devices of a class; or it lists alternatives, of which the first that works is taken.

use std::sync::Arc;

use k8s_openapi::api::resource::v1::{
    CapacityRequirements, DeviceClass, DeviceConstraint, DeviceRequest, DeviceSelector,
    DeviceSubRequest, DeviceToleration, ExactDeviceRequest, ResourceClaim,
};
use pintle_api::resources::{Amounts, amounts};

use super::claim;
use super::ledger::{Ledger, Matches};
use crate::cache::Lister;

/// The most devices of one claim (`AllocationResultsMaxSize`).
pub(super) const DEVICES_PER_CLAIM_MAX: usize = 32;

/// A claim to allocate.
#[derive(Debug)]
pub(super) struct ClaimPlan {
    pub(super) claim: Arc<ResourceClaim>,
    pub(super) requests: Vec<RequestPlan>,
    pub(super) constraints: Vec<Constraint>,
}

/// A request of a claim: one of these.
#[derive(Debug, PartialEq)]
pub(super) struct RequestPlan {
    pub(super) alternatives: Vec<Alternative>,
}

/// Devices of a class.
#[derive(Debug)]
pub(super) struct Alternative {
    /// The request's name, or of an alternative of several `REQUEST/NAME`.
    pub(super) full_name: String,
    /// The request's name, or the alternative's.
    pub(super) name: String,
    pub(super) request: String,
    pub(super) class: Arc<DeviceClass>,
    pub(super) selectors: Vec<DeviceSelector>,
    pub(super) count: Count,
    pub(super) admin_access: bool,
    pub(super) tolerations: Vec<DeviceToleration>,
    /// How much of a device's capacity is wanted.
    pub(super) capacity: Amounts,
    /// Which devices the expressions select.
    pub(super) matches: Arc<Matches>,
}

/// How many devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    /// So many.
    Exact(usize),
    /// All that match, at least one.
    All,
}

/// What the devices of some requests must have in common, or apart.
#[derive(Debug, PartialEq)]
pub(super) struct Constraint {
    pub(super) attribute: String,
    /// Whether all have the same value of the attribute; else no two have.
    pub(super) is_match: bool,
    /// Empty: of all requests.
    requests: Vec<String>,
}

impl Constraint {
    /// Whether devices for this alternative count.
    pub(super) fn concerns(&self, alternative: &Alternative) -> bool {
        self.requests.is_empty()
            || self
                .requests
                .iter()
                .any(|name| *name == alternative.request || *name == alternative.full_name)
    }
}

impl ClaimPlan {
    /// Checks a claim and looks up its classes; an error is in upstream's words.
    pub(super) fn new(
        claim: &Arc<ResourceClaim>,
        classes: &Lister<DeviceClass>,
        ledger: &Ledger,
    ) -> Result<Self, String> {
        let context = Context { claim, classes, ledger };
        let requests = claim::requests(claim).iter().map(|request| context.plan(request));
        let requests = requests.collect::<Result<Vec<_>, _>>()?;
        let least = requests.iter().map(RequestPlan::devices_min).fold(0, usize::saturating_add);
        if least > DEVICES_PER_CLAIM_MAX {
            return Err(format!(
                "claim {}: number of requested devices {least} exceeds the claim limit of \
                 {DEVICES_PER_CLAIM_MAX}",
                claim::key(claim)
            ));
        }
        let constraints = claim.spec.devices.as_ref().and_then(|d| d.constraints.as_deref());
        let constraints = constraints.unwrap_or_default().iter().enumerate();
        let constraints = constraints.map(|(at, it)| constraint(claim, at, it));
        Ok(Self {
            claim: Arc::clone(claim),
            requests,
            constraints: constraints.collect::<Result<_, _>>()?,
        })
    }
}

impl ClaimPlan {
    /// Whether both get the same devices wherever they are looked for.
    pub(super) fn wants_as(&self, other: &Self) -> bool {
        self.constraints == other.constraints && self.requests == other.requests
    }
}

impl PartialEq for Alternative {
    /// The class and the selectors are in what they select.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.matches, &other.matches)
            && (&self.full_name, &self.request) == (&other.full_name, &other.request)
            && (self.count, self.admin_access) == (other.count, other.admin_access)
            && self.tolerations == other.tolerations
            && self.capacity == other.capacity
    }
}

impl RequestPlan {
    /// A lower bound; how many "all" are depends on the node.
    fn devices_min(&self) -> usize {
        let counts = self.alternatives.iter().map(|alternative| match alternative.count {
            Count::Exact(count) => count,
            Count::All => 0,
        });
        counts.min().unwrap_or(0)
    }
}

fn constraint(
    claim: &ResourceClaim,
    at: usize,
    constraint: &DeviceConstraint,
) -> Result<Constraint, String> {
    let (attribute, is_match) = match (&constraint.match_attribute, &constraint.distinct_attribute)
    {
        (Some(attribute), _) => (attribute, true),
        (None, Some(attribute)) => (attribute, false),
        (None, None) => {
            return Err(format!(
                "claim {}, constraint #{at}: empty constraint (unsupported constraint type?)",
                claim::key(claim)
            ));
        }
    };
    let requests = constraint.requests.clone().unwrap_or_default();
    Ok(Constraint { attribute: attribute.clone(), is_match, requests })
}

/// What plans of requests are made from.
#[derive(Clone, Copy)]
struct Context<'a> {
    claim: &'a ResourceClaim,
    classes: &'a Lister<DeviceClass>,
    ledger: &'a Ledger,
}

/// What a request and an alternative have in common.
struct Fields<'a> {
    full_name: String,
    name: &'a str,
    request: &'a str,
    class: &'a str,
    selectors: Option<&'a Vec<DeviceSelector>>,
    mode: Option<&'a str>,
    count: Option<i64>,
    admin_access: bool,
    tolerations: Option<&'a Vec<DeviceToleration>>,
    capacity: Option<&'a CapacityRequirements>,
}

impl<'a> Fields<'a> {
    fn exact(request: &'a DeviceRequest, exactly: &'a ExactDeviceRequest) -> Self {
        Self {
            full_name: request.name.clone(),
            name: &request.name,
            request: &request.name,
            class: &exactly.device_class_name,
            selectors: exactly.selectors.as_ref(),
            mode: exactly.allocation_mode.as_deref(),
            count: exactly.count,
            admin_access: exactly.admin_access == Some(true),
            tolerations: exactly.tolerations.as_ref(),
            capacity: exactly.capacity.as_ref(),
        }
    }

    fn listed(request: &'a DeviceRequest, listed: &'a DeviceSubRequest) -> Self {
        Self {
            full_name: format!("{}/{}", request.name, listed.name),
            name: &listed.name,
            request: &request.name,
            class: &listed.device_class_name,
            selectors: listed.selectors.as_ref(),
            mode: listed.allocation_mode.as_deref(),
            count: listed.count,
            admin_access: false,
            tolerations: listed.tolerations.as_ref(),
            capacity: listed.capacity.as_ref(),
        }
    }
}

impl Context<'_> {
    fn plan(self, request: &DeviceRequest) -> Result<RequestPlan, String> {
        let listed = request.first_available.as_deref().unwrap_or_default();
        let alternatives = match &request.exactly {
            Some(exactly) => vec![self.alternative(Fields::exact(request, exactly))?],
            None => listed
                .iter()
                .map(|listed| self.alternative(Fields::listed(request, listed)))
                .collect::<Result<_, _>>()?,
        };
        if alternatives.is_empty() {
            let (claim, request) = (claim::key(self.claim), &request.name);
            return Err(format!("resource claim {claim}, request {request}: unknown request type"));
        }
        Ok(RequestPlan { alternatives })
    }

    fn alternative(self, fields: Fields<'_>) -> Result<Alternative, String> {
        let (name, full_name) = (fields.name, fields.full_name);
        let selectors = fields.selectors.cloned().unwrap_or_default();
        let class = self.class(name, &full_name, fields.class, &selectors)?;
        let count = count(self.claim, name, fields.mode, fields.count)?;
        let mut alternative = Alternative {
            name: name.to_owned(),
            request: fields.request.to_owned(),
            full_name,
            class,
            selectors,
            count,
            admin_access: fields.admin_access,
            tolerations: fields.tolerations.cloned().unwrap_or_default(),
            capacity: amounts(fields.capacity.and_then(|capacity| capacity.requests.as_ref())),
            matches: Arc::default(),
        };
        let expressions = alternative.expressions().map(|(_, _, expression)| expression);
        alternative.matches = self.ledger.matches(&expressions.collect::<Vec<_>>());
        Ok(alternative)
    }

    fn class(
        self,
        name: &str,
        full_name: &str,
        class: &str,
        selectors: &[DeviceSelector],
    ) -> Result<Arc<DeviceClass>, String> {
        if class.is_empty() {
            return Err(format!("request {full_name}: unsupported request type"));
        }
        if let Some(at) = selectors.iter().position(|selector| selector.cel.is_none()) {
            return Err(format!(
                "claim {}, request {name}, selector #{at}: CEL expression empty (unsupported \
                 selector type?)",
                claim::key(self.claim)
            ));
        }
        let found = self.classes.get("", class).cloned();
        found.ok_or_else(|| format!("request {full_name}: device class {class} does not exist"))
    }
}

impl Alternative {
    /// The expressions that select devices: the class's, then the request's, each with what to call
    /// it in an error.
    pub(super) fn expressions(&self) -> impl Iterator<Item = (Owner, usize, &str)> {
        let class = self.class.spec.selectors.as_deref().unwrap_or_default();
        expressions(Owner::Class, class).chain(expressions(Owner::Claim, &self.selectors))
    }
}

fn expressions(
    owner: Owner,
    selectors: &[DeviceSelector],
) -> impl Iterator<Item = (Owner, usize, &str)> {
    let numbered = selectors.iter().enumerate();
    // A class's selector of a kind that is not known is an expression that does not compile.
    numbered.map(move |(at, selector)| {
        let expression = selector.cel.as_ref().map_or("", |cel| cel.expression.as_str());
        (owner, at, expression)
    })
}

/// Whose selector it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The device class.
    Class,
    /// The claim.
    Claim,
}

/// The API server sets the mode, and a count of 1 where none is given.
fn count(
    claim: &ResourceClaim,
    name: &str,
    mode: Option<&str>,
    count: Option<i64>,
) -> Result<Count, String> {
    match mode.unwrap_or("ExactCount") {
        "ExactCount" | "" => {
            let count = count.unwrap_or(1).max(0);
            Ok(Count::Exact(usize::try_from(count).unwrap_or(usize::MAX)))
        }
        "All" => Ok(Count::All),
        mode => Err(format!(
            "claim {}, request {name}: unsupported count mode {mode}",
            claim::key(claim)
        )),
    }
}
