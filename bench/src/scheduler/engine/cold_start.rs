//! A scheduler that starts with a cluster that is there already.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::{Node, Pod};
use pintle_scheduler_core::Outcome;

use super::{Run, new_scheduler};
use crate::scheduler::objects;

impl Run<'_> {
    /// Hands all nodes and all pods on them to a new scheduler, as its first lists would, and then one
    /// pod more; measured to the decision about that one. The new scheduler goes on in place of the
    /// old. Objects of other kinds are not handed on.
    pub(super) fn cold_start(&mut self) -> anyhow::Result<()> {
        let nodes = self.scheduler.snapshot().nodes().iter();
        let nodes: Vec<Arc<Node>> =
            nodes.map(|node| Arc::new(node.object().into_owned())).collect();
        let pods = self.placed.values();
        let pods: Vec<Arc<Pod>> = pods.map(|placed| Arc::new(placed.object())).collect();
        let next = self.one_more_pod()?;
        self.scheduler = new_scheduler(self.workers);
        let begin = Instant::now();
        let now = self.now();
        nodes.iter().for_each(|node| self.scheduler.node_changed(None, Some(node), now));
        pods.iter().for_each(|pod| self.scheduler.pod_changed(None, Some(pod), now));
        self.scheduler.pod_changed(None, Some(&next), now);
        let attempt = self.scheduler.schedule_next(now, &mut self.random);
        self.figures.cold_start = Some(begin.elapsed());
        let attempt = attempt.context("no pod was decided about")?;
        let Outcome::Bind { node, .. } = attempt.outcome else { bail!("no node for another pod") };
        self.scheduler.bound(&attempt.pod.info.uid);
        self.take_note(vec![(attempt.pod.info, node)]);
        Ok(())
    }

    fn one_more_pod(&mut self) -> anyhow::Result<Arc<Pod>> {
        let template = objects::default_pod_template(self.directory, self.case)?;
        let mut pod = template.object(self.pods_made)?;
        pod["metadata"]["namespace"] = "default".into();
        pod["metadata"]["uid"] = objects::uid(self.pods_made).into();
        self.pods_made += 1;
        Ok(Arc::new(serde_json::from_value(pod)?))
    }
}
