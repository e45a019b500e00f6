//! list: from the watch cache where that is consistent, else from the store.
//!
//! `resourceVersion` unset is the newest state, `0` any state, `N` one not older than N (or exactly
//! N with `resourceVersionMatch=Exact`). A `continue` token pins the revision of the first page.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{Response, StatusCode};
use pintle_api::scheme::Resource;
use pintle_api::status::Status;
use serde_json::{Value, json};

use super::{Call, list_options, render};
use crate::body::Body;
use crate::negotiate::{self, Form};
use crate::query::{Filter, Query};
use crate::request::Target;
use crate::server::Core;
use crate::storage::{self, Stored};
use crate::{object, status};

/// Some objects and where they stand.
pub(super) struct Page {
    pub(super) entries: Vec<Arc<Stored>>,
    revision: u64,
    continued: Option<String>,
    remaining: Option<usize>,
}

pub(super) async fn list(
    core: &Core,
    call: &Call<'_>,
    target: &Target,
    resource: &'static Resource,
) -> Result<Response<Body>, Status> {
    let form = negotiate::form(&call.headers)?;
    let page = page(core, &call.query, target, resource).await?;
    let metadata = page.metadata();
    Ok(match form {
        Form::Object => status::bytes(StatusCode::OK, page.body(resource, &metadata)),
        Form::Metadata => {
            let items = page.entries.iter().map(|entry| render::metadata(&entry.full()));
            status::json(
                StatusCode::OK,
                &json!({
                    "kind": "PartialObjectMetadataList",
                    "apiVersion": "meta.k8s.io/v1",
                    "metadata": metadata,
                    "items": items.collect::<Vec<_>>(),
                }),
            )
        }
        Form::Table => {
            let objects: Vec<Value> = page.entries.iter().map(|entry| entry.full()).collect();
            render::check_include(&call.query)?;
            status::json(StatusCode::OK, &render::rows(&call.query, resource, &objects, &metadata))
        }
    })
}

/// The objects that a list or deletecollection is about.
pub(super) async fn page(
    core: &Core,
    query: &Query,
    target: &Target,
    resource: &'static Resource,
) -> Result<Page, Status> {
    let filter = Filter::parse(resource, query)?;
    list_options::check(query, false)?;
    let limit = usize::try_from(query.number("limit")?.unwrap_or(0)).unwrap_or(usize::MAX);
    let scope = Scope { resource, namespace: &target.namespace, filter: &filter };
    if !query.get("continue").is_empty() {
        let token = Token::parse(query.get("continue"), &scope)?;
        return from_store(core, &scope, Some(token.revision), token.start, limit).await;
    }
    let wanted = revision(query)?;
    match (query.get("resourceVersionMatch"), wanted) {
        (list_options::EXACT, Some(revision)) if revision > 0 => {
            let start = storage::bounds(resource, scope.namespace).0;
            from_store(core, &scope, Some(revision), start, limit).await
        }
        _ => {
            if wanted != Some(0) {
                let floor = match wanted {
                    Some(revision) => revision,
                    None => core.storage.revision().await?,
                };
                core.cache.wait_for(floor).await?;
            }
            // As upstream, a list of any state ignores the limit.
            let limit = if wanted == Some(0) { 0 } else { limit };
            Ok(from_cache(core, &scope, limit))
        }
    }
}

/// The `resourceVersion` parameter.
pub(super) fn revision(query: &Query) -> Result<Option<u64>, Status> {
    let text = query.get("resourceVersion");
    let invalid = |_| {
        Status::bad_request(format!(
            "invalid resource version: resourceVersion: Invalid value: {text:?}: must be a number"
        ))
    };
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(invalid) }
}

struct Scope<'a> {
    resource: &'static Resource,
    namespace: &'a str,
    filter: &'a Filter,
}

fn from_cache(core: &Core, scope: &Scope<'_>, limit: usize) -> Page {
    let (mut entries, revision) = core.cache.list(scope.resource, scope.namespace);
    if !scope.filter.is_everything() {
        entries.retain(|entry| scope.filter.matches(&entry.facts));
    }
    let mut page = Page { entries, revision, continued: None, remaining: None };
    if limit > 0 && page.entries.len() > limit {
        let rest = page.entries.split_off(limit);
        page.remaining = scope.filter.is_everything().then_some(rest.len());
        page.continued = rest.first().map(|next| {
            let (namespace, name) = (next.facts.namespace(), next.facts.name());
            Token { revision, start: storage::key(scope.resource, namespace, name) }.text()
        });
    }
    page
}

