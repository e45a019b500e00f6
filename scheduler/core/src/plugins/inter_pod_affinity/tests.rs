#![expect(clippy::needless_pass_by_value, reason = "json! reads best in place")]

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::cache::{Cache, Object};
use crate::framework::{Action, Code, NodeScore as _, Resource, Subject};
use crate::plugins::testing::all_scores;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// Nodes by name and zone (`-` for none).
fn cluster(nodes: &[(&str, &str)]) -> Cache {
    let mut cache = Cache::default();
    for (name, zone) in nodes {
        cache.set_node(Arc::new(serde_json::from_value(node(name, zone)).unwrap()));
    }
    cache
}

fn node(name: &str, zone: &str) -> Value {
    let mut labels = json!({"kubernetes.io/hostname": name});
    if zone != "-" {
        labels["zone"] = json!(zone);
    }
    json!({"metadata": {"name": name, "labels": labels}})
}

/// A pod `default/NAME` labelled `app: APP`.
fn pod(name: &str, app: &str, affinity: Value) -> PodInfo {
    pod_in("default", name, app, affinity)
}

fn pod_in(namespace: &str, name: &str, app: &str, affinity: Value) -> PodInfo {
    PodInfo::new(Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": name, "uid": name, "namespace": namespace, "labels": {"app": app}},
            "spec": {"containers": [], "affinity": affinity}}))
        .unwrap(),
    ))
}

fn place(cache: &mut Cache, node: &str, pod: PodInfo) {
    cache.assume(&Arc::new(pod), node).unwrap();
}

fn namespace(cache: &mut Cache, name: &str, team: &str) {
    let namespace = json!({"metadata": {"name": name, "labels": {"team": team}}});
    let namespace = Arc::new(serde_json::from_value(namespace).unwrap());
    cache.apply(&Object::Namespace(None, Some(namespace)));
}

fn by(app: &str, key: &str) -> Value {
    json!({"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": key})
}

fn with(mut term: Value, name: &str, value: Value) -> Value {
    term[name] = value;
    term
}

fn near(terms: Value) -> Value {
    json!({"podAffinity": {REQUIRED: terms}})
}

fn far(terms: Value) -> Value {
    json!({"podAntiAffinity": {REQUIRED: terms}})
}

fn preferring(weight: i32, term: Value) -> Value {
    json!({PREFERRED: [{"weight": weight, "podAffinityTerm": term}]})
}

/// For each node in order: `.` feasible, `w` it lacks pods that are wanted, `h` it has pods that the
/// pod avoids, `e` it has pods that avoid the pod.
fn verdicts(cache: &Cache, pod: &PodInfo) -> String {
    let nodes = cache.snapshot().nodes();
    let plugin = InterPodAffinity::default();
    match plugin.pre_filter(pod, cache.snapshot()) {
        PreFilter::Skip => "-".repeat(nodes.len()),
        PreFilter::Reject(rejection) => rejection.message(),
        PreFilter::Filter { filter, .. } => {
            nodes.iter().map(|node| letter(filter.filter(node))).collect()
        }
    }
}

fn letter(verdict: Verdict) -> char {
    let Err(rejection) = verdict else { return '.' };
    let message = rejection.message();
    let (letter, code) = match message.as_str() {
        "node(s) didn't match pod affinity rules" => ('w', Code::UnschedulableAndUnresolvable),
        "node(s) didn't match pod anti-affinity rules" => ('h', Code::Unschedulable),
        "node(s) didn't satisfy existing pods anti-affinity rules" => ('e', Code::Unschedulable),
        other => panic!("{other}"),
    };
    assert_eq!(rejection.code(), code, "{message}");
    letter
}

const ZONES: &[(&str, &str)] = &[("1", "a"), ("2", "a"), ("3", "b"), ("4", "-")];

#[test]
fn affinity_wants_a_pod_in_the_domain() {
    let mut cache = cluster(ZONES);
    place(&mut cache, "1", pod("x", "x", json!({})));
    assert_eq!(verdicts(&cache, &pod("p", "p", near(json!([by("x", "zone")])))), "..ww");
    let host = by("x", "kubernetes.io/hostname");
    assert_eq!(verdicts(&cache, &pod("p", "p", near(json!([host])))), ".www");
    assert_eq!(verdicts(&cache, &pod("p", "p", json!({}))), "----");
    // Nothing matches no selector.
    let none = json!([{"topologyKey": "zone"}]);
    assert_eq!(verdicts(&cache, &pod("p", "x", near(none))), "wwww");
}

#[test]
fn one_pod_must_match_all_affinity_terms() {
    let mut cache = cluster(ZONES);
    place(&mut cache, "1", pod("x", "x", json!({})));
    place(&mut cache, "1", pod("y", "y", json!({})));
    let both = near(json!([by("x", "zone"), by("y", "zone")]));
    assert_eq!(verdicts(&cache, &pod("p", "p", both)), "wwww");
    let twice = near(json!([by("x", "zone"), by("x", "kubernetes.io/hostname")]));
    assert_eq!(verdicts(&cache, &pod("p", "p", twice)), ".www");
}

