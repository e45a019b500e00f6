mod property;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::*;

const HOST: std::net::Ipv4Addr = std::net::Ipv4Addr::new(172, 30, 0, 2);

fn pod(spec: serde_json::Value) -> Pod {
    let metadata = json!({ "name": "web", "namespace": "default", "uid": "u1", "generation": 1 });
    let mut object = json!({ "metadata": metadata });
    object["spec"] = spec;
    serde_json::from_value(object).unwrap()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

/// A runtime of one's own making: carries actions out on the record alone.
struct World {
    pod: Pod,
    intent: Intent,
    observed: PodObserved,
    now: Timestamp,
    log: Vec<String>,
}

impl World {
    fn new(spec: serde_json::Value) -> Self {
        let pod = pod(spec);
        let observed = PodObserved::take_up(&pod, at(0));
        Self { pod, intent: Intent::Run, observed, now: at(0), log: Vec::new() }
    }

    fn container(&mut self, name: &str) -> &mut ContainerObserved {
        self.observed.containers.get_mut(name).unwrap()
    }

    /// Carry out actions until there are none; what waits is left waiting.
    fn settle(&mut self) -> Step {
        for _ in 0..100 {
            let step = step(&self.pod, self.intent, &self.observed, self.now);
            if step.actions.is_empty() {
                return step;
            }
            for action in step.actions {
                self.carry_out(action);
            }
        }
        panic!("does not settle: {:?}", self.log);
    }

    fn carry_out(&mut self, action: Action) {
        let now = self.now;
        match action {
            Action::CreateSandbox => {
                self.observed.sandbox = Sandbox::Ready;
                self.observed.ip = Some([10, 244, 0, 2].into());
                self.log.push("sandbox".to_owned());
            }
            Action::RemoveSandbox => {
                self.observed.sandbox = Sandbox::Removed;
                self.log.push("remove".to_owned());
            }
            Action::Delete => {
                self.log.push("delete".to_owned());
                self.intent = Intent::Stop { grace_s: 0, delete: false };
            }
            Action::Start(name) => {
                let spec = self.pod.spec.as_ref().unwrap();
                let regular = spec.containers.iter().any(|it| it.name == name);
                self.observed.initialized |= regular;
                let container = self.container(&name);
                let run = container.starting(now);
                container.running(format!("process://{name}-{run}"), now, false, false);
                self.log.push(format!("start {name} {run}"));
            }
            Action::Terminate { container, grace_s, .. } => {
                let deadline = now + SignedDuration::from_secs(i64::from(grace_s));
                self.container(&container).stop = Some(Stop { deadline, killed: false });
                self.log.push(format!("term {container} {grace_s}"));
            }
            Action::Kill(container) => {
                self.container(&container).stop.as_mut().unwrap().killed = true;
                self.log.push(format!("kill {container}"));
            }
        }
    }

    fn exit(&mut self, name: &str, code: i32) {
        let now = self.now;
        self.container(name).exited(Exit { code, signal: None, out_of_memory: false }, now);
    }

    fn pass(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
    }

    fn status(&self) -> PodStatus {
        pod_status(&self.pod, self.intent, &self.observed, HOST, &[], self.now)
    }

    fn phase(&self) -> String {
        self.status().phase.unwrap()
    }

    fn condition(&self, name: &str) -> (String, Option<String>, Option<String>) {
        let conditions = self.status().conditions.unwrap();
        let found = conditions.into_iter().find(|it| it.type_ == name).unwrap();
        (found.status, found.reason, found.message)
    }

    fn state(&self, name: &str) -> serde_json::Value {
        let status = self.status();
        let all = [status.init_container_statuses, status.container_statuses];
        let found = all.into_iter().flatten().flatten().find(|it| it.name == name);
        serde_json::to_value(found).unwrap()
    }
}

#[test]
fn a_pod_starts_its_containers_and_is_ready() {
    let mut world = World::new(json!({ "containers": [{ "name": "a" }, { "name": "b" }] }));
    assert_eq!(world.phase(), "Pending");
    assert_eq!(world.state("a")["state"]["waiting"]["reason"], "ContainerCreating");
    let step = world.settle();
    assert_eq!(step, Step::default());
    assert_eq!(world.log, ["sandbox", "start a 0", "start b 0"]);
    assert_eq!(world.phase(), "Running");
    assert_eq!(world.condition("Ready"), ("True".to_owned(), None, None));
    let status = world.status();
    assert_eq!(status.pod_ip.as_deref(), Some("10.244.0.2"));
    assert_eq!(status.observed_generation, Some(1));
}

#[test]
fn restart_policies_decide_phase_and_restart() {
    // policy, exit code, phase afterwards, started again
    let cases = [
        ("Always", 0, "Running", true),
        ("Always", 1, "Running", true),
        ("OnFailure", 0, "Succeeded", false),
        ("OnFailure", 1, "Running", true),
        ("Never", 0, "Succeeded", false),
        ("Never", 1, "Failed", false),
    ];
    for (policy, code, phase, again) in cases {
        let spec = json!({ "restartPolicy": policy, "containers": [{ "name": "a" }] });
        let mut world = World::new(spec);
        world.settle();
        world.exit("a", code);
        world.settle();
        assert_eq!(world.phase(), phase, "{policy} {code}");
        assert_eq!(world.log.contains(&"start a 1".to_owned()), again, "{policy} {code}");
        assert_eq!(world.log.contains(&"remove".to_owned()), !again, "{policy} {code}");
    }
}

#[test]
fn a_crash_loop_waits_and_says_so() {
    let mut world = World::new(json!({ "containers": [{ "name": "a" }] }));
    world.settle();
    world.exit("a", 1);
    world.settle();
    assert_eq!(world.state("a")["restartCount"], 1);
    world.pass(1);
    world.exit("a", 2);
    let step = world.settle();
    assert_eq!(step.wake_at, Some(at(11)));
    let state = world.state("a");
    assert_eq!(state["state"]["waiting"]["reason"], "CrashLoopBackOff");
    assert_eq!(
        state["state"]["waiting"]["message"],
        "back-off 10s restarting failed container=a pod=web_default(u1)"
    );
    assert_eq!(state["lastState"]["terminated"]["exitCode"], 2);
    assert_eq!(world.phase(), "Running");
    let (ready, reason, message) = world.condition("Ready");
    assert_eq!((ready.as_str(), reason.as_deref()), ("False", Some("ContainersNotReady")));
    assert_eq!(message.unwrap(), "containers with unready status: [a]");
    world.pass(10);
    world.settle();
    assert_eq!(world.state("a")["restartCount"], 2);
}

#[test]
fn init_containers_run_one_by_one_before_the_others() {
    let mut world = World::new(json!({
        "initContainers": [{ "name": "i1" }, { "name": "i2" }],
        "containers": [{ "name": "a" }],
    }));
    world.settle();
    assert_eq!(world.log, ["sandbox", "start i1 0"]);
    assert_eq!(world.phase(), "Pending");
    assert_eq!(world.state("a")["state"]["waiting"]["reason"], "PodInitializing");
    let (_, reason, message) = world.condition("Initialized");
    assert_eq!(reason.as_deref(), Some("ContainersNotInitialized"));
    assert_eq!(message.unwrap(), "containers with incomplete status: [i1 i2]");
    world.exit("i1", 0);
    world.settle();
    world.exit("i2", 0);
    world.settle();
    assert_eq!(world.log[2..], ["start i2 0", "start a 0"]);
    assert_eq!(world.condition("Initialized").0, "True");
    assert_eq!(world.phase(), "Running");
}

#[test]
fn a_failed_init_container_fails_a_pod_that_never_restarts() {
    let mut world = World::new(json!({
        "restartPolicy": "Never",
        "initContainers": [{ "name": "i" }],
        "containers": [{ "name": "a" }],
    }));
    world.settle();
    world.exit("i", 3);
    assert!(world.settle().done);
    assert_eq!(world.log, ["sandbox", "start i 0", "remove"]);
    assert_eq!(world.phase(), "Failed");
    assert_eq!(world.condition("Ready").1.as_deref(), Some("PodFailed"));
}

#[test]
fn a_sidecar_runs_beside_and_ends_after_the_others() {
    let mut world = World::new(json!({
        "restartPolicy": "Never",
        "initContainers": [{ "name": "side", "restartPolicy": "Always" }],
        "containers": [{ "name": "a" }],
    }));
    world.settle();
    assert_eq!(world.log, ["sandbox", "start side 0", "start a 0"]);
    world.exit("side", 1);
    world.settle();
    assert_eq!(world.log[3], "start side 1");
    world.exit("a", 0);
    world.settle();
    assert_eq!(world.log[4], "term side 30");
    world.exit("side", 143);
    assert!(world.settle().done);
    assert_eq!(world.phase(), "Succeeded");
}

#[test]
fn deletion_terminates_then_kills_then_removes_then_deletes() {
    let mut world = World::new(json!({ "containers": [{ "name": "a" }] }));
    world.settle();
    world.intent = Intent::Stop { grace_s: 5, delete: true };
    let step = world.settle();
    assert_eq!(step.wake_at, Some(at(5)));
    assert_eq!(world.log.last().unwrap(), "term a 5");
    world.pass(5);
    world.settle();
    assert_eq!(world.log.last().unwrap(), "kill a");
    assert_eq!(world.settle().wake_at, None);
    world.exit("a", 137);
    assert_eq!(world.phase(), "Failed");
    assert!(world.settle().done);
    assert_eq!(world.log[4..], ["remove", "delete"]);
}

#[test]
fn a_second_deletion_with_less_grace_is_heeded() {
    let mut world = World::new(json!({ "containers": [{ "name": "a" }] }));
    world.settle();
    world.intent = Intent::Stop { grace_s: 30, delete: true };
    world.settle();
    world.pass(2);
    world.intent = Intent::Stop { grace_s: 0, delete: true };
    world.settle();
    assert_eq!(world.log.last().unwrap(), "kill a");
}

#[test]
fn an_unhealthy_container_is_stopped_and_started_again() {
    let mut world = World::new(json!({
        "terminationGracePeriodSeconds": 7, "containers": [{ "name": "a" }],
    }));
    world.settle();
    world.container("a").unhealthy = Some("liveness");
    world.settle();
    assert_eq!(world.log.last().unwrap(), "term a 7");
    world.exit("a", 143);
    world.settle();
    assert_eq!(world.log.last().unwrap(), "start a 1");
}

#[test]
fn a_pod_found_running_after_a_crash_is_started_again_with_its_count() {
    let mut world = World::new(json!({
        "initContainers": [{ "name": "i" }], "containers": [{ "name": "a" }],
    }));
    world.settle();
    world.exit("i", 0);
    world.settle();
    world.pod.status = Some(world.status());
    world.pass(60);
    world.observed = PodObserved::take_up(&world.pod, world.now);
    world.log.clear();
    world.settle();
    assert_eq!(world.log, ["sandbox", "start i 1"]);
    world.exit("i", 0);
    world.settle();
    assert_eq!(world.log[2], "start a 1");
    let state = world.state("a");
    assert_eq!(state["restartCount"], 1);
    assert_eq!(state["lastState"]["terminated"]["reason"], "ContainerStatusUnknown");
    assert_eq!(world.status().start_time.unwrap().0, at(0));
}

#[test]
fn a_pod_that_ended_before_a_crash_stays_ended() {
    let mut world =
        World::new(json!({ "restartPolicy": "Never", "containers": [{ "name": "a" }] }));
    world.settle();
    world.exit("a", 0);
    world.settle();
    world.pod.status = Some(world.status());
    world.observed = PodObserved::take_up(&world.pod, at(100));
    world.log.clear();
    assert!(world.settle().done);
    assert!(world.log.is_empty());
    assert_eq!(world.phase(), "Succeeded");
}

#[test]
fn a_command_that_cannot_start_is_a_run_that_ended() {
    let mut world = World::new(json!({ "containers": [{ "name": "a" }] }));
    let now = world.now;
    world.container("a").starting(now);
    world.container("a").start_failed("exec: \"nope\": not found".to_owned(), now);
    let state = world.state("a");
    assert_eq!(state["state"]["terminated"]["reason"], "StartError");
    assert_eq!(state["state"]["terminated"]["exitCode"], 128);
}

#[test]
fn transition_times_stay_while_the_answer_does() {
    let mut world = World::new(json!({ "containers": [{ "name": "a" }] }));
    world.settle();
    let before = world.status().conditions.unwrap();
    let later = at(50);
    let status = pod_status(&world.pod, Intent::Run, &world.observed, HOST, &before, later);
    assert_eq!(status.conditions.unwrap(), before);
    world.exit("a", 1);
    let status = pod_status(&world.pod, Intent::Run, &world.observed, HOST, &before, later);
    let ready = status.conditions.unwrap().into_iter().find(|it| it.type_ == "Ready").unwrap();
    assert_eq!(ready.last_transition_time.unwrap().0, later);
}

#[test]
fn quality_of_service_follows_requests_and_limits() {
    let cases = [
        (json!({}), "BestEffort"),
        (json!({ "requests": { "cpu": "0" } }), "BestEffort"),
        (json!({ "requests": { "cpu": "100m" } }), "Burstable"),
        (json!({ "limits": { "cpu": "1" } }), "Burstable"),
        (json!({ "limits": { "cpu": "1", "memory": "1Gi" } }), "Guaranteed"),
        (
            json!({ "requests": { "cpu": "1000m", "memory": "1024Mi" },
                    "limits": { "cpu": "1", "memory": "1Gi" } }),
            "Guaranteed",
        ),
        (
            json!({ "requests": { "cpu": "500m" }, "limits": { "cpu": "1", "memory": "1Gi" } }),
            "Burstable",
        ),
    ];
    for (resources, class) in cases {
        let pod = pod(json!({ "containers": [{ "name": "a", "resources": resources }] }));
        assert_eq!(qos_class(&pod.spec.unwrap()), class, "{resources}");
    }
}

fn container(value: serde_json::Value) -> Container {
    serde_json::from_value(value).unwrap()
}

#[test]
fn environment_resolves_what_it_refers_to() {
    let mut pod = pod(json!({ "nodeName": "node-1", "containers": [] }));
    pod.metadata.labels = Some(BTreeMap::from([("app".to_owned(), "web".to_owned())]));
    let container = container(json!({ "name": "a",
        "envFrom": [{ "prefix": "C_", "configMapRef": { "name": "cfg" } }],
        "env": [
            { "name": "A", "value": "1" },
            { "name": "B", "value": "$(A)-$$(A)-$(NOPE)-$" },
            { "name": "IP", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } },
            { "name": "APP", "valueFrom": { "fieldRef": { "fieldPath": "metadata.labels['app']" } } },
            { "name": "NODE", "valueFrom": { "fieldRef": { "fieldPath": "spec.nodeName" } } },
            { "name": "K", "valueFrom": { "secretKeyRef": { "name": "s", "key": "k" } } },
            { "name": "O", "valueFrom": { "secretKeyRef": { "name": "no", "key": "k", "optional": true } } },
        ],
    }));
    let (config_maps, secrets) = referenced(&container);
    assert_eq!(config_maps.into_iter().collect::<Vec<_>>(), ["cfg"]);
    assert_eq!(secrets.into_iter().collect::<Vec<_>>(), ["no", "s"]);
    let data = |key: &str, value: &str| Some(BTreeMap::from([(key.to_owned(), value.to_owned())]));
    let sources = EnvSources {
        config_maps: BTreeMap::from([("cfg".to_owned(), data("x", "y"))]),
        secrets: BTreeMap::from([("s".to_owned(), data("k", "v")), ("no".to_owned(), None)]),
    };
    let downward = Downward { pod: &pod, pod_ip: "10.0.0.1", host_ip: "172.30.0.2" };
    let env = environment(&container, downward, &sources).unwrap();
    let expected = [
        ("A", "1"),
        ("APP", "web"),
        ("B", "1-$(A)-$(NOPE)-$"),
        ("C_x", "y"),
        ("IP", "10.0.0.1"),
        ("K", "v"),
        ("NODE", "node-1"),
    ];
    assert_eq!(env, expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    let missing = environment(&container, downward, &EnvSources::default()).unwrap_err();
    assert_eq!(missing.to_string(), "configmap \"cfg\" not found");
}
