//! Claims for devices over the API: the devices of a driver, and allocations made beforehand.

use std::sync::Arc;

use anyhow::bail;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::resource::v1::{DeviceClass, ResourceClaim, ResourceSlice};
use pintle_scheduler_core::cache::{Cache, Object};
use serde_json::json;

use super::Run;
use super::requests::Request;
use crate::scheduler::config::{CheckPodScheduled, CreateResourceDriver};
use crate::scheduler::devices::{self, Allocation};

impl Run<'_> {
    pub(super) async fn create_driver(
        &mut self,
        driver: &CreateResourceDriver,
    ) -> anyhow::Result<()> {
        let nodes = self.requests.list::<Node>().await?;
        let names = nodes.iter().filter_map(|node| node.metadata.name.as_deref());
        let slices = devices::slices(driver, self.workload, names)?;
        let creations: anyhow::Result<Vec<Request>> =
            slices.iter().map(|slice| Request::create(slice, None)).collect();
        self.requests.send_all(creations?, &self.pulse).await
    }

    /// Gives devices to claims that no pod asked for.
    pub(super) async fn allocate_claims(&mut self, namespace: &str) -> anyhow::Result<()> {
        let mut cache = self.cache_of_devices().await?;
        let allocation = Allocation::default();
        for (number, claim) in Allocation::wanting(cache.snapshot(), namespace).iter().enumerate() {
            let new = Arc::new(allocation.allocated(claim, cache.snapshot(), spread(number))?);
            let object = json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim",
                "metadata": new.metadata, "spec": new.spec, "status": new.status});
            self.requests.send(Request::replace(&object, None, "status")?).await?;
            cache.apply(&Object::ResourceClaim(Some(Arc::clone(claim)), Some(new)));
        }
        Ok(())
    }

    /// Nodes and what is allocated of them, as the API server has it.
    async fn cache_of_devices(&self) -> anyhow::Result<Cache> {
        let mut cache = Cache::default();
        for node in self.requests.list::<Node>().await? {
            cache.set_node(Arc::new(node));
        }
        for class in self.requests.list::<DeviceClass>().await? {
            cache.apply(&Object::DeviceClass(None, Some(Arc::new(class))));
        }
        for slice in self.requests.list::<ResourceSlice>().await? {
            cache.apply(&Object::ResourceSlice(None, Some(Arc::new(slice))));
        }
        for claim in self.requests.list::<ResourceClaim>().await? {
            cache.apply(&Object::ResourceClaim(None, Some(Arc::new(claim))));
        }
        Ok(cache)
    }

    pub(super) async fn check_scheduled(&self, check: &CheckPodScheduled) -> anyhow::Result<()> {
        let is_wanted = check.is_expected(self.workload)?;
        for pod in self.requests.list::<Pod>().await? {
            let node = pod.spec.and_then(|spec| spec.node_name).filter(|name| !name.is_empty());
            if pod.metadata.namespace.as_deref() == Some(&check.namespace)
                && node.is_some() != is_wanted
            {
                let name = pod.metadata.name.unwrap_or_default();
                bail!("pod {name} has {} node", if is_wanted { "no" } else { "a" });
            }
        }
        Ok(())
    }
}

/// Numbers far from each other: the nodes from which on claims are tried.
fn spread(number: usize) -> usize {
    number.wrapping_mul(STEP) >> 16
}

const STEP: usize = 0x9e37_79b9;
