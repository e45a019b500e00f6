//! Objects in the store: keys as kube-apiserver lays them out in etcd, optimistic writes, and the
//! store's errors as `Status`.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use pintle_api::scheme::{Kind, Resource};
use pintle_api::status::{Status, Subject};
use pintle_store::{Compare, KeyValue, Op, RangeRequest, Revision, Store, StoreError, Txn};
use serde_json::Value;

use crate::facts::Facts;
use crate::object;
use crate::watch_cache::WatchCache;

/// Every key begins with this.
pub(crate) const ROOT: &str = "/registry/";

/// An object at one revision, as bytes: decoded it takes six times as much.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) facts: Arc<Facts>,
    /// The stored form.
    pub(crate) bytes: Bytes,
    /// 0 if it was not written, as in a dry run.
    pub(crate) revision: u64,
    decoded: OnceLock<Value>,
    /// The pod that was read to be created, until somebody takes it.
    read: Mutex<Option<Box<Pod>>>,
}

impl Stored {
    pub(crate) fn new(facts: Arc<Facts>, bytes: Bytes, revision: u64) -> Self {
        let (decoded, read) = (OnceLock::new(), Mutex::default());
        Self { facts, bytes, revision, decoded, read }
    }

    /// The same with what the bytes were made of.
    pub(crate) fn with_read(self, pod: Option<Box<Pod>>) -> Self {
        Self { read: Mutex::new(pod), ..self }
    }

    /// The pod, to the first who asks, where it has just been read to be created.
    pub(crate) fn take_read(&self) -> Option<Box<Pod>> {
        self.read.lock().take()
    }

    pub(crate) fn read(kind: Kind, kv: &KeyValue) -> Result<Self, Status> {
        let facts = Facts::of(kind, &decode(&kv.value)?);
        Ok(Self::new(Arc::new(facts), kv.value.clone(), kv.mod_revision.0))
    }

    /// An object that is not there, or not any more.
    pub(crate) fn unwritten(kind: Kind, object: &Value, revision: u64) -> Self {
        let facts = Facts::of(kind, object);
        Self::new(Arc::new(facts), object::encode(object), revision)
    }

    /// The same state as of another revision: the last one of an object that was removed then.
    pub(crate) fn at(&self, revision: u64) -> Self {
        Self::new(Arc::clone(&self.facts), self.bytes.clone(), revision)
    }

    /// The object, without resourceVersion.
    pub(crate) fn decode(&self) -> Result<Value, Status> {
        decode(&self.bytes)
    }

    /// The same, kept: for kinds of which there are few and which are read often.
    pub(crate) fn decoded(&self) -> &Value {
        // What was encoded or read here before can be decoded.
        self.decoded.get_or_init(|| self.decode().unwrap_or_default())
    }

    /// The object as it is sent: with its resourceVersion.
    pub(crate) fn full(&self) -> Value {
        decode(&self.rendered()).unwrap_or_default()
    }

    /// The same in JSON.
    pub(crate) fn rendered(&self) -> Bytes {
        object::with_revision(&self.bytes, self.revision)
    }
}

/// An object that is about to be changed.
#[derive(Clone, Debug)]
pub(crate) struct Current {
    /// Without resourceVersion.
    pub(crate) object: Value,
    /// As it is stored.
    pub(crate) bytes: Bytes,
    pub(crate) revision: u64,
}

impl Current {
    /// The object as clients see it: with its resourceVersion.
    pub(crate) fn full(&self) -> Value {
        let mut object = self.object.clone();
        let revision = self.revision.to_string();
        object::metadata(&mut object).insert("resourceVersion".to_owned(), revision.into());
        object
    }
}

/// The store, seen as objects. What is written is handed to the watch cache.
#[derive(Clone)]
pub(crate) struct Storage {
    store: Arc<dyn Store>,
    cache: Arc<WatchCache>,
}

impl Storage {
    pub(crate) fn new(store: Arc<dyn Store>, cache: Arc<WatchCache>) -> Self {
        Self { store, cache }
    }

    pub(crate) async fn revision(&self) -> Result<u64, Status> {
        self.store.revision().await.map(|revision| revision.0).map_err(store_error)
    }

