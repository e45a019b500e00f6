//! What claims ask for, worked out once for all nodes.
//!
//! Mirrors `validateDeviceRequest` and the request accessors of the allocator. A request asks for
//! devices of a class; or it lists alternatives, of which the first that works is taken.

use std::sync::Arc;

use k8s_openapi::api::resource::v1::{
    DeviceClass, DeviceConstraint, DeviceRequest, DeviceSelector, DeviceSubRequest,
    DeviceToleration, ExactDeviceRequest, ResourceClaim,
};

use super::claim;
use crate::cache::Lister;

/// The most devices of one claim (`AllocationResultsMaxSize`).
pub(super) const DEVICES_PER_CLAIM_MAX: usize = 32;

/// A claim to allocate.
#[derive(Debug)]
pub(super) struct ClaimPlan<'a> {
    pub(super) claim: &'a Arc<ResourceClaim>,
    pub(super) requests: Vec<RequestPlan<'a>>,
    pub(super) constraints: Vec<MatchAttribute<'a>>,
}

/// A request of a claim: one of these.
#[derive(Debug)]
pub(super) struct RequestPlan<'a> {
    pub(super) alternatives: Vec<Alternative<'a>>,
}

/// Devices of a class.
#[derive(Debug)]
pub(super) struct Alternative<'a> {
    /// The request's name, or of an alternative of several `REQUEST/NAME`.
    pub(super) full_name: String,
    /// The request's name, or the alternative's.
    pub(super) name: &'a str,
    pub(super) request: &'a str,
    pub(super) class: &'a Arc<DeviceClass>,
    pub(super) selectors: &'a [DeviceSelector],
    pub(super) count: Count,
    pub(super) admin_access: bool,
    pub(super) tolerations: &'a [DeviceToleration],
}

/// How many devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    /// So many.
    Exact(usize),
    /// All that match, at least one.
    All,
}

/// All devices of these requests have the same value of the attribute.
#[derive(Debug)]
pub(super) struct MatchAttribute<'a> {
    pub(super) attribute: &'a str,
    /// Empty: of all requests.
    requests: &'a [String],
}

impl MatchAttribute<'_> {
    /// Whether devices for this alternative count.
    pub(super) fn concerns(&self, alternative: &Alternative<'_>) -> bool {
        self.requests.is_empty()
            || self
                .requests
                .iter()
                .any(|name| name == alternative.request || *name == alternative.full_name)
    }
}

impl<'a> ClaimPlan<'a> {
    /// Checks a claim and looks up its classes; an error is in upstream's words.
    pub(super) fn new(
        claim: &'a Arc<ResourceClaim>,
        classes: &'a Lister<DeviceClass>,
    ) -> Result<Self, String> {
        let requests = claim::requests(claim).iter().map(|request| plan(claim, request, classes));
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
        let constraints =
            constraints.map(|(at, constraint)| match_attribute(claim, at, constraint));
        Ok(Self { claim, requests, constraints: constraints.collect::<Result<_, _>>()? })
    }
}

impl RequestPlan<'_> {
    /// A lower bound; how many "all" are depends on the node.
    fn devices_min(&self) -> usize {
        let counts = self.alternatives.iter().map(|alternative| match alternative.count {
            Count::Exact(count) => count,
            Count::All => 0,
        });
        counts.min().unwrap_or(0)
    }
}

fn match_attribute<'a>(
    claim: &ResourceClaim,
    at: usize,
    constraint: &'a DeviceConstraint,
) -> Result<MatchAttribute<'a>, String> {
    let Some(attribute) = &constraint.match_attribute else {
        return Err(format!(
            "claim {}, constraint #{at}: empty constraint (unsupported constraint type?)",
            claim::key(claim)
        ));
    };
    let requests = constraint.requests.as_deref().unwrap_or_default();
    Ok(MatchAttribute { attribute, requests })
}

