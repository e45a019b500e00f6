//! The node IPAM controller: gives every node a range of pod addresses, `spec.podCIDR`.
//!
//! Mirrors pkg/controller/nodeipam with the RangeAllocator, for one cluster range. A range belongs
//! to a node from before it is written until the node is gone, so that no two nodes ever have the
//! same one, also when a write's answer was lost.

mod ranges;

use std::collections::HashMap;
use std::sync::Arc;

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

    /// Let nodes that come, go or change their range queue; heartbeats do not.
    pub(crate) fn subscribe(&self) {
        let queue = self.queue.clone();
        self.nodes.on_change(move |change| {
            let (before, after) = (change.old.as_deref(), change.new.as_deref());
            let same = before.is_some() && before.map(pod_cidr) == after.map(pod_cidr);
            if !same || after.is_some_and(|node| pod_cidr(node).is_none()) {
                queue.add(ObjectKey::of(&**change.latest()));
            }
        });
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
        if pod_cidr(&node).is_some() {
            self.held.lock().occupy(&node);
            return Ok(());
        }
        let range = self.held.lock().allocate_beside(&key.name, &self.nodes.list());
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
    /// The node's range, a new one if it has none yet; nothing if all are taken. The ranges of all
    /// `nodes` are taken first: a fresh start must not give one that a node further down the queue
    /// has.
    fn allocate_beside(&mut self, node: &str, nodes: &[Arc<Node>]) -> Option<Range> {
        for other in nodes {
            self.occupy(other);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, cidr: Option<&str>) -> Arc<Node> {
        let value = json!({"metadata": {"name": name}, "spec": {"podCIDR": cidr}});
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn held() -> Held {
        let ranges = Ranges::new("10.244.0.0/22".parse().unwrap(), 24);
        Held { by_node: HashMap::new(), ranges }
    }

    #[test]
    fn a_fresh_start_does_not_give_what_nodes_have() {
        let mut held = held();
        let nodes = [node("new", None), node("old", Some("10.244.0.0/24"))];
        let given = held.allocate_beside("new", &nodes).unwrap();
        assert_eq!(given.net.to_string(), "10.244.1.0/24");
        // The answer to the write was lost: the same again.
        assert_eq!(held.allocate_beside("new", &nodes), Some(given));
    }

    #[test]
    fn a_node_that_goes_gives_its_range_back() {
        let mut held = held();
        let names = ["a", "b", "c", "d"];
        for name in names {
            assert!(held.allocate_beside(name, &[]).is_some());
        }
        assert_eq!(held.allocate_beside("e", &[]), None);
        held.release("c");
        let given = held.allocate_beside("e", &[]).unwrap();
        assert_eq!(given.net.to_string(), "10.244.2.0/24");
    }

    #[test]
    fn a_range_written_by_another_replaces_ours() {
        let mut held = held();
        held.allocate_beside("a", &[]).unwrap();
        held.occupy(&node("a", Some("10.244.3.0/24")));
        let left: Vec<String> = ["b", "c", "d"]
            .iter()
            .filter_map(|name| held.allocate_beside(name, &[]))
            .map(|range| range.net.to_string())
            .collect();
        assert_eq!(left, ["10.244.1.0/24", "10.244.2.0/24", "10.244.0.0/24"]);
    }
}
