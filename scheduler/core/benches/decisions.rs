//! How long a decision takes, from a decoded pod in the queue to a reserved node and a written
//! binding taken note of, with every default plugin on. The times are those that the thread computed:
//! what else runs on the machine counts for less. The clusters are those of scheduler_perf: nodes of 4 cores and 32 GiB for 110 pods, pods
//! of 100m and 500Mi.

use std::fs;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use k8s_openapi::api::core::v1::{Node, Pod};
use pintle_scheduler_core::cache::Object;
use pintle_scheduler_core::engine::Indexed;
use pintle_scheduler_core::framework::{Profile, Profiles};
use pintle_scheduler_core::queue::Options;
use pintle_scheduler_core::{Outcome, Scheduler, Time};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use serde_json::{Value, json};

fn node(number: usize) -> Arc<Node> {
    let name = format!("node-{number}");
    object(json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": {"cpu": "4", "memory": "32Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True"}]}}))
}

fn pod(number: usize, requests: &Value) -> Arc<Pod> {
    let name = format!("pod-{number}");
    let uid = format!("00000000-0000-0000-0000-{number:012}");
    object(json!({"metadata": {"name": name, "namespace": "default", "uid": uid},
        "spec": {"containers": [{"name": "pause", "image": "registry.k8s.io/pause:3.10",
            "ports": [{"containerPort": 80}], "resources": {"requests": requests,
                "limits": {"cpu": "100m", "memory": "500Mi"}}}]}}))
}

fn object<T: serde::de::DeserializeOwned>(value: Value) -> Arc<T> {
    Arc::new(serde_json::from_value(value).expect("the object is well formed"))
}

/// A scheduler with this many nodes and these pods waiting.
fn cluster(nodes: usize, pods: impl Iterator<Item = Arc<Pod>>) -> Scheduler {
    let profiles = Arc::new(Profiles::single(Profile::default_plugins("default-scheduler")));
    let mut scheduler = Scheduler::new(profiles, Options::default(), Indexed::default());
    let now = Time::default();
    (0..nodes).for_each(|number| scheduler.node_changed(None, Some(&node(number)), now));
    pods.for_each(|pod| scheduler.pod_changed(None, Some(&pod), now));
    scheduler
}

/// Decides about this many pods; how long that took.
fn drain(mut scheduler: Scheduler, pods: u64) -> Duration {
    let mut random = SmallRng::seed_from_u64(1);
    let now = Time::from_millis(1);
    let start = cpu_time();
    for _ in 0..pods {
        let attempt = scheduler.schedule_next(now, &mut random).expect("a pod waits");
        assert!(matches!(black_box(&attempt).outcome, Outcome::Bind { .. }));
        scheduler.bound(&attempt.pod.info.uid);
    }
    let took = cpu_time().saturating_sub(start);
    drop(scheduler);
    took
}

/// How long this thread computed so far.
fn cpu_time() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux says");
    let nanos = text.split(' ').next().and_then(|first| first.parse().ok());
    Duration::from_nanos(nanos.expect("the first number is nanoseconds"))
}

fn basic(c: &mut Criterion) {
    let mut group = c.benchmark_group("basic");
    group.sample_size(10);
    let requests = json!({"cpu": "100m", "memory": "500Mi"});
    for (nodes, pods) in [(5_000, 10_000), (5_000, 50_000)] {
        group.throughput(Throughput::Elements(pods as u64));
        group.bench_function(format!("{nodes}-nodes/{pods}-pods"), |bencher| {
            bencher.iter_custom(|rounds| {
                let round = |_| {
                    let waiting = (0..pods).map(|number| pod(number, &requests));
                    drain(cluster(nodes, waiting), pods as u64)
                };
                (0..rounds).map(round).sum()
            });
        });
    }
    group.finish();
}

fn every_pod_different(c: &mut Criterion) {
    let mut group = c.benchmark_group("every pod different");
    group.sample_size(10);
    group.throughput(Throughput::Elements(10_000));
    group.bench_function("5000-nodes/10000-pods", |bencher| {
        bencher.iter_custom(|rounds| {
            let round = |_| {
                let waiting = (0..10_000).map(|number| {
                    let memory = (500 << 20) + number;
                    pod(number, &json!({"cpu": "100m", "memory": memory.to_string()}))
                });
                drain(cluster(5_000, waiting), 10_000)
            };
            (0..rounds).map(round).sum()
        });
    });
    group.finish();
}

/// Evictions take time: preemptors come to a full cluster and are nominated, one after the other, and
/// none of their victims goes meanwhile. A Service makes PodTopologySpread ask about every pod.
fn all_nominated(c: &mut Criterion) {
    let mut group = c.benchmark_group("all nominated");
    group.sample_size(10);
    group.throughput(Throughput::Elements(PREEMPTORS));
    group.bench_function("5000-nodes/5000-preemptors", |bencher| {
        bencher.iter_custom(|rounds| (0..rounds).map(|_| nominate_all(full_cluster())).sum());
    });
    group.finish();
}

const PREEMPTORS: u64 = 5_000;

/// 5,000 nodes with 4 pods each, and preemptors that take the place of 3.
fn full_cluster() -> Scheduler {
    let requests = json!({"cpu": "900m", "memory": "500Mi"});
    let mut scheduler = cluster(5_000, (0..20_000).map(|number| pod(number, &requests)));
    let service = json!({"metadata": {"name": "kubernetes", "namespace": "default"}});
    let now = Time::from_millis(1);
    scheduler.object_changed(Object::Service(None, Some(object(service))), now);
    let mut random = SmallRng::seed_from_u64(1);
    while let Some(attempt) = scheduler.schedule_next(now, &mut random) {
        let Outcome::Bind { node, .. } = attempt.outcome else { unreachable!("there is room") };
        let old = Arc::new(attempt.pod.info.object());
        let mut new = Pod::clone(&old);
        new.spec.get_or_insert_default().node_name = Some(node.to_string());
        scheduler.pod_changed(Some(&old), Some(&Arc::new(new)), now);
    }
    let requests = json!({"cpu": "3000m", "memory": "500Mi"});
    for number in 0..PREEMPTORS as usize {
        let mut pod = Pod::clone(&pod(20_000 + number, &requests));
        pod.spec.get_or_insert_default().priority = Some(10);
        scheduler.pod_changed(None, Some(&Arc::new(pod)), now);
    }
    scheduler
}

/// Every preemptor gets its turn; how long that took.
fn nominate_all(mut scheduler: Scheduler) -> Duration {
    let mut random = SmallRng::seed_from_u64(1);
    let now = Time::from_millis(2);
    let start = cpu_time();
    for _ in 0..PREEMPTORS {
        let attempt = scheduler.schedule_next(now, &mut random).expect("a pod waits");
        let Outcome::Unschedulable { preemption: Some(preemption), .. } = &attempt.outcome else {
            unreachable!("there is somebody to evict")
        };
        assert_eq!(preemption.victims.len(), 3);
        assert!(preemption.outranked.is_empty());
    }
    let took = cpu_time().saturating_sub(start);
    drop(scheduler);
    took
}

criterion_group!(benches, basic, every_pod_different, all_nominated);
criterion_main!(benches);
