//! Rollouts in a model cluster: the plans of Deployment and ReplicaSet are applied to it in an order,
//! with delays and with pod fates that all come from one seed.
//!
//! Held: at no moment do the ReplicaSets ask for more than replicas + maxSurge, nor, once the first
//! rollout is complete and while no available pod fails by itself, are fewer available than
//! replicas - maxUnavailable; and when the chaos ends, the cluster reaches the newest template.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::deployment::draft::stored_replicas;
use crate::deployment::rolling::{max_surge, max_unavailable};

/// A small deterministic generator, so that a failing seed is all there is to keep.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % u64::try_from(bound).unwrap()).unwrap()
    }
}

#[derive(Clone, Copy, PartialEq)]
enum PodState {
    Starting,
    Available,
}

struct Cluster {
    deployment: Deployment,
    sets: BTreeMap<String, ReplicaSet>,
    /// By ReplicaSet name.
    pods: BTreeMap<String, Vec<PodState>>,
    /// What the Deployment controller's cache shows; it follows one object at a time.
    seen: BTreeMap<String, ReplicaSet>,
    /// The generation that the ReplicaSet controller last made the pods of.
    synced: BTreeMap<String, Option<i64>>,
    clock: i64,
    complete_once: bool,
}

impl Cluster {
    fn new(deployment: Deployment) -> Self {
        Self {
            deployment,
            sets: BTreeMap::new(),
            pods: BTreeMap::new(),
            seen: BTreeMap::new(),
            synced: BTreeMap::new(),
            clock: 0,
            complete_once: false,
        }
    }

    fn now(&self) -> Timestamp {
        now() + SignedDuration::from_secs(self.clock)
    }

    /// The Deployment controller syncs, unless its cache lags behind its own writes (`Written`). As
    /// on a server, a write on a stale object is refused.
    fn sync_deployment(&mut self) {
        let generation = |set: &ReplicaSet| set.metadata.generation;
        let lags = |(name, set): (&String, &ReplicaSet)| {
            self.seen.get(name).map(generation) != Some(generation(set))
        };
        if self.sets.iter().any(lags) {
            return;
        }
        let seen: Vec<Arc<ReplicaSet>> = self.seen.values().cloned().map(Arc::new).collect();
        let plan = plan(&self.deployment, &seen, &[], self.now());
        for action in plan.actions {
            if !self.apply(action) {
                return;
            }
        }
        self.complete_once |= super::super::status::is_complete(&self.deployment, &plan.status);
        self.deployment.status = Some(plan.status);
    }

    fn apply(&mut self, action: Action) -> bool {
        match action {
            Action::CreateReplicaSet { replica_set, .. } => {
                let name = replica_set.metadata.name.clone().unwrap();
                if self.sets.contains_key(&name) {
                    return false;
                }
                let mut set = *replica_set;
                set.metadata.uid = Some(name.clone());
                set.metadata.creation_timestamp =
                    Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(self.now()));
                set.metadata.generation = Some(1);
                self.store(set);
            }
            Action::UpdateReplicaSet { annotations, replicas, stored, .. } => {
                let name = stored.metadata.name.clone().unwrap();
                let Some(current) = self.sets.get(&name) else { return false };
                if current.metadata.resource_version != stored.metadata.resource_version {
                    return false;
                }
                let mut set = current.clone();
                set.metadata.annotations = Some(annotations);
                if stored_replicas(&set) != replicas {
                    *set.metadata.generation.as_mut().unwrap() += 1;
                }
                set.spec.as_mut().unwrap().replicas = Some(replicas);
                self.store(set);
            }
            Action::DeleteReplicaSet(set) => {
                let name = set.metadata.name.clone().unwrap();
                self.sets.remove(&name);
                assert!(self.pods.remove(&name).is_none_or(|pods| pods.is_empty()));
            }
            Action::SetRevision(_) => {}
        }
        true
    }

    fn store(&mut self, mut set: ReplicaSet) {
        self.clock += 1;
        set.metadata.resource_version = Some(self.clock.to_string());
        self.sets.insert(set.metadata.name.clone().unwrap(), set);
    }

    /// The ReplicaSet controller makes and deletes pods; it writes the status some time after.
    fn sync_set(&mut self, name: &str) {
        let Some(set) = self.sets.get(name) else { return };
        let wanted = usize::try_from(stored_replicas(set)).unwrap();
        let pods = self.pods.entry(name.to_owned()).or_default();
        while pods.len() < wanted {
            pods.push(PodState::Starting);
        }
        while pods.len() > wanted {
            let unready = pods.iter().position(|pod| *pod == PodState::Starting);
            pods.swap_remove(unready.unwrap_or(0));
        }
        self.synced.insert(name.to_owned(), set.metadata.generation);
    }

    /// A status of the pods as they are, by a controller that saw the set as of its last sync.
    fn write_status(&mut self, name: &str) {
        let Some(mut set) = self.sets.get(name).cloned() else { return };
        let Some(observed) = self.synced.get(name) else { return };
        let pods = self.pods.get(name).map(Vec::as_slice).unwrap_or_default();
        let available = pods.iter().filter(|pod| **pod == PodState::Available).count();
        let status = serde_json::from_value(json!({
            "replicas": pods.len(), "readyReplicas": available, "availableReplicas": available,
            "observedGeneration": observed,
        }));
        let status = Some(status.unwrap());
        if set.status != status {
            set.status = status;
            self.store(set);
        }
    }

    /// The replicas asked for, the pods there are, and how many of these are available.
    fn counts(&self) -> (i32, i32, i32) {
        let asked = self.sets.values().map(stored_replicas).sum();
        let all = self.pods.values().flatten();
        let available = all.clone().filter(|pod| **pod == PodState::Available).count();
        (asked, i32::try_from(all.count()).unwrap(), i32::try_from(available).unwrap())
    }

    /// The cache catches up with one object, or notices that one is gone.
    fn see(&mut self, name: &str) {
        match self.sets.get(name) {
            Some(set) => drop(self.seen.insert(name.to_owned(), set.clone())),
            None => drop(self.seen.remove(name)),
        }
    }

    fn any_name(&self, random: &mut Random) -> Option<String> {
        let names: Vec<&String> = self.sets.keys().chain(self.seen.keys()).collect();
        (!names.is_empty()).then(|| names[random.below(names.len())].clone())
    }

    /// One random thing happens.
    fn step(&mut self, random: &mut Random) {
        self.clock += 1;
        let name = self.any_name(random);
        match (random.below(5), name) {
            (0, _) | (_, None) => self.sync_deployment(),
            (1, Some(name)) => self.sync_set(&name),
            (2, Some(name)) => self.see(&name),
            (3, Some(name)) => {
                if let Some(pods) = self.pods.get_mut(&name).filter(|pods| !pods.is_empty()) {
                    let at = random.below(pods.len());
                    pods[at] = PodState::Available;
                }
            }
            (_, Some(name)) => self.write_status(&name),
        }
    }

    /// Everything happens that can, until nothing is left to do.
    fn settle(&mut self) {
        for _ in 0..SETTLED_AFTER {
            let before = self.clock;
            for name in self.sets.keys().cloned().collect::<Vec<_>>() {
                self.sync_set(&name);
                self.pods.get_mut(&name).unwrap().fill(PodState::Available);
                self.write_status(&name);
            }
            for name in self.sets.keys().chain(self.seen.keys()).cloned().collect::<Vec<_>>() {
                self.see(&name);
            }
            self.sync_deployment();
            if self.clock == before {
                return;
            }
        }
        panic!("the cluster does not come to rest");
    }
}

