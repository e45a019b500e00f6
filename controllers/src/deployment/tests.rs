//! Plans of a Deployment, and whole rollouts in a model cluster.

mod simulation;

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::plan::{Action, Plan, plan};
use super::template::HASH_LABEL;

fn deployment(replicas: i32, image: &str) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "d", "generation": 1,
            "annotations": {"team": "a"}},
        "spec": {
            "replicas": replicas,
            "progressDeadlineSeconds": 600,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": image}]},
            },
        },
    }))
    .unwrap()
}

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().unwrap()
}

fn created(plan: &Plan) -> &ReplicaSet {
    match &plan.actions[0] {
        Action::CreateReplicaSet { replica_set, .. } => replica_set,
        other => panic!("no creation but {other:?}"),
    }
}

/// The ReplicaSet that `plan` creates, as if stored, with this many pods, all available.
fn stored(plan: &Plan, uid: &str, available: i32) -> ReplicaSet {
    let mut set = created(plan).clone();
    set.metadata.uid = Some(uid.to_owned());
    set.status = Some(
        serde_json::from_value(json!({
            "replicas": available, "readyReplicas": available, "availableReplicas": available,
        }))
        .unwrap(),
    );
    set
}

fn condition<'a>(plan: &'a Plan, kind: &str) -> (&'a str, &'a str) {
    let conditions = plan.status.conditions.as_deref().unwrap();
    let found = conditions.iter().find(|condition| condition.type_ == kind).unwrap();
    (&found.status, found.reason.as_deref().unwrap())
}

#[test]
fn the_first_plan_creates_the_replica_set() {
    let plan = plan(&deployment(3, "a"), &[], &[], now());
    let set = created(&plan);
    let hash = set.metadata.labels.as_ref().unwrap()[HASH_LABEL].clone();
    assert_eq!(set.metadata.name, Some(format!("web-{hash}")));
    let spec = set.spec.as_ref().unwrap();
    assert_eq!(spec.replicas, Some(3));
    assert_eq!(spec.selector.match_labels.as_ref().unwrap()[HASH_LABEL], hash);
    let annotations = set.metadata.annotations.as_ref().unwrap();
    for (key, value) in [
        ("team", "a"),
        ("deployment.kubernetes.io/revision", "1"),
        ("deployment.kubernetes.io/desired-replicas", "3"),
        ("deployment.kubernetes.io/max-replicas", "4"),
    ] {
        assert_eq!(annotations[key], value, "{key}");
    }
    let Action::CreateReplicaSet { event, .. } = &plan.actions[0] else { panic!() };
    let message = &event.as_ref().unwrap().message;
    assert_eq!(*message, format!("Scaled up replica set web-{hash} from 0 to 3"));
    assert!(matches!(&plan.actions[1], Action::SetRevision(revision) if revision == "1"));
    assert_eq!(condition(&plan, "Progressing"), ("True", "NewReplicaSetCreated"));
    assert_eq!(condition(&plan, "Available"), ("False", "MinimumReplicasUnavailable"));
    assert!(plan.check_after.is_some());
}

#[test]
fn a_finished_rollout_says_so_and_plans_nothing_more() {
    let mut web = deployment(3, "a");
    let first = plan(&web, &[], &[], now());
    web.metadata.annotations.as_mut().unwrap().insert(super::revision::REVISION.into(), "1".into());
    web.status = Some(first.status.clone());
    let set = Arc::new(stored(&first, "rs1", 3));
    let done = plan(&web, &[Arc::clone(&set)], &[], now());
    assert!(done.actions.is_empty(), "{:?}", done.actions);
    assert_eq!(condition(&done, "Progressing"), ("True", "NewReplicaSetAvailable"));
    assert_eq!(condition(&done, "Available"), ("True", "MinimumReplicasAvailable"));
    assert_eq!(done.check_after, None);
    web.status = Some(done.status.clone());
    assert_eq!(plan(&web, &[set], &[], now()).status, done.status);
}

#[test]
fn a_roll_back_reuses_the_old_replica_set_under_a_new_revision() {
    let mut web = deployment(1, "a");
    let one = stored(&plan(&web, &[], &[], now()), "rs1", 1);
    web.spec.as_mut().unwrap().template = deployment(1, "b").spec.unwrap().template;
    let second = plan(&web, &[Arc::new(one.clone())], &[], now());
    let two = stored(&second, "rs2", 1);
    assert_eq!(two.metadata.annotations.as_ref().unwrap()[super::revision::REVISION], "2");
    let back = plan(&deployment(1, "a"), &[Arc::new(one), Arc::new(two)], &[], now());
    let Action::UpdateReplicaSet { annotations, stored, .. } = &back.actions[0] else {
        panic!("{:?}", back.actions)
    };
    assert_eq!(stored.metadata.uid.as_deref(), Some("rs1"));
    assert_eq!(annotations[super::revision::REVISION], "3");
    assert_eq!(annotations["deployment.kubernetes.io/revision-history"], "1");
    assert!(matches!(&back.actions[1], Action::SetRevision(revision) if revision == "3"));
}

