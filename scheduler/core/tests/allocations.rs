//! Once its tables have grown, the scheduler decides about a pod without asking for memory.
//!
//! What is counted is every request of the whole process while decisions are made and the notes are
//! taken that the bindings are written; reading objects and their events is not in it. There is one test
//! in this file, so that nothing else runs meanwhile.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(unsafe_code, reason = "there is no other way to see what is allocated")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use k8s_openapi::api::core::v1::{Node, Pod};
use pintle_scheduler_core::engine::Indexed;
use pintle_scheduler_core::framework::{Profile, Profiles};
use pintle_scheduler_core::queue::Options;
use pintle_scheduler_core::{ATTEMPTS_OF_ONE, Attempt, Outcome, Scheduler, Time};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use serde_json::json;

/// The system's allocator, which counts.
struct Counting;

static REQUESTS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is the system allocator's, with the arguments that came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        REQUESTS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        REQUESTS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const NODES: usize = 100;
/// Two fifths of what the nodes have room for.
const PODS: usize = 1600;
/// In these every table grows as far as it will. The change log, which doubles, is twice as long as what
/// comes after.
const ROUNDS_BEFORE: usize = 6;

fn object<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> Arc<T> {
    Arc::new(serde_json::from_value(value).unwrap())
}

fn node(number: usize) -> Arc<Node> {
    let name = format!("node-{number}");
    object(json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": {"cpu": "4", "memory": "32Gi", "pods": "110"}}}))
}

fn pod(number: usize) -> Arc<Pod> {
    let uid = format!("00000000-0000-0000-0000-{number:012}");
    let requests = json!({"cpu": "100m", "memory": "500Mi"});
    object(
        json!({"metadata": {"name": format!("pod-{number}"), "namespace": "default", "uid": uid},
        "spec": {"containers": [{"name": "c", "resources": {"requests": requests}}]}}),
    )
}

/// A scheduler whose pods come, get their nodes and go, over and over.
struct Life {
    scheduler: Scheduler,
    random: SmallRng,
    attempts: Vec<Attempt>,
    /// How many pods are decided about in a call; one by one if `None`.
    max: Option<usize>,
    pods_made: usize,
}

impl Life {
    fn new(workers: usize, max: Option<usize>) -> Self {
        let profiles = Profiles::single(Profile::default_plugins("default-scheduler"));
        let engine = Indexed::default();
        let mut scheduler = Scheduler::new(Arc::new(profiles), Options::default(), engine);
        scheduler.set_workers(workers);
        (0..NODES).for_each(|at| scheduler.node_changed(None, Some(&node(at)), Time::default()));
        let (random, attempts) = (SmallRng::seed_from_u64(1), Vec::with_capacity(PODS));
        Self { scheduler, random, attempts, max, pods_made: 0 }
    }

    /// One generation of pods; returns the requests for memory while nodes were found for them.
    fn round(&mut self) -> u64 {
        let now = Time::from_millis(1);
        let pods: Vec<_> = (self.pods_made..self.pods_made + PODS).map(pod).collect();
        self.pods_made += PODS;
        pods.iter().for_each(|pod| self.scheduler.pod_changed(None, Some(pod), now));
        let mut placed = Vec::with_capacity(PODS);
        let before = REQUESTS.load(Ordering::Relaxed);
        while placed.len() < PODS {
            match self.max {
                Some(max) => {
                    let (random, attempts) = (&mut self.random, &mut self.attempts);
                    self.scheduler.schedule_many(now, random, max, attempts);
                }
                None => self.attempts.extend(self.scheduler.schedule_next(now, &mut self.random)),
            }
            assert!(!self.attempts.is_empty(), "a pod waits");
            for Attempt { pod, outcome } in self.attempts.drain(..) {
                let Outcome::Bind { node, .. } = outcome else { panic!("there is room") };
                self.scheduler.bound(&pod.info.uid);
                placed.push((pod.info, node));
            }
        }
        let requests = REQUESTS.load(Ordering::Relaxed) - before;
        drop(placed);
        pods.iter().for_each(|pod| self.scheduler.pod_changed(Some(pod), None, now));
        requests
    }

    /// A round after many others.
    fn warm_round(&mut self) -> u64 {
        for _ in 0..ROUNDS_BEFORE {
            self.round();
        }
        self.round()
    }
}

/// A second thread, its stack and name, and the lanes to it.
const PER_SECOND_THREAD: u64 = 64;

#[test]
fn a_decision_needs_no_memory() {
    assert_eq!(Life::new(1, None).warm_round(), 0, "one by one");
    assert_eq!(Life::new(1, Some(ATTEMPTS_OF_ONE)).warm_round(), 0, "in batches");
    let shared = Life::new(2, Some(PODS)).warm_round();
    assert!(shared <= PER_SECOND_THREAD, "{shared} for {PODS} pods and a second thread");
}
