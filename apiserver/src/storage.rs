//! Objects in the store: keys as kube-apiserver lays them out in etcd, optimistic writes, and the
//! store's errors as `Status`.

use std::sync::Arc;

use bytes::Bytes;
use pintle_api::scheme::Resource;
use pintle_api::status::{Status, Subject};
use pintle_store::{Compare, KeyValue, Op, RangeRequest, Revision, Store, StoreError, Txn};
use serde_json::Value;

use crate::object;

/// Every key begins with this.
pub(crate) const ROOT: &str = "/registry/";

/// An object and the revision at which it was written.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) object: Value,
    /// As it is stored.
    pub(crate) bytes: Bytes,
    pub(crate) revision: u64,
}

/// The store, seen as objects.
#[derive(Clone)]
pub(crate) struct Storage {
    store: Arc<dyn Store>,
}

/// What became of a write that expected an object to be at a revision.
pub(crate) enum Written {
    /// It is durable at this revision.
    Done(u64),
    /// The object is not at the expected revision.
    Conflict,
}

impl Storage {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    pub(crate) async fn revision(&self) -> Result<u64, Status> {
        self.store.revision().await.map(|revision| revision.0).map_err(store_error)
    }

    pub(crate) async fn raw(&self, key: Bytes) -> Result<Option<KeyValue>, Status> {
        let request = RangeRequest { start: key, ..RangeRequest::default() };
        let found = self.store.range(request).await.map_err(store_error)?;
        Ok(found.kvs.into_iter().next())
    }

    pub(crate) async fn get(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Stored, Status> {
        match self.raw(key(resource, namespace, name)).await? {
            Some(kv) => {
                let (object, revision) = (decode(&kv.value)?, kv.mod_revision.0);
                Ok(Stored { object, bytes: kv.value, revision })
            }
            None => Err(Status::not_found(subject(resource, name))),
        }
    }

    /// Keys of a prefix as of a revision, at most `limit` of them, and how many more there are.
    pub(crate) async fn range(
        &self,
        start: Bytes,
        end: Bytes,
        revision: Option<u64>,
        limit: usize,
    ) -> Result<pintle_store::RangeResponse, Status> {
        let revision = revision.map(Revision);
        let request = RangeRequest { start, end: Some(end), revision, limit };
        self.store.range(request).await.map_err(store_error)
    }

    /// Write an object that must not exist (`expected` 0) or must be at revision `expected`.
    pub(crate) async fn put(
        &self,
        key: Bytes,
        object: &Value,
        expected: u64,
    ) -> Result<Written, Status> {
        self.put_encoded(key, object::encode(object), expected).await
    }

    /// The same with the object's stored form.
    pub(crate) async fn put_encoded(
        &self,
        key: Bytes,
        value: Bytes,
        expected: u64,
    ) -> Result<Written, Status> {
        let op = Op::Put { key: key.clone(), value };
        self.write(key, expected, op).await
    }

    /// Remove an object that must be at revision `expected`.
    pub(crate) async fn remove(&self, key: Bytes, expected: u64) -> Result<Written, Status> {
        let op = Op::Delete { key: key.clone() };
        self.write(key, expected, op).await
    }

    async fn write(&self, key: Bytes, expected: u64, op: Op) -> Result<Written, Status> {
        let compare = vec![Compare { key, mod_revision: Revision(expected) }];
        let done = self.store.txn(Txn { compare, ops: vec![op] }).await.map_err(store_error)?;
        Ok(if done.succeeded { Written::Done(done.revision.0) } else { Written::Conflict })
    }
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Value, Status> {
    serde_json::from_slice(bytes)
        .map_err(|error| Status::internal(format!("decode a stored object: {error}")))
}

/// `/registry/<resource>/<namespace>/<name>`; a resource of a group other than core is prefixed by
/// the group, so that equal plurals of two groups cannot meet.
pub(crate) fn key(resource: &Resource, namespace: &str, name: &str) -> Bytes {
    let mut key = prefix_text(resource);
    if resource.namespaced {
        key.push_str(namespace);
        key.push('/');
    }
    key.push_str(name);
    Bytes::from(key)
}

/// First key, and key after the last, of a resource or of one namespace of it.
pub(crate) fn bounds(resource: &Resource, namespace: &str) -> (Bytes, Bytes) {
    let mut start = prefix_text(resource);
    if resource.namespaced && !namespace.is_empty() {
        start.push_str(namespace);
        start.push('/');
    }
    let end = after(start.as_bytes());
    (Bytes::from(start), end)
}

/// The key after all keys that begin with `prefix`, which ends in `/`.
pub(crate) fn after(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    Bytes::from(end)
}

pub(crate) fn prefix_text(resource: &Resource) -> String {
    match resource.group() {
        "" => format!("{ROOT}{}/", resource.plural),
        group => format!("{ROOT}{group}/{}/", resource.plural),
    }
}

pub(crate) fn subject<'a>(resource: &'a Resource, name: &'a str) -> Subject<'a> {
    Subject { group: resource.group(), kind: resource.plural, name }
}

pub(crate) fn store_error(error: StoreError) -> Status {
    match error {
        StoreError::Compacted { requested, compacted } => {
            Status::too_old(requested.0, compacted.0 + 1)
        }
        StoreError::FutureRevision { requested, current } => {
            Status::too_large(requested.0, current.0)
        }
        StoreError::Closed(_) | StoreError::NoSpace(_) => {
            Status::unavailable(format!("the store cannot be written: {error}")).retry_after(5)
        }
        StoreError::Invalid(_) | StoreError::Lagged(_) => Status::internal(error),
    }
}