fn plan<'a>(
    claim: &'a ResourceClaim,
    request: &'a DeviceRequest,
    classes: &'a Lister<DeviceClass>,
) -> Result<RequestPlan<'a>, String> {
    let listed = request.first_available.as_deref().unwrap_or_default();
    let alternatives = match &request.exactly {
        Some(exactly) => vec![Alternative::exact(claim, request, exactly, classes)?],
        None => listed
            .iter()
            .map(|listed| Alternative::listed(claim, request, listed, classes))
            .collect::<Result<_, _>>()?,
    };
    if alternatives.is_empty() {
        let (claim, request) = (claim::key(claim), &request.name);
        return Err(format!("resource claim {claim}, request {request}: unknown request type"));
    }
    Ok(RequestPlan { alternatives })
}

impl<'a> Alternative<'a> {
    fn exact(
        claim: &ResourceClaim,
        request: &'a DeviceRequest,
        exactly: &'a ExactDeviceRequest,
        classes: &'a Lister<DeviceClass>,
    ) -> Result<Self, String> {
        let name = &request.name;
        let selectors = exactly.selectors.as_deref().unwrap_or_default();
        let class = class(claim, name, name, &exactly.device_class_name, selectors, classes)?;
        let mode = exactly.allocation_mode.as_deref();
        Ok(Self {
            full_name: name.clone(),
            name,
            request: name,
            class,
            selectors,
            count: count(claim, name, mode, exactly.count)?,
            admin_access: exactly.admin_access == Some(true),
            tolerations: exactly.tolerations.as_deref().unwrap_or_default(),
        })
    }

    fn listed(
        claim: &ResourceClaim,
        request: &'a DeviceRequest,
        listed: &'a DeviceSubRequest,
        classes: &'a Lister<DeviceClass>,
    ) -> Result<Self, String> {
        let (name, full_name) = (&listed.name, format!("{}/{}", request.name, listed.name));
        let selectors = listed.selectors.as_deref().unwrap_or_default();
        let class = class(claim, name, &full_name, &listed.device_class_name, selectors, classes)?;
        Ok(Self {
            full_name,
            name,
            request: &request.name,
            class,
            selectors,
            count: count(claim, name, listed.allocation_mode.as_deref(), listed.count)?,
            admin_access: false,
            tolerations: listed.tolerations.as_deref().unwrap_or_default(),
        })
    }

    /// The expressions that select devices: the class's, then the request's, each with what to call
    /// it in an error.
    pub(super) fn expressions(&self) -> impl Iterator<Item = (Owner, usize, &'a str)> {
        let class = self.class.spec.selectors.as_deref().unwrap_or_default();
        let of = |owner: Owner, selectors: &'a [DeviceSelector]| {
            let numbered = selectors.iter().enumerate();
            // A class's selector of a kind that is not known is an expression that does not compile.
            numbered.map(move |(at, selector)| {
                let expression = selector.cel.as_ref().map_or("", |cel| cel.expression.as_str());
                (owner, at, expression)
            })
        };
        of(Owner::Class, class).chain(of(Owner::Claim, self.selectors))
    }
}

/// Whose selector it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The device class.
    Class,
    /// The claim.
    Claim,
}

fn class<'a>(
    claim: &ResourceClaim,
    name: &str,
    full_name: &str,
    class: &str,
    selectors: &[DeviceSelector],
    classes: &'a Lister<DeviceClass>,
) -> Result<&'a Arc<DeviceClass>, String> {
    if class.is_empty() {
        return Err(format!("request {full_name}: unsupported request type"));
    }
    if let Some(at) = selectors.iter().position(|selector| selector.cel.is_none()) {
        return Err(format!(
            "claim {}, request {name}, selector #{at}: CEL expression empty (unsupported selector \
             type?)",
            claim::key(claim)
        ));
    }
    let found = classes.get("", class);
    found.ok_or_else(|| format!("request {full_name}: device class {class} does not exist"))
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
