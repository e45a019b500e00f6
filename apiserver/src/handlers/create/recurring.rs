//! Pods that recur: the many of a controller or of a load differ in name alone, and what decoding,
//! admission, defaults and validation make of the rest of their bodies is always the same.
//!
//! Of a body that came before, byte for byte less the name, the outcome is remembered: stored form
//! and facts. The next pod is given its name, namespace, uid and time in that; name and namespace
//! are checked as ever. Whatever is out of the ordinary (a rare field of metadata, a finding, YAML,
//! a dry run, a refusal) goes the longer way, which also knows what to say about it.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::hash::BuildHasher as _;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use pintle_api::decode::Syntax;
use pintle_api::scheme::{self, Kind, Resource};
use pintle_api::status::Status;
use pintle_api::syntax::dns1123_subdomain;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{NAMES_MAX, exists, generated_name};
use crate::facts::Facts;
use crate::handlers::Call;
use crate::handlers::pod::PodText;
use crate::server::Core;
use crate::storage::{self, Stored};
use crate::{admission, negotiate, object};

/// What was made of the bodies of pods, by what of them is not the pod's own.
#[derive(Default)]
pub(crate) struct Recurring {
    hasher: RandomState,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Hashes of bodies that came once: most never come again.
    once: HashSet<u64>,
    outcomes: HashMap<Vec<u8>, Arc<Outcome>>,
}

/// What becomes of a body.
struct Outcome {
    /// The fields of the stored `metadata` that are not the pod's own, each after a comma.
    metadata: String,
    /// The stored form after `metadata`, from the comma on.
    rest: String,
    facts: Facts,
    /// See [`classes`].
    classes: u64,
}

/// A body that may recur.
pub(super) struct Body {
    key: Vec<u8>,
    name: String,
    generate_name: String,
    classes: u64,
}

/// The fields of the metadata that a new pod has.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Metadata<'a> {
    name: Option<String>,
    generate_name: Option<String>,
    namespace: Option<String>,
    #[serde(borrow)]
    labels: Option<&'a RawValue>,
    #[serde(borrow)]
    annotations: Option<&'a RawValue>,
    #[serde(borrow)]
    owner_references: Option<&'a RawValue>,
    /// Null, as Go's clients send it.
    #[serde(default, rename = "creationTimestamp")]
    _creation_timestamp: (),
}

impl Body {
    /// The body of a request that creates a pod; `None` if it is not of the plain kind.
    pub(super) fn of(core: &Core, call: &Call<'_>, namespace: &str) -> Option<Self> {
        if negotiate::syntax(&call.headers) != Ok(Syntax::Json) || call.body.len() > BYTES_MAX {
            return None;
        }
        let PodText { api_version, kind, metadata, spec, status } = PodText::of(&call.body)?;
        let metadata: Metadata<'_> = serde_json::from_str(metadata.get()).ok()?;
        let Metadata { name, generate_name, namespace: own, .. } = metadata;
        if own.is_some_and(|own| !own.is_empty() && own != namespace) {
            return None;
        }
        let Metadata { labels, annotations, owner_references, .. } = metadata;
        let parts = [api_version, kind, labels, annotations, owner_references, Some(spec), status];
        let mut key = Vec::with_capacity(call.body.len() + parts.len());
        for part in parts {
            key.extend_from_slice(part.map_or("", RawValue::get).as_bytes());
            // There is none in JSON.
            key.push(0);
        }
        let generate_name = generate_name.unwrap_or_default();
        key.extend_from_slice(generate_name.as_bytes());
        key.push(0);
        key.extend_from_slice(call.query.get("fieldValidation").as_bytes());
        Some(Self { key, name: name.unwrap_or_default(), generate_name, classes: classes(core) })
    }
}