#[test]
fn the_first_of_a_series_goes_where_the_keys_are() {
    let mut cache = cluster(ZONES);
    let like = || near(json!([by("x", "zone")]));
    assert_eq!(verdicts(&cache, &pod("p", "x", like())), "...w");
    assert_eq!(verdicts(&cache, &pod("p", "y", like())), "wwww");
    // A pod outside all domains of the key does not begin the series.
    place(&mut cache, "4", pod("lone", "x", json!({})));
    assert_eq!(verdicts(&cache, &pod("p", "x", like())), "...w");
    place(&mut cache, "3", pod("second", "x", json!({})));
    assert_eq!(verdicts(&cache, &pod("p", "x", like())), "ww.w");
}

#[test]
fn anti_affinity_avoids_each_term() {
    let mut cache = cluster(ZONES);
    place(&mut cache, "1", pod("x", "x", json!({})));
    place(&mut cache, "3", pod("y", "y", json!({})));
    place(&mut cache, "4", pod("z", "x", json!({})));
    let terms = json!([by("x", "zone"), by("y", "kubernetes.io/hostname")]);
    assert_eq!(verdicts(&cache, &pod("p", "p", far(terms))), "hhh.");
}

#[test]
fn existing_pods_keep_others_away() {
    let mut cache = cluster(ZONES);
    place(&mut cache, "1", pod("x", "x", far(json!([by("p", "zone")]))));
    assert_eq!(verdicts(&cache, &pod("p", "p", json!({}))), "ee..");
    assert_eq!(verdicts(&cache, &pod("q", "q", json!({}))), "----");
    // What the pod wants is said before what others do not want.
    assert_eq!(verdicts(&cache, &pod("p", "p", near(json!([by("x", "zone")])))), "eeww");
}

#[test]
fn namespaces_are_named_selected_or_ones_own() {
    let mut cache = cluster(ZONES);
    namespace(&mut cache, "default", "blue");
    namespace(&mut cache, "other", "red");
    place(&mut cache, "1", pod_in("other", "x", "x", json!({})));
    let own = by("x", "zone");
    let selected = |operator: &str| json!({"matchExpressions": [{"key": "team", "operator": operator, "values": ["red"]}]});
    for (term, expected) in [
        (own.clone(), "...."),
        (with(own.clone(), "namespaces", json!(["other"])), "hh.."),
        (with(own.clone(), "namespaceSelector", json!({})), "hh.."),
        (with(own.clone(), "namespaceSelector", selected("In")), "hh.."),
        // As 1.35 has it: the selector is also asked of no labels at all.
        (with(own.clone(), "namespaceSelector", selected("NotIn")), "hh.."),
        (with(own, "namespaceSelector", json!({"matchLabels": {"team": "blue"}})), "...."),
    ] {
        let incoming = pod("p", "p", far(json!([term])));
        assert_eq!(verdicts(&cache, &incoming), expected, "{term}");
    }
}

#[test]
fn terms_of_existing_pods_see_the_labels_of_the_namespace() {
    let mut cache = cluster(ZONES);
    namespace(&mut cache, "default", "blue");
    let term = |operator: &str| {
        let selector =
            json!({"matchExpressions": [{"key": "team", "operator": operator, "values": ["red"]}]});
        with(by("p", "zone"), "namespaceSelector", selector)
    };
    place(&mut cache, "1", pod_in("other", "x", "x", far(json!([term("NotIn")]))));
    place(&mut cache, "3", pod_in("other", "y", "y", far(json!([term("In")]))));
    assert_eq!(verdicts(&cache, &pod("p", "p", json!({}))), "ee..");
    namespace(&mut cache, "default", "red");
    assert_eq!(verdicts(&cache, &pod("p", "p", json!({}))), "..e.");
    // A namespace that is not known has no labels.
    assert_eq!(verdicts(&cache, &pod_in("new", "p", "p", json!({}))), "ee..");
}

#[test]
fn selectors_that_do_not_parse_are_named() {
    let bad = json!({"labelSelector": {"matchExpressions": [{"key": "a", "operator": "Near"}]},
        "topologyKey": "zone"});
    let cache = cluster(ZONES);
    let one = near(json!([bad.clone()]));
    assert_eq!(
        verdicts(&cache, &pod("p", "p", one)),
        "parsing pod: requiredAffinityTerms: \"Near\" is not a valid label selector operator"
    );
    let both = json!({"podAffinity": {REQUIRED: [bad.clone()]},
        "podAntiAffinity": preferring(1, bad.clone())});
    let message = verdicts(&cache, &pod("p", "p", both));
    assert!(message.starts_with("parsing pod: [requiredAffinityTerms: "), "{message}");
    assert!(message.contains(", preferredAntiAffinityTerms: "), "{message}");
    // Such a pod that is there already keeps nobody away.
    let mut cache = cluster(ZONES);
    place(&mut cache, "1", pod("x", "x", far(json!([by("p", "zone"), bad]))));
    assert_eq!(verdicts(&cache, &pod("p", "p", json!({}))), "----");
}

