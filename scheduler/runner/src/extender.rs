//! Extenders over HTTP: POSTs of JSON to `urlPrefix/verb`.
//!
//! Mirrors `pkg/scheduler/extender.go` and `k8s.io/kube-scheduler/extender/v1`. The loop waits for
//! the answer, at most `httpTimeout`; what the answer may hold is bounded, and nodes and pods that
//! it names must exist. Whatever goes wrong is an [`ExtenderError`]: whether the pod fails by it is
//! for `ignorable` to say.

mod answer;
mod http;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Node, Pod};
use pintle_scheduler_core::PodInfo;
use pintle_scheduler_core::cache::NodeInfo;
use pintle_scheduler_core::framework::{
    Extender, ExtenderError, ExtenderFilter, PreemptionCandidate,
};
use serde::Serialize;

use crate::configuration;
use http::Caller;

pub use http::ExtenderSetupError;

/// One extender of the configuration.
pub struct HttpExtender {
    settings: configuration::Extender,
    managed: BTreeSet<String>,
    caller: Caller,
}

impl fmt::Debug for HttpExtender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpExtender").field("name", &self.name()).finish_non_exhaustive()
    }
}

impl HttpExtender {
    /// Reads its certificates and starts the thread that calls it. Nothing is sent yet.
    pub fn new(settings: &configuration::Extender) -> Result<Self, ExtenderSetupError> {
        let managed = settings.managed_resources.iter().map(|it| it.name.clone()).collect();
        let caller = Caller::start(settings)?;
        Ok(Self { settings: settings.clone(), managed, caller })
    }

    /// Whether it binds the pods it is interested in.
    pub fn is_binder(&self) -> bool {
        !self.settings.bind_verb.is_empty()
    }

    /// Lets it bind the pod.
    pub async fn bind(&self, pod: &PodInfo, node: &str) -> Result<(), ExtenderError> {
        let arguments = BindingArguments {
            pod_name: pod.name(),
            pod_namespace: pod.namespace(),
            pod_uid: &pod.object_uid().unwrap_or_default(),
            node,
        };
        let answer = self.caller.post(&self.settings.bind_verb, &arguments)?.wait().await?;
        answer::bound(&answer)
    }

    fn ask(
        &self,
        verb: &str,
        arguments: &impl Serialize,
    ) -> Result<serde_json::Value, ExtenderError> {
        self.caller.post(verb, arguments)?.wait_blocking()
    }

    fn arguments<'a>(&self, pod: &PodInfo, nodes: &'a [Arc<NodeInfo>]) -> Arguments<'a> {
        let (nodes, node_names) = if self.settings.node_cache_capable {
            (None, Some(nodes.iter().map(|node| &**node.name()).collect()))
        } else {
            let items = nodes.iter().map(|node| node.object()).collect();
            (Some(NodeList { metadata: Empty {}, items }), None)
        };
        Arguments { pod: pod.object(), nodes, node_names }
    }

    fn manages(&self, container: &Container) -> bool {
        let Some(resources) = &container.resources else { return false };
        let named = resources.requests.iter().chain(&resources.limits).flatten();
        named.map(|(name, _)| name).any(|name| self.managed.contains(name))
    }
}

impl Extender for HttpExtender {
    fn name(&self) -> &str {
        &self.settings.url_prefix
    }

    fn is_interested(&self, pod: &PodInfo) -> bool {
        self.managed.is_empty() || pod.containers().any(|container| self.manages(container))
    }

    fn is_filter(&self) -> bool {
        !self.settings.filter_verb.is_empty()
    }

    fn is_prioritizer(&self) -> bool {
        !self.settings.prioritize_verb.is_empty()
    }

    fn supports_preemption(&self) -> bool {
        !self.settings.preempt_verb.is_empty()
    }

    fn is_ignorable(&self) -> bool {
        self.settings.ignorable
    }

    fn filter(
        &self,
        pod: &PodInfo,
        nodes: &[Arc<NodeInfo>],
    ) -> Result<ExtenderFilter, ExtenderError> {
        let answer = self.ask(&self.settings.filter_verb, &self.arguments(pod, nodes))?;
        let names = nodes.iter().map(|node| &**node.name()).collect();
        answer::filtered(&answer, self.name(), self.settings.node_cache_capable, &names)
    }

    fn prioritize(
        &self,
        pod: &PodInfo,
        nodes: &[Arc<NodeInfo>],
    ) -> Result<(BTreeMap<Box<str>, i64>, i64), ExtenderError> {
        let answer = self.ask(&self.settings.prioritize_verb, &self.arguments(pod, nodes))?;
        Ok((answer::prioritized(&answer)?, self.settings.weight))
    }

    fn process_preemption(
        &self,
        pod: &PodInfo,
        candidates: Vec<PreemptionCandidate>,
    ) -> Result<Vec<PreemptionCandidate>, ExtenderError> {
        let meta = self.settings.node_cache_capable;
        let by_node = |candidate: &PreemptionCandidate| {
            (candidate.node.name().to_string(), Victims::of(candidate, meta))
        };
        let victims: BTreeMap<_, _> = candidates.iter().map(by_node).collect();
        let (full, meta) = if meta { (None, Some(victims)) } else { (Some(victims), None) };
        let arguments = PreemptionArguments { pod: pod.object(), full, meta };
        let answer = self.ask(&self.settings.preempt_verb, &arguments)?;
        drop(arguments);
        answer::preempted(&answer, self.name(), &candidates)
    }
}

/// `ExtenderArgs`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Arguments<'a> {
    pod: Pod,
    nodes: Option<NodeList<'a>>,
    node_names: Option<Vec<&'a str>>,
}

#[derive(Serialize)]
struct NodeList<'a> {
    metadata: Empty,
    items: Vec<Cow<'a, Node>>,
}

#[derive(Serialize)]
struct Empty {}

/// `ExtenderPreemptionArgs`.
#[derive(Serialize)]
struct PreemptionArguments {
    #[serde(rename = "Pod")]
    pod: Pod,
    #[serde(rename = "NodeNameToVictims")]
    full: Option<BTreeMap<String, Victims>>,
    #[serde(rename = "NodeNameToMetaVictims")]
    meta: Option<BTreeMap<String, Victims>>,
}

/// `Victims` or `MetaVictims`.
#[derive(Serialize)]
struct Victims {
    #[serde(rename = "Pods")]
    pods: Vec<Victim>,
    #[serde(rename = "NumPDBViolations")]
    pdb_violations: usize,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Victim {
    Full(Box<Pod>),
    Meta {
        #[serde(rename = "UID")]
        uid: String,
    },
}

impl Victims {
    fn of(candidate: &PreemptionCandidate, meta: bool) -> Self {
        let victim = |victim: &Arc<PodInfo>| match meta {
            true => {
                let uid = victim.object_uid().unwrap_or_default();
                Victim::Meta { uid }
            }
            false => Victim::Full(Box::new(victim.object())),
        };
        Self {
            pods: candidate.victims.iter().map(victim).collect(),
            pdb_violations: candidate.pdb_violations,
        }
    }
}

/// `ExtenderBindingArgs`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct BindingArguments<'a> {
    pod_name: &'a str,
    pod_namespace: &'a str,
    #[serde(rename = "PodUID")]
    pod_uid: &'a str,
    node: &'a str,
}
