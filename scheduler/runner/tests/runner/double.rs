//! An API server of maps, with the few verbs that a scheduler uses and faults on demand.
#![expect(clippy::unwrap_used, reason = "a test's failures are panics")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::watch;

type Answer = StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;

/// Cheap to clone; clones share the objects.
#[derive(Clone)]
pub(crate) struct Double {
    state: Arc<Mutex<State>>,
    revision: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    /// By plural and `namespace/name`.
    objects: BTreeMap<(String, String), Value>,
    log: Vec<(String, &'static str, Value)>,
    /// Bindings to answer with 500 before they are written.
    failing_bindings: usize,
    bindings: usize,
    /// Watches that started before this revision end.
    cut: u64,
    /// How often all connections broke.
    breaks: usize,
    /// Lists by plural.
    lists: BTreeMap<String, usize>,
    /// Pods that clients deleted, as they were.
    deleted: Vec<Value>,
    /// Whether pods that clients delete stay, with a deletionTimestamp.
    lingers: bool,
}

impl Double {
    pub(crate) fn new() -> Self {
        Self { state: Arc::default(), revision: watch::Sender::new(0) }
    }

    /// A client whose requests come here.
    pub(crate) fn client(&self) -> kube::Client {
        pintle_client::in_process(self.clone())
    }

    /// Creates or replaces an object.
    pub(crate) fn put(&self, plural: &str, mut object: Value) {
        let mut state = self.state.lock().unwrap();
        let key = (plural.to_owned(), key_of(&object));
        let kind = if state.objects.contains_key(&key) { "MODIFIED" } else { "ADDED" };
        object["metadata"]["resourceVersion"] = json!((state.log.len() + 1).to_string());
        state.objects.insert(key, object.clone());
        self.log(&mut state, plural, kind, object);
    }

    pub(crate) fn delete(&self, plural: &str, key: &str) {
        let mut state = self.state.lock().unwrap();
        if let Some(object) = state.objects.remove(&(plural.to_owned(), key.to_owned())) {
            self.log(&mut state, plural, "DELETED", object);
        }
    }

    pub(crate) fn get(&self, plural: &str, key: &str) -> Option<Value> {
        self.state.lock().unwrap().objects.get(&(plural.to_owned(), key.to_owned())).cloned()
    }

    pub(crate) fn list(&self, plural: &str) -> Vec<Value> {
        let state = self.state.lock().unwrap();
        let objects = state.objects.iter().filter(|((of, _), _)| of == plural);
        objects.map(|(_, object)| object.clone()).collect()
    }

    /// The pods that clients deleted, as they were.
    pub(crate) fn deleted(&self) -> Vec<Value> {
        self.state.lock().unwrap().deleted.clone()
    }

    /// From now on pods that clients delete are only marked.
    pub(crate) fn linger(&self) {
        self.state.lock().unwrap().lingers = true;
    }

    /// How many bindings were written.
    pub(crate) fn bindings(&self) -> usize {
        self.state.lock().unwrap().bindings
    }

    /// Answers the next bindings with 500.
    pub(crate) fn fail_bindings(&self, count: usize) {
        self.state.lock().unwrap().failing_bindings = count;
    }

    /// Ends all watches with 410, so that clients list again.
    pub(crate) fn cut_watches(&self) {
        let mut state = self.state.lock().unwrap();
        state.cut = state.log.len() as u64 + 1;
        let revision = json!({"metadata": {"name": "cut"}});
        self.log(&mut state, "cuts", "ADDED", revision);
    }

    /// Breaks all watches; what they would have told is told to those that resume them.
    pub(crate) fn break_watches(&self) {
        let mut state = self.state.lock().unwrap();
        state.breaks += 1;
        let revision = json!({"metadata": {"name": "break"}});
        self.log(&mut state, "cuts", "ADDED", revision);
    }

    /// How often a kind was listed.
    pub(crate) fn lists(&self, plural: &str) -> usize {
        self.state.lock().unwrap().lists.get(plural).copied().unwrap_or(0)
    }

    fn log(&self, state: &mut State, plural: &str, kind: &'static str, object: Value) {
        state.log.push((plural.to_owned(), kind, object));
        self.revision.send_replace(state.log.len() as u64);
    }

    fn answer(&self, request: &Request<()>, body: &Value) -> Response<Answer> {
        let path: Vec<&str> =
            request.uri().path().trim_start_matches("/api/v1/").split('/').collect();
        match (request.method(), path.as_slice()) {
            (&Method::GET, [plural]) => {
                let query = request.uri().query().unwrap_or_default();
                let of = |name: &str| {
                    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
                };
                if of("watch") == Some("true") {
                    self.watch(plural, of("resourceVersion").unwrap_or("0").parse().unwrap())
                } else {
                    let mut state = self.state.lock().unwrap();
                    *state.lists.entry((*plural).to_owned()).or_default() += 1;
                    let revision = state.log.len().to_string();
                    drop(state);
                    let items = self.list(plural);
                    reply(200, &json!({"metadata": {"resourceVersion": revision}, "items": items}))
                }
            }
            (&Method::POST, ["namespaces", namespace, "pods", name, "binding"]) => {
                self.bind(&format!("{namespace}/{name}"), body)
            }
            (&Method::POST, ["namespaces", _, plural]) => {
                self.put(plural, body.clone());
                reply(201, body)
            }
            (&Method::PATCH, ["namespaces", namespace, plural, name, ..]) => {
                self.patch(plural, &format!("{namespace}/{name}"), body)
            }
            (&Method::DELETE, ["namespaces", namespace, "pods", name]) => {
                self.delete_pod(&format!("{namespace}/{name}"), body)
            }
            (&Method::GET, ["namespaces", namespace, plural, name]) => {
                match self.get(plural, &format!("{namespace}/{name}")) {
                    Some(object) => reply(200, &object),
                    None => failure(404, "NotFound"),
                }
            }
            // It serves no group but the core.
            (&Method::GET, ["", "apis", ..]) => failure(404, "NotFound"),
            other => panic!("unexpected request {other:?}"),
        }
    }

