//! How many replicas each ReplicaSet of a Deployment should have. Pure arithmetic on drafts.
//!
//! Mirrors rolling.go and the scaling half of sync.go and deployment_util.go.

use std::cmp::Reverse;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::desired_replicas;
use super::draft::{DESIRED_REPLICAS, Draft, MAX_REPLICAS};

/// `maxSurge` and `maxUnavailable` as numbers: percentages of the replicas, surge rounded up and
/// unavailable down; if both are nothing, one may be unavailable, or no progress were possible.
fn fenceposts(deployment: &Deployment) -> (i32, i32) {
    let desired = desired_replicas(deployment);
    let rolling = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.strategy.as_ref())
        .and_then(|strategy| strategy.rolling_update.as_ref());
    let quarter = IntOrString::String("25%".to_owned());
    let surge = rolling.and_then(|rolling| rolling.max_surge.as_ref()).unwrap_or(&quarter);
    let unavailable =
        rolling.and_then(|rolling| rolling.max_unavailable.as_ref()).unwrap_or(&quarter);
    let surge = scaled(surge, desired, true);
    let unavailable = scaled(unavailable, desired, false);
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
}

/// An integer, or a percentage of `total` rounded up or down. What is neither counts as 0; the
/// server's validation refuses it.
fn scaled(value: &IntOrString, total: i32, round_up: bool) -> i32 {
    let percent = match value {
        IntOrString::Int(number) => return (*number).max(0),
        IntOrString::String(text) => text.strip_suffix('%').and_then(|t| t.parse::<i64>().ok()),
    };
    let hundredfold = percent.unwrap_or(0).max(0).saturating_mul(i64::from(total.max(0)));
    let rounded = if round_up { hundredfold.saturating_add(99) / 100 } else { hundredfold / 100 };
    i32::try_from(rounded).unwrap_or(i32::MAX)
}

/// Whether the strategy is RollingUpdate, the default.
pub(super) fn is_rolling(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()) != Some("Recreate")
}

/// Pods there may be beyond the replicas.
pub(super) fn max_surge(deployment: &Deployment) -> i32 {
    if is_rolling(deployment) { fenceposts(deployment).0 } else { 0 }
}

/// Replicas that may be unavailable.
pub(super) fn max_unavailable(deployment: &Deployment) -> i32 {
    let desired = desired_replicas(deployment);
    if !is_rolling(deployment) || desired == 0 {
        return 0;
    }
    fenceposts(deployment).1.min(desired)
}

/// The new ReplicaSet's size: all, or as far as the surge allows beside the old ones.
pub(super) fn new_size(deployment: &Deployment, old: &[Draft], new: &Draft) -> i32 {
    let desired = desired_replicas(deployment);
    if !is_rolling(deployment) {
        return desired;
    }
    let total = total_replicas(old).saturating_add(new.replicas);
    let max_total = desired.saturating_add(max_surge(deployment));
    if total >= max_total {
        return new.replicas;
    }
    new.replicas + (max_total - total).min(desired - new.replicas)
}

/// Scale the new ReplicaSet if there is room; whether anything changed.
pub(super) fn reconcile_new(deployment: &Deployment, old: &[Draft], new: &mut Draft) -> bool {
    let desired = desired_replicas(deployment);
    let size = match new.replicas.cmp(&desired) {
        std::cmp::Ordering::Equal => return false,
        std::cmp::Ordering::Greater => desired,
        std::cmp::Ordering::Less => new_size(deployment, old, new),
    };
    scale_if_changed(new, size, deployment)
}

/// Scale the old ReplicaSets down as far as availability allows, unhealthy replicas first.
///
/// At most `all - minAvailable - newUnavailable` pods may go: the new ones that are not available
/// yet must not be what the minimum rests on.
///
/// A status from before the last scaling counts pods that are gone or going. Upstream takes it as
/// it is and can for a moment fall below the minimum; here such a status is waited for.
pub(super) fn reconcile_old(deployment: &Deployment, old: &mut [Draft], new: &Draft) {
    let min_available = desired_replicas(deployment) - max_unavailable(deployment);
    let all = total_replicas(old).saturating_add(new.replicas);
    let new_unavailable = new.replicas - new.available();
    let budget = all - min_available - new_unavailable;
    let observed = old.iter().chain([new]).all(Draft::is_observed);
    if budget <= 0 || !observed {
        return;
    }
    old.sort_by_key(|draft| draft.created_at().cloned());
    let cleaned = clean_up_unhealthy(deployment, old, budget);
    let available = old.iter().map(Draft::available).sum::<i32>() + new.available();
    let mut spare = (available - min_available).min(budget - cleaned);
    for draft in old.iter_mut() {
        let down = draft.replicas.min(spare).max(0);
        spare -= down;
        scale_if_changed(draft, draft.replicas - down, deployment);
    }
}

/// Replicas of old ReplicaSets that are not available go first: they block nothing and would only
/// time the rollout out.
fn clean_up_unhealthy(deployment: &Deployment, old: &mut [Draft], budget: i32) -> i32 {
    let mut cleaned = 0;
    for draft in old.iter_mut() {
        let unhealthy = draft.replicas - draft.available();
        let down = unhealthy.min(budget - cleaned).max(0);
        cleaned += down;
        scale_if_changed(draft, draft.replicas - down, deployment);
    }
    cleaned
}

