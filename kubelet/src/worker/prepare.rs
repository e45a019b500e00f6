//! From a container's spec to what the runtime is told to run.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Container, Secret};
use kube::Api;
use pintle_api::quantity::Quantity;

use super::Worker;
use crate::pod::{Downward, EnvSources, environment, expand, referenced};
use crate::runtime::{ContainerRun, ContainerRuntime};

impl<R: ContainerRuntime> Worker<R> {
    /// What to run for a container; or why that cannot be said.
    pub(super) async fn prepare(&self, container: &Container) -> Result<ContainerRun, String> {
        let command = container.command.as_deref().unwrap_or_default();
        if command.is_empty() {
            return Err(
                "this node's process runtime runs commands only: it pulls no images, and the \
                        container has no command"
                    .to_owned(),
            );
        }
        if let Some(mount) = container.volume_mounts.iter().flatten().next() {
            return Err(format!(
                "this node's process runtime mounts no volumes, and the container mounts {:?}",
                mount.name
            ));
        }
        let sources = self.sources(container).await?;
        let pod_ip = self.observed.ip.map(|ip| ip.to_string()).unwrap_or_default();
        let host_ip = self.shared.host_ip.to_string();
        let downward = Downward { pod: &self.pod, pod_ip: &pod_ip, host_ip: &host_ip };
        let env = environment(container, downward, &sources).map_err(|error| error.to_string())?;
        let args = container.args.as_deref().unwrap_or_default();
        Ok(ContainerRun {
            name: container.name.clone(),
            restart: 0,
            command: command.iter().chain(args).map(|text| expand(text, &env)).collect(),
            env,
            working_dir: container.working_dir.clone().filter(|it| !it.is_empty()),
            memory_max_bytes: amount(container, "memory", true, Quantity::value),
            cpu_max_milli: amount(container, "cpu", true, Quantity::milli_value),
            cpu_request_milli: amount(container, "cpu", false, Quantity::milli_value).unwrap_or(0),
        })
    }

    async fn sources(&self, container: &Container) -> Result<EnvSources, String> {
        let (config_maps, secrets) = referenced(container);
        Ok(EnvSources {
            config_maps: self.config_maps(config_maps).await?,
            secrets: self.secrets(secrets).await?,
        })
    }

    async fn config_maps(&self, names: BTreeSet<String>) -> Result<Objects, String> {
        let api: Api<ConfigMap> = Api::namespaced(self.shared.client.clone(), &self.key.namespace);
        let mut found = Objects::new();
        for name in names {
            let object = api.get_opt(&name).await.map_err(|error| error.to_string())?;
            found.insert(name, object.map(|it| it.data.unwrap_or_default()));
        }
        Ok(found)
    }

    async fn secrets(&self, names: BTreeSet<String>) -> Result<Objects, String> {
        let api: Api<Secret> = Api::namespaced(self.shared.client.clone(), &self.key.namespace);
        let mut found = Objects::new();
        for name in names {
            let object = api.get_opt(&name).await.map_err(|error| error.to_string())?;
            let text = |secret: Secret| {
                let data = secret.data.unwrap_or_default().into_iter();
                data.map(|(key, value)| (key, String::from_utf8_lossy(&value.0).into_owned()))
                    .collect()
            };
            found.insert(name, object.map(text));
        }
        Ok(found)
    }

    /// The container's preStop hook; over when it has run. Its time counts as grace, and what is
    /// left of it ends with the container.
    pub(super) fn pre_stop(&self, name: &str) -> impl Future<Output = ()> + Send + use<R> {
        let hook = self
            .container(name)
            .and_then(|it| it.lifecycle.as_ref())
            .and_then(|it| it.pre_stop.clone());
        let run = self.live.get(name).map(|it| std::sync::Arc::clone(&it.run));
        let (shared, key) = (std::sync::Arc::clone(&self.shared), self.key.clone());
        async move {
            let (Some(hook), Some(run)) = (hook, run) else { return };
            if let Some(sleep) = hook.sleep {
                let seconds = u64::try_from(sleep.seconds).unwrap_or(0);
                tokio::time::sleep(Duration::from_secs(seconds)).await;
            } else if let Some(command) = hook.exec.and_then(|it| it.command) {
                let ran = shared.runtime.exec(&key, &run, &command, HOOK_TIMEOUT).await;
                if !ran.is_ok_and(|output| output.code == 0) {
                    tracing::warn!(pod = key.name, container = run.name, "PreStopHook failed");
                }
            }
        }
    }
}

type Objects = BTreeMap<String, Option<BTreeMap<String, String>>>;

/// A limit or request, if there is one above zero.
fn amount(
    container: &Container,
    name: &str,
    limit: bool,
    unit: impl Fn(Quantity) -> i64,
) -> Option<u64> {
    let resources = container.resources.as_ref()?;
    let map = if limit { resources.limits.as_ref() } else { resources.requests.as_ref() };
    let quantity: Quantity = map?.get(name)?.0.parse().ok()?;
    u64::try_from(unit(quantity)).ok().filter(|value| *value > 0)
}

/// The grace period bounds it far earlier.
const HOOK_TIMEOUT: Duration = Duration::from_secs(3600);
