//! A pod that opens connections to an address and logs who answered.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use kube::runtime::wait::{Condition, await_condition};
use serde::Deserialize;
use serde_json::json;

/// What the pod's command, `pintle agnhost connect`, prints.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Tally {
    pub(crate) answered: BTreeMap<String, u32>,
    pub(crate) failed: BTreeMap<String, u32>,
    pub(crate) elapsed_ms: u32,
}

impl Tally {
    pub(crate) fn total_answered(&self) -> u32 {
        self.answered.values().sum()
    }

    pub(crate) fn describe_failed(&self) -> String {
        let total: u32 = self.failed.values().sum();
        format!("{total} ({:?})", self.failed)
    }
}

/// The pod, before it runs.
pub(crate) struct ClientPod {
    name: &'static str,
    command: Vec<String>,
}

impl ClientPod {
    pub(crate) fn new(name: &'static str, address: &str, count: u32, interval_ms: u32) -> Self {
        let command = ["pintle", "agnhost", "connect", address].map(str::to_owned).into();
        let flags = [format!("--count={count}"), format!("--interval-ms={interval_ms}")];
        Self { name, command: [command, flags.to_vec()].concat() }
    }

    pub(crate) async fn run(&self, client: &kube::Client, data: &Path) -> anyhow::Result<Tally> {
        self.create(client).await?;
        self.finished(client, data).await
    }

    pub(crate) async fn create(&self, client: &kube::Client) -> anyhow::Result<()> {
        let pod = serde_json::from_value(json!({
            "metadata": {"name": self.name},
            "spec": {
                "restartPolicy": "Never",
                "containers": [{
                    "name": "client",
                    "image": "registry.k8s.io/e2e-test-images/agnhost:2.53",
                    "command": self.command,
                }],
            },
        }))?;
        let pods = Api::<Pod>::default_namespaced(client.clone());
        pods.create(&PostParams::default(), &pod).await.context("create the client pod")?;
        Ok(())
    }

    /// Wait until the command has started.
    pub(crate) async fn running(&self, client: &kube::Client) -> anyhow::Result<()> {
        let started = ["Running", "Succeeded", "Failed"];
        self.wait(client, move |pod: Option<&Pod>| {
            phase(pod).is_some_and(|phase| started.contains(&phase))
        })
        .await
    }

    /// Wait until the command has ended and read what it printed.
    pub(crate) async fn finished(
        &self,
        client: &kube::Client,
        data: &Path,
    ) -> anyhow::Result<Tally> {
        self.wait(client, |pod: Option<&Pod>| {
            phase(pod).is_some_and(|phase| ["Succeeded", "Failed"].contains(&phase))
        })
        .await?;
        let log = find_log(data, self.name)?;
        let text = fs::read_to_string(&log).with_context(|| format!("read {}", log.display()))?;
        let json = text
            .lines()
            .rev()
            .find_map(|line| line.find('{').map(|at| &line[at..]))
            .ok_or_else(|| anyhow!("pod {} printed no result: {text:?}", self.name))?;
        serde_json::from_str(json).with_context(|| format!("read the result in {text:?}"))
    }

    async fn wait(
        &self,
        client: &kube::Client,
        condition: impl Condition<Pod>,
    ) -> anyhow::Result<()> {
        let pods = Api::<Pod>::default_namespaced(client.clone());
        tokio::time::timeout(TIMEOUT, await_condition(pods, self.name, condition))
            .await
            .with_context(|| format!("pod {} took longer than {TIMEOUT:?}", self.name))??;
        Ok(())
    }
}

fn phase(pod: Option<&Pod>) -> Option<&str> {
    pod?.status.as_ref()?.phase.as_deref()
}

/// The newest log of the pod's container, below any node's directory.
fn find_log(data: &Path, pod: &str) -> anyhow::Result<PathBuf> {
    let mut unvisited = vec![data.to_path_buf()];
    while let Some(dir) = unvisited.pop() {
        for entry in fs::read_dir(&dir).with_context(|| format!("list {}", dir.display()))? {
            let path = entry?.path();
            let in_pod = path.to_string_lossy().contains(&format!("default_{pod}_"));
            if path.is_dir() {
                unvisited.push(path);
            } else if in_pod && path.extension().is_some_and(|extension| extension == "log") {
                return Ok(path);
            }
        }
    }
    Err(anyhow!("no log of pod {pod} under {}", data.display()))
}

const TIMEOUT: Duration = Duration::from_secs(60);
