//! An API server with a store of its own, and the scheduler beside it.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::child::{self, Standalone};

/// The processes that are measured.
pub(crate) struct Cluster {
    standalone: Standalone,
    external: Option<External>,
}

/// A scheduler that somebody else wrote. Dropping it stops the process.
struct External {
    child: Child,
}

impl Cluster {
    /// An API server with pintle's scheduler in its process, or with another scheduler beside it.
    pub(crate) async fn start(
        external: Option<&str>,
        with_controllers: bool,
    ) -> anyhow::Result<Self> {
        let mut args = vec!["--nodes", "0"];
        if !with_controllers {
            args.push("--disable-controller-manager");
        }
        if external.is_some() {
            args.push("--disable-scheduler");
        }
        let standalone = Standalone::start(&args).await?;
        let external = external.map(|command| External::start(command, &standalone)).transpose()?;
        Ok(Self { standalone, external })
    }

    pub(crate) fn client(&self) -> &kube::Client {
        &self.standalone.client
    }

    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.standalone.kubeconfig()
    }

    /// An error if one of the processes has ended.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        for id in self.ids() {
            let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
            if matches!(state, None | Some('Z')) {
                bail!(
                    "the {} ended",
                    if id == self.standalone.id() { "API server" } else { "scheduler" }
                );
            }
        }
        Ok(())
    }

    /// The resident memory of all of them.
    pub(super) fn resident_bytes(&self) -> u64 {
        self.ids().map(child::resident_bytes).sum()
    }

    /// How long all of them computed so far.
    pub(super) fn cpu_time(&self) -> Duration {
        self.ids().map(child::cpu_time).sum()
    }

    /// Stop all; returns the end of what the external scheduler had to say.
    pub(crate) fn stop(mut self) -> anyhow::Result<String> {
        let mut log = String::new();
        if let Some(mut external) = self.external.take() {
            child::stop(&mut external.child);
            let text = fs::read(self.standalone.directory().join(LOG)).unwrap_or_default();
            let from = text.len().saturating_sub(LOG_BYTES_MAX);
            log = String::from_utf8_lossy(&text[from..]).into_owned();
        }
        self.standalone.stop()?;
        Ok(log)
    }

    fn ids(&self) -> impl Iterator<Item = u32> {
        let external = self.external.as_ref().map(|external| external.child.id());
        std::iter::once(self.standalone.id()).chain(external)
    }
}

impl External {
    /// Runs the command, with `{config}` replaced by the path of a configuration made for it, and
    /// `{kubeconfig}` by that of a kubeconfig.
    fn start(command: &str, standalone: &Standalone) -> anyhow::Result<Self> {
        let kubeconfig = standalone.kubeconfig().display().to_string();
        let config = standalone.directory().join("scheduler.yaml");
        // Less than zero is no limit, to client-go as well.
        let text = format!(
            "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n\
             leaderElection: {{leaderElect: false}}\n\
             clientConnection: {{kubeconfig: {kubeconfig:?}, qps: {QPS}, burst: {QPS}}}\n"
        );
        fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
        let command = command
            .replace("{config}", &config.display().to_string())
            .replace("{kubeconfig}", &kubeconfig);
        let log = File::create(standalone.directory().join(LOG))?;
        // `exec`, so that the process is the scheduler itself.
        let child = Command::new("sh")
            .arg("-c")
            .arg(format!("exec {command}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {command:?}"))?;
        Ok(Self { child })
    }
}

impl Drop for External {
    fn drop(&mut self) {
        child::stop(&mut self.child);
    }
}

/// Requests a second that the client of an external scheduler may send: more than there can be.
const QPS: u32 = 100_000;
const LOG: &str = "scheduler.log";
/// How much of a scheduler's log is shown.
const LOG_BYTES_MAX: usize = 2_000;