/// Whether the Deployment's size changed since its ReplicaSets were last scaled.
pub(super) fn is_scaling(deployment: &Deployment, drafts: &[&Draft]) -> bool {
    let desired = desired_replicas(deployment);
    let active = drafts.iter().filter(|draft| draft.replicas > 0);
    active.filter_map(|draft| draft.stored_number(DESIRED_REPLICAS)).any(|noted| noted != desired)
}

/// Follow a changed size without rolling: a single ReplicaSet takes it all; during a rollout each
/// gets its share, so that a scale-up amid a bad rollout does not go to the bad template alone.
pub(super) fn scale(deployment: &Deployment, old: &mut [Draft], new: Option<&mut Draft>) {
    let desired = desired_replicas(deployment);
    let mut all: Vec<&mut Draft> = old.iter_mut().collect();
    let new_name = new.as_ref().map(|new| new.name().to_owned());
    all.extend(new);
    if let Some(only) = active_or_latest(&mut all, new_name.as_deref()) {
        scale_if_changed(only, desired, deployment);
        return;
    }
    if all
        .iter()
        .any(|draft| Some(draft.name()) == new_name.as_deref() && is_saturated(draft, desired))
    {
        for draft in all {
            if Some(draft.name()) != new_name.as_deref() && draft.replicas > 0 {
                scale_if_changed(draft, 0, deployment);
            }
        }
        return;
    }
    if is_rolling(deployment) {
        scale_in_proportion(deployment, all);
    }
}

fn is_saturated(new: &Draft, desired: i32) -> bool {
    new.stored_number(DESIRED_REPLICAS) == Some(desired)
        && new.replicas == desired
        && new.status().available_replicas == Some(desired)
}

/// The only ReplicaSet with replicas; if none has any, the new or else the newest one. Nothing if
/// several have.
fn active_or_latest<'a>(all: &'a mut [&mut Draft], new: Option<&str>) -> Option<&'a mut Draft> {
    let active: Vec<usize> = (0..all.len()).filter(|&at| all[at].replicas > 0).collect();
    let at = match active[..] {
        [] => {
            let is_new = |at: &usize| Some(all[*at].name()) == new;
            (0..all.len())
                .find(is_new)
                .or_else(|| (0..all.len()).max_by_key(|&at| all[at].created_at()))?
        }
        [only] => only,
        _ => return None,
    };
    Some(&mut *all[at])
}

/// Share what is to be added (or taken, if negative) among the active ReplicaSets by size, the
/// remainder going to the first: the largest, and of those the newest when growing and the oldest
/// when shrinking.
fn scale_in_proportion(deployment: &Deployment, all: Vec<&mut Draft>) {
    let desired = desired_replicas(deployment);
    let mut active: Vec<&mut Draft> = all.into_iter().filter(|draft| draft.replicas > 0).collect();
    let total: i32 = active.iter().map(|draft| draft.replicas).sum();
    let allowed = if desired > 0 { desired.saturating_add(max_surge(deployment)) } else { 0 };
    let to_add = allowed - total;
    active.sort_by(|a, b| {
        let by_age = a.created_at().cmp(&b.created_at());
        let by_age = if to_add > 0 { by_age.reverse() } else { by_age };
        Reverse(a.replicas).cmp(&Reverse(b.replicas)).then(by_age)
    });
    let mut added = 0;
    let mut sizes = Vec::with_capacity(active.len());
    for draft in &active {
        let share = proportion(deployment, draft, to_add, added);
        added += share;
        sizes.push(draft.replicas + share);
    }
    if let Some(first) = sizes.first_mut() {
        *first = (*first + to_add - added).max(0);
    }
    for (draft, size) in active.into_iter().zip(sizes) {
        // Also without a change of size: the noted size of the Deployment is new.
        draft.scale(size, deployment);
    }
}

fn proportion(deployment: &Deployment, draft: &Draft, to_add: i32, added: i32) -> i32 {
    let left = to_add - added;
    if draft.replicas == 0 || to_add == 0 || left == 0 {
        return 0;
    }
    let fraction = fraction(deployment, draft);
    if to_add > 0 { fraction.min(left) } else { fraction.max(left) }
}

/// What the ReplicaSet gains if it grows as the Deployment's maximum does.
fn fraction(deployment: &Deployment, draft: &Draft) -> i32 {
    let desired = desired_replicas(deployment);
    if desired == 0 {
        return -draft.replicas;
    }
    let max_after = desired.saturating_add(max_surge(deployment));
    let max_before = draft.stored_number(MAX_REPLICAS).filter(|max| *max != 0).or_else(|| {
        deployment.status.as_ref().and_then(|status| status.replicas).filter(|max| *max != 0)
    });
    let Some(max_before) = max_before else { return 0 };
    let grown = f64::from(draft.replicas) * f64::from(max_after) / f64::from(max_before);
    #[expect(clippy::cast_possible_truncation, reason = "a cast from f64 to i32 saturates")]
    let grown = grown.round() as i32;
    grown - draft.replicas
}

fn scale_if_changed(draft: &mut Draft, size: i32, deployment: &Deployment) -> bool {
    if draft.replicas == size {
        return false;
    }
    draft.scale(size, deployment);
    true
}

/// The replicas of all drafts.
pub(super) fn total_replicas(drafts: &[Draft]) -> i32 {
    drafts.iter().fold(0_i32, |sum, draft| sum.saturating_add(draft.replicas))
}

#[cfg(test)]
mod tests;