async fn from_store(
    core: &Core,
    scope: &Scope<'_>,
    revision: Option<u64>,
    start: Bytes,
    limit: usize,
) -> Result<Page, Status> {
    let end = storage::bounds(scope.resource, scope.namespace).1;
    let fetch = if scope.filter.is_everything() && limit > 0 { limit } else { 0 };
    let expired = |error: Status| match error.code() {
        410 => Status::expired(
            "The provided continue parameter is too old to display a consistent list result. You \
             must start a new list without the continue parameter.",
        ),
        _ => error,
    };
    let found = core.storage.range(start, end, revision, fetch).await.map_err(expired)?;
    let mut page = Page {
        entries: Vec::new(),
        revision: revision.unwrap_or(found.revision.0),
        continued: None,
        remaining: None,
    };
    let mut last = Bytes::new();
    let mut unread = found.remaining;
    let mut kvs = found.kvs.into_iter();
    for kv in kvs.by_ref() {
        let entry = Stored::read(scope.resource.kind, &kv)?;
        if !scope.filter.matches(&entry.facts) {
            continue;
        }
        last = kv.key;
        page.entries.push(Arc::new(entry));
        if page.entries.len() == limit {
            break;
        }
    }
    unread += kvs.len();
    if limit > 0 && page.entries.len() == limit && unread > 0 {
        let mut next = last.to_vec();
        next.push(0);
        page.continued = Some(Token { revision: page.revision, start: next.into() }.text());
        page.remaining = scope.filter.is_everything().then_some(unread);
    }
    Ok(page)
}

impl Page {
    fn metadata(&self) -> Value {
        let mut metadata = json!({ "resourceVersion": self.revision.to_string() });
        if let Some(token) = &self.continued {
            metadata["continue"] = json!(token);
        }
        if let Some(remaining) = self.remaining {
            metadata["remainingItemCount"] = json!(remaining);
        }
        metadata
    }

    /// The list from the bytes of its items.
    fn body(&self, resource: &Resource, metadata: &Value) -> Bytes {
        let items: usize = self.entries.iter().map(|entry| entry.bytes.len() + ITEM_BYTES).sum();
        let mut body = BytesMut::with_capacity(items + 256);
        let (kind, version) = (resource.list_kind, resource.api_version());
        let head = format!(
            "{{\"kind\":\"{kind}\",\"apiVersion\":\"{version}\",\"metadata\":{metadata},\"items\":["
        );
        body.put_slice(head.as_bytes());
        for (index, entry) in self.entries.iter().enumerate() {
            if index > 0 {
                body.put_u8(b',');
            }
            object::put_with_revision(&mut body, &entry.bytes, entry.revision);
        }
        body.put_slice(b"]}\n");
        body.freeze()
    }
}

/// What an item takes beside its stored form: the resourceVersion and a comma.
const ITEM_BYTES: usize = 42;

/// What a `continue` parameter says: the revision of the list and the next key.
struct Token {
    revision: u64,
    start: Bytes,
}

impl Token {
    fn text(&self) -> String {
        let start = String::from_utf8_lossy(&self.start);
        let token = json!({ "v": "meta.k8s.io/v1", "rv": self.revision, "start": start });
        URL_SAFE_NO_PAD.encode(token.to_string())
    }

    fn parse(text: &str, scope: &Scope<'_>) -> Result<Self, Status> {
        let (first, end) = storage::bounds(scope.resource, scope.namespace);
        let read = || {
            let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
            let value: Value = serde_json::from_slice(&bytes).ok()?;
            let start = Bytes::from(value["start"].as_str()?.to_owned());
            // A token must not lead out of what the client may see.
            (start >= first && start < end).then_some(())?;
            Some(Self { revision: value["rv"].as_u64()?, start })
        };
        read().ok_or_else(|| Status::bad_request("continue key is not valid"))
    }
}
