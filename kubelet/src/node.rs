//! The Node object and its Lease as this agent writes them; pure.
//!
//! Mirrors pkg/kubelet/nodestatus and pkg/kubelet/kubelet_node_status.go.

use std::collections::BTreeMap;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{
    Node, NodeAddress, NodeCondition, NodeSpec, NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference, Time};
use k8s_openapi::jiff::Timestamp;

use crate::{Capacity, Config, Runtime};

/// What every node on this machine says of it.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    info: NodeSystemInfo,
}

impl Machine {
    /// Read it from /proc and /etc; what is missing stays empty.
    #[must_use]
    pub fn read() -> Self {
        let read = |path: &str| {
            std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
        };
        let machine_id = read("/etc/machine-id");
        let info = NodeSystemInfo {
            architecture: go_arch(std::env::consts::ARCH).to_owned(),
            boot_id: read("/proc/sys/kernel/random/boot_id"),
            kernel_version: read("/proc/sys/kernel/osrelease"),
            kubelet_version: KUBELET_VERSION.to_owned(),
            operating_system: "linux".to_owned(),
            os_image: pretty_name(&read("/etc/os-release")),
            system_uuid: machine_id.clone(),
            machine_id,
            ..NodeSystemInfo::default()
        };
        Self { info }
    }
}

/// Go's name of a processor architecture, which Kubernetes' labels use.
fn go_arch(rust: &str) -> &str {
    match rust {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

fn pretty_name(os_release: &str) -> String {
    let value = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    value.unwrap_or_default().trim_matches('"').to_owned()
}

/// The node as it registers itself.
#[must_use]
pub fn registration(config: &Config, machine: &Machine) -> Node {
    let well_known = [
        ("kubernetes.io/arch", machine.info.architecture.as_str()),
        ("kubernetes.io/hostname", &config.node_name),
        ("kubernetes.io/os", "linux"),
    ];
    let mut labels: BTreeMap<_, _> =
        well_known.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    labels.extend(config.labels.iter().cloned());
    let pod_cidr = config.pod_cidr.map(|cidr| cidr.to_string());
    Node {
        metadata: ObjectMeta {
            labels: Some(labels),
            name: Some(config.node_name.clone()),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            pod_cidrs: pod_cidr.clone().map(|it| vec![it]),
            pod_cidr,
            ..NodeSpec::default()
        }),
        status: None,
    }
}

/// Whether the node can run pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It can.
    Ready,
    /// It cannot yet; why.
    NotReady(String),
}

/// The node's status at `now`. `previous` are the conditions said before.
#[must_use]
pub fn status(
    config: &Config,
    machine: &Machine,
    readiness: &Readiness,
    previous: &[NodeCondition],
    now: Timestamp,
) -> NodeStatus {
    let address = |kind: &str, address: String| NodeAddress { address, type_: kind.to_owned() };
    let runtime = match config.runtime {
        Runtime::Hollow => "hollow",
        Runtime::Process(_) => "process",
    };
    let resources = resources(&config.capacity);
    NodeStatus {
        addresses: Some(vec![
            address("InternalIP", config.node_ip.to_string()),
            address("Hostname", config.node_name.clone()),
        ]),
        allocatable: Some(resources.clone()),
        capacity: Some(resources),
        conditions: Some(conditions(readiness, previous, now)),
        node_info: Some(NodeSystemInfo {
            container_runtime_version: format!("{runtime}://{}", env!("CARGO_PKG_VERSION")),
            ..machine.info.clone()
        }),
        ..NodeStatus::default()
    }
}

fn resources(capacity: &Capacity) -> BTreeMap<String, Quantity> {
    let cpu = match capacity.milli_cpu % 1000 {
        0 => (capacity.milli_cpu / 1000).to_string(),
        _ => format!("{}m", capacity.milli_cpu),
    };
    let entries = [
        ("cpu", cpu),
        ("ephemeral-storage", capacity.ephemeral_storage_bytes.to_string()),
        ("memory", format!("{}Ki", capacity.memory_bytes / 1024)),
        ("pods", capacity.pods.to_string()),
    ];
    entries.map(|(name, value)| (name.to_owned(), Quantity(value))).into()
}