/// Create the pod as one like it was created before; `None` if there was none, or if its name is
/// to be refused.
pub(super) async fn create(
    core: &Core,
    resource: &'static Resource,
    namespace: &str,
    body: &Body,
) -> Result<Option<Stored>, Status> {
    let known = core.recurring.state.lock().outcomes.get(&body.key).cloned();
    let Some(outcome) = known.filter(|known| known.classes == body.classes) else {
        return Ok(None);
    };
    let is_generated = body.name.is_empty() && !body.generate_name.is_empty();
    for _ in 0..if is_generated { NAMES_MAX } else { 1 } {
        let name = match is_generated {
            true => generated_name(&body.generate_name),
            false => body.name.clone(),
        };
        if name.is_empty() || !dns1123_subdomain(&name).is_empty() {
            return Ok(None);
        }
        admission::check_namespace(core, resource, namespace, &name).await?;
        let (bytes, facts) =
            (stored_form(&outcome, namespace, &name), outcome.facts.named(namespace, &name));
        let key = storage::key(resource, namespace, &name);
        if let Some(created) = core.storage.put_bytes(key, facts, bytes, 0).await? {
            return Ok(Some(created));
        }
    }
    Err(match is_generated {
        true => Status::already_exists(storage::subject(resource, &body.generate_name)),
        false => exists(core, resource, namespace, &body.name).await,
    })
}

fn stored_form(outcome: &Outcome, namespace: &str, name: &str) -> Bytes {
    let Outcome { metadata, rest, .. } = outcome;
    // Neither name nor namespace has anything to escape.
    let form = [
        "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"",
        name,
        "\",\"namespace\":\"",
        namespace,
        "\",\"uid\":\"",
        &object::new_uid(),
        "\",\"creationTimestamp\":\"",
        &object::now(),
        "\",\"generation\":1",
        metadata,
        "}",
        rest,
    ];
    Bytes::from(form.concat())
}

/// Remember what became of a body of which there was nothing to be said.
pub(super) fn remember(core: &Core, body: Body, created: &Stored) {
    let Recurring { hasher, state } = &core.recurring;
    let hash = hasher.hash_one(&body.key);
    {
        let once = &mut state.lock().once;
        if once.len() >= ONCE_MAX {
            once.clear();
        }
        if once.insert(hash) {
            return;
        }
    }
    let Some(outcome) = Outcome::of(created, body.classes) else { return };
    let outcomes = &mut state.lock().outcomes;
    if outcomes.len() >= OUTCOMES_MAX {
        outcomes.clear();
    }
    outcomes.insert(body.key, Arc::new(outcome));
}

impl Outcome {
    fn of(created: &Stored, classes: u64) -> Option<Self> {
        let object = created.decode().ok()?;
        let fields = |parent: &serde_json::Value, own: &[&str]| {
            let mut text = String::new();
            for (key, value) in parent.as_object()? {
                if !own.contains(&key.as_str()) {
                    // Writing into a text that grows cannot fail, and no field's name is escaped.
                    let _ = write!(text, ",\"{key}\":{value}");
                }
            }
            Some(text)
        };
        Some(Self {
            metadata: fields(object.get("metadata")?, &OWN)?,
            rest: fields(&object, &["apiVersion", "kind", "metadata"])? + "}",
            facts: created.facts.named("", ""),
            classes,
        })
    }
}

/// The revision of the last change of PriorityClasses, which admission reads.
fn classes(core: &Core) -> u64 {
    scheme::of(Kind::PriorityClass).map_or(0, |resource| core.cache.of(resource).newest())
}

/// What of the metadata is the pod's own.
const OWN: [&str; 5] = ["name", "namespace", "uid", "creationTimestamp", "generation"];
/// Longer bodies are rare; an outcome takes twice that.
const BYTES_MAX: usize = 16 << 10;
/// As many templates may be at work at one time. When there are more, all are forgotten.
const OUTCOMES_MAX: usize = 1024;
/// Hashes kept while it is not known whether their bodies recur.
const ONCE_MAX: usize = 1 << 14;
