//! What InterPodAffinity and PodTopologySpread cost for one pod, from PreFilter to the last node's
//! score: counted anew by the plugins, and read from the counters after one bind.
//!
//! 5,000 nodes in three zones with 10,000 pods on them that avoid or spread over each other.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use k8s_openapi::api::core::v1::Pod;
use pintle_scheduler_core::PodInfo;
use pintle_scheduler_core::cache::{Cache, Snapshot};
use pintle_scheduler_core::counters::Counters;
use pintle_scheduler_core::framework::{Plugin, PreFilter, PreScore};
use pintle_scheduler_core::plugins::InterPodAffinity;
use pintle_scheduler_core::plugins::pod_topology_spread::PodTopologySpread;
use serde_json::{Value, json};

const NODES: usize = 5_000;
const PODS: usize = 10_000;

fn cluster(spec: &Value) -> Cache {
    let mut cache = Cache::default();
    for number in 0..NODES {
        let name = format!("node-{number}");
        let labels = json!({"kubernetes.io/hostname": name, "topology.kubernetes.io/zone":
            format!("zone-{}", number % 3)});
        let node = json!({"metadata": {"name": name, "labels": labels}});
        cache.set_node(Arc::new(serde_json::from_value(node).expect("a node")));
    }
    for number in 0..PODS {
        place(&mut cache, spec, number);
    }
    cache
}

fn pod(spec: &Value, number: usize) -> Arc<PodInfo> {
    let name = format!("pod-{number}");
    // Ten Deployments.
    let labels = json!({"app": format!("app-{}", number % 10), "color": "green"});
    let metadata = json!({"name": name, "uid": name, "namespace": "default", "labels": labels});
    let pod: Pod =
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).expect("a pod");
    Arc::new(PodInfo::new(Arc::new(pod)))
}

fn place(cache: &mut Cache, spec: &Value, number: usize) {
    let node = format!("node-{}", number % NODES);
    cache.assume(&pod(spec, number), &node).expect("the pod is new");
}

/// The sum of all scores, so that nothing is left out.
fn rate(pre_filter: &PreFilter<'_>, pre_score: &PreScore<'_>, snapshot: &Snapshot) -> i64 {
    let mut sum = 0;
    for (row, node) in snapshot.nodes().iter().enumerate() {
        if let PreFilter::Filter { filter, .. } = pre_filter
            && filter.filter_at(row, node).is_err()
        {
            continue;
        }
        if let PreScore::Score(score) = pre_score {
            sum += score.score_at(row, node);
        }
    }
    sum
}

fn compare(c: &mut Criterion, name: &str, plugin: &dyn Plugin, spec: &Value) {
    let mut group = c.benchmark_group(name);
    group.sample_size(20);
    let mut cache = cluster(spec);
    let waiting = pod(spec, PODS);
    let feasible: Vec<usize> = (0..NODES).collect();
    group.bench_function("plugin", |bencher| {
        bencher.iter(|| {
            let snapshot = cache.snapshot();
            let pre_filter = plugin.pre_filter(&waiting, snapshot);
            let pre_score = plugin.pre_score(&waiting, snapshot, &feasible);
            black_box(rate(&pre_filter, &pre_score, snapshot))
        });
    });
    let (mut counters, mut number) = (Counters::default(), PODS + 1);
    group.bench_function("counters", |bencher| {
        bencher.iter(|| {
            place(&mut cache, spec, number);
            number += 1;
            let snapshot = cache.snapshot();
            let pre_filter = counters.pre_filter(plugin, &waiting, snapshot).expect("counted");
            let pre_score =
                counters.pre_score(plugin, &waiting, snapshot, &feasible).expect("counted");
            black_box(rate(&pre_filter, &pre_score, snapshot))
        });
    });
    group.finish();
}

fn all(c: &mut Criterion) {
    let green = json!({"matchLabels": {"color": "green"}});
    let term = json!({"labelSelector": green, "topologyKey": "kubernetes.io/hostname"});
    let required = json!({"containers": [], "affinity": {"podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [term]}}});
    compare(c, "required-anti-affinity", &InterPodAffinity::default(), &required);
    let preferred = json!({"containers": [], "affinity": {"podAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 1, "podAffinityTerm": term}]}}});
    compare(c, "preferred-affinity", &InterPodAffinity::default(), &preferred);
    let plain = json!({"containers": []});
    compare(c, "no-affinity", &InterPodAffinity::default(), &plain);
    let spread = |when: &str| {
        json!({"containers": [], "topologySpreadConstraints": [{"maxSkew": 1,
            "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": when,
            "labelSelector": green}]})
    };
    compare(c, "spread-required", &PodTopologySpread::default(), &spread("DoNotSchedule"));
    compare(c, "spread-preferred", &PodTopologySpread::default(), &spread("ScheduleAnyway"));
}

criterion_group!(benches, all);
criterion_main!(benches);
