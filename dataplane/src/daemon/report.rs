//! What an operator should hear of a Service: a line in the log and an Event on the object.
//!
//! kube-proxy reports likewise with its recorder `kube-proxy`. Nothing waits for an Event to be
//! written, and of very many at once some are left out: the metric has their number.

use k8s_openapi::api::core::v1::Service;
use kube::{Api, Client};
use pintle_client::{EventRecord, EventRecorder, reference_to};
use tokio::sync::mpsc;

use super::listener::NodePort;
use crate::plan::{Protocol, Rejected, ServiceName};

/// Whom the news of Services are told.
#[derive(Clone)]
pub(super) struct Reporter {
    node: String,
    /// Towards the task that writes Events, if there is one.
    events: Option<mpsc::Sender<(ServiceName, EventRecord)>>,
}

impl Reporter {
    /// One that logs, and writes no Events.
    pub(super) fn log(node: &str) -> Self {
        Self { node: node.to_owned(), events: None }
    }

    /// One whose Events somebody else takes.
    #[cfg(test)]
    pub(super) fn to(node: &str, events: mpsc::Sender<(ServiceName, EventRecord)>) -> Self {
        Self { node: node.to_owned(), events: Some(events) }
    }

    /// One that also writes Events, and the task that does.
    pub(super) fn new(
        node: &str,
        client: Client,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (sender, receiver) = mpsc::channel(QUEUED_MAX);
        (Self { node: node.to_owned(), events: Some(sender) }, write(client, receiver))
    }

    /// An address of a Service could not be published.
    pub(super) fn rejected(&self, rejected: &Rejected) {
        let (service, reason) = (&rejected.service, &rejected.reason);
        let address = rejected.address();
        tracing::warn!(node = self.node, %service, %address, %reason, "not published");
        let message = format!("node {}: {address} is not served: {reason}", self.node);
        self.event(service, "FailedToServe", message);
    }

    /// An annotation of a Service says nothing that can be followed.
    pub(super) fn misconfigured(&self, service: &ServiceName, warning: &str) {
        tracing::warn!(node = self.node, %service, warning, "an annotation is left out");
        self.event(service, "InvalidAnnotation", format!("node {}: {warning}", self.node));
    }

    /// A process listens where a node port is served.
    pub(super) fn node_port_taken(&self, service: &ServiceName, port: NodePort) {
        let NodePort { number, protocol } = port;
        let protocol = match protocol {
            Protocol::Sctp => "SCTP",
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
        };
        tracing::warn!(
            node = self.node, %service, number, protocol,
            "a process of the node listens at the Service's node port, and is not reached any more"
        );
        let message = format!(
            "node {}: a process listens at node port {number}/{protocol} too; clients reach the Service",
            self.node
        );
        self.event(service, "NodePortInUse", message);
    }

    fn event(&self, service: &ServiceName, reason: &str, message: String) {
        if let Some(events) = &self.events {
            // A full queue means that there are Events enough.
            let _ = events.try_send((service.clone(), EventRecord::warning(reason, message)));
        }
    }
}

/// Write Events until the reporter is dropped.
async fn write(client: Client, mut receiver: mpsc::Receiver<(ServiceName, EventRecord)>) {
    let (recorder, writing) = EventRecorder::new(client.clone(), "kube-proxy");
    let writing = tokio::spawn(writing);
    while let Some((service, event)) = receiver.recv().await {
        let services = Api::<Service>::namespaced(client.clone(), &service.namespace);
        // An Event is found by its object's uid, which the tables do not hold.
        match services.get_opt(&service.name).await {
            Ok(Some(object)) => recorder.record(reference_to(&object), event),
            Ok(None) => {}
            Err(error) => tracing::debug!(%service, %error, "look for the object of an Event"),
        }
    }
    drop(recorder);
    // The task ends by itself, with what it has written.
    let _ = writing.await;
}

/// Services' Events that wait to be written.
const QUEUED_MAX: usize = 256;