#[test]
fn preferences_of_both_sides_add_up() {
    let plugin = InterPodAffinity::default();
    let mut cache = cluster(ZONES);
    assert_eq!(all_scores(&plugin, &cache, &pod("p", "p", json!({}))), None);
    place(&mut cache, "1", pod("x1", "x", json!({})));
    place(&mut cache, "2", pod("x2", "x", json!({})));
    place(&mut cache, "3", pod("x3", "x", json!({})));
    let likes = json!({"podAffinity": preferring(5, by("x", "zone"))});
    assert_eq!(
        all_scores(&plugin, &cache, &pod("p", "p", likes)),
        Some((vec![10, 10, 5, 0], vec![100, 100, 50, 0]))
    );
    let avoids = json!({"podAntiAffinity": preferring(5, by("x", "zone"))});
    assert_eq!(
        all_scores(&plugin, &cache, &pod("p", "p", avoids)),
        Some((vec![-10, -10, -5, 0], vec![0, 0, 50, 100]))
    );
    // What those that are there prefer or require counts as well.
    place(&mut cache, "3", pod("f", "f", near(json!([by("p", "zone")]))));
    place(&mut cache, "3", pod("g", "g", json!({"podAffinity": preferring(7, by("p", "zone"))})));
    let dislikes = json!({"podAntiAffinity": preferring(3, by("p", "kubernetes.io/hostname"))});
    place(&mut cache, "4", pod("h", "h", dislikes));
    let plain = pod("p", "p", json!({}));
    assert_eq!(
        all_scores(&plugin, &cache, &plain),
        Some((vec![0, 0, 8, -3], vec![27, 27, 100, 0]))
    );
    let hard = InterPodAffinity { hard_pod_affinity_weight: 100, ..plugin };
    assert_eq!(all_scores(&hard, &cache, &plain).unwrap().0, [0, 0, 107, -3]);
    let soft = InterPodAffinity { hard_pod_affinity_weight: 0, ..plugin };
    assert_eq!(all_scores(&soft, &cache, &plain).unwrap().0, [0, 0, 7, -3]);
    let ignoring = InterPodAffinity { ignore_preferred_terms_of_existing_pods: true, ..plugin };
    assert_eq!(all_scores(&ignoring, &cache, &plain), None);
}

#[test]
fn scores_are_scaled_between_the_feasible_nodes() {
    let score = score::Score { domains: ByDomain::default() };
    for (raw, expected) in [
        (vec![5, 10], vec![0, 100]),
        (vec![-9, -9], vec![0, 0]),
        (vec![1, 2, 4], vec![0, 33, 100]),
        (vec![], vec![]),
    ] {
        let mut normalized = raw.clone();
        score.normalize(&mut normalized);
        assert_eq!(normalized, expected, "{raw:?}");
    }
}

fn hint_after(pod: &PodInfo, subject: Subject) -> Hint {
    let event = ClusterEvent::new(Resource::AssignedPod, Action::ALL);
    let occurrence = Occurrence { event, subject };
    InterPodAffinity::default().hint(pod, &occurrence, &Snapshot::default())
}

#[test]
fn pods_that_change_the_counts_wake() {
    let wants = pod("p", "p", near(json!([by("x", "zone")])));
    let avoids = pod("p", "p", far(json!([by("x", "zone")])));
    let plain = pod("p", "p", json!({}));
    let other = |app: &str| Some(Arc::new(pod("o", app, json!({}))));
    let hater = |app: &str| Some(Arc::new(pod("o", "o", far(json!([by(app, "zone")])))));
    for (waiting, old, new, expected) in [
        (&wants, None, other("x"), Hint::Queue),
        (&wants, None, other("y"), Hint::Skip),
        (&wants, other("y"), other("x"), Hint::Queue),
        // It may now be the first of its series.
        (&wants, other("x"), None, Hint::Queue),
        (&avoids, other("x"), None, Hint::Queue),
        (&avoids, other("x"), other("y"), Hint::Queue),
        (&avoids, other("y"), other("x"), Hint::Skip),
        (&avoids, None, other("x"), Hint::Skip),
        (&plain, hater("p"), None, Hint::Queue),
        (&plain, hater("q"), None, Hint::Skip),
    ] {
        let hint = hint_after(waiting, Subject::Pod(old.clone(), new.clone()));
        assert_eq!(hint, expected, "{old:?} {new:?}");
    }
}

#[test]
fn nodes_with_the_wanted_keys_wake() {
    let object = |zone| Arc::new(serde_json::from_value(node("1", zone)).unwrap());
    let wants = pod("p", "p", near(json!([by("x", "zone")])));
    let plain = pod("p", "p", json!({}));
    for (waiting, old, new, expected) in [
        (&wants, None, "a", Hint::Queue),
        (&wants, None, "-", Hint::Skip),
        (&plain, None, "-", Hint::Queue),
        (&wants, Some("a"), "b", Hint::Queue),
        (&wants, Some("a"), "a", Hint::Skip),
    ] {
        let subject = Subject::Node(old.map(object), Some(object(new)));
        assert_eq!(hint_after(waiting, subject), expected, "{old:?} {new}");
    }
}
