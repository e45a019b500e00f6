//! Objects that are replaced while pods are scheduled.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use k8s_openapi::api::core::v1::{Node, Pod};
use pintle_scheduler_core::{PodInfo, PodUid};
use serde_json::Value;

use super::Run;
use crate::scheduler::config::UpdateAny;
use crate::scheduler::figures::Allocatable;
use crate::scheduler::objects;
use crate::scheduler::template::Template;

/// Objects being replaced one after the other.
pub(super) struct Updates {
    template: Template,
    namespace: Option<String>,
    /// Whether only what containers ask for is taken over.
    is_resize: bool,
    count: usize,
    /// The next one's number.
    number: usize,
    interval: Duration,
    next: Duration,
}

impl Updates {
    /// When the next is replaced; `None` if all are.
    pub(super) fn next(&self) -> Option<Duration> {
        (self.number < self.count).then_some(self.next)
    }

    /// When the last is.
    fn end(&self) -> Duration {
        let left = u32::try_from(self.count - self.number).unwrap_or(u32::MAX);
        self.next + self.interval.saturating_mul(left)
    }
}

impl Run<'_> {
    /// An operation's objects come after those of the one before, as upstream has it.
    pub(super) fn start_updating(&mut self, wanted: &UpdateAny) -> anyhow::Result<()> {
        let is_resize = wanted.subresources == ["resize"];
        ensure!(
            is_resize || wanted.subresources.is_empty(),
            "updateAny: subresources other than resize are not known"
        );
        let now = self.clock.now();
        self.updates.retain(|updates| updates.next().is_some());
        let begin = self.updates.iter().map(Updates::end).fold(now, Duration::max);
        self.updates.push(Updates {
            template: objects::update_template(self.directory, self.workload, wanted)?,
            namespace: wanted.namespace.clone(),
            is_resize,
            count: wanted.count.of(self.workload)?,
            number: 0,
            interval: wanted.interval(),
            next: begin + wanted.interval(),
        });
        self.update_due(now)
    }

    pub(super) fn update_due(&mut self, now: Duration) -> anyhow::Result<()> {
        let mut all = std::mem::take(&mut self.updates);
        for updates in &mut all {
            while updates.next().is_some_and(|next| next <= now) {
                self.update(updates)?;
                updates.number += 1;
                updates.next += updates.interval;
            }
        }
        self.updates = all;
        Ok(())
    }

    fn update(&mut self, updates: &Updates) -> anyhow::Result<()> {
        let object = updates.template.object(updates.number)?;
        let name = object["metadata"]["name"].as_str().context("updateAny: no name")?.to_owned();
        match updates.template.kind()?.as_str() {
            "Node" => self.update_node(&name, object),
            "Pod" => {
                let namespace = updates.namespace.as_deref().unwrap_or("default");
                self.update_pod(namespace, &name, object, updates.is_resize)
            }
            kind => bail!("updateAny: objects of kind {kind} are not looked at"),
        }
    }

    fn update_node(&mut self, name: &str, object: Value) -> anyhow::Result<()> {
        let new: Arc<Node> = Arc::new(serde_json::from_value(object)?);
        let old = self.scheduler.snapshot().get(name);
        let old = old.with_context(|| format!("updateAny: there is no node {name}"))?;
        let old = Arc::new(old.object().into_owned());
        self.scheduler.node_changed(Some(&old), Some(&new), self.now());
        self.nodes.insert(name.to_owned(), Allocatable::of(&new));
        Ok(())
    }

    fn update_pod(
        &mut self,
        namespace: &str,
        name: &str,
        object: Value,
        is_resize: bool,
    ) -> anyhow::Result<()> {
        let (uid, old) = self
            .pod_named(namespace, name)
            .with_context(|| format!("updateAny: there is no pod {namespace}/{name}"))?;
        let mut new: Pod = serde_json::from_value(object)?;
        if is_resize {
            new = resized(&old, new);
        }
        new.metadata.namespace = Some(namespace.to_owned());
        new.metadata.uid = old.metadata.uid.clone();
        let node = old.spec.as_ref().and_then(|spec| spec.node_name.clone());
        new.spec.get_or_insert_default().node_name = node;
        let (old, new) = (Arc::new(old), Arc::new(new));
        self.scheduler.pod_changed(Some(&old), Some(&new), self.now());
        let info = Arc::new(PodInfo::new(new));
        if let Some(placed) = self.placed.get_mut(&uid) {
            placed.info = info;
        } else if let Some(awaited) = self.awaited.get_mut(&uid) {
            *awaited = info;
        } else {
            self.others.insert(uid, Some(info));
        }
        Ok(())
    }

    /// The pod as the API server would have it.
    fn pod_named(&self, namespace: &str, name: &str) -> Option<(PodUid, Pod)> {
        let is_it = |info: &PodInfo| info.name() == name && info.namespace() == namespace;
        if let Some((uid, placed)) = self.placed.iter().find(|(_, placed)| is_it(&placed.info)) {
            return Some((uid.clone(), placed.object()));
        }
        let others = self.others.iter().filter_map(|(uid, info)| Some((uid, info.as_ref()?)));
        let mut unplaced = self.awaited.iter().chain(others);
        let (uid, info) = unplaced.find(|(_, info)| is_it(info))?;
        Some((uid.clone(), info.object()))
    }
}

/// The pod with what the new one's containers ask for, and nothing else of it.
fn resized(old: &Pod, new: Pod) -> Pod {
    let mut pod = old.clone();
    let asked = new.spec.map(|spec| spec.containers).unwrap_or_default();
    for container in &mut pod.spec.get_or_insert_default().containers {
        if let Some(other) = asked.iter().find(|other| other.name == container.name) {
            container.resources.clone_from(&other.resources);
        }
    }
    pod
}
