//! What a request takes of a device's capacity, where several may share it.
//!
//! Mirrors `consumable_capacity.go` of the allocator. What is asked for is rounded up as the capacity's
//! policy says; where nothing is asked for, the policy's default is taken, or all there is.

use std::collections::BTreeMap;

use k8s_openapi::api::resource::v1::{CapacityRequestPolicy, Device, DeviceCapacity};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use pintle_api::quantity::{Format, Quantity};
use pintle_api::resources::Amounts;

/// What the request takes of each of the device's capacities; `None` if the device cannot give it: it
/// lacks a capacity, what is wanted is against a policy, or too much is `used` of it already.
pub(super) fn consumption<'u>(
    device: &Device,
    wanted: &Amounts,
    used: impl Fn(&str) -> Option<&'u Quantity>,
    also_used: impl Fn(&str) -> Quantity,
) -> Option<Amounts> {
    let capacities = device.capacity.as_ref();
    let has = |name: &String| capacities.is_some_and(|all| all.contains_key(name));
    if !wanted.keys().all(has) {
        return None;
    }
    let mut consumption = BTreeMap::new();
    for (name, capacity) in capacities.into_iter().flatten() {
        let taken = taken(wanted.get(name).copied(), capacity)?;
        let there = parse(&capacity.value)?;
        let before = used(name).copied().unwrap_or(Quantity::ZERO).plus(also_used(name));
        if before.plus(taken) > there {
            return None;
        }
        consumption.insert(name.clone(), taken);
    }
    Some(consumption)
}

/// What is taken of a capacity; `None` if that is against its policy.
fn taken(wanted: Option<Quantity>, capacity: &DeviceCapacity) -> Option<Quantity> {
    let policy = capacity.request_policy.as_ref();
    let default = policy.and_then(|policy| policy.default.as_ref()).and_then(parse);
    let taken = match (wanted, policy) {
        (None, _) => default.or_else(|| parse(&capacity.value))?,
        (Some(wanted), None) => wanted,
        (Some(wanted), Some(policy)) => rounded_up(wanted, policy)?,
    };
    let is_allowed = default == Some(taken) || policy.is_none_or(|policy| allows(policy, taken));
    is_allowed.then_some(taken)
}

fn rounded_up(wanted: Quantity, policy: &CapacityRequestPolicy) -> Option<Quantity> {
    if let Some(range) = &policy.valid_range {
        let min = parse(&range.min)?;
        if wanted < min {
            return Some(min);
        }
        let Some(step) = &range.step else { return Some(wanted) };
        let (step, min) = (parse(step)?.value(), min.value());
        let above = wanted.value().checked_sub(min)?;
        let steps = above.checked_div(step)? + i64::from(above.checked_rem(step)? != 0);
        let rounded = steps.checked_mul(step)?.checked_add(min)?;
        return Some(Quantity::from_units(rounded, Format::BinarySi));
    }
    let values = policy.valid_values.iter().flatten().filter_map(parse);
    Some(values.into_iter().find(|value| wanted <= *value).unwrap_or(wanted))
}

fn allows(policy: &CapacityRequestPolicy, taken: Quantity) -> bool {
    if let Some(range) = &policy.valid_range {
        let max = range.max.as_ref().and_then(parse);
        if max.is_some_and(|max| taken > max) {
            return false;
        }
        let (Some(step), Some(min)) = (range.step.as_ref().and_then(parse), parse(&range.min))
        else {
            return true;
        };
        let above = taken.value().wrapping_sub(min.value());
        return above.checked_rem(step.value()).unwrap_or(0) == 0;
    }
    let mut values = policy.valid_values.iter().flatten().filter_map(parse).peekable();
    values.peek().is_none() || values.any(|value| value == taken)
}

fn parse(text: &Text) -> Option<Quantity> {
    Quantity::try_from(text).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn amounts(value: &Value) -> Amounts {
        pintle_api::resources::amounts(Some(&serde_json::from_value(value.clone()).unwrap()))
    }

    /// What is taken of `memory`.
    fn taken_of(capacity: &Value, wanted: &Value, used: &str) -> Option<String> {
        let device = json!({"name": "d", "capacity": {"memory": capacity}});
        let used: Quantity = used.parse().unwrap();
        let device = serde_json::from_value(device).unwrap();
        let taken = consumption(&device, &amounts(wanted), |_| Some(&used), |_| Quantity::ZERO);
        taken.map(|taken| taken["memory"].to_string())
    }

    #[test]
    fn policies_round_up_and_refuse() {
        let plain = || json!({"value": "10Gi"});
        let with = |policy: Value| json!({"value": "10Gi", "requestPolicy": policy});
        let range = || {
            with(
                json!({"default": "1Gi", "validRange": {"min": "2Gi", "step": "2Gi", "max": "6Gi"}}),
            )
        };
        let values = || with(json!({"default": "1Gi", "validValues": ["1Gi", "4Gi"]}));
        let of = |amount: &str| json!({"memory": amount});
        for (capacity, wanted, used, expected) in [
            (plain(), json!({}), "0", Some("10Gi")),
            (plain(), json!({}), "1", None),
            (plain(), of("3Gi"), "7Gi", Some("3Gi")),
            (plain(), of("3Gi"), "8Gi", None),
            (plain(), json!({"other": "1"}), "0", None),
            (range(), json!({}), "9Gi", Some("1Gi")),
            (range(), of("1Mi"), "0", Some("2Gi")),
            (range(), of("3Gi"), "0", Some("4Gi")),
            (range(), of("3Gi"), "7Gi", None),
            (range(), of("7Gi"), "0", None),
            (values(), of("2Gi"), "0", Some("4Gi")),
            (values(), of("5Gi"), "0", None),
        ] {
            let got = taken_of(&capacity, &wanted, used);
            assert_eq!(got.as_deref(), expected, "{capacity} {wanted} {used}");
        }
    }
}
