//! A machine for one test: a cluster of one node, gone with the value.

use std::path::PathBuf;

use pintle_kubelet::ProcessConfig;
use pintle_node::{ClusterId, ClusterNetwork, ClusterNetworkConfig, Ipv4Net, cgroup, cleanup};

/// Made first and dropped last in a test.
pub(crate) struct Machine {
    pub(crate) id: ClusterId,
    pub(crate) root: tempfile::TempDir,
    pub(crate) network: Option<ClusterNetwork>,
}

impl Machine {
    /// `name` must be the test's own.
    pub(crate) async fn new(name: &str) -> Self {
        let id = ClusterId::derive(&format!("kubelet-{name}-{}", std::process::id()));
        let root = tempfile::tempdir().unwrap();
        let mut machine = Self { id: id.clone(), root, network: None };
        let config = ClusterNetworkConfig { id, nodes: 1, subnet: None };
        machine.network = Some(ClusterNetwork::create(config).await.unwrap());
        machine
    }

    /// What a kubelet of the node is told.
    pub(crate) fn process_config(&self) -> ProcessConfig {
        ProcessConfig {
            network: self.network.as_ref().unwrap().nodes()[0].clone(),
            cgroup: cgroup::node(&self.id, "node-0").unwrap(),
            root_dir: self.root.path().to_owned(),
            executable: PathBuf::from(env!("CARGO_BIN_EXE_runtime-exec-for-tests")),
        }
    }

    /// Names under /run/netns and cgroups that belong to it.
    pub(crate) fn pods_left(&self) -> Vec<String> {
        let mut left = Vec::new();
        let prefix = format!("pintle-{}-pod-", self.id);
        for entry in std::fs::read_dir("/run/netns").into_iter().flatten().flatten() {
            left.extend(entry.file_name().into_string().ok().filter(|it| it.starts_with(&prefix)));
        }
        let node = cgroup::node(&self.id, "node-0").unwrap();
        for entry in std::fs::read_dir(node.path()).unwrap().flatten() {
            left.extend(entry.file_name().into_string().ok().filter(|it| it.starts_with("pod")));
        }
        left
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let id = self.id.clone();
        let work = move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(cleanup(&id)).map(drop)
        };
        if let Err(error) = std::thread::spawn(work).join().unwrap() {
            eprintln!("clean up: {error}");
        }
    }
}

/// Out of the way of a cluster that may run on this machine.
pub(crate) fn pod_cidr(third: u8) -> Ipv4Net {
    Ipv4Net::new_assert([10, 214, third, 0].into(), 24)
}
