//! As much of an API server as the dataplane's daemon asks for: its three lists, made as they are
//! read so that they take no memory, and watches that say what they are told.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures::stream::{self, BoxStream, StreamExt as _};
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::client::Body;
use serde_json::json;

use super::cluster::Cluster;

/// The API server, and the events of its EndpointSlices.
#[derive(Clone)]
pub(super) struct Api {
    cluster: Cluster,
    events: Arc<Mutex<Option<UnboundedReceiver<Bytes>>>>,
}

/// Says what becomes of EndpointSlices.
pub(super) struct SliceEvents(UnboundedSender<Bytes>);

type Answer = Response<StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>>;

impl Api {
    pub(super) fn new(cluster: Cluster) -> (Self, SliceEvents) {
        let (sender, receiver) = unbounded();
        let events = Arc::new(Mutex::new(Some(receiver)));
        (Self { cluster, events }, SliceEvents(sender))
    }

    /// A client of it.
    pub(super) fn client(self) -> kube::Client {
        let answer = move |request: Request<Body>| {
            let answer = self.answer(request.uri());
            async move { anyhow::Ok(answer) }
        };
        pintle_client::in_process(tower::service_fn(answer))
    }

    fn answer(&self, uri: &http::Uri) -> Answer {
        let query = uri.query().unwrap_or_default();
        let parameter = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        let number = |name| parameter(name).and_then(|text| text.parse::<usize>().ok());
        let kind = uri.path().rsplit('/').next().unwrap_or_default().to_owned();
        if parameter("watch").is_some() {
            return self.watch(&kind);
        }
        let first = number("continue").unwrap_or(0);
        let page = number("limit").unwrap_or(usize::MAX);
        let all = if kind == "nodes" { 0 } else { self.cluster.services };
        let end = first.saturating_add(page).min(all);
        let mut metadata = json!({ "resourceVersion": "1" });
        if end < all {
            metadata["continue"] = json!(end.to_string());
        }
        let (api_version, list_kind) = match kind.as_str() {
            "endpointslices" => ("discovery.k8s.io/v1", "EndpointSliceList"),
            "services" => ("v1", "ServiceList"),
            "nodes" => ("v1", "NodeList"),
            _ => return respond(StatusCode::NOT_FOUND, stream::empty().boxed()),
        };
        let head = format!(
            r#"{{"apiVersion":"{api_version}","kind":"{list_kind}","metadata":{metadata},"items":["#
        );
        let cluster = self.cluster;
        let items = (first..end).map(move |index| {
            let comma = if index == first { "" } else { "," };
            Bytes::from(format!("{comma}{}", object(cluster, &kind, index)))
        });
        let whole = [Bytes::from(head)].into_iter().chain(items).chain([Bytes::from("]}")]);
        respond(StatusCode::OK, stream::iter(whole).boxed())
    }

    /// Nothing happens but to EndpointSlices, and to those in the first watch of them.
    fn watch(&self, kind: &str) -> Answer {
        let mut events = self.events.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let body = match events.take_if(|_| kind == "endpointslices") {
            Some(events) => events.boxed(),
            None => stream::pending().boxed(),
        };
        respond(StatusCode::OK, body)
    }
}

impl SliceEvents {
    /// The event that a slice was changed, as it goes over the wire.
    pub(super) fn modified(slice: &EndpointSlice) -> Bytes {
        let event = json!({ "type": "MODIFIED", "object": slice });
        Bytes::from(format!("{event}\n"))
    }

    /// Let it happen. Does nothing if nobody watches any more.
    pub(super) fn send(&self, event: Bytes) {
        let _ = self.0.unbounded_send(event);
    }
}

fn object(cluster: Cluster, kind: &str, index: usize) -> String {
    // The types of the API can be written as JSON.
    let object = match kind {
        "services" => serde_json::to_string(&cluster.service(index)),
        _ => serde_json::to_string(&cluster.slice(index)),
    };
    object.unwrap_or_default()
}

fn respond(status: StatusCode, body: BoxStream<'static, Bytes>) -> Answer {
    let frames = body.map(|bytes| Ok(Frame::data(bytes))).boxed();
    let mut response = Response::new(StreamBody::new(frames));
    *response.status_mut() = status;
    response
}
