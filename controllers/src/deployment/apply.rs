//! Applies a Deployment's plan through the API.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use pintle_client::{EventRecord, ObjectKey, reference_to};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::plan::{Action, Plan};
use super::{DeploymentController, revision, template};
use crate::Error;
use crate::owner::controller_of;
use crate::patch::status_patch;

impl DeploymentController {
    /// Do all of `plan`; the first failure ends it, and the next sync plans anew.
    pub(super) async fn apply(&self, deployment: &Deployment, plan: Plan) -> Result<(), Error> {
        for action in plan.actions {
            self.act(deployment, action).await?;
        }
        if deployment.status.as_ref() != Some(&plan.status) {
            self.update_status(deployment, plan.status).await?;
        }
        Ok(())
    }

    async fn act(&self, deployment: &Deployment, action: Action) -> Result<(), Error> {
        match action {
            Action::CreateReplicaSet { replica_set, event } => {
                self.create(deployment, *replica_set).await?;
                self.tell(deployment, event);
            }
            Action::UpdateReplicaSet {
                annotations,
                event,
                min_ready_seconds,
                replicas,
                stored,
            } => {
                let patch = json!({
                    "metadata": {
                        "annotations": annotations,
                        "resourceVersion": stored.metadata.resource_version,
                    },
                    "spec": { "replicas": replicas, "minReadySeconds": min_ready_seconds },
                });
                let patched = self.patch_replica_set(&stored, "scale", patch).await?;
                let owner = ObjectKey::of(deployment);
                self.written.wrote(&owner, &patched.metadata, Instant::now());
                self.tell(deployment, event);
            }
            Action::DeleteReplicaSet(set) => self.delete(&set).await?,
            Action::SetRevision(number) => self.set_revision(deployment, &number).await?,
        }
        Ok(())
    }

    fn tell(&self, deployment: &Deployment, event: Option<EventRecord>) {
        if let Some(event) = event {
            self.recorder.record(reference_to(deployment), event);
        }
    }

    /// Create the new ReplicaSet. If its name is taken by another template, the next try takes
    /// another hash; if it is the very one, the cache was only behind.
    async fn create(&self, deployment: &Deployment, set: ReplicaSet) -> Result<(), Error> {
        let key = ObjectKey::of(&set);
        let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), &key.namespace);
        let created = api.create(&PostParams::default(), &set).await;
        let error = match created.map_err(Error::api(format!("create replica set {key}"))) {
            Ok(created) => {
                let owner = ObjectKey::of(deployment);
                self.written.wrote(&owner, &created.metadata, Instant::now());
                return Ok(());
            }
            Err(error) if error.is_conflict() => error,
            Err(error) => return Err(error),
        };
        let existing = api.get_opt(&key.name).await;
        let existing = existing.map_err(Error::api(format!("get replica set {key}")))?;
        let Some(existing) = existing else { return Err(error) };
        let ours = controller_of(&existing.metadata).map(|owner| &owner.uid)
            == deployment.metadata.uid.as_ref();
        if ours && existing.metadata.deletion_timestamp.is_none() && same_template(&existing, &set)
        {
            return Ok(());
        }
        let mut status = deployment.status.clone().unwrap_or_default();
        status.collision_count = Some(status.collision_count.unwrap_or(0).saturating_add(1));
        self.update_status(deployment, status).await?;
        Err(error)
    }

    async fn update_status(
        &self,
        deployment: &Deployment,
        status: DeploymentStatus,
    ) -> Result<(), Error> {
        let key = ObjectKey::of(deployment);
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &key.namespace);
        let patch = status_patch(&deployment.metadata, deployment.status.as_ref(), &status);
        api.patch_status(&key.name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .map_err(Error::api(format!("update the status of deployment {key}")))?;
        Ok(())
    }

    async fn set_revision(&self, deployment: &Deployment, number: &str) -> Result<(), Error> {
        let key = ObjectKey::of(deployment);
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &key.namespace);
        let patch = json!({ "metadata": {
            "annotations": { revision::REVISION: number },
            "uid": deployment.metadata.uid,
        }});
        api.patch(&key.name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .map_err(Error::api(format!("note the revision of deployment {key}")))?;
        Ok(())
    }

    /// Change a ReplicaSet by a merge patch; `act` is for the error.
    pub(super) async fn patch_replica_set(
        &self,
        set: &ReplicaSet,
        act: &str,
        patch: Value,
    ) -> Result<ReplicaSet, Error> {
        let key = ObjectKey::of(set);
        let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), &key.namespace);
        api.patch(&key.name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .map_err(Error::api(format!("{act} replica set {key}")))
    }

    async fn delete(&self, set: &ReplicaSet) -> Result<(), Error> {
        let key = ObjectKey::of(set);
        let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), &key.namespace);
        let same = Preconditions { uid: set.metadata.uid.clone(), resource_version: None };
        let params = DeleteParams::background().preconditions(same);
        let deleted = api.delete(&key.name, &params).await;
        match deleted.map_err(Error::api(format!("delete replica set {key}"))) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}

fn same_template(a: &ReplicaSet, b: &ReplicaSet) -> bool {
    let template = |set: &ReplicaSet| set.spec.as_ref().and_then(|spec| spec.template.clone());
    template(a).zip(template(b)).is_some_and(|(a, b)| template::equal(&a, &b))
}
