//! NodePorts: a host port can be had once a node, address and protocol.

use crate::cache::{NodeInfo, Snapshot};
use crate::framework::{
    Action, ClusterEvent, Hint, NodeFilter, Occurrence, Plugin, PluginName, PreFilter, Rejection,
    Resource, Subject, Verdict,
};
use crate::pod::{HostPort, PodInfo};

/// The plugin.
#[derive(Clone, Copy, Debug)]
pub struct NodePorts;

impl Plugin for NodePorts {
    fn name(&self) -> PluginName {
        PluginName::NodePorts
    }

    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, _snapshot: &'a Snapshot) -> PreFilter<'a> {
        if pod.host_ports.is_empty() {
            return PreFilter::Skip;
        }
        PreFilter::every_node(Filter { wanted: &pod.host_ports })
    }

    fn events(&self) -> &'static [ClusterEvent] {
        const {
            &[
                ClusterEvent::new(Resource::Pod, Action::DELETE),
                ClusterEvent::new(Resource::Node, Action::ADD),
            ]
        }
    }

    fn hint(&self, pod: &PodInfo, occurrence: &Occurrence, _snapshot: &Snapshot) -> Hint {
        let Subject::Pod(Some(deleted), None) = &occurrence.subject else { return Hint::Queue };
        let waited = occurrence.event.resource == Resource::UnscheduledPod;
        let conflicts = any_conflict(&pod.host_ports, &deleted.host_ports);
        Hint::queue_if(conflicts && (!waited || deleted.is_nominated()))
    }
}

struct Filter<'a> {
    wanted: &'a [HostPort],
}

impl NodeFilter for Filter<'_> {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        if any_conflict(self.wanted, node.used_ports()) {
            let reason = "node(s) didn't have free ports for the requested pod ports";
            return Err(Rejection::unschedulable(reason));
        }
        Ok(())
    }
}

fn any_conflict(wanted: &[HostPort], used: &[HostPort]) -> bool {
    wanted.iter().any(|port| used.iter().any(|other| port.conflicts_with(other)))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::needless_pass_by_value, reason = "json! reads best in place")]

    use serde_json::{Value, json};

    use super::*;
    use crate::plugins::testing::{filter, node_with, pod};

    fn wanting(ports: Value) -> PodInfo {
        pod(json!({"containers": [{"name": "c", "ports": ports}]}))
    }

    #[test]
    fn a_taken_port_refuses() {
        let tcp = |port: i32| wanting(json!([{"containerPort": 1, "hostPort": port}]));
        let node = node_with(json!({}), vec![tcp(80)]);
        assert_eq!(
            filter(&NodePorts, &tcp(80), &node),
            Err(Rejection::unschedulable(
                "node(s) didn't have free ports for the requested pod ports"
            ))
        );
        assert_eq!(filter(&NodePorts, &tcp(81), &node), Ok(()));
        assert_eq!(filter(&NodePorts, &wanting(json!([{"containerPort": 80}])), &node), Ok(()));
        let udp = wanting(json!([{"containerPort": 1, "hostPort": 80, "protocol": "UDP"}]));
        assert_eq!(filter(&NodePorts, &udp, &node), Ok(()));
    }

    #[test]
    fn sidecars_hold_their_ports_and_init_containers_do_not() {
        let init = |policy: Value| {
            pod(json!({"containers": [], "initContainers": [{"name": "i", "restartPolicy": policy,
                "ports": [{"containerPort": 1, "hostPort": 80}]}]}))
        };
        assert_eq!(init(json!("Always")).host_ports.len(), 1);
        assert_eq!(init(Value::Null).host_ports.len(), 0);
    }
}