#[test]
fn no_progress_within_the_deadline_is_told() {
    let mut web = deployment(1, "a");
    let first = plan(&web, &[], &[], now());
    web.status = Some(first.status.clone());
    let set = Arc::new(stored(&first, "rs1", 0));
    let wait = SignedDuration::from_secs(599);
    let waiting = plan(&web, &[Arc::clone(&set)], &[], now() + wait);
    assert_eq!(condition(&waiting, "Progressing"), ("True", "NewReplicaSetCreated"));
    assert_eq!(waiting.check_after, Some(std::time::Duration::from_secs(2)));
    let late = plan(&web, &[set], &[], now() + SignedDuration::from_secs(601));
    assert_eq!(condition(&late, "Progressing"), ("False", "ProgressDeadlineExceeded"));
    assert_eq!(late.check_after, None);
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut web = deployment(3, "a");
    let set = stored(&plan(&web, &[], &[], now()), "rs1", 3);
    web = deployment(5, "b");
    web.spec.as_mut().unwrap().paused = Some(true);
    let plan = plan(&web, &[Arc::new(set)], &[], now());
    let Action::UpdateReplicaSet { replicas, .. } = &plan.actions[0] else { panic!() };
    assert_eq!((*replicas, plan.actions.len()), (5, 1));
    assert_eq!(condition(&plan, "Progressing"), ("Unknown", "DeploymentPaused"));
}

#[test]
fn recreate_waits_for_the_last_old_pod() {
    let recreate = |image| {
        let mut web = deployment(2, image);
        web.spec.as_mut().unwrap().strategy =
            Some(serde_json::from_value(json!({"type": "Recreate"})).unwrap());
        web
    };
    let mut old = stored(&plan(&recreate("a"), &[], &[], now()), "rs1", 2);
    let pod = |meta: Value| -> Arc<Pod> {
        let mut pod = json!({"metadata": {"ownerReferences": [{
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x", "uid": "rs1",
            "controller": true,
        }]}});
        pod["metadata"].as_object_mut().unwrap().extend(meta.as_object().unwrap().clone());
        Arc::new(serde_json::from_value(pod).unwrap())
    };
    let down = plan(&recreate("b"), &[Arc::new(old.clone())], &[pod(json!({}))], now());
    let Action::UpdateReplicaSet { replicas, .. } = &down.actions[0] else { panic!() };
    assert_eq!((*replicas, down.actions.len()), (0, 1));
    old.spec.as_mut().unwrap().replicas = Some(0);
    let terminating = pod(json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}));
    let wait = plan(&recreate("b"), &[Arc::new(old.clone())], &[terminating], now());
    assert!(wait.actions.is_empty());
    let go = plan(&recreate("b"), &[Arc::new(old)], &[], now());
    assert_eq!(created(&go).spec.as_ref().unwrap().replicas, Some(2));
}

#[test]
fn old_revisions_beyond_the_limit_go_when_the_rollout_is_complete() {
    let mut web = deployment(1, "new");
    web.spec.as_mut().unwrap().revision_history_limit = Some(1);
    let mut sets: Vec<Arc<ReplicaSet>> = Vec::new();
    for (n, image) in ["a", "b", "c"].into_iter().enumerate() {
        let mut set = stored(&plan(&deployment(1, image), &[], &[], now()), image, 0);
        set.spec.as_mut().unwrap().replicas = Some(0);
        let annotations = set.metadata.annotations.as_mut().unwrap();
        annotations.insert(super::revision::REVISION.into(), (n + 9).to_string());
        sets.push(Arc::new(set));
    }
    let first = plan(&web, &sets, &[], now());
    assert!(!first.actions.iter().any(|action| matches!(action, Action::DeleteReplicaSet(_))));
    web.status = Some(first.status.clone());
    sets.push(Arc::new(stored(&first, "new", 1)));
    let second = plan(&web, &sets, &[], now());
    let deleted: Vec<&str> = second
        .actions
        .iter()
        .filter_map(|action| match action {
            Action::DeleteReplicaSet(set) => set.metadata.uid.as_deref(),
            _ => None,
        })
        .collect();
    assert_eq!(deleted, ["a", "b"]);
}
