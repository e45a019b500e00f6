//! Pods as the informer keeps them: what scheduling reads, and of what pods that are alike share one
//! copy for all.
//!
//! Pods by the thousands come from few templates: the text of their specs is the same but for the
//! node. So the text is kept with what was made of it, and a spec that comes again is not decoded. A
//! pod that is on its way out, or that has containers which may be resized, is read whole.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::watcher::Event;
use pintle_client::LocalPod;
use pintle_scheduler_core::{Alike, PodInfo, Templates};
use serde::Deserialize;
use serde_json::value::RawValue;

/// A pod as it comes from the API server.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct RawPod {
    #[serde(default)]
    metadata: ObjectMeta,
    spec: Option<Box<RawValue>>,
    status: Option<PodStatus>,
}

/// A pod as it is kept.
#[derive(Debug)]
pub(crate) struct SeenPod {
    /// Name, namespace and version.
    metadata: ObjectMeta,
    pub(crate) info: Arc<PodInfo>,
    /// Whether it takes nothing of its node any more.
    pub(crate) is_finished: bool,
}

macro_rules! is_a_pod {
    ($type:ty) => {
        impl kube::Resource for $type {
            type DynamicType = ();
            type Scope = <Pod as kube::Resource>::Scope;

            fn kind((): &()) -> Cow<'_, str> {
                Pod::kind(&())
            }

            fn group((): &()) -> Cow<'_, str> {
                Pod::group(&())
            }

            fn version((): &()) -> Cow<'_, str> {
                Pod::version(&())
            }

            fn plural((): &()) -> Cow<'_, str> {
                Pod::plural(&())
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

is_a_pod!(RawPod);
is_a_pod!(SeenPod);

/// A pod whose spec is text.
struct Parts<'a> {
    metadata: ObjectMeta,
    spec: Option<&'a str>,
    status: Option<PodStatus>,
    /// The spec, where it has been read.
    read: Option<PodSpec>,
}

/// A pod as it comes from somewhere.
pub(crate) trait Readable {
    /// The pod as it is kept.
    fn read(self, reader: &mut Reader) -> serde_json::Result<SeenPod>;

    /// Whose name and namespace it has.
    fn identity(self) -> serde_json::Result<Identity>;
}

/// What of a pod that is gone is looked at: the rest of it is that of when it was last seen.
#[derive(Deserialize)]
pub(crate) struct Identity {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    namespace: Option<String>,
}

impl Readable for RawPod {
    fn read(self, reader: &mut Reader) -> serde_json::Result<SeenPod> {
        let Self { metadata, spec, status } = self;
        let spec = spec.as_deref().map(RawValue::get);
        reader.seen(Parts { metadata, spec, status, read: None })
    }

    fn identity(self) -> serde_json::Result<Identity> {
        let ObjectMeta { name, namespace, .. } = self.metadata;
        Ok(Identity { name, namespace })
    }
}

impl Readable for LocalPod {
    fn read(self, reader: &mut Reader) -> serde_json::Result<SeenPod> {
        let Self { json, resource_version, read } = self;
        let mut pod = match read.map(|pod| *pod) {
            Some(Pod { metadata, spec: read, status }) => {
                let Spec { spec } = serde_json::from_slice(&json)?;
                Parts { metadata, spec: spec.map(RawValue::get), status, read }
            }
            None => {
                let Borrowed { metadata, spec, status } = serde_json::from_slice(&json)?;
                Parts { metadata, spec: spec.map(RawValue::get), status, read: None }
            }
        };
        pod.metadata.resource_version = Some(resource_version.to_string());
        reader.seen(pod)
    }

    fn identity(self) -> serde_json::Result<Identity> {
        #[derive(Deserialize)]
        struct Object {
            metadata: Identity,
        }
        serde_json::from_slice(&self.json).map(|Object { metadata }| metadata)
    }
}

/// As [`RawPod`], while the text is there.
#[derive(Deserialize)]
struct Borrowed<'a> {
    #[serde(default)]
    metadata: ObjectMeta,
    #[serde(borrow)]
    spec: Option<&'a RawValue>,
    status: Option<PodStatus>,
}

/// The spec's text alone.
#[derive(Deserialize)]
struct Spec<'a> {
    #[serde(borrow)]
    spec: Option<&'a RawValue>,
}

/// Reads pods, and remembers what they share.
#[derive(Default)]
pub(crate) struct Reader {
    templates: Templates,
    /// By the text of the spec, without its end and the node's name.
    known: HashMap<Box<str>, Vec<Known>>,
    /// Stands for pods that are gone.
    nobody: Option<Arc<PodInfo>>,
}

/// What was made of a spec and the metadata that is shared as well.
struct Known {
    priority: Option<i32>,
    alike: Alike,
}

