//! A worker against a runtime and an API server that write down what they are asked.

use std::net::SocketAddr;
use std::sync::Mutex;

use http::{Request, Response};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::{Value, json};

use super::*;
use crate::runtime::ExecOutput;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<(String, Value)>>>);

impl Log {
    fn push(&self, what: String, value: Value) {
        self.0.lock().unwrap().push((what, value));
    }

    /// Wait for an entry that fits.
    async fn wait(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..500 {
            let entries = self.0.lock().unwrap().clone();
            if let Some((_, value)) = entries.into_iter().find(|(it, v)| it == what && fits(v)) {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no {what} that fits in {:#?}", self.0.lock().unwrap());
    }

    fn position(&self, what: &str) -> usize {
        self.0.lock().unwrap().iter().position(|(it, _)| it == what).unwrap()
    }

    fn client(&self) -> Client {
        let log = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let log = log.clone();
            async move {
                let (parts, body) = request.into_parts();
                let bytes = body.collect().await.unwrap().to_bytes();
                let value: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
                let path = parts.uri.path().trim_start_matches("/api/v1/namespaces/default/");
                log.push(format!("{} {path}", parts.method), value.clone());
                let answer = serde_json::json!({ "metadata": {}, "spec": { "containers": [] } });
                let answer = if parts.method == "POST" { value } else { answer };
                let body = http_body_util::Full::new(bytes::Bytes::from(answer.to_string()));
                Ok::<_, std::convert::Infallible>(Response::new(body))
            }
        });
        pintle_client::in_process(service)
    }
}

/// Containers run until they are told to end.
struct Scripted(Log);

impl ContainerRuntime for Scripted {
    async fn create_sandbox(&self, _: &PodRef) -> Result<Ipv4Addr, RuntimeError> {
        self.0.push("sandbox".to_owned(), Value::Null);
        Ok(Ipv4Addr::new(10, 244, 0, 2))
    }

    async fn start(&self, _: &PodRef, run: &ContainerRun) -> Result<Started, RuntimeError> {
        if run.command[0] == "missing" {
            return Err(RuntimeError { message: "exec: \"missing\": not found".to_owned() });
        }
        self.0.push(format!("start {} {}", run.name, run.restart), Value::Null);
        let (signals, mut receiver) = mpsc::channel(4);
        let (sender, exit) = tokio::sync::oneshot::channel();
        let dies = run.command[0] == "false" && run.restart == 0;
        let deaf = run.command[0] == "deaf";
        tokio::spawn(async move {
            let mut code = if dies { Some(1) } else { None };
            while code.is_none() {
                code = match receiver.recv().await {
                    Some(ContainerSignal::Terminate) if deaf => None,
                    Some(ContainerSignal::Terminate) => Some(143),
                    Some(ContainerSignal::Kill) => Some(137),
                    None => return,
                };
            }
            let code = code.unwrap();
            let _ = sender.send(Exit { code, signal: None, out_of_memory: false });
        });
        Ok(Started { id: format!("process://{}", run.restart), signals, exit })
    }

    async fn exec(
        &self,
        _: &PodRef,
        _: &ContainerRun,
        command: &[String],
        _: Duration,
    ) -> Result<ExecOutput, RuntimeError> {
        self.0.push(format!("exec {}", command.join(" ")), Value::Null);
        Ok(ExecOutput { code: i32::from(command[0] == "fails"), output: "no".to_owned() })
    }

    async fn connect(
        &self,
        _: &PodRef,
        address: SocketAddr,
        _: Option<String>,
        _: Duration,
    ) -> Result<Vec<u8>, RuntimeError> {
        self.0.push(format!("connect {address}"), Value::Null);
        Ok(b"HTTP/1.1 200 OK\r\n".to_vec())
    }

    async fn remove_sandbox(&self, _: &PodRef, logs: bool) -> Result<(), RuntimeError> {
        self.0.push(format!("remove logs={logs}"), Value::Null);
        Ok(())
    }
}

struct Test {
    log: Log,
    desired: watch::Sender<Desired>,
    worker: tokio::task::JoinHandle<()>,
}

fn pod(spec: &Value) -> Pod {
    let metadata = json!({ "name": "web", "namespace": "default", "uid": "u1" });
    serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap()
}

impl Test {
    fn new(spec: &Value) -> Self {
        let log = Log::default();
        let (events, write_events) = EventRecorder::new(log.client(), "kubelet");
        tokio::spawn(write_events);
        let shared = Shared {
            client: log.client(),
            runtime: Scripted(log.clone()),
            events,
            host_ip: Ipv4Addr::new(172, 30, 0, 2),
            metrics: crate::metrics::of_node(&pintle_component::Registry::default(), "test"),
        };
        let (desired, receiver) =
            watch::channel(Desired { pod: Arc::new(pod(spec)), gone: false, shutdown: false });
        let worker = tokio::spawn(Worker::new(Arc::new(shared), receiver).run());
        Self { log, desired, worker }
    }

    async fn status(&self, fits: impl Fn(&Value) -> bool) -> Value {
        self.log.wait("PATCH pods/web/status", |it| fits(&it["status"])).await["status"].clone()
    }

