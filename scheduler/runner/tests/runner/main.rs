//! The daemon against an API server of maps: what it writes, and how it takes faults.
#![expect(clippy::unwrap_used, reason = "a test's failures are panics")]

mod double;

use std::collections::BTreeMap;
use std::time::Duration;

use double::Double;
use pintle_component::{Daemon, encode_metrics};
use pintle_scheduler_runner::configuration::KubeSchedulerConfiguration;
use pintle_scheduler_runner::{Config, Error, run};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// Far longer than anything here takes: a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(60);

struct Cluster {
    api: Double,
    daemon: Daemon,
    running: JoinHandle<Result<(), Error>>,
}

impl Cluster {
    fn start(api: Double) -> Self {
        Self::start_with(api, Config { seed: Some(1), ..Config::default() })
    }

    fn start_with(api: Double, config: Config) -> Self {
        let daemon = Daemon::default();
        let running = tokio::spawn(run(api.client(), config, daemon.clone()));
        Self { api, daemon, running }
    }

    async fn stop(self) {
        self.daemon.shutdown.cancel();
        self.running.await.unwrap().unwrap();
    }

    async fn until(&self, what: &str, holds: impl Fn(&Double) -> bool) {
        let waited = async {
            while !holds(&self.api) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waited).await;
        assert!(waited.is_ok(), "{what}: {:#?}", self.api.list("events"));
    }
}

fn node(name: &str, cpu: &str) -> Value {
    json!({"metadata": {"name": name}, "status": {"allocatable": {
        "cpu": cpu, "memory": "64Gi", "pods": "110"}}})
}

fn pod(name: &str, cpu: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}")},
        "spec": {"schedulerName": "default-scheduler", "containers": [
            {"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]},
        "status": {"phase": "Pending"}})
}

fn node_of(api: &Double, name: &str) -> Option<String> {
    let pod = api.get("pods", &format!("default/{name}"))?;
    pod["spec"]["nodeName"].as_str().map(str::to_owned)
}

fn event(api: &Double, reason: &str, pod: &str) -> Option<Value> {
    let is_it = |event: &Value| event["reason"] == reason && event["involvedObject"]["name"] == pod;
    api.list("events").into_iter().find(is_it)
}

