//! Writes to the API server: bodies rendered beforehand, answers read and dropped. What comes by the
//! thousands goes over the wire directly, the rest through a client of the usual kind.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use http::{Method, StatusCode};
use kube::Api;
use kube::api::ListParams;
use pintle_api::scheme;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use super::wire::{Connection, Wire, content_type};
use crate::scheduler::objects::VolumeMaker;
use crate::scheduler::pulse::Pulse;

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Requests {
    client: kube::Client,
    wire: Wire,
    /// Kept open from one operation to the next.
    connection: Arc<Mutex<Option<Connection>>>,
}

/// The path that objects like this one are created at: in their own namespace, else in this one if
/// they are of a kind that has namespaces.
pub(crate) fn collection(object: &Value, namespace: Option<&str>) -> anyhow::Result<String> {
    let field = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) = (field("apiVersion"), field("kind"));
    let resource = scheme::by_kind(version, kind)
        .with_context(|| format!("{version} {kind}: the API server has no such kind"))?;
    let root = if version.contains('/') { "apis" } else { "api" };
    let own = object["metadata"].get("namespace").and_then(Value::as_str);
    Ok(match own.or(namespace).filter(|_| resource.namespaced) {
        Some(namespace) => {
            format!("/{root}/{version}/namespaces/{namespace}/{}", resource.plural)
        }
        None if resource.namespaced => {
            format!("/{root}/{version}/namespaces/default/{}", resource.plural)
        }
        None => format!("/{root}/{version}/{}", resource.plural),
    })
}

/// The creation of an object, or a change of one.
pub(super) struct Request {
    method: Method,
    /// Of the collection, or of the object that is changed.
    pub(super) path: String,
    body: Bytes,
}

impl Request {
    /// Creates the object, in this namespace if it is of a kind that has namespaces and names none.
    pub(super) fn create(object: &Value, namespace: Option<&str>) -> anyhow::Result<Self> {
        let path = collection(object, namespace)?;
        Ok(Self { method: Method::POST, path, body: serde_json::to_vec(object)?.into() })
    }

    /// Replaces the object of this name, or a subresource of it, whatever version there is.
    pub(super) fn replace(
        object: &Value,
        namespace: Option<&str>,
        subresource: &str,
    ) -> anyhow::Result<Self> {
        let Self { path, body, .. } = Self::create(object, namespace)?;
        let name = object["metadata"]["name"].as_str().context("an object has no name")?;
        let path = format!("{path}/{name}/{subresource}");
        Ok(Self { method: Method::PUT, path: path.trim_end_matches('/').to_owned(), body })
    }

    /// A merge patch.
    pub(super) fn change(path: String, patch: &Value) -> Self {
        Self { method: Method::PATCH, path, body: patch.to_string().into() }
    }
}

impl Requests {
    pub(super) fn new(client: kube::Client, wire: Wire) -> Self {
        Self { client, wire, connection: Arc::default() }
    }

    /// Send one and wait until it is durable.
    pub(super) async fn send(&self, request: Request) -> anyhow::Result<()> {
        self.call(&request.method, &request.path, request.body).await.map(drop)
    }

