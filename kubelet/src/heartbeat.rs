//! Registers a node, renews its lease and reports its status.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use pintle_client::{EventRecord, EventRecorder};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::node::{self, LEASE_NAMESPACE, Machine, Readiness};
use crate::{Config, Error};

/// One node's face to the API server.
pub(crate) struct NodeWriter {
    nodes: Api<Node>,
    leases: Api<Lease>,
    config: Config,
    machine: Machine,
    uid: Option<String>,
    conditions: Vec<NodeCondition>,
    reported: Option<(Readiness, Instant)>,
}

impl NodeWriter {
    pub(crate) fn new(client: &Client, config: Config, machine: Machine) -> Self {
        Self {
            nodes: Api::all(client.clone()),
            leases: Api::namespaced(client.clone(), LEASE_NAMESPACE),
            config,
            machine,
            uid: None,
            conditions: Vec::new(),
            reported: None,
        }
    }

    /// Create the node, or take over the one of that name; tried again until the API server answers.
    pub(crate) async fn register(&mut self) -> Result<(), Error> {
        let mut wait = RETRY_MIN;
        loop {
            match self.try_register().await {
                Ok(node) => {
                    self.uid = node.metadata.uid;
                    let status = node.status.unwrap_or_default();
                    self.conditions = status.conditions.unwrap_or_default();
                    return Ok(());
                }
                // A refusal stays one; anything else may pass.
                Err(kube::Error::Api(status)) if (400..500).contains(&status.code) => {
                    let source = Box::new(kube::Error::Api(status));
                    return Err(Error::Register { node: self.config.node_name.clone(), source });
                }
                Err(error) => {
                    tracing::warn!(node = self.config.node_name, %error, "register again");
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    async fn try_register(&self) -> Result<Node, kube::Error> {
        let node = node::registration(&self.config, &self.machine);
        match self.nodes.create(&PostParams::default(), &node).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                let patch = json!({ "metadata": { "labels": node.metadata.labels } });
                let (name, patch) = (&self.config.node_name, Patch::Merge(patch));
                self.nodes.patch(name, &PatchParams::default(), &patch).await
            }
            other => other,
        }
    }

    /// A reference to the node, for events; its uid is its name, as upstream's kubelet has it.
    fn record(&self, events: &EventRecorder, event: EventRecord) {
        let mut reference = pintle_client::reference_to(&Node::default());
        reference.name = Some(self.config.node_name.clone());
        reference.uid = Some(self.config.node_name.clone());
        events.record(reference, event);
    }

    /// Renew the lease; make it where it is missing.
    pub(crate) async fn renew(&self, now: Timestamp) -> Result<(), kube::Error> {
        let name = &self.config.node_name;
        let renewed = json!({ "spec": { "holderIdentity": name, "renewTime": MicroTime(now) } });
        let params = PatchParams::default();
        match self.leases.patch(name, &params, &Patch::Merge(renewed)).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => {
                let lease = node::lease(name, self.uid.as_deref(), now);
                self.leases.create(&PostParams::default(), &lease).await.map(drop)
            }
            other => other.map(drop),
        }
    }

    /// Report the status, if it changed or the last report is [`REPORT_PERIOD`] old.
    pub(crate) async fn report(
        &mut self,
        readiness: &Readiness,
        events: &EventRecorder,
        now: Timestamp,
    ) -> Result<(), kube::Error> {
        if let Some((last, when)) = &self.reported
            && last == readiness
            && when.elapsed() < REPORT_PERIOD
        {
            return Ok(());
        }
        let status = node::status(&self.config, &self.machine, readiness, &self.conditions, now);
        let patch = Patch::Strategic(json!({ "status": status }));
        let name = &self.config.node_name;
        self.nodes.patch_status(name, &PatchParams::default(), &patch).await?;
        let first = self.reported.as_ref().is_none_or(|(last, _)| last != readiness);
        if first && *readiness == Readiness::Ready {
            let message = format!("Node {name} status is now: NodeReady");
            self.record(events, EventRecord::normal("NodeReady", message));
        }
        self.conditions = status.conditions.unwrap_or_default();
        self.reported = Some((readiness.clone(), Instant::now()));
        Ok(())
    }

    /// Renew and report for as long as the future is polled.
    pub(crate) async fn beat(
        mut self,
        mut readiness: watch::Receiver<Readiness>,
        events: EventRecorder,
    ) {
        let mut tick = tokio::time::interval(LEASE_PERIOD);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let renew = tokio::select! {
                _ = tick.tick() => true,
                changed = readiness.changed() => {
                    if changed.is_err() { return }
                    false
                }
            };
            let node = self.config.node_name.clone();
            if renew && let Err(error) = self.renew(Timestamp::now()).await {
                tracing::warn!(node, %error, "the lease is not renewed");
            }
            let current = readiness.borrow_and_update().clone();
            if let Err(error) = self.report(&current, &events, Timestamp::now()).await {
                tracing::warn!(node, %error, "the status is not reported");
            }
        }
    }
}

/// A quarter of the lease's duration, as upstream's kubelet renews.
pub(crate) const LEASE_PERIOD: Duration = Duration::from_secs(10);
/// The kubelet's `nodeStatusReportFrequency` default.
pub(crate) const REPORT_PERIOD: Duration = Duration::from_secs(300);
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(7);