    pub(crate) async fn raw(&self, key: Bytes) -> Result<Option<KeyValue>, Status> {
        let request = RangeRequest { start: key, ..RangeRequest::default() };
        let found = self.store.range(request).await.map_err(store_error)?;
        Ok(found.kvs.into_iter().next())
    }

    /// The newest state of an object, decoded and as it is stored.
    pub(crate) async fn get(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Current, Status> {
        let kv = self.raw(key(resource, namespace, name)).await?;
        let kv = kv.ok_or_else(|| Status::not_found(subject(resource, name)))?;
        let (object, revision) = (decode(&kv.value)?, kv.mod_revision.0);
        Ok(Current { object, bytes: kv.value, revision })
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
    /// `None`: it is not.
    pub(crate) async fn put(
        &self,
        kind: Kind,
        key: Bytes,
        object: &Value,
        expected: u64,
    ) -> Result<Option<Stored>, Status> {
        self.put_encoded(kind, key, object, object::encode(object), expected).await
    }

    /// The same with the object's stored form.
    pub(crate) async fn put_encoded(
        &self,
        kind: Kind,
        key: Bytes,
        object: &Value,
        bytes: Bytes,
        expected: u64,
    ) -> Result<Option<Stored>, Status> {
        self.put_bytes(key, Facts::of(kind, object), bytes, expected).await
    }

    /// Write a pod that must not exist, as an object and as that was read.
    pub(crate) async fn put_pod(
        &self,
        key: Bytes,
        object: &Value,
        pod: Box<Pod>,
    ) -> Result<Option<Stored>, Status> {
        let facts = Arc::new(Facts::of(Kind::Pod, object));
        self.put_offered(key, facts, object::encode(object), 0, Some(pod)).await
    }

    /// Write an object with what selectors see of it.
    pub(crate) async fn put_bytes(
        &self,
        key: Bytes,
        facts: impl Into<Arc<Facts>>,
        bytes: Bytes,
        expected: u64,
    ) -> Result<Option<Stored>, Status> {
        self.put_offered(key, facts.into(), bytes, expected, None).await
    }

    async fn put_offered(
        &self,
        key: Bytes,
        facts: Arc<Facts>,
        bytes: Bytes,
        expected: u64,
        read: Option<Box<Pod>>,
    ) -> Result<Option<Stored>, Status> {
        let offer = self.cache.offer(&bytes, &facts, read);
        let op = Op::Put { key: key.clone(), value: bytes.clone() };
        let written = self.write(key, expected, vec![op], Vec::new()).await?;
        Ok(written.map(|revision| {
            offer.keep();
            Stored::new(facts, bytes, revision)
        }))
    }

    /// Remove an object that must be at revision `expected`; the revision of that, `None` if it is
    /// not there.
    pub(crate) async fn remove(&self, key: Bytes, expected: u64) -> Result<Option<u64>, Status> {
        let op = Op::Delete { key: key.clone() };
        self.write(key, expected, vec![op], Vec::new()).await
    }

    /// Write an object that must be at revision `expected`, and remove it with nothing in between;
    /// false if it is not there.
    pub(crate) async fn put_and_remove(
        &self,
        key: Bytes,
        facts: Arc<Facts>,
        bytes: Bytes,
        expected: u64,
    ) -> Result<bool, Status> {
        let offer = self.cache.offer(&bytes, &facts, None);
        let put = Op::Put { key: key.clone(), value: bytes };
        let delete = Op::Delete { key: key.clone() };
        let written = self.write(key, expected, vec![put], vec![delete]).await?;
        if written.is_some() {
            offer.keep();
        }
        Ok(written.is_some())
    }

    async fn write(
        &self,
        key: Bytes,
        expected: u64,
        ops: Vec<Op>,
        then: Vec<Op>,
    ) -> Result<Option<u64>, Status> {
        let compare = vec![Compare { key, mod_revision: Revision(expected) }];
        let done = self.store.txn(Txn { compare, ops, then }).await.map_err(store_error)?;
        Ok(done.succeeded.then_some(done.revision.0))
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