    fn bind(&self, key: &str, body: &Value) -> Response<Answer> {
        {
            let mut state = self.state.lock().unwrap();
            if state.failing_bindings > 0 {
                state.failing_bindings -= 1;
                return failure(500, "InternalError");
            }
        }
        let Some(mut pod) = self.get("pods", key) else { return failure(404, "NotFound") };
        if pod["spec"]["nodeName"].is_string() || pod["metadata"]["uid"] != body["metadata"]["uid"]
        {
            return failure(409, "Conflict");
        }
        pod["spec"]["nodeName"] = body["target"]["name"].clone();
        pod["status"]["conditions"] = json!([{"type": "PodScheduled", "status": "True"}]);
        self.put("pods", pod);
        self.state.lock().unwrap().bindings += 1;
        reply(201, &json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))
    }

    fn delete_pod(&self, key: &str, options: &Value) -> Response<Answer> {
        let Some(mut pod) = self.get("pods", key) else { return failure(404, "NotFound") };
        if pod["metadata"]["uid"] != options["preconditions"]["uid"] {
            return failure(409, "Conflict");
        }
        let lingers = {
            let mut state = self.state.lock().unwrap();
            state.deleted.push(pod.clone());
            state.lingers
        };
        if lingers {
            pod["metadata"]["deletionTimestamp"] = json!("2025-01-01T00:00:00Z");
            self.put("pods", pod.clone());
        } else {
            self.delete("pods", key);
        }
        reply(200, &pod)
    }

    /// Merges at the top of `status`, or at the top of the object; conditions are replaced.
    fn patch(&self, plural: &str, key: &str, body: &Value) -> Response<Answer> {
        let Some(mut object) = self.get(plural, key) else { return failure(404, "NotFound") };
        let expected = &body["metadata"]["resourceVersion"];
        if expected.is_string() && *expected != object["metadata"]["resourceVersion"] {
            return failure(409, "Conflict");
        }
        for (name, value) in body.as_object().unwrap() {
            match (name.as_str(), value) {
                ("metadata", _) => {}
                ("status", Value::Object(fields)) => {
                    for (name, value) in fields {
                        object["status"][name] = value.clone();
                    }
                }
                _ => object[name] = value.clone(),
            }
        }
        self.put(plural, object.clone());
        reply(200, &object)
    }

    fn watch(&self, plural: &str, from: u64) -> Response<Answer> {
        let (double, plural) = (self.clone(), plural.to_owned());
        let changed = self.revision.subscribe();
        let born = self.state.lock().unwrap().breaks;
        let events = stream::unfold((Some(from), changed), move |(at, mut changed)| {
            let (double, plural) = (double.clone(), plural.clone());
            async move {
                let at = at?;
                loop {
                    if double.state.lock().unwrap().breaks != born {
                        return None;
                    }
                    let (end, lines) = double.events(&plural, at);
                    let Some(lines) = lines else { return Some((expired(), (None, changed))) };
                    if !lines.is_empty() {
                        return Some((lines, (Some(end), changed)));
                    }
                    changed.wait_for(|revision| *revision > end).await.ok()?;
                }
            }
        });
        let frames = events.map(|lines| Ok(Frame::data(Bytes::from(lines))));
        Response::new(StreamBody::new(frames.boxed()))
    }

    /// The events of a kind after a revision, as lines; `None` if the watch has to end.
    fn events(&self, plural: &str, from: u64) -> (u64, Option<String>) {
        let state = self.state.lock().unwrap();
        let end = state.log.len() as u64;
        if from < state.cut {
            return (end, None);
        }
        let mut lines = String::new();
        for (of, kind, object) in &state.log[from as usize..] {
            if of == plural {
                lines.push_str(&json!({"type": kind, "object": object}).to_string());
                lines.push('\n');
            }
        }
        (end, Some(lines))
    }
}

fn key_of(object: &Value) -> String {
    let name = object["metadata"]["name"].as_str().unwrap();
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}

fn reply(status: u16, body: &Value) -> Response<Answer> {
    let frame = Ok(Frame::data(Bytes::from(body.to_string())));
    let mut response = Response::new(StreamBody::new(stream::iter([frame]).boxed()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

/// The last line of a watch that cannot go on.
fn expired() -> String {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
        "message": "too old resource version", "reason": "Expired", "code": 410});
    format!("{}\n", json!({"type": "ERROR", "object": status}))
}

fn failure(code: u16, reason: &str) -> Response<Answer> {
    reply(
        code,
        &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
        "message": format!("on demand: {reason}"), "reason": reason, "code": code}),
    )
}

impl tower::Service<Request<Body>> for Double {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = futures::future::BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let double = self.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            Ok(double.answer(&Request::from_parts(head, ()), &body))
        })
    }
}
