//! The cluster under demonstration: a `pintle standalone` of our own, and questions to its API.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pintle_dataplane::Pins;
use pintle_node::{ClusterId, cgroup};
use serde::Deserialize as _;
use tempfile::TempDir;

/// One `pintle standalone` with a data directory of its own. Dropping it kills the process.
pub(crate) struct Cluster {
    pintle: PathBuf,
    data: Option<TempDir>,
    data_dir: PathBuf,
    /// What the cluster derives its id from: the path without symbolic links.
    identity: String,
    child: Option<Child>,
}

impl Cluster {
    pub(crate) fn new(pintle: &Path) -> anyhow::Result<Self> {
        let pintle = fs::canonicalize(pintle)
            .with_context(|| format!("find {} (run `make build`)", pintle.display()))?;
        let data = tempfile::Builder::new().prefix("pintle-demo-").tempdir()?;
        let data_dir = data.path().to_path_buf();
        let identity = fs::canonicalize(&data_dir)?.to_string_lossy().into_owned();
        Ok(Self { pintle, data: Some(data), data_dir, identity, child: None })
    }

    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    fn kubeconfig(&self) -> PathBuf {
        self.data_dir.join("admin.kubeconfig")
    }

    fn log(&self) -> PathBuf {
        self.data_dir.join("pintle.log")
    }

    /// Start the process and wait for its API server.
    pub(crate) async fn start(&mut self, nodes: usize) -> anyhow::Result<Client> {
        let listen = free_address()?;
        let log = File::create(self.log())?;
        let child = Command::new(&self.pintle)
            .args(["standalone", "--runtime", "process", "--nodes", &nodes.to_string()])
            .args(["--listen", &listen, "--data-dir"])
            .arg(&self.data_dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            // A Ctrl-C at the terminal is for this process, which then stops the cluster.
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {}", self.pintle.display()))?;
        self.child = Some(child);
        let deadline = Instant::now() + TIMEOUT;
        loop {
            self.still_running()?;
            if let Some(client) = self.try_connect().await {
                return Ok(client);
            }
            if Instant::now() > deadline {
                bail!("the API server did not get ready in {TIMEOUT:?}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn try_connect(&self) -> Option<Client> {
        let client = pintle_client::connect(Some(&self.kubeconfig())).await.ok()?;
        let request = http::Request::get("/readyz").body(Vec::new()).ok()?;
        client.request_text(request).await.ok()?;
        Some(client)
    }

    fn still_running(&mut self) -> anyhow::Result<()> {
        if let Some(child) = &mut self.child
            && let Some(status) = child.try_wait()?
        {
            self.child = None;
            bail!("pintle standalone ended early with {status}");
        }
        Ok(())
    }

    pub(crate) fn log_tail(&self) -> String {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    /// Ask the process to stop, wait until it has, and remove its data.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            terminate(&child)?;
            let deadline = Instant::now() + TIMEOUT;
            while child.try_wait()?.is_none() {
                if Instant::now() > deadline {
                    child.kill()?;
                    child.wait()?;
                    bail!("pintle standalone did not stop within {TIMEOUT:?} of SIGTERM");
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        if let Some(data) = self.data.take() {
            data.close().context("remove the data directory")?;
        }
        Ok(())
    }

    /// Remove what the cluster has left on the machine, as it would itself at its next start: it may have
    /// been killed.
    pub(crate) async fn remove_remains(&self) -> anyhow::Result<()> {
        let id = ClusterId::derive(&self.identity);
        let pins = Pins::remove_cluster(id.as_str()).context("remove the pinned maps and links");
        let cgroups = cgroup::remove_cluster(&id).await.context("remove the cgroups").map(drop);
        let networks = pintle_node::cleanup(&id).await.context("remove the nodes' network");
        pins.and(cgroups).and(networks.map(drop))
    }

    /// Leave everything running and say how to reach and how to stop it.
    pub(crate) fn keep(mut self) -> anyhow::Result<()> {
        let child = self.child.take().context("the cluster is not running")?;
        if let Some(data) = self.data.take() {
            // The directory now belongs to the running cluster.
            let _ = data.keep();
        }
        println!("\nexport KUBECONFIG={}", self.kubeconfig().display());
        println!("\nTo stop it: kill {} && rm -r {}", child.id(), self.data_dir.display());
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Reached only on a panic; stop() is the way that reports errors.
            let _ = terminate(child);
            let _ = child.wait();
        }
    }
}

fn terminate(child: &Child) -> anyhow::Result<()> {
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    kill(pid, Signal::SIGTERM).context("send SIGTERM to pintle standalone")
}

fn free_address() -> anyhow::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// Create every object of a YAML stream.
pub(crate) async fn apply(client: &Client, manifest: &Path) -> anyhow::Result<()> {
    let text =
        fs::read_to_string(manifest).with_context(|| format!("read {}", manifest.display()))?;
    for document in serde_saphyr::from_multiple::<serde_json::Value>(&text)? {
        let object = DynamicObject::deserialize(document)?;
        let types = object.types.clone().context("an object has no apiVersion and kind")?;
        let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(&types)?);
        let name = object.name_any();
        Api::<DynamicObject>::default_namespaced_with(client.clone(), &resource)
            .create(&PostParams::default(), &object)
            .await
            .with_context(|| format!("create {} {name}", types.kind))?;
    }
    Ok(())
}

/// Wait until so many nodes are Ready, and every part says that it is, the nodes' dataplanes too.
pub(crate) async fn nodes_ready(client: &Client, count: usize) -> anyhow::Result<()> {
    let nodes = Api::<Node>::all(client.clone());
    poll("nodes are ready", || async {
        let list = nodes.list(&ListParams::default()).await?;
        let ready = list.iter().filter(|node| node_is_ready(node)).count();
        Ok((ready >= count, format!("{ready} of {count}")))
    })
    .await?;
    poll("parts are ready", || async {
        let request = http::Request::get("/readyz").body(Vec::new())?;
        Ok(match client.request_text(request).await {
            Ok(_) => (true, "all".to_owned()),
            Err(error) => (false, format!("some ({error})")),
        })
    })
    .await
}

/// Wait until so many pods of hello are Ready and none is on its way out.
pub(crate) async fn pods_ready(client: &Client, count: usize) -> anyhow::Result<()> {
    poll("pods are ready", || async {
        let pods = hello_pods(client).await?;
        let ready = pods.iter().filter(|pod| pod_is_ready(pod)).count();
        Ok((ready == count && pods.len() == count, format!("{ready} of {count}")))
    })
    .await
}

/// Wait until the victim is gone and as many pods as before are Ready.
pub(crate) async fn replaced(client: &Client, victim: &str, count: usize) -> anyhow::Result<()> {
    poll("its replacement is ready", || async {
        let pods = hello_pods(client).await?;
        let gone = pods.iter().all(|pod| pod.name_any() != victim);
        let ready = pods.iter().filter(|pod| pod_is_ready(pod)).count();
        Ok((gone && ready == count, format!("{ready} of {count}")))
    })
    .await
}

pub(crate) async fn hello_pods(client: &Client) -> anyhow::Result<Vec<Pod>> {
    let pods = Api::<Pod>::default_namespaced(client.clone());
    Ok(pods.list(&ListParams::default().labels("app=hello")).await?.items)
}

fn node_is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

fn pod_is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

async fn poll<F>(what: &str, mut question: impl FnMut() -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<(bool, String)>>,
{
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let (done, progress) = question().await?;
        if done {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("only {progress} {what} after {TIMEOUT:?}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

const TIMEOUT: Duration = Duration::from_secs(60);
const LOG_LINES: usize = 20;
