//! The objects of the cluster: on the API server, and as the server gave them back.

use std::collections::BTreeMap;

use anyhow::{Context as _, anyhow};
use http::Method;
use pintle_scheduler_core::explain::Cluster;
use serde_json::Value;

use crate::scheduler::collection;

/// What is on the server, by path.
pub(super) struct World {
    client: kube::Client,
    objects: BTreeMap<String, Value>,
}

impl World {
    pub(super) fn new(client: kube::Client) -> Self {
        Self { client, objects: BTreeMap::new() }
    }

    /// Creates the object; its status, if it has one, is written after it. What the API server
    /// refuses is an [`kube::Error::Api`].
    pub(super) async fn create(&mut self, object: &Value) -> anyhow::Result<String> {
        let collection = collection(object, None)?;
        let mut created = self.send(Method::POST, &collection, Some(object)).await?;
        let name = object["metadata"]["name"].as_str().context("an object has no name")?;
        let path = format!("{collection}/{name}");
        if !object["status"].is_null() {
            created["status"] = object["status"].clone();
            created = self.send(Method::PUT, &format!("{path}/status"), Some(&created)).await?;
        }
        self.objects.insert(path.clone(), created);
        Ok(path)
    }

    /// What would be created.
    pub(super) async fn admitted(&self, object: &Value) -> anyhow::Result<Value> {
        let path = format!("{}?dryRun=All", collection(object, None)?);
        self.send(Method::POST, &path, Some(object)).await
    }

    /// Replaces what is there by what `change` makes of it.
    pub(super) async fn update(
        &mut self,
        path: &str,
        change: impl FnOnce(&mut Value),
    ) -> anyhow::Result<()> {
        let mut object = self.objects.get(path).context("an object is not there")?.clone();
        change(&mut object);
        let object = self.send(Method::PUT, path, Some(&object)).await?;
        self.objects.insert(path.to_owned(), object);
        Ok(())
    }

    /// The object as it is now; `None` if it is not there any more.
    pub(super) async fn look(&mut self, path: &str) -> anyhow::Result<Option<&Value>> {
        match self.send(Method::GET, path, None).await {
            Ok(object) => {
                self.objects.insert(path.to_owned(), object);
                Ok(self.objects.get(path))
            }
            Err(error) if is_not_found(&error) => {
                self.objects.remove(path);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Removes the object at once, if it is still there, whoever wants it to stay.
    pub(super) async fn delete(&mut self, path: &str) -> anyhow::Result<()> {
        let is_held = |object: &Value| !object["metadata"]["finalizers"].is_null();
        if self.look(path).await?.is_some_and(is_held) {
            self.update(path, |object| object["metadata"]["finalizers"] = Value::Null).await?;
        }
        let at_once = format!("{path}?gracePeriodSeconds=0");
        match self.send(Method::DELETE, &at_once, None).await {
            Err(error) if !is_not_found(&error) => return Err(error),
            _ => {}
        }
        self.objects.remove(path);
        Ok(())
    }

    /// The paths of all objects of a kind.
    pub(super) fn of_kind(&self, kind: &str) -> Vec<String> {
        let all = self.objects.iter().filter(|(_, object)| object["kind"] == kind);
        all.map(|(path, _)| path.clone()).collect()
    }

    pub(super) fn get(&self, path: &str) -> Option<&Value> {
        self.objects.get(path)
    }

    /// All of it, with `more`, for the reference.
    pub(super) fn cluster(&self, more: &Value) -> anyhow::Result<Cluster> {
        let mut cluster = Cluster::default();
        for object in self.objects.values().chain([more]) {
            cluster.add(object.clone()).map_err(|error| anyhow!("{error}"))?;
        }
        Ok(cluster)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let body = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body)?;
        Ok(self.client.request(request).await?)
    }
}

/// Whether the API server has nothing there.
fn is_not_found(error: &anyhow::Error) -> bool {
    refusal(error).is_some_and(|status| status.code == 404)
}

/// What the API server says of a request that it refuses.
pub(super) fn refusal(error: &anyhow::Error) -> Option<&kube::core::Status> {
    match error.downcast_ref::<kube::Error>()? {
        kube::Error::Api(status) => Some(status),
        _ => None,
    }
}