#[tokio::test]
async fn two_hundred_pods_are_spread_over_five_nodes() {
    let api = Double::new();
    (0..5).for_each(|n| api.put("nodes", node(&format!("n{n}"), "4")));
    (0..200).for_each(|n| api.put("pods", pod(&format!("p{n}"), "100m")));
    let cluster = Cluster::start(api);
    cluster.until("all pods are bound", |api| api.bindings() == 200).await;
    let mut by_node: BTreeMap<String, usize> = BTreeMap::new();
    for n in 0..200 {
        *by_node.entry(node_of(&cluster.api, &format!("p{n}")).unwrap()).or_default() += 1;
    }
    assert_eq!(by_node.into_values().collect::<Vec<_>>(), [40; 5], "spread evenly, and full");
    cluster.until("a Scheduled event for each", |api| api.list("events").len() == 200).await;
    let event = event(&cluster.api, "Scheduled", "p7").unwrap();
    let node = node_of(&cluster.api, "p7").unwrap();
    assert_eq!(event["message"], format!("Successfully assigned default/p7 to {node}"));
    assert_eq!(event["type"], "Normal");
    assert_eq!(event["source"]["component"], "default-scheduler");
    assert_eq!(event["reportingComponent"], "default-scheduler");
    let metrics = encode_metrics(&cluster.daemon.registry);
    let attempts = "scheduler_schedule_attempts_total{result=\"scheduled\",\
                    profile=\"default-scheduler\"} 200";
    for line in [
        attempts,
        "scheduler_pending_pods{queue=\"active\"} 0",
        "scheduler_cache_size{type=\"nodes\"} 5",
        "scheduler_cache_size{type=\"pods\"} 200",
        "scheduler_queue_incoming_pods_total{queue=\"active\",event=\"PodAdd\"} 200",
        "scheduler_pod_scheduling_attempts_count 200",
        "scheduler_scheduling_algorithm_duration_seconds_count 200",
        "scheduler_framework_extension_point_duration_seconds_count{extension_point=\"Bind\",\
         status=\"Success\",profile=\"default-scheduler\"} 200",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    assert!(cluster.daemon.health.is_ready());
    cluster.stop().await;
}

#[tokio::test]
async fn a_pod_that_does_not_fit_is_reported_and_bound_once_there_is_room() {
    let api = Double::new();
    ["a", "b", "c"].into_iter().for_each(|name| api.put("nodes", node(name, "1")));
    api.put("pods", pod("big", "2"));
    let cluster = Cluster::start(api);
    let message = "0/3 nodes are available: 3 Insufficient cpu. no new claims to deallocate, \
                   preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.";
    cluster.until("the event", |api| event(api, "FailedScheduling", "big").is_some()).await;
    let reported = event(&cluster.api, "FailedScheduling", "big").unwrap();
    assert_eq!((&reported["message"], &reported["type"]), (&json!(message), &json!("Warning")));
    let condition = |api: &Double| {
        let pod = api.get("pods", "default/big").unwrap();
        pod["status"]["conditions"][0].clone()
    };
    cluster.until("the condition", |api| condition(api)["status"] == "False").await;
    let said = condition(&cluster.api);
    assert_eq!((&said["type"], &said["reason"]), (&json!("PodScheduled"), &json!("Unschedulable")));
    assert_eq!(said["message"], message);
    cluster.api.put("nodes", node("d", "2"));
    cluster.until("it is bound", |api| node_of(api, "big").as_deref() == Some("d")).await;
    cluster.until("it says so", |api| event(api, "Scheduled", "big").is_some()).await;
    assert_eq!(condition(&cluster.api)["status"], "True");
    cluster.stop().await;
}

#[tokio::test]
async fn an_important_pod_takes_the_place_of_others() {
    let api = Double::new();
    ["a", "b"].into_iter().for_each(|name| api.put("nodes", node(name, "2")));
    for (name, on, cpu) in [("big", "a", "2"), ("one", "b", "1"), ("two", "b", "1")] {
        let mut resident = pod(name, cpu);
        resident["spec"]["nodeName"] = json!(on);
        resident["spec"]["priority"] = json!(if name == "big" { 5 } else { 0 });
        api.put("pods", resident);
    }
    let mut important = pod("important", "2");
    important["spec"]["priority"] = json!(10);
    api.put("pods", important);
    let cluster = Cluster::start(api);
    cluster.until("it is bound", |api| node_of(api, "important").is_some()).await;
    assert_eq!(node_of(&cluster.api, "important").as_deref(), Some("b"));
    assert_eq!(node_of(&cluster.api, "big").as_deref(), Some("a"));
    for victim in cluster.api.deleted() {
        let condition = victim["status"]["conditions"][0].clone();
        let said = ["type", "status", "reason", "message"].map(|field| condition[field].clone());
        let message = "default-scheduler: preempting to accommodate a higher priority pod";
        assert_eq!(said, ["DisruptionTarget", "True", "PreemptionByScheduler", message]);
    }
    assert_eq!(cluster.api.deleted().len(), 2);
    for name in ["one", "two"] {
        cluster.until("the victims hear", |api| event(api, "Preempted", name).is_some()).await;
        let said = event(&cluster.api, "Preempted", name).unwrap();
        assert_eq!(said["message"], "Preempted by pod uid-important on node b");
        assert_eq!(said["type"], "Normal");
    }
    let failed = event(&cluster.api, "FailedScheduling", "important").unwrap();
    assert_eq!(failed["message"], "0/2 nodes are available: 2 Insufficient cpu.");
    let metrics = encode_metrics(&cluster.daemon.registry);
    for line in ["scheduler_preemption_attempts_total 1", "scheduler_preemption_victims_sum 2.0"] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    cluster.stop().await;
}

#[tokio::test]
async fn a_pod_whose_victims_linger_is_nominated_and_evicts_no_others() {
    let api = Double::new();
    api.linger();
    ["a", "b"].into_iter().for_each(|name| api.put("nodes", node(name, "1")));
    for on in ["a", "b"] {
        let mut resident = pod(on, "1");
        resident["spec"]["nodeName"] = json!(on);
        api.put("pods", resident);
    }
    let mut important = pod("important", "1");
    important["spec"]["priority"] = json!(10);
    api.put("pods", important);
    let cluster = Cluster::start(api);
    let nominated = |api: &Double| {
        let pod = api.get("pods", "default/important").unwrap();
        pod["status"]["nominatedNodeName"].as_str().map(str::to_owned)
    };
    cluster.until("it is nominated", |api| nominated(api).is_some()).await;
    let victim = nominated(&cluster.api).unwrap();
    let is_going = |api: &Double, name: &str| {
        let pod = api.get("pods", &format!("default/{name}"));
        pod.is_some_and(|pod| pod["metadata"]["deletionTimestamp"].is_string())
    };
    cluster.until("its victim is going", |api| is_going(api, &victim)).await;
    // An event that wakes it: it fits nowhere still, and waits for its victim.
    let mut tainted = node("c", "1");
    tainted["spec"] = json!({"taints": [{"key": "k", "effect": "NoSchedule"}]});
    cluster.api.put("nodes", tainted);
    cluster
        .until("it waits", |api| {
            let pod = api.get("pods", "default/important").unwrap();
            let said = pod["status"]["conditions"][0]["message"].clone();
            said.as_str().is_some_and(|said| {
                said.ends_with(
                    "not eligible due to a terminating pod on \
                                                         the nominated node.",
                )
            })
        })
        .await;
    assert_eq!(nominated(&cluster.api), Some(victim.clone()));
    let other = if victim == "a" { "b" } else { "a" };
    assert!(!is_going(&cluster.api, other), "one victim is enough");
    cluster.api.delete("pods", &format!("default/{victim}"));
    cluster.until("it is bound", |api| node_of(api, "important") == Some(victim.clone())).await;
    cluster.stop().await;
}

#[tokio::test]
async fn failed_bindings_are_tried_again() {
    let api = Double::new();
    api.put("nodes", node("a", "4"));
    api.fail_bindings(1);
    api.put("pods", pod("p", "1"));
    let cluster = Cluster::start(api);
    cluster.until("it is bound", |api| node_of(api, "p").is_some()).await;
    cluster.until("the failure is told", |api| event(api, "FailedScheduling", "p").is_some()).await;
    let said = event(&cluster.api, "FailedScheduling", "p").unwrap();
    let said = said["message"].as_str().unwrap();
    assert!(said.starts_with("running Bind plugin \"DefaultBinder\": "), "{said}");
    cluster.stop().await;
}

#[tokio::test]
async fn room_that_a_deleted_pod_or_a_broken_watch_leaves_is_found() {
    let api = Double::new();
    api.put("nodes", node("a", "1"));
    api.put("pods", pod("first", "1"));
    let cluster = Cluster::start(api);
    cluster.until("the first is bound", |api| node_of(api, "first").is_some()).await;
    cluster.api.put("pods", pod("second", "1"));
    cluster.until("no room", |api| event(api, "FailedScheduling", "second").is_some()).await;
    cluster.api.delete("pods", "default/first");
    cluster.until("the second is bound", |api| node_of(api, "second").is_some()).await;
    // What happens while no watch stands is seen by the next list.
    let lists = cluster.api.lists("pods");
    cluster.api.cut_watches();
    cluster.api.delete("pods", "default/second");
    cluster.api.put("pods", pod("third", "1"));
    cluster.until("the third is bound", |api| node_of(api, "third").is_some()).await;
    assert!(cluster.api.lists("pods") > lists, "410 makes it list again");
    cluster.stop().await;
}

#[tokio::test]
async fn broken_connections_are_resumed_where_they_were() {
    let api = Double::new();
    api.put("nodes", node("a", "1"));
    api.put("pods", pod("first", "1"));
    let cluster = Cluster::start(api);
    cluster.until("the first is bound", |api| node_of(api, "first").is_some()).await;
    let lists = cluster.api.lists("pods");
    cluster.api.break_watches();
    cluster.api.delete("pods", "default/first");
    cluster.api.put("pods", pod("second", "1"));
    cluster.until("the second is bound", |api| node_of(api, "second").is_some()).await;
    assert_eq!(cluster.api.lists("pods"), lists, "a resumed watch needs no list");
    cluster.stop().await;
}

#[tokio::test]
async fn profiles_have_pods_events_and_metrics_of_their_own() {
    let api = Double::new();
    api.put("nodes", node("a", "4"));
    let mut other = pod("other", "1");
    other["spec"]["schedulerName"] = json!("packer");
    api.put("pods", other);
    api.put("pods", pod("plain", "1"));
    let file = b"apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n\
        profiles: [{schedulerName: default-scheduler}, {schedulerName: packer}]";
    let checked = KubeSchedulerConfiguration::parse(file).unwrap().check().unwrap();
    let config = Config { seed: Some(1), ..Config::try_from(&checked).unwrap() };
    let cluster = Cluster::start_with(api, config);
    for (pod, reporter) in [("other", "packer"), ("plain", "default-scheduler")] {
        cluster.until("it says so", |api| event(api, "Scheduled", pod).is_some()).await;
        let event = event(&cluster.api, "Scheduled", pod).unwrap();
        assert_eq!(event["source"]["component"], reporter);
    }
    let metrics = encode_metrics(&cluster.daemon.registry);
    for profile in ["packer", "default-scheduler"] {
        let line = format!(
            "scheduler_schedule_attempts_total{{result=\"scheduled\",profile=\"{profile}\"}} 1"
        );
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }
    cluster.stop().await;
}

#[tokio::test]
async fn nothing_is_scheduled_before_the_leadership() {
    let api = Double::new();
    api.put("nodes", node("a", "4"));
    api.put("pods", pod("p", "1"));
    let leading = tokio_util::sync::CancellationToken::new();
    let config = Config { leading: Some(leading.clone()), ..Config::default() };
    let cluster = Cluster::start_with(api, config);
    let ready = "/readyz/scheduler-informer-sync";
    cluster
        .until("it is ready", |_| {
            cluster.daemon.health.answer(ready, "").is_some_and(|reply| reply.status == 200)
        })
        .await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(cluster.api.bindings(), 0);
    let metrics = encode_metrics(&cluster.daemon.registry);
    assert!(metrics.contains("scheduler_pending_pods{queue=\"active\"} 1"), "{metrics}");
    leading.cancel();
    cluster.until("it is bound", |api| node_of(api, "p").is_some()).await;
    cluster.stop().await;
}

#[tokio::test]
async fn pods_of_another_scheduler_are_left_alone() {
    let api = Double::new();
    api.put("nodes", node("a", "4"));
    let mut others = pod("others", "1");
    others["spec"]["schedulerName"] = json!("another");
    api.put("pods", others);
    api.put("pods", pod("ours", "1"));
    let cluster = Cluster::start(api);
    cluster.until("ours is bound", |api| node_of(api, "ours").is_some()).await;
    assert_eq!(node_of(&cluster.api, "others"), None);
    cluster.stop().await;
}

#[tokio::test]
async fn it_is_not_ready_before_it_has_listed_and_stops_when_told() {
    let api = Double::new();
    let daemon = Daemon::default();
    let running = run(api.client(), Config::default(), daemon.clone());
    assert!(daemon.health.is_ready(), "nothing runs yet");
    let running = tokio::spawn(running);
    while daemon.health.answer("/readyz/scheduler-informer-sync", "").unwrap().status != 200 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    daemon.shutdown.cancel();
    running.await.unwrap().unwrap();
}
