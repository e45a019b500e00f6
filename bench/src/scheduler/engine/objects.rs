//! Making objects and handing them to the scheduler as its watches would.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::{Node, Pod};
use pintle_scheduler_core::PodInfo;
use pintle_scheduler_core::cache::Object;
use serde_json::{Value, json};

use super::{Run, resident_bytes};
use crate::scheduler::config::{CreateNamespaces, CreateNodes, CreatePods};
use crate::scheduler::template::Template;

/// An object that was created, to delete it.
pub(super) enum Created {
    Node(Arc<Node>),
    Pod(Arc<Pod>),
    /// The object's deletion.
    Other(Object),
}

/// Templates of a volume and its claim for each pod.
pub(super) struct VolumeTemplates {
    volume: Template,
    claim: Template,
}

/// scheduler_perf's own node where no template is given.
const DEFAULT_NODE: &str = "
apiVersion: v1
kind: Node
metadata: {generateName: scheduler-perf-}
status:
  capacity: {cpu: '4', memory: 32Gi, pods: '110'}
  allocatable: {cpu: '4', memory: 32Gi, pods: '110'}
  conditions: [{type: Ready, status: 'True'}]
";

/// scheduler_perf's own pod where no template is given.
pub(super) const DEFAULT_POD: &str = "
apiVersion: v1
kind: Pod
metadata: {generateName: pod-}
spec:
  containers:
  - name: pause
    image: registry.k8s.io/pause:3.10
    ports: [{containerPort: 80}]
    resources:
      limits: {cpu: 100m, memory: 500Mi}
      requests: {cpu: 100m, memory: 500Mi}
";

/// An identity as long as those of the API server.
pub(super) fn uid(number: usize) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
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
        let memory_before = resident_bytes();
        let template = match &nodes.node_template_path {
            Some(path) => self.template(path)?,
            None => Template::new(DEFAULT_NODE.to_owned(), "the default node".to_owned())?,
        };
        let count = nodes.count.of(self.workload)?;
        for number in 0..count {
            // Numbered through, so that nodes of several operations have names of their own.
            let mut node = template.object(self.nodes.len())?;
            let name = node["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            node["metadata"]["labels"]["kubernetes.io/hostname"] = name.into();
            if let Some(strategy) = &nodes.label_node_prepare_strategy {
                let values = &strategy.label_values;
                let value = number.checked_rem(values.len()).map(|at| values[at].clone());
                node["metadata"]["labels"][&strategy.label_key] = value.unwrap_or_default().into();
            }
            if let Some(strategy) = &nodes.unique_node_label_strategy {
                let value = uid(self.nodes.len());
                node["metadata"]["labels"][&strategy.label_key] = value.into();
            }
            if let Some(strategy) = &nodes.node_allocatable_strategy {
                for (name, amount) in &strategy.node_allocatable {
                    for list in ["allocatable", "capacity"] {
                        node["status"][list][name] = amount.as_str().into();
                    }
                }
            }
            self.add_node(serde_json::from_value(node)?)?;
        }
        let grown = resident_bytes().saturating_sub(memory_before);
        self.figures.bytes_per_node = grown as f64 / count.max(1) as f64;
        Ok(())
    }

    fn add_node(&mut self, node: Node) -> anyhow::Result<Arc<Node>> {
        let node = Arc::new(node);
        let name = node.metadata.name.clone().context("a node has no name")?;
        self.scheduler.node_changed(None, Some(&node), self.now());
        self.nodes.insert(name, Arc::clone(&node));
        Ok(node)
    }

    pub(super) fn create_namespaces(&mut self, wanted: &CreateNamespaces) -> anyhow::Result<()> {
        let template = match &wanted.namespace_template_path {
            Some(path) => self.template(path)?,
            None => {
                let text = "{apiVersion: v1, kind: Namespace, metadata: {labels: {}}}";
                Template::new(text.to_owned(), "the default namespace".to_owned())?
            }
        };
        for number in 0..wanted.count.of(self.workload)? {
            let mut namespace = template.object(number)?;
            let name = format!("{}-{number}", wanted.prefix);
            namespace["metadata"]["labels"]["kubernetes.io/metadata.name"] = name.as_str().into();
            namespace["metadata"]["name"] = name.into();
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
            object["metadata"]["uid"] = uid(self.pods_made).into();
            self.pods_made += 1;
            let pod: Arc<Pod> = Arc::new(serde_json::from_value(object)?);
            self.others.insert(PodInfo::new(Arc::clone(&pod)).uid);
            self.scheduler.pod_changed(None, Some(&pod), self.now());
            return Ok(Created::Pod(pod));
        }
        let (added, gone) = other!(
            kind.as_str(),
            object,
            Namespace Service ReplicationController ReplicaSet StatefulSet PersistentVolume
            PersistentVolumeClaim StorageClass CSINode CSIDriver CSIStorageCapacity
            VolumeAttachment PodDisruptionBudget ResourceClaim ResourceSlice DeviceClass Workload
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
                let uid = PodInfo::new(Arc::clone(pod)).uid;
                if self.placed.contains_key(&uid) {
                    self.delete_pod(&uid);
                } else {
                    self.scheduler.pod_changed(Some(pod), None, self.now());
                }
            }
            Created::Other(gone) => self.scheduler.object_changed(gone.clone(), self.now()),
        }
    }

    pub(super) fn volume_templates(
        &self,
        pods: &CreatePods,
    ) -> anyhow::Result<Option<VolumeTemplates>> {
        let paths =
            (&pods.persistent_volume_template_path, &pods.persistent_volume_claim_template_path);
        let (Some(volume), Some(claim)) = paths else { return Ok(None) };
        let (volume, claim) = (self.template(volume)?, self.template(claim)?);
        Ok(Some(VolumeTemplates { volume, claim }))
    }

    /// Creates a volume bound to a claim, which the pod then uses.
    pub(super) fn create_volume(
        &mut self,
        templates: &VolumeTemplates,
        number: usize,
        pod: &mut Value,
    ) -> anyhow::Result<()> {
        let namespace = pod["metadata"]["namespace"].clone();
        let name = format!("volume-{number}");
        let mut volume = templates.volume.object(number)?;
        volume["metadata"]["name"] = name.as_str().into();
        let claim_ref = json!({"kind": "PersistentVolumeClaim", "apiVersion": "v1",
            "namespace": namespace, "name": name, "uid": uid(number)});
        volume["spec"]["claimRef"] = claim_ref;
        volume["status"] = json!({"phase": "Bound"});
        let mut claim = templates.claim.object(number)?;
        claim["metadata"]["name"] = name.as_str().into();
        claim["metadata"]["namespace"] = namespace;
        claim["metadata"]["uid"] = uid(number).into();
        claim["metadata"]["annotations"]["pv.kubernetes.io/bind-completed"] = "true".into();
        claim["spec"]["volumeName"] = name.as_str().into();
        claim["status"] = json!({"phase": "Bound"});
        pod["spec"]["volumes"] =
            json!([{"name": "vol", "persistentVolumeClaim": {"claimName": name}}]);
        let volume = Arc::new(serde_json::from_value(volume)?);
        let claim = Arc::new(serde_json::from_value(claim)?);
        let now = self.now();
        self.scheduler.object_changed(Object::PersistentVolume(None, Some(volume)), now);
        self.scheduler.object_changed(Object::PersistentVolumeClaim(None, Some(claim)), now);
        Ok(())
    }
}