/// Rounds in which every part acts once; a rollout of eight replicas by one needs some forty.
const SETTLED_AFTER: usize = 100;

fn strategy(surge: i32, unavailable: i32) -> Value {
    json!({
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable},
    })
}

/// A first rollout, then `rollouts` more amid random steps, then rest.
fn simulate(seed: u64, replicas: i32, surge: i32, unavailable: i32, rollouts: usize) {
    let mut random = Random(seed);
    let mut web = deployment(replicas, "image-0");
    web.spec.as_mut().unwrap().strategy =
        Some(serde_json::from_value(strategy(surge, unavailable)).unwrap());
    let max = replicas + max_surge(&web);
    let min = replicas - max_unavailable(&web);
    let mut cluster = Cluster::new(web);
    cluster.settle();
    assert!(cluster.complete_once, "seed {seed}");
    let mut image = String::new();
    for rollout in 1..=rollouts {
        // Another template, or an earlier one, while the last rollout is still under way.
        image = format!("image-{}", random.below(3));
        let template = deployment(replicas, &image).spec.unwrap().template;
        cluster.deployment.spec.as_mut().unwrap().template = template;
        for step in 0..120 {
            cluster.step(&mut random);
            let (asked, _, available) = cluster.counts();
            assert!(asked <= max, "{asked} asked > {max}, seed {seed} {rollout}/{step}");
            assert!(
                available >= min,
                "{available} available < {min}, seed {seed} {rollout}/{step}"
            );
        }
    }
    cluster.settle();
    assert_eq!(cluster.counts(), (replicas, replicas, replicas), "seed {seed}");
    let mut active = cluster.sets.values().filter(|set| stored_replicas(set) > 0);
    let template = active.next().unwrap().spec.as_ref().unwrap().template.as_ref().unwrap();
    assert_eq!(template.spec.as_ref().unwrap().containers[0].image, Some(image));
    assert!(active.next().is_none(), "seed {seed}");
}

proptest! {
    #[test]
    fn rollouts_keep_their_bounds_and_converge(
        seed in any::<u64>(),
        replicas in 1..9_i32,
        surge in 0..4_i32,
        unavailable in 0..4_i32,
        rollouts in 1..6_usize,
    ) {
        simulate(seed, replicas, surge, unavailable, rollouts);
    }
}

/// A ReplicaSet that shrank and grew again before its status was written: the status counts pods
/// that are gone.
#[test]
fn a_status_of_an_earlier_size_is_waited_for() {
    simulate(15_084_505_791_459_223_865, 6, 2, 2, 4);
}