    async fn event(&self, reason: &str) -> Value {
        self.log.wait("POST events", |it| it["reason"] == reason).await
    }

    fn delete(&self, grace_s: i64) {
        self.desired.send_modify(|it| {
            let mut pod = (*it.pod).clone();
            let time = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::now());
            pod.metadata.deletion_timestamp = Some(time);
            pod.metadata.deletion_grace_period_seconds = Some(grace_s);
            it.pod = Arc::new(pod);
        });
    }

    async fn ended(self) {
        tokio::time::timeout(Duration::from_secs(10), self.worker).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_pod_runs_is_restarted_and_reported() {
    let test =
        Test::new(&json!({ "containers": [{ "name": "a", "image": "i", "command": ["false"] }] }));
    let status = test.status(|it| it["containerStatuses"][0]["restartCount"] == 1).await;
    assert_eq!(status["phase"], "Running");
    assert_eq!(status["podIP"], "10.244.0.2");
    assert_eq!(status["hostIP"], "172.30.0.2");
    let container = &status["containerStatuses"][0];
    assert_eq!(container["lastState"]["terminated"]["exitCode"], 1);
    assert_eq!(container["containerID"], "process://1");
    assert_eq!(container["image"], "i");
    let event = test.event("Started").await;
    assert_eq!(event["message"], "Container started");
    assert_eq!(event["involvedObject"]["fieldPath"], "spec.containers{a}");
}

#[tokio::test]
async fn a_deleted_pod_is_stopped_removed_and_only_then_deleted() {
    let test = Test::new(&json!({ "containers": [{ "name": "a", "command": ["sleep"] }] }));
    test.status(|it| it["phase"] == "Running").await;
    test.delete(30);
    let options = test.log.wait("DELETE pods/web", |_| true).await;
    assert_eq!(options["gracePeriodSeconds"], 0);
    assert_eq!(options["preconditions"]["uid"], "u1");
    assert!(test.log.position("remove logs=true") < test.log.position("DELETE pods/web"));
    test.status(|it| it["phase"] == "Failed").await;
    assert_eq!(test.event("Killing").await["message"], "Stopping container a");
    test.ended().await;
}

#[tokio::test]
async fn a_deaf_container_is_killed_after_its_grace() {
    let test = Test::new(&json!({ "containers": [{ "name": "a", "command": ["deaf"],
        "lifecycle": { "preStop": { "exec": { "command": ["hook"] } } } }] }));
    test.status(|it| it["phase"] == "Running").await;
    test.delete(1);
    let status = test.status(|it| it["phase"] == "Failed").await;
    assert_eq!(status["containerStatuses"][0]["state"]["terminated"]["exitCode"], 137);
    test.log.wait("exec hook", |_| true).await;
    test.ended().await;
}

#[tokio::test]
async fn a_container_without_a_command_waits_and_says_why() {
    let test = Test::new(&json!({ "containers": [{ "name": "a", "image": "nginx" }] }));
    let status = test.status(|it| it["phase"] == "Pending").await;
    let waiting = &status["containerStatuses"][0]["state"]["waiting"];
    assert_eq!(waiting["reason"], "CreateContainerConfigError");
    let message = waiting["message"].as_str().unwrap();
    assert!(message.contains("runs commands only"), "{message}");
    test.desired.send_modify(|it| it.gone = true);
    test.ended().await;
}

#[tokio::test]
async fn a_command_that_is_missing_is_reported_and_backs_off() {
    let test = Test::new(&json!({ "containers": [{ "name": "a", "command": ["missing"] }] }));
    let fits =
        |it: &Value| it["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff";
    let status = test.status(fits).await;
    let last = &status["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!((&last["reason"], &last["exitCode"]), (&json!("StartError"), &json!(128)));
    assert_eq!(last["message"], "exec: \"missing\": not found");
    test.event("BackOff").await;
    test.event("Failed").await;
}

#[tokio::test]
async fn readiness_follows_its_probe() {
    let test = Test::new(&json!({ "containers": [
        { "name": "a", "command": ["sleep"],
          "readinessProbe": { "httpGet": { "port": 80 }, "periodSeconds": 1 } },
        { "name": "b", "command": ["sleep"],
          "readinessProbe": { "exec": { "command": ["fails"] }, "periodSeconds": 1 } },
    ] }));
    let status = test.status(|it| it["containerStatuses"][0]["ready"] == true).await;
    assert_eq!(status["containerStatuses"][1]["ready"], false);
    test.log.wait("connect 10.244.0.2:80", |_| true).await;
    assert_eq!(test.event("Unhealthy").await["message"], "Readiness probe failed: no");
}

#[tokio::test]
async fn a_failed_liveness_probe_restarts_the_container() {
    let test = Test::new(&json!({ "containers": [{ "name": "a", "command": ["sleep"],
        "livenessProbe": { "exec": { "command": ["fails"] }, "periodSeconds": 1,
                           "failureThreshold": 1 } }] }));
    test.status(|it| it["containerStatuses"][0]["restartCount"] == 1).await;
    let message = test.event("Killing").await["message"].clone();
    assert_eq!(message, "Container a failed liveness probe, will be restarted");
}
