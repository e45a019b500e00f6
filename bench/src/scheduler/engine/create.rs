//! Objects handed to the scheduler as its watches would.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::{Node, Pod};
use pintle_api::scheme;
use pintle_scheduler_core::PodUid;
use pintle_scheduler_core::cache::Object;
use serde_json::Value;

use super::{Run, anonymous_bytes};
use crate::scheduler::config::{CreateNamespaces, CreateNodes};
use crate::scheduler::figures::Allocatable;
use crate::scheduler::objects::{self, NodeMaker, VolumeMaker};
use crate::scheduler::template::Template;

/// An object that was created, to delete it.
pub(super) enum Created {
    Node(Arc<Node>),
    Pod(Arc<Pod>),
    /// The object's deletion.
    Other(Object),
    /// A ResourceClaimTemplate, which stays.
    Template,
}

/// The object as another kind of [`Object`]; deletion if `$gone`.
macro_rules! other {
    ($name:expr, $value:expr, $($kind:ident)*) => {
        match $name {
            $(stringify!($kind) => {
                let object = Arc::new(serde_json::from_value($value)?);
                let added = Object::$kind(None, Some(Arc::clone(&object)));
                (added, Object::$kind(Some(object), None))
            })*
            kind => bail!("objects of kind {kind} are not looked at"),
        }
    };
}

impl Run<'_> {
    pub(super) fn create_nodes(&mut self, nodes: &CreateNodes) -> anyhow::Result<()> {
        let (memory_before, own_before) = (anonymous_bytes(), self.own_bytes_of_nodes());
        let maker = NodeMaker::new(self.directory, self.workload, nodes)?;
        let count = nodes.count.of(self.workload)?;
        for number in 0..count {
            // Numbered through, so that nodes of several operations have names of their own.
            let node = maker.node(number, self.nodes.len())?;
            let node = self.add_node(serde_json::from_value(node)?)?;
            let name = node.metadata.name.as_deref().unwrap_or_default();
            if let Some(csi_node) = maker.csi_node(name) {
                let csi_node = Arc::new(serde_json::from_value(csi_node)?);
                self.scheduler.object_changed(Object::CSINode(None, Some(csi_node)), self.now());
            }
        }
        let own = self.own_bytes_of_nodes() - own_before;
        let grown = anonymous_bytes().saturating_sub(memory_before + own as u64);
        self.figures.bytes_per_node = grown as f64 / count.max(1) as f64;
        Ok(())
    }

    /// Memory that the harness's own notes of nodes take, but for what an allocator adds.
    fn own_bytes_of_nodes(&self) -> usize {
        let table = self.nodes.capacity() * size_of::<(String, Allocatable)>();
        table + self.nodes.iter().map(|(name, has)| name.len() + has.heap_bytes()).sum::<usize>()
    }

    fn add_node(&mut self, node: Node) -> anyhow::Result<Arc<Node>> {
        let node = Arc::new(node);
        let name = node.metadata.name.clone().context("a node has no name")?;
        self.scheduler.node_changed(None, Some(&node), self.now());
        self.nodes.insert(name, Allocatable::of(&node));
        Ok(node)
    }

    pub(super) fn create_namespaces(&mut self, wanted: &CreateNamespaces) -> anyhow::Result<()> {
        for namespace in objects::namespaces(self.directory, wanted, self.workload)? {
            let namespace = Arc::new(serde_json::from_value(namespace)?);
            self.scheduler.object_changed(Object::Namespace(None, Some(namespace)), self.now());
        }
        Ok(())
    }

    /// Creates an object of any kind. Nobody waits for a pod that is created so.
    pub(super) fn create(
        &mut self,
        template: &Template,
        number: usize,
        namespace: Option<&str>,
    ) -> anyhow::Result<Created> {
        let kind = template.kind()?;
        let mut object = template.object(number)?;
        if kind == "Node" {
            return Ok(Created::Node(self.add_node(serde_json::from_value(object)?)?));
        }
        if let Some(namespace) = namespace {
            object["metadata"]["namespace"] = namespace.into();
        }
        if kind == "Pod" {
            object["metadata"]["uid"] = objects::uid(self.pods_made).into();
            self.pods_made += 1;
            self.make_claims(&mut object)?;
            let pod: Arc<Pod> = Arc::new(serde_json::from_value(object)?);
            self.others.insert(PodUid::of(&pod), None);
            self.scheduler.pod_changed(None, Some(&pod), self.now());
            return Ok(Created::Pod(pod));
        }
        let version = object["apiVersion"].as_str().unwrap_or_default();
        if scheme::by_kind(version, &kind).is_none() {
            bail!("{version} {kind}: there is no such kind");
        }
        if kind == "ResourceClaimTemplate" {
            self.keep_claim_template(object, namespace.unwrap_or("default"));
            return Ok(Created::Template);
        }
        self.identify(&mut object);
        let (added, gone) = other!(
            kind.as_str(),
            object,
            Namespace Service ReplicationController ReplicaSet StatefulSet PersistentVolume
            PersistentVolumeClaim StorageClass CSINode CSIDriver CSIStorageCapacity
            VolumeAttachment PodDisruptionBudget ResourceClaim ResourceSlice DeviceClass
            DeviceTaintRule Workload
        );
        self.scheduler.object_changed(added, self.now());
        Ok(Created::Other(gone))
    }

    pub(super) fn delete(&mut self, object: &Created) {
        match object {
            Created::Node(node) => {
                self.scheduler.node_changed(Some(node), None, self.now());
                self.nodes.remove(node.metadata.name.as_deref().unwrap_or_default());
            }
            Created::Pod(pod) => {
                let uid = PodUid::of(pod);
                if self.placed.contains_key(&uid) {
                    self.delete_pod(&uid);
                } else {
                    self.scheduler.pod_changed(Some(pod), None, self.now());
                }
            }
            Created::Template => {}
            Created::Other(gone) => self.scheduler.object_changed(gone.clone(), self.now()),
        }
    }

    /// Creates a volume bound to a claim, which the pod then uses.
    pub(super) fn create_volume(
        &mut self,
        maker: &VolumeMaker,
        number: usize,
        pod: &mut Value,
    ) -> anyhow::Result<()> {
        let (volume, claim) = maker.bound(number, self.pods_made, pod)?;
        let volume = Arc::new(serde_json::from_value(volume)?);
        let claim = Arc::new(serde_json::from_value(claim)?);
        let now = self.now();
        self.scheduler.object_changed(Object::PersistentVolume(None, Some(volume)), now);
        self.scheduler.object_changed(Object::PersistentVolumeClaim(None, Some(claim)), now);
        Ok(())
    }
}