    /// Send all, a bounded number at once.
    pub(super) async fn send_all(
        &self,
        requests: Vec<Request>,
        pulse: &Pulse,
    ) -> anyhow::Result<()> {
        let (requests, next) = (Arc::new(requests), Arc::new(AtomicUsize::new(0)));
        let mut senders = JoinSet::new();
        for _ in 0..AT_ONCE.min(requests.len()) {
            let (own, requests) = (self.clone(), Arc::clone(&requests));
            let (next, pulse) = (Arc::clone(&next), pulse.clone());
            let sender = async move {
                let mut connection = own.connection().await?;
                while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let Request { method, path, body } = request;
                    let sent = connection.call(method, path, body.clone()).await;
                    sent.with_context(|| format!("{method} {path}"))?;
                    if pulse.is_over() {
                        break;
                    }
                }
                anyhow::Ok(())
            };
            senders.spawn_on(sender, self.wire.handle());
        }
        while let Some(sent) = senders.join_next().await {
            sent??;
        }
        Ok(())
    }

    /// The connection that they share, as a client of Kubernetes has it; made where there is none any
    /// more.
    async fn connection(&self) -> anyhow::Result<Connection> {
        let mut kept = self.connection.lock().await;
        if let Some(connection) = kept.as_ref().filter(|kept| kept.is_open()) {
            return Ok(connection.clone());
        }
        Ok(kept.insert(self.wire.connect().await?).clone())
    }

    /// Delete an object at once.
    pub(super) async fn delete(&self, path: &str) -> anyhow::Result<()> {
        let path = format!("{path}?gracePeriodSeconds=0");
        self.call(&Method::DELETE, &path, Bytes::new()).await.map(drop)
    }

    /// Gives a pod's new state what admission gave to the pod that is there, and a change may not take.
    pub(super) async fn lay_over(
        &self,
        pod: &mut Value,
        namespace: Option<&str>,
    ) -> anyhow::Result<()> {
        let path = Request::replace(pod, namespace, "")?.path;
        let there = self.call(&Method::GET, &path, Bytes::new()).await?;
        let there: Value = serde_json::from_slice(&there)?;
        let (old, new) = (&there["spec"], &mut pod["spec"]);
        for (field, value) in old.as_object().into_iter().flatten() {
            match (new.get_mut(field), value) {
                // A gate that the new state does not name is taken away.
                (None, _) if field == "schedulingGates" => {}
                (None, value) => new[field] = value.clone(),
                (Some(Value::Array(new)), Value::Array(old)) if field == "tolerations" => {
                    new.extend(
                        old.iter().filter(|has| !new.contains(has)).cloned().collect::<Vec<_>>(),
                    );
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// All objects of a kind.
    pub(super) async fn list<K>(&self) -> anyhow::Result<Vec<K>>
    where
        K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let api: Api<K> = Api::all(self.client.clone());
        let mut objects = Vec::new();
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let list = api.list(&params).await?;
            objects.extend(list.items);
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(objects),
            }
        }
    }

    /// Creates a claim and a volume bound to each other; the pod is made to use the claim.
    pub(super) async fn create_volume(
        &self,
        maker: &VolumeMaker,
        number: usize,
        pod: &mut Value,
    ) -> anyhow::Result<()> {
        let (mut volume, claim) = maker.bound(number, 0, pod)?;
        let named = |object: &Value, path: &str| {
            format!("{path}/{}/status", object["metadata"]["name"].as_str().unwrap_or_default())
        };
        let phase = Bytes::from(json!({"status": {"phase": "Bound"}}).to_string());
        let request = Request::create(&claim, None)?;
        let path = named(&claim, &request.path);
        let created = self.call(&Method::POST, &request.path, request.body).await?;
        let created: Value = serde_json::from_slice(&created)?;
        volume["spec"]["claimRef"]["uid"] = created["metadata"]["uid"].clone();
        self.call(&Method::PATCH, &path, phase.clone()).await?;
        let request = Request::create(&volume, None)?;
        let path = named(&volume, &request.path);
        self.send(request).await?;
        self.call(&Method::PATCH, &path, phase).await.map(drop)
    }

    async fn call(&self, method: &Method, path: &str, body: Bytes) -> anyhow::Result<Bytes> {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::CONTENT_TYPE, content_type(method))
            .body(kube::client::Body::from(body))?;
        let about = || format!("{method} {path}");
        let answer = self.client.send(request).await.with_context(about)?;
        let status = answer.status();
        let body = answer.into_body().collect_bytes().await.with_context(about)?;
        if status.is_success() {
            return Ok(body);
        }
        Err(refusal(status, &body)).with_context(about)
    }
}

/// What the API server says of a request that it refused.
pub(super) fn refusal(status: StatusCode, body: &[u8]) -> anyhow::Error {
    let text = serde_json::from_slice::<Value>(body).unwrap_or_default();
    match text["message"].as_str() {
        Some(why) => anyhow!("{why}"),
        None => anyhow!("{status}"),
    }
}

/// Requests under way at once: what keeps the API server busy without queueing up in it. Half as many
/// all wait for the same flush now and then, and the processors with them.
const AT_ONCE: usize = 64;
/// Objects of a list's page.
const PAGE: u32 = 5_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_collections() {
        let path = |object: Value, namespace| Request::create(&object, namespace).unwrap().path;
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {}});
        assert_eq!(path(pod, Some("a")), "/api/v1/namespaces/a/pods");
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {}});
        assert_eq!(path(node, Some("a")), "/api/v1/nodes");
        let own = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {"namespace": "b"}});
        assert_eq!(path(own, Some("a")), "/apis/apps/v1/namespaces/b/replicasets");
        let other = json!({"apiVersion": "v9", "kind": "Other"});
        assert!(Request::create(&other, None).is_err());
    }
}