impl Reader {
    /// The same event of the pod as it is kept.
    pub(crate) fn read<P: Readable>(
        &mut self,
        event: Event<P>,
    ) -> serde_json::Result<Event<SeenPod>> {
        Ok(match event {
            Event::Apply(pod) => Event::Apply(pod.read(self)?),
            Event::Delete(pod) => Event::Delete(self.gone(pod.identity()?)),
            Event::Init => Event::Init,
            Event::InitApply(pod) => Event::InitApply(pod.read(self)?),
            Event::InitDone => Event::InitDone,
        })
    }

    /// A pod that is gone, in the place of which the informer has what was last seen of it.
    fn gone(&mut self, Identity { name, namespace }: Identity) -> SeenPod {
        let metadata = ObjectMeta { name, namespace, ..ObjectMeta::default() };
        let nobody = || Arc::new(PodInfo::new(Arc::default()));
        let info = Arc::clone(self.nobody.get_or_insert_with(nobody));
        SeenPod { metadata, info, is_finished: true }
    }

    fn seen(&mut self, pod: Parts<'_>) -> serde_json::Result<SeenPod> {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let is_finished = matches!(phase, Some("Succeeded" | "Failed"));
        let ObjectMeta { name, namespace, resource_version, .. } = &pod.metadata;
        let metadata = ObjectMeta {
            name: name.clone(),
            namespace: namespace.clone(),
            resource_version: resource_version.clone(),
            ..ObjectMeta::default()
        };
        let info = match is_plain(&pod) {
            true => self.info(pod)?,
            false => PodInfo::shared(Arc::new(whole(pod)?), &mut self.templates),
        };
        Ok(SeenPod { metadata, info: Arc::new(info), is_finished })
    }

    fn info(&mut self, pod: Parts<'_>) -> serde_json::Result<PodInfo> {
        let (spec, node) = split_node(pod.spec.unwrap_or_default());
        let known = self.known.get(spec).into_iter().flatten();
        if let Some(known) =
            known.into_iter().find(|known| known.alike.has_metadata_of(&pod.metadata))
        {
            let node_name = node.map(str::to_owned);
            let spec = PodSpec { node_name, priority: known.priority, ..PodSpec::default() };
            let Parts { metadata, status, .. } = pod;
            return Ok(PodInfo::like(&Pod { metadata, spec: Some(spec), status }, &known.alike));
        }
        let (spec, node): (Box<str>, _) = (spec.into(), node.map(str::to_owned));
        let whole = whole(pod)?;
        let alike = self.templates.alike(&whole);
        let info = PodInfo::like(&whole, &alike);
        // Where the text was not understood the spec is kept under no name.
        if info.node_name() == node.as_deref() && spec.len() <= TEXT_BYTES_MAX {
            let priority = whole.spec.as_ref().and_then(|spec| spec.priority);
            self.keep(spec, Known { priority, alike });
        }
        Ok(info)
    }

    fn keep(&mut self, spec: Box<str>, known: Known) {
        if self.known.len() >= SPECS_MAX {
            self.known.clear();
        }
        let same = self.known.entry(spec).or_default();
        if same.len() >= SAME_SPEC_MAX {
            same.remove(0);
        }
        same.push(known);
    }
}

/// Whether its likeness says everything of it that is not its own.
fn is_plain(pod: &Parts<'_>) -> bool {
    let statuses = |status: &PodStatus| {
        status.container_statuses.is_some() || status.init_container_statuses.is_some()
    };
    pod.metadata.deletion_timestamp.is_none() && !pod.status.as_ref().is_some_and(statuses)
}

fn whole(pod: Parts<'_>) -> serde_json::Result<Pod> {
    let Parts { metadata, spec, status, read } = pod;
    let spec = match read {
        Some(read) => Some(read),
        None => spec.map(serde_json::from_str).transpose()?,
    };
    Ok(Pod { metadata, spec, status })
}

/// A spec's text without its last brace, and without `nodeName` where that is the last field, which
/// is where pintle's API server writes it. As what is left is a whole object but for the brace, it
/// is the spec's own field that was taken off.
fn split_node(spec: &str) -> (&str, Option<&str>) {
    let open = spec.strip_suffix('}').unwrap_or(spec);
    let split = open.rsplit_once(NODE_FIELD).and_then(|(before, rest)| {
        let name = rest.strip_suffix('"')?;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
        (!name.is_empty() && name.bytes().all(is_name)).then_some((before, Some(name)))
    });
    split.unwrap_or((open, None))
}

const NODE_FIELD: &str = ",\"nodeName\":\"";
/// Longer specs are rare, and are read anew each time.
const TEXT_BYTES_MAX: usize = 16 << 10;
/// Specs at one time; when there are more, all are forgotten.
const SPECS_MAX: usize = 4096;
/// Pods with the same spec and other labels, annotations or owners.
const SAME_SPEC_MAX: usize = 4;

#[cfg(test)]
mod tests;
