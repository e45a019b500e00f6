use k8s_openapi::api::core::v1::{Node, Pod};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::cache::{Cache, Object};
use crate::engine::Indexed;
use crate::framework::Profile;
use crate::preemption::{CandidateSearch, DryRun};
use crate::reference;
use crate::testing::{self, named, plain_pod};

/// A step in the life of a full cluster. Numbers are taken modulo what is there.
#[derive(Clone, Debug)]
enum Step {
    SetNode(Arc<Node>),
    RemoveNode(usize),
    SetPod(Box<Pod>, usize),
    RemovePod(u8),
    Nominate(Box<Pod>, usize),
    /// One of the preemptors that come again and again.
    NominatePreemptor(usize, usize),
    EndNomination(u8),
    SetObject(Object),
    SetBudget(u8, &'static str, i32),
    /// A preemptor comes: which, and how many candidates are enough.
    Preempt(usize, usize, u64),
}

const NODES_MAX: usize = 12;

fn step() -> impl Strategy<Value = Step> {
    let pod = |prefix: &'static str, count: u8| {
        (0..count).prop_flat_map(move |n| testing::pod(format!("{prefix}{n}"))).prop_map(Box::new)
    };
    let app = proptest::sample::select(&["x", "y"][..]);
    prop_oneof![
        2 => (0..NODES_MAX).prop_flat_map(|n| testing::node(format!("n{n}"))).prop_map(Step::SetNode),
        1 => any::<usize>().prop_map(Step::RemoveNode),
        6 => (pod("r", 40), any::<usize>()).prop_map(|(pod, at)| Step::SetPod(pod, at)),
        1 => (0..40_u8).prop_map(Step::RemovePod),
        2 => (pod("w", 4), any::<usize>()).prop_map(|(pod, at)| Step::Nominate(pod, at)),
        1 => (any::<usize>(), any::<usize>()).prop_map(|(pod, at)| Step::NominatePreemptor(pod, at)),
        1 => (0..4_u8).prop_map(Step::EndNomination),
        1 => testing::owner().prop_map(Step::SetObject),
        1 => (0..3_u8, app, 0..3).prop_map(|(n, app, allowed)| Step::SetBudget(n, app, allowed)),
        12 => (any::<usize>(), 0..6_usize, any::<u64>())
            .prop_map(|(pod, enough, random)| Step::Preempt(pod, enough, random)),
    ]
}

/// Mostly pods of which only plugins that look at one node at a time have something to say.
fn preemptor() -> impl Strategy<Value = Pod> {
    let pod = (testing::pod("t".to_owned()), prop::bool::weighted(0.9), 1..5_i32);
    pod.prop_map(|(pod, is_plain, priority)| {
        let mut pod = plain_pod(pod, is_plain);
        pod.spec.get_or_insert_default().priority = Some(priority);
        pod
    })
}

fn budget(name: u8, app: &str, allowed: i32) -> Object {
    let object = json!({"metadata": {"name": name.to_string(), "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": app}}},
        "status": {"disruptionsAllowed": allowed, "currentHealthy": 0, "desiredHealthy": 0,
            "expectedPods": 0}});
    Object::PodDisruptionBudget(None, Some(Arc::new(serde_json::from_value(object).unwrap())))
}

/// Node, victims and violations; or the nodes and what they say.
fn told(result: Result<PreemptionCandidate, Refusals>) -> (String, Refusals) {
    match result {
        Ok(PreemptionCandidate { node, victims, pdb_violations }) => {
            let victims: Vec<_> = victims.iter().map(|victim| victim.name()).collect();
            (format!("{} {victims:?} {pdb_violations}", node.name()), Refusals::default())
        }
        Err(refused) => (String::new(), refused),
    }
}

struct World {
    cache: Cache,
    engine: Indexed,
    preemptors: Vec<Pod>,
    /// Whether pods of wider view are left out.
    is_plain: bool,
}

