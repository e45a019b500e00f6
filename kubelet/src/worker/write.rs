//! What a worker writes to the API server: its pod's status, and in the end the deletion. A write
//! that does not succeed in time is tried again.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::json;

use super::{Worker, soon};
use crate::pod::pod_status;
use crate::runtime::ContainerRuntime;

/// How long the API server may take for a write.
const WRITE_MAX: Duration = Duration::from_secs(10);

impl<R: ContainerRuntime> Worker<R> {
    /// Removes the pod from the API.
    pub(super) async fn delete(&mut self) {
        let (pods, name, uid) = (self.pods(), self.key.name.clone(), self.key.uid.clone());
        let preconditions = Preconditions { uid: Some(uid.clone()), resource_version: None };
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        let deleting = async {
            match pods.delete(&name, &params).await {
                // Conflict: another pod has the name by now, or a write came between; which, is asked.
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
                Err(error) => return Err(error),
            }
            let left = pods.get_metadata_opt(&name).await?.map(|pod| pod.metadata);
            // What is left at a grace period of 0 only waits for its finalizers.
            let is_done = left.is_none_or(|pod| {
                pod.uid.as_deref() != Some(&*uid) || pod.deletion_grace_period_seconds == Some(0)
            });
            Ok(if is_done { Ok(()) } else { Err("it is still there") })
        };
        self.deleted = self.written("the pod is not removed from the API", deleting).await;
    }

    /// Sends the status if it changed. Not while stopping for a pod that will go on elsewhen.
    pub(super) async fn report(&mut self) {
        let (gone, shutdown) = {
            let desired = self.desired.borrow();
            (desired.gone, desired.shutdown)
        };
        if gone || shutdown || self.deleted {
            return;
        }
        let known = self.reported.as_ref().or(self.pod.status.as_ref());
        let previous: &[PodCondition] =
            known.and_then(|it| it.conditions.as_deref()).unwrap_or(&[]);
        let now = Timestamp::now();
        let (intent, host) = (self.intent(), self.shared.host_ip);
        let status = pod_status(&self.pod, intent, &self.observed, host, previous, now);
        if self.reported.as_ref() == Some(&status) {
            return;
        }
        if status.phase.as_deref() == Some("Running")
            && let Some(since) = self.starting_since.take()
        {
            self.shared.metrics.pod_start_duration.observe(since.elapsed().as_secs_f64());
        }
        let (pods, name) = (self.pods(), self.key.name.clone());
        // The uid keeps the status off a new pod of the same name.
        let patch = json!({ "metadata": { "uid": self.key.uid }, "status": status });
        let reporting = async {
            match pods.patch_status(&name, &PatchParams::default(), &Patch::Strategic(patch)).await
            {
                Ok(_) => Ok(Ok(())),
                // The watch will say that it is gone.
                Err(kube::Error::Api(answer)) if answer.is_not_found() => Ok(Ok(())),
                Err(error) => Err(error),
            }
        };
        if self.written("the pod's status is not reported", reporting).await {
            self.reported = Some(status);
        }
    }

    /// Whether the write was done. If not, the log says `failure` and why, and it is time to try again
    /// soon.
    async fn written(
        &mut self,
        failure: &str,
        write: impl Future<Output = kube::Result<Result<(), &'static str>>>,
    ) -> bool {
        let why = match tokio::time::timeout(WRITE_MAX, write).await {
            Ok(Ok(Ok(()))) => return true,
            Ok(Ok(Err(why))) => why.to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer for {WRITE_MAX:?}"),
        };
        tracing::warn!(pod = %self.key.name, why, "{failure}");
        self.retry_at = Some(soon());
        false
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.shared.client.clone(), &self.key.namespace)
    }
}
