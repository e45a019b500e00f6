//! An API server as far as the daemon asks: lists of what it was given, and watches.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};

/// Lists what it was given, and sends watchers what it is told.
#[derive(Clone, Default)]
pub(crate) struct Api(pub(crate) Arc<Mutex<State>>);

#[derive(Default)]
pub(crate) struct State {
    pub(crate) services: Vec<Value>,
    pub(crate) slices: Vec<Value>,
    pub(crate) nodes: Vec<Value>,
    /// Of EndpointSlices.
    pub(crate) watchers: Vec<UnboundedSender<Bytes>>,
    pub(crate) queries: Vec<String>,
}

impl Api {
    pub(crate) fn client(&self) -> kube::Client {
        let api = self.clone();
        let answer = move |request: Request<Body>| {
            let api = api.clone();
            async move { Ok::<_, std::convert::Infallible>(api.answer(&request)) }
        };
        kube::Client::new(tower::service_fn(answer), "default")
    }

    fn answer(&self, request: &Request<Body>) -> Response<UnsyncBoxBody<Bytes, BodyError>> {
        let mut state = self.0.lock();
        let query = request.uri().query().unwrap_or_default();
        state.queries.push(request.uri().to_string());
        let slices = request.uri().path() == "/apis/discovery.k8s.io/v1/endpointslices";
        if query.contains("watch=true") {
            let (sender, receiver) = unbounded();
            if slices {
                state.watchers.push(sender);
            }
            let frames = receiver.map(|bytes| Ok(http_body::Frame::data(bytes)));
            return Response::new(StreamBody::new(frames).boxed_unsync());
        }
        let node = |node: &&Value| {
            let name = node["metadata"]["name"].as_str().unwrap_or_default();
            query.ends_with(&format!("metadata.name%3D{name}"))
                || query.contains(&format!("metadata.name%3D{name}&"))
        };
        let nodes = state.nodes.iter().filter(node).cloned().collect();
        let (api_version, kind, items) = match request.uri().path() {
            "/api/v1/services" => ("v1", "ServiceList", &state.services),
            "/api/v1/nodes" => ("v1", "NodeList", &nodes),
            _ => ("discovery.k8s.io/v1", "EndpointSliceList", &state.slices),
        };
        let list = json!({
            "apiVersion": api_version, "kind": kind,
            "metadata": { "resourceVersion": "1" }, "items": items,
        });
        let body = Full::new(Bytes::from(list.to_string()));
        Response::new(body.map_err(|never| match never {}).boxed_unsync())
    }

    pub(crate) fn modify_slice(&self, slice: &Value) {
        let event = json!({ "type": "MODIFIED", "object": slice });
        for watcher in &self.0.lock().watchers {
            watcher.unbounded_send(Bytes::from(format!("{event}\n"))).unwrap();
        }
    }
}

type BodyError = Box<dyn std::error::Error + Send + Sync>;
