//! Claims for devices. What their controller and the API server do about them is done here: claims are
//! made from templates, what the scheduler decided is written, and who is gone holds none.

use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::resource::v1::ResourceClaim;
use pintle_scheduler_core::PodInfo;
use pintle_scheduler_core::cache::Object;
use pintle_scheduler_core::framework::Step;
use rand::Rng as _;
use serde_json::{Value, json};

use super::Run;
use crate::scheduler::config::{CheckPodScheduled, CreateResourceDriver};
use crate::scheduler::devices::{self, Allocation};
use crate::scheduler::objects;

impl Run<'_> {
    pub(super) fn create_driver(&mut self, driver: &CreateResourceDriver) -> anyhow::Result<()> {
        let names: Vec<String> = self.nodes.keys().cloned().collect();
        for slice in devices::slices(driver, self.workload, names.iter().map(String::as_str))? {
            let slice = Arc::new(serde_json::from_value(slice)?);
            self.scheduler.object_changed(Object::ResourceSlice(None, Some(slice)), self.now());
        }
        Ok(())
    }

    /// Gives devices to claims that no pod asked for.
    pub(super) fn allocate_claims(&mut self, namespace: &str) -> anyhow::Result<()> {
        let allocation = Allocation::default();
        for claim in Allocation::wanting(self.scheduler.snapshot(), namespace) {
            let snapshot = self.scheduler.snapshot();
            let first = self.random.next_u64() as usize % snapshot.nodes().len().max(1);
            let new = allocation.allocated(&claim, snapshot, first)?;
            self.write_claim(claim, new);
        }
        Ok(())
    }

    /// A template of claims is kept for the pods that name it; no scheduler looks at it.
    pub(super) fn keep_claim_template(&mut self, template: Value, namespace: &str) {
        let name = template["metadata"]["name"].as_str().unwrap_or_default();
        self.claim_templates.insert((namespace.to_owned(), name.to_owned()), template);
    }

    /// Gives an object that names no identity one of its own.
    pub(super) fn identify(&mut self, object: &mut Value) {
        let metadata = &mut object["metadata"];
        if metadata.get("uid").is_none() {
            metadata["uid"] = objects::uid(OTHERS_FROM + self.others_made).into();
            self.others_made += 1;
        }
    }

    /// Makes the claims that the pod wants to have made from templates.
    pub(super) fn make_claims(&mut self, pod: &mut Value) -> anyhow::Result<()> {
        let wanted = pod["spec"]["resourceClaims"].as_array().cloned().unwrap_or_default();
        for wanted in wanted {
            let Some(name) = wanted["resourceClaimTemplateName"].as_str() else { continue };
            let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
            let template = self.claim_templates.get(&(namespace, name.to_owned()));
            let template = template
                .with_context(|| format!("the pod's ResourceClaimTemplate {name} is not there"))?;
            let mut claim = claim_of(template, pod, &wanted["name"]);
            self.identify(&mut claim);
            let made = claim["metadata"]["name"].clone();
            if pod["status"]["resourceClaimStatuses"].is_null() {
                pod["status"]["resourceClaimStatuses"] = json!([]);
            }
            if let Some(statuses) = pod["status"]["resourceClaimStatuses"].as_array_mut() {
                statuses.push(json!({"name": wanted["name"], "resourceClaimName": made}));
            }
            let claim = Arc::new(serde_json::from_value(claim)?);
            self.scheduler.object_changed(Object::ResourceClaim(None, Some(claim)), self.now());
        }
        Ok(())
    }

    /// Writes what was decided of claims, and lets the scheduler see it.
    pub(super) fn write_steps(&mut self) {
        for step in std::mem::take(&mut self.steps) {
            match step {
                Step::WriteClaim { old, new } => {
                    self.write_claim(old, ResourceClaim::clone(&new));
                }
                Step::CreateClaim { claim, .. } => self.create_claim(ResourceClaim::clone(&claim)),
                Step::DeleteClaim { claim } => {
                    let now = self.now();
                    self.scheduler.object_changed(Object::ResourceClaim(Some(claim), None), now);
                }
                _ => {}
            }
        }
    }

    /// Makes the claim that was decided on for what a pod asks for, and keeps whose it is.
    fn create_claim(&mut self, mut claim: ResourceClaim) {
        self.others_made += 1;
        self.writes += 1;
        claim.metadata.uid = Some(objects::uid(OTHERS_FROM + self.others_made));
        claim.metadata.resource_version = Some(self.writes.to_string());
        let owner = claim.metadata.owner_references.iter().flatten().next();
        if let Some((owner, name)) = owner.zip(claim.metadata.name.as_ref()) {
            self.claims_made.insert(owner.uid.clone(), name.clone());
        }
        let now = self.now();
        self.scheduler.object_changed(Object::ResourceClaim(None, Some(Arc::new(claim))), now);
    }

    /// Who is gone holds no claim: those made for it are gone too, others are free of it, and without
    /// their devices if nobody else has them.
    pub(super) fn release_claims(&mut self, info: &PodInfo) {
        let uid = info.object_uid().unwrap_or_default();
        let made = self.claims_made.remove(&uid);
        let has_none = info.pod.spec.as_ref().is_none_or(|spec| spec.resource_claims.is_none());
        if has_none && made.is_none() {
            return;
        }
        for name in claims_of(&info.object()).into_iter().chain(made) {
            let claims = &self.scheduler.snapshot().objects().resource_claims;
            let Some(claim) = claims.get(info.namespace(), &name).cloned() else { continue };
            let owners = claim.metadata.owner_references.as_deref().unwrap_or_default();
            if owners.iter().any(|owner| owner.uid == uid) {
                let now = self.now();
                self.scheduler.object_changed(Object::ResourceClaim(Some(claim), None), now);
                continue;
            }
            let mut new = ResourceClaim::clone(&claim);
            let status = new.status.get_or_insert_default();
            let users = status.reserved_for.get_or_insert_default();
            users.retain(|user| user.uid != uid);
            if users.is_empty() {
                status.allocation = None;
            }
            self.write_claim(claim, new);
        }
    }

    pub(super) fn check_scheduled(&self, check: &CheckPodScheduled) -> anyhow::Result<()> {
        let is_wanted = check.is_expected(self.workload)?;
        let unplaced = self.others.values().flatten().chain(self.awaited.values());
        let unplaced = unplaced.filter(|info| !self.placed.contains_key(&info.uid));
        let placed = self.placed.values().map(|placed| &placed.info);
        let is_of = |info: &&Arc<PodInfo>| info.namespace() == check.namespace;
        let wrong = if is_wanted {
            unplaced.filter(is_of).map(|info| info.name()).next()
        } else {
            placed.filter(is_of).map(|info| info.name()).next()
        };
        match wrong {
            None if is_wanted && self.figures.pending > 0 => {
                anyhow::bail!("{} pods have no node", self.figures.pending)
            }
            None => Ok(()),
            Some(name) if is_wanted => anyhow::bail!("pod {name} has no node"),
            Some(name) => anyhow::bail!("pod {name} has a node"),
        }
    }

    fn write_claim(&mut self, old: Arc<ResourceClaim>, mut new: ResourceClaim) {
        self.writes += 1;
        new.metadata.resource_version = Some(self.writes.to_string());
        let change = Object::ResourceClaim(Some(old), Some(Arc::new(new)));
        self.scheduler.object_changed(change, self.now());
    }
}

/// The claim that a template makes for the pod.
fn claim_of(template: &Value, pod: &Value, wanted: &Value) -> Value {
    let (pod_name, wanted) = (&pod["metadata"]["name"], wanted.as_str().unwrap_or_default());
    let mut claim = json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim",
        "metadata": template["spec"]["metadata"], "spec": template["spec"]["spec"]});
    let metadata = &mut claim["metadata"];
    metadata["name"] = format!("{}-{wanted}", pod_name.as_str().unwrap_or_default()).into();
    metadata["namespace"] = pod["metadata"]["namespace"].clone();
    metadata["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "Pod", "name": pod_name,
        "uid": pod["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true}]);
    claim
}

/// The names of the pod's claims.
fn claims_of(pod: &Pod) -> Vec<String> {
    let named = pod.spec.iter().flat_map(|spec| spec.resource_claims.iter().flatten());
    let named = named.filter_map(|claim| claim.resource_claim_name.clone());
    let made = pod.status.iter().flat_map(|status| status.resource_claim_statuses.iter().flatten());
    named.chain(made.filter_map(|claim| claim.resource_claim_name.clone())).collect()
}

/// Numbers of identities that are not pods'.
const OTHERS_FROM: usize = 100_000_000_000;