impl World {
    fn node(&self, at: usize) -> Option<Arc<str>> {
        let nodes = self.cache.snapshot().nodes();
        Some(Arc::clone(nodes[at.checked_rem(nodes.len())?].name()))
    }

    fn preemptor(&self, at: usize) -> Arc<PodInfo> {
        let at = at % self.preemptors.len();
        named(&self.preemptors[at], format!("p{at}"))
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::SetNode(node) => self.cache.set_node(node),
            Step::RemoveNode(at) => {
                if let Some(name) = self.node(at) {
                    self.cache.remove_node(&name);
                }
            }
            Step::SetPod(pod, at) => {
                let pod = plain_pod(*pod, self.is_plain);
                if let Some(name) = self.node(at) {
                    self.cache.set_pod(testing::bound(&pod, &name));
                }
            }
            Step::RemovePod(number) => {
                let object = json!({"metadata": {"name": "r", "uid": format!("r{number}")}});
                let info = PodInfo::new(Arc::new(serde_json::from_value(object).unwrap()));
                self.cache.remove_pod(&info.uid);
            }
            Step::Nominate(pod, at) => {
                let pod = Arc::new(PodInfo::new(Arc::new(plain_pod(*pod, self.is_plain))));
                if let Some(name) = self.node(at) {
                    self.cache.nominate(&pod, &name);
                }
            }
            Step::NominatePreemptor(pod, at) => {
                let pod = self.preemptor(pod);
                if let Some(name) = self.node(at) {
                    self.cache.nominate(&pod, &name);
                }
            }
            Step::EndNomination(number) => {
                let object = json!({"metadata": {"name": "w", "uid": format!("w{number}")}});
                let info = PodInfo::new(Arc::new(serde_json::from_value(object).unwrap()));
                self.cache.end_nomination(&info.uid);
            }
            Step::SetObject(object) => self.cache.apply(&object),
            Step::SetBudget(name, app, allowed) => self.cache.apply(&budget(name, app, allowed)),
            Step::Preempt(pod, enough, random) => {
                self.preempt(&self.preemptor(pod), enough, random);
            }
        }
    }

    fn preempt(&mut self, pod: &Arc<PodInfo>, enough: usize, random: u64) {
        let profile = Profile::default_plugins("default-scheduler");
        let profile = PROFILE.with(|known| known.get_or_init(|| profile).clone());
        let (profile, snapshot) = (&profile, self.cache.snapshot());
        let diagnosis = &reference::evaluate(profile, snapshot, pod).diagnosis;
        let context = PostFilterContext { profile, snapshot, pod, diagnosis, random };
        let mut nodes = diagnosis.resolvable();
        if !nodes.is_empty() {
            let start = usize::try_from(random % nodes.len() as u64).unwrap();
            nodes.rotate_left(start);
        }
        let expected = told(DryRun.best(&context, &nodes, enough));
        let actual = told(self.engine.best(&context, &nodes, enough));
        assert_eq!(actual, expected, "{}", testing::printed("ranking", snapshot, pod));
    }
}

thread_local! {
    /// The index knows a profile by its plugins' addresses.
    static PROFILE: std::cell::OnceCell<Profile> = const { std::cell::OnceCell::new() };
}

proptest! {
    #![proptest_config(testing::clusters(256))]

    #[test]
    fn it_finds_what_the_dry_run_finds(
        nodes in vec((0..NODES_MAX).prop_flat_map(|n| testing::node(format!("n{n}"))), 1..10),
        preemptors in vec(preemptor(), 1..4),
        steps in vec(step(), 1..60),
        is_plain in prop::bool::weighted(0.8),
    ) {
        let mut world = World {
            cache: Cache::default(),
            engine: Indexed::default(),
            preemptors,
            is_plain,
        };
        nodes.into_iter().for_each(|node| world.apply(Step::SetNode(node)));
        steps.into_iter().for_each(|step| world.apply(step));
    }
}
