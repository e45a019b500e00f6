//! pods/eviction: delete a pod unless a PodDisruptionBudget forbids it.
//!
//! Mirrors pkg/registry/core/pod/storage/eviction.go. A budget's `disruptionsAllowed` is counted down
//! here, and counted up again by whoever keeps its status.

use http::{Response, StatusCode};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use pintle_api::decode::Decoded;
use pintle_api::labels::Selector;
use pintle_api::scheme::{self, Kind, Resource};
use pintle_api::status::{Status, Subject};
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::options::DeleteOptions;
use super::write::{Part, Write};
use super::{Call, delete, options, render};
use crate::body::Body;
use crate::request::Target;
use crate::server::Core;
use crate::{object, status, storage};

pub(super) async fn evict(
    core: &Core,
    call: &Call<'_>,
    target: &Target,
    resource: &'static Resource,
) -> Result<Response<Body>, Status> {
    let Decoded { object: eviction, warnings } = options::decode(call, Kind::Eviction)?;
    let name = object::name(&eviction);
    if !name.is_empty() && name != target.name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let mut how = DeleteOptions::from_object(&eviction["deleteOptions"])?;
    how.dry_run |= call.query.dry_run()?;
    let pod = core.storage.get(resource, &target.namespace, &target.name).await?;
    let pod = &pod.object;
    if !is_over(pod)
        && let Some(budget) = budget_of(core, pod)?
        && !may_ignore(pod, &budget)
    {
        take(core, &budget, &target.name, how.dry_run).await?;
    }
    if !how.dry_run && !object::is_deleting(pod) {
        let write = Write { resource, target, part: Part::Status, dry_run: false };
        write.apply(core, |current| Ok(marked(current))).await?;
    }
    delete::delete_object(core, resource, &target.namespace, &target.name, &how).await?;
    let done = pintle_api::status::success(storage::subject(resource, &target.name), "");
    Ok(render::with_warnings(status::json(StatusCode::CREATED, &done), &warnings))
}

/// A pod that does not run, or is being deleted, counts for no budget.
fn is_over(pod: &Value) -> bool {
    let phase = object::text(pod, &["status", "phase"]);
    matches!(phase, "Failed" | "Pending" | "Succeeded") || object::is_deleting(pod)
}

/// The budget that covers the pod; more than one are refused.
fn budget_of(core: &Core, pod: &Value) -> Result<Option<Value>, Status> {
    let Some(budgets) = scheme::of(Kind::PodDisruptionBudget) else { return Ok(None) };
    let (entries, _) = core.cache.list(budgets, object::namespace(pod));
    let covering = entries.iter().map(|entry| entry.decoded()).filter(|budget| covers(budget, pod));
    let covering: Vec<&Value> = covering.collect();
    match covering.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some((*one).clone())),
        _ => Err(Status::new(
            500,
            "InternalError",
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does \
             not support."
                .to_owned(),
        )),
    }
}

/// An empty selector covers all pods of the namespace, none at all no pod.
fn covers(budget: &Value, pod: &Value) -> bool {
    let selector = LabelSelector::deserialize(&budget["spec"]["selector"]).ok();
    let selector = selector.and_then(|selector| Selector::try_from(&selector).ok());
    let labels = pod["metadata"]["labels"].as_object();
    let labels = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()));
    selector.is_some_and(|selector| {
        selector.matches(&Some(labels.collect::<std::collections::BTreeMap<_, _>>()))
    })
}

/// A pod that is not ready may go if the budget says so, or if it is kept without it.
fn may_ignore(pod: &Value, budget: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    let is_ready =
        conditions.into_iter().flatten().any(|it| it["type"] == "Ready" && it["status"] == "True");
    let count = |field: &str| budget["status"][field].as_i64().unwrap_or(0);
    let is_kept = count("desiredHealthy") > 0 && count("currentHealthy") >= count("desiredHealthy");
    let always = budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow";
    !is_ready && (always || is_kept)
}

/// Take one disruption of what the budget allows.
async fn take(core: &Core, budget: &Value, pod: &str, dry_run: bool) -> Result<(), Status> {
    let Some(resource) = scheme::of(Kind::PodDisruptionBudget) else { return Ok(()) };
    let target = Target {
        group: resource.group().to_owned(),
        resource: resource.plural.to_owned(),
        namespace: object::namespace(budget).to_owned(),
        name: object::name(budget).to_owned(),
        subresource: "status".to_owned(),
        ..Target::default()
    };
    let write = Write { resource, target: &target, part: Part::Status, dry_run };
    let now = object::now();
    match write.apply(core, |current| taken(current, pod, &now)).await {
        // A budget that is gone forbids nothing.
        Err(gone) if gone.code() == 404 => Ok(()),
        result => result.map(|_| ()),
    }
}