fn conditions(
    readiness: &Readiness,
    previous: &[NodeCondition],
    now: Timestamp,
) -> Vec<NodeCondition> {
    let ready = match readiness {
        Readiness::Ready => ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
        Readiness::NotReady(why) => ("Ready", "False", "KubeletNotReady", why.as_str()),
    };
    // What cannot be short here without the machine's own daemons noticing first is not measured.
    let all = [
        (
            "MemoryPressure",
            "False",
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available",
        ),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ready,
    ];
    all.map(|(name, status, reason, message)| {
        let before = previous.iter().find(|it| it.type_ == name && it.status == status);
        let since = before.and_then(|it| it.last_transition_time.clone());
        NodeCondition {
            last_heartbeat_time: Some(Time(now)),
            last_transition_time: Some(since.unwrap_or(Time(now))),
            message: Some(message.to_owned()),
            reason: Some(reason.to_owned()),
            status: status.to_owned(),
            type_: name.to_owned(),
        }
    })
    .into()
}

/// The lease of a node, as first written.
#[must_use]
pub fn lease(node_name: &str, node_uid: Option<&str>, now: Timestamp) -> Lease {
    let owner = node_uid.map(|uid| OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node_name.to_owned(),
        uid: uid.to_owned(),
        ..OwnerReference::default()
    });
    Lease {
        metadata: ObjectMeta {
            name: Some(node_name.to_owned()),
            namespace: Some(LEASE_NAMESPACE.to_owned()),
            owner_references: owner.map(|it| vec![it]),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(node_name.to_owned()),
            lease_duration_seconds: Some(LEASE_DURATION_S),
            renew_time: Some(MicroTime(now)),
            ..LeaseSpec::default()
        }),
    }
}

/// Where node leases are.
pub const LEASE_NAMESPACE: &str = "kube-node-lease";
/// The API level that this agent speaks.
pub const KUBELET_VERSION: &str = "v1.35.0+pintle";
/// The kubelet's `nodeLeaseDurationSeconds` default; it renews four times as often.
const LEASE_DURATION_S: i32 = 40;

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config {
            node_name: "node-1".to_owned(),
            node_ip: [172, 30, 0, 2].into(),
            capacity: Capacity {
                milli_cpu: 1500,
                memory_bytes: 2048 << 20,
                ephemeral_storage_bytes: 7,
                pods: 110,
            },
            pod_cidr: None,
            labels: vec![("zone".to_owned(), "a".to_owned())],
            runtime: Runtime::Hollow,
        }
    }

    #[test]
    fn a_node_registers_with_its_labels_and_resources() {
        let machine = Machine::read();
        let node = registration(&config(), &machine);
        let labels = node.metadata.labels.unwrap();
        assert_eq!(labels["kubernetes.io/hostname"], "node-1");
        assert_eq!(labels["zone"], "a");
        let status = status(&config(), &machine, &Readiness::Ready, &[], Timestamp::UNIX_EPOCH);
        let capacity = status.capacity.unwrap();
        assert_eq!(capacity["cpu"].0, "1500m");
        assert_eq!(capacity["memory"].0, "2097152Ki");
        assert_eq!(status.node_info.unwrap().kubelet_version, "v1.35.0+pintle");
    }

    #[test]
    fn a_condition_keeps_its_time_until_it_changes() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let unready = Readiness::NotReady("no podCIDR".to_owned());
        let first = conditions(&unready, &[], at(1));
        let same = conditions(&unready, &first, at(2));
        assert_eq!(same[3].last_transition_time, first[3].last_transition_time);
        assert_eq!(same[3].last_heartbeat_time, Some(Time(at(2))));
        let ready = conditions(&Readiness::Ready, &same, at(3));
        assert_eq!(ready[3].last_transition_time, Some(Time(at(3))));
        assert_eq!(ready[0].last_transition_time, Some(Time(at(1))));
    }

    #[test]
    fn the_system_is_named_as_it_names_itself() {
        let text = "NAME=\"X\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";
        assert_eq!(pretty_name(text), "Debian GNU/Linux 12 (bookworm)");
    }
}
