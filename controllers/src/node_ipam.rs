//! The node IPAM controller: gives every node a range of pod addresses, `spec.podCIDR`.
//!
//! Mirrors pkg/controller/nodeipam with the RangeAllocator, for one cluster range. A range belongs
//! to a node from before it is written until the node is gone, so that no two nodes ever have the
//! same one, also when a write's answer was lost.

mod ranges;

use std::collections::HashMap;

use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use parking_lot::Mutex;
use pintle_client::{EventRecord, EventRecorder, Informer, ObjectKey, reference_to};
use serde_json::json;

use crate::work_queue::WorkQueue;
use crate::worker::Sync;
use crate::{Config, Error};

use ranges::{Range, Ranges};

/// Hands out ranges.
pub(crate) struct NodeIpamController {
    client: Client,
    held: Mutex<Held>,
    nodes: Informer<Node>,
    pub(crate) queue: WorkQueue<ObjectKey>,
    recorder: EventRecorder,
}

struct Held {
    by_node: HashMap<String, Range>,
    ranges: Ranges,
}

impl NodeIpamController {
    /// A controller for `config.cluster_cidr`.
    pub(crate) fn new(
        client: Client,
        config: &Config,
        nodes: Informer<Node>,
        queue: WorkQueue<ObjectKey>,
        recorder: EventRecorder,
    ) -> Self {
        let ranges = Ranges::new(config.cluster_cidr, config.node_cidr_mask_size);
        let held = Mutex::new(Held { by_node: HashMap::new(), ranges });
        Self { client, held, nodes, queue, recorder }
    }

    /// Let changes of nodes queue them.
    pub(crate) fn subscribe(&self) {
        let queue = self.queue.clone();
        self.nodes.on_change(move |change| queue.add(ObjectKey::of(&**change.latest())));
    }

    async fn write(&self, node: &Node, range: Range) -> Result<(), Error> {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let text = range.net.to_string();
        let patch = json!({
            "metadata": { "uid": node.metadata.uid },
            "spec": { "podCIDR": text, "podCIDRs": [text] },
        });
        let api: Api<Node> = Api::all(self.client.clone());
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .map_err(Error::api(format!("give node {name} the range {text}")))?;
        tracing::info!(node = name, cidr = text, "gave a node its pod range");
        Ok(())
    }
}

impl Sync for NodeIpamController {
    const NAME: &'static str = "node_ipam";

    async fn sync(&self, key: &ObjectKey) -> Result<(), Error> {
        let Some(node) = self.nodes.get(key) else {
            self.held.lock().release(&key.name);
            return Ok(());
        };
        // Every node's range is taken before any is given: a fresh start must not hand out a range
        // that a node further down the queue has.
        let nodes = self.nodes.list();
        let range = {
            let mut held = self.held.lock();
            for other in &nodes {
                held.occupy(other);
            }
            if pod_cidr(&node).is_some() {
                return Ok(());
            }
            held.allocate(&key.name)
        };
        match range {
            Some(range) => self.write(&node, range).await,
            None => {
                let message = format!("Node {} status is now: CIDRNotAvailable", key.name);
                let event = EventRecord::normal("CIDRNotAvailable", message);
                self.recorder.record(reference_to(&*node), event);
                Err(Error::Object(format!("the cluster range has no room for node {}", key.name)))
            }
        }
    }
}

impl Held {
    /// The node's range, a new one if it has none yet; nothing if all are taken.
    fn allocate(&mut self, node: &str) -> Option<Range> {
        if let Some(range) = self.by_node.get(node) {
            return Some(*range);
        }
        let range = self.ranges.allocate()?;
        self.by_node.insert(node.to_owned(), range);
        Some(range)
    }

    /// Take the range that the node says it has.
    fn occupy(&mut self, node: &Node) {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let Some(range) = pod_cidr(node).and_then(|cidr| self.ranges.find(cidr)) else { return };
        match self.by_node.insert(name.to_owned(), range) {
            Some(before) if before == range => {}
            before => {
                self.ranges.occupy(range);
                if let Some(before) = before {
                    self.ranges.release(before);
                }
            }
        }
    }

    fn release(&mut self, node: &str) {
        if let Some(range) = self.by_node.remove(node) {
            self.ranges.release(range);
        }
    }
}

fn pod_cidr(node: &Node) -> Option<&str> {
    let cidr = node.spec.as_ref()?.pod_cidr.as_deref()?;
    (!cidr.is_empty()).then_some(cidr)
}