/// The budget with one disruption less, or why there is none to be had.
fn taken(mut budget: Value, pod: &str, now: &str) -> Result<Value, Status> {
    let name = object::name(&budget).to_owned();
    let count = |field: &str| budget["status"][field].as_i64().unwrap_or(0);
    if count("observedGeneration") < budget["metadata"]["generation"].as_i64().unwrap_or(0) {
        let why = format!("The disruption budget {name} is still being processed by the server.");
        return Err(Status::too_many_requests(VIOLATES, RETRY_S).cause(CAUSE, &why, ""));
    }
    let allowed = count("disruptionsAllowed");
    let subject = Subject { group: "policy", kind: "poddisruptionbudget", name: &name };
    if allowed < 0 {
        return Err(Status::forbidden(subject, "pdb disruptions allowed is negative"));
    }
    let disrupted = budget["status"]["disruptedPods"].as_object().map_or(0, serde_json::Map::len);
    if disrupted > DISRUPTED_MAX {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(Status::forbidden(subject, why));
    }
    if allowed == 0 {
        let (desired, current) = (count("desiredHealthy"), count("currentHealthy"));
        let why = format!(
            "The disruption budget {name} needs {desired} healthy pods and has {current} currently"
        );
        let refusal = Status::new(429, "TooManyRequests", VIOLATES.to_owned());
        return Err(refusal.cause(CAUSE, &why, ""));
    }
    let status = object::section(&mut budget, "status");
    status.insert("disruptionsAllowed".to_owned(), json!(allowed - 1));
    status.entry("disruptedPods").or_insert_with(|| json!({}))[pod] = json!(now);
    Ok(budget)
}

/// The pod with the condition that says why it goes.
fn marked(mut pod: Value) -> Value {
    let status = object::section(&mut pod, "status");
    let conditions = status.entry("conditions").or_insert_with(|| json!([]));
    if let Some(conditions) = conditions.as_array_mut() {
        conditions.retain(|condition| condition["type"] != "DisruptionTarget");
        conditions.push(json!({
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting",
            "lastProbeTime": null,
            "lastTransitionTime": object::now(),
        }));
    }
    pod
}

const VIOLATES: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
const CAUSE: &str = "DisruptionBudget";
/// When to ask again about a budget whose status is behind.
const RETRY_S: i32 = 10;
/// Evictions that the keeper of a budget's status has not seen yet (`MaxDisruptedPodSize`).
const DISRUPTED_MAX: usize = 2000;

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "reads better in the tables below")]
    fn budget(status: Value) -> Value {
        json!({"metadata": {"name": "b", "generation": 2},
            "spec": {"selector": {"matchLabels": {"app": "a"}}}, "status": status})
    }

    #[test]
    fn a_budget_is_counted_down() {
        let allows = json!({"observedGeneration": 2, "disruptionsAllowed": 1, "desiredHealthy": 2,
            "currentHealthy": 3});
        let once = taken(budget(allows), "p", "now").unwrap();
        assert_eq!(once["status"]["disruptionsAllowed"], 0);
        assert_eq!(once["status"]["disruptedPods"], json!({"p": "now"}));
        let refused = taken(once, "q", "now").unwrap_err();
        assert_eq!((refused.code(), refused.message()), (429, VIOLATES));
        assert_eq!(refused.retry_after_s(), None);
        let causes = refused.as_object().details.clone().unwrap().causes.unwrap();
        assert_eq!(causes[0].reason.as_deref(), Some("DisruptionBudget"));
        assert_eq!(
            causes[0].message.as_deref(),
            Some("The disruption budget b needs 2 healthy pods and has 3 currently")
        );
    }

    #[test]
    fn a_budget_that_is_behind_is_waited_for() {
        let behind = json!({"observedGeneration": 1, "disruptionsAllowed": 1});
        let refused = taken(budget(behind), "p", "now").unwrap_err();
        assert_eq!((refused.code(), refused.retry_after_s()), (429, Some(10)));
        let negative = json!({"observedGeneration": 2, "disruptionsAllowed": -1});
        assert_eq!(taken(budget(negative), "p", "now").unwrap_err().code(), 403);
    }

    #[test]
    fn selectors_cover_pods() {
        let pod = |app: &str| json!({"metadata": {"labels": {"app": app}}});
        assert!(covers(&budget(json!({})), &pod("a")));
        assert!(!covers(&budget(json!({})), &pod("b")));
        assert!(covers(&json!({"spec": {"selector": {}}}), &pod("b")));
        assert!(!covers(&json!({"spec": {}}), &pod("b")));
    }

    #[test]
    fn pods_that_are_not_ready_go_more_easily() {
        let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        let unready = json!({"status": {}});
        let kept = budget(json!({"desiredHealthy": 1, "currentHealthy": 1}));
        let broken = budget(json!({"desiredHealthy": 2, "currentHealthy": 1}));
        let mut always = broken.clone();
        always["spec"]["unhealthyPodEvictionPolicy"] = json!("AlwaysAllow");
        for (pod, budget, expected) in [
            (&ready, &kept, false),
            (&ready, &always, false),
            (&unready, &kept, true),
            (&unready, &broken, false),
            (&unready, &always, true),
        ] {
            assert_eq!(may_ignore(pod, budget), expected, "{pod} {budget}");
        }
    }
}
