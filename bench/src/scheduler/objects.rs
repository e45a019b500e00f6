//! The objects that operations create, as the API server would have them.

use std::path::Path;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::config::{
    Case, CreateAny, CreateNamespaces, CreateNodes, CreatePods, TemplateParams, UpdateAny, Workload,
};
use super::template::Template;

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
const DEFAULT_POD: &str = "
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

/// On a CSINode: the plugins that are migrated, separated by commas.
const MIGRATED_PLUGINS: &str = "storage.alpha.kubernetes.io/migrated-plugins";

/// An identity as long as those of the API server.
pub(crate) fn uid(number: usize) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

/// Makes the nodes of a createNodes.
pub(crate) struct NodeMaker<'a> {
    template: Template,
    nodes: &'a CreateNodes,
}

impl<'a> NodeMaker<'a> {
    pub(crate) fn new(
        directory: &Path,
        workload: &Workload,
        nodes: &'a CreateNodes,
    ) -> anyhow::Result<Self> {
        let template = match &nodes.node_template_path {
            Some(path) => {
                let parameters = nodes.template_params.of(workload, nodes.count.of(workload)?)?;
                Template::read_with(&directory.join(path), parameters)?
            }
            None => Template::new(DEFAULT_NODE, "the default node".to_owned())?,
        };
        Ok(Self { template, nodes })
    }

    /// The operation's node `number`, which is number `overall` of the workload.
    pub(crate) fn node(&self, number: usize, overall: usize) -> anyhow::Result<Value> {
        let mut node = self.template.object_named(number, overall)?;
        let name = node["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let labels = &mut node["metadata"]["labels"];
        labels["kubernetes.io/hostname"] = name.into();
        if let Some(strategy) = &self.nodes.label_node_prepare_strategy {
            let values = &strategy.label_values;
            let value = number.checked_rem(values.len()).map(|at| values[at].clone());
            labels[&strategy.label_key] = value.unwrap_or_default().into();
        }
        if let Some(strategy) = &self.nodes.unique_node_label_strategy {
            labels[&strategy.label_key] = uid(overall).into();
        }
        if let Some(strategy) = &self.nodes.node_allocatable_strategy {
            for (name, amount) in &strategy.node_allocatable {
                for list in ["allocatable", "capacity"] {
                    node["status"][list][name] = amount.as_str().into();
                }
            }
        }
        Ok(node)
    }

    /// The CSINode that goes with a node of this name; `None` if it would say nothing.
    pub(crate) fn csi_node(&self, name: &str) -> Option<Value> {
        let strategy = self.nodes.node_allocatable_strategy.as_ref()?;
        let drivers: Vec<Value> = strategy
            .csi_node_allocatable
            .iter()
            .map(|(driver, amount)| json!({"name": driver, "nodeID": name, "allocatable": amount}))
            .collect();
        if drivers.is_empty() && strategy.migrated_plugins.is_empty() {
            return None;
        }
        let migrated = strategy.migrated_plugins.join(",");
        Some(json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSINode",
            "metadata": {"name": name, "annotations": {MIGRATED_PLUGINS: migrated}},
            "spec": {"drivers": drivers}}))
    }
}

/// The namespaces of a createNamespaces.
pub(crate) fn namespaces(
    directory: &Path,
    wanted: &CreateNamespaces,
    workload: &Workload,
) -> anyhow::Result<Vec<Value>> {
    let template = match &wanted.namespace_template_path {
        Some(path) => Template::read(&directory.join(path))?,
        None => {
            let text = "{apiVersion: v1, kind: Namespace, metadata: {labels: {}}}";
            Template::new(text, "the default namespace".to_owned())?
        }
    };
    let namespace = |number: usize| {
        let mut namespace = template.object(number)?;
        let name = format!("{}-{number}", wanted.prefix);
        namespace["metadata"]["labels"]["kubernetes.io/metadata.name"] = name.as_str().into();
        namespace["metadata"]["name"] = name.into();
        Ok(namespace)
    };
    (0..wanted.count.of(workload)?).map(namespace).collect()
}

/// Gives the pod the label that tells batches of pods apart.
pub(crate) fn sign(pod: &mut Value, batch: usize) {
    pod["metadata"]["labels"]["signature"] = format!("signature-label-{batch}").into();
}

/// The template of a createPods' pods.
pub(crate) fn pod_template(
    directory: &Path,
    case: &Case,
    workload: &Workload,
    pods: &CreatePods,
) -> anyhow::Result<Template> {
    match pods.pod_template_path.as_ref().or(case.default_pod_template_path.as_ref()) {
        Some(path) => {
            let parameters = pods.template_params.of(workload, pods.count.of(workload)?)?;
            Template::read_with(&directory.join(path), parameters)
        }
        None => Template::new(DEFAULT_POD, "the default pod".to_owned()),
    }
}

/// The template of the case's pods where an operation names none.
pub(crate) fn default_pod_template(directory: &Path, case: &Case) -> anyhow::Result<Template> {
    match &case.default_pod_template_path {
        Some(path) => Template::read(&directory.join(path)),
        None => Template::new(DEFAULT_POD, "the default pod".to_owned()),
    }
}

/// The template of a createAny's objects.
pub(crate) fn any_template(
    directory: &Path,
    workload: &Workload,
    any: &CreateAny,
) -> anyhow::Result<Template> {
    let parameters = any.template_params.of(workload, any.count.of(workload)?)?;
    Template::read_with(&directory.join(&any.template_path), parameters)
}

/// The template of an updateAny's objects.
pub(crate) fn update_template(
    directory: &Path,
    workload: &Workload,
    wanted: &UpdateAny,
) -> anyhow::Result<Template> {
    let parameters = TemplateParams::default().of(workload, wanted.count.of(workload)?)?;
    Template::read_with(&directory.join(&wanted.template_path), parameters)
}

/// Makes a volume and its claim for each pod.
pub(crate) struct VolumeMaker {
    volume: Template,
    claim: Template,
}

impl VolumeMaker {
    /// `None` if the pods have no volumes of their own.
    pub(crate) fn of(directory: &Path, pods: &CreatePods) -> anyhow::Result<Option<Self>> {
        let paths =
            (&pods.persistent_volume_template_path, &pods.persistent_volume_claim_template_path);
        match paths {
            (Some(volume), Some(claim)) => {
                let volume = Template::read(&directory.join(volume))?;
                let claim = Template::read(&directory.join(claim))?;
                Ok(Some(Self { volume, claim }))
            }
            (None, None) => Ok(None),
            _ => anyhow::bail!("createPods: a volume's template needs a claim's, and vice versa"),
        }
    }

    /// A volume and a claim bound to each other, which are called after the namespace and the operation's
    /// `number`, as other pods may name them; the pod is made to use the claim. `overall` is the pod's
    /// number in the workload.
    pub(crate) fn bound(
        &self,
        number: usize,
        overall: usize,
        pod: &mut Value,
    ) -> anyhow::Result<(Value, Value)> {
        let namespace = pod["metadata"]["namespace"].clone();
        let name = format!("pvc-{number}");
        let volume_name = format!("{}-pv-{number}", namespace.as_str().unwrap_or_default());
        let mut volume = self.volume.object(number)?;
        volume["metadata"]["name"] = volume_name.as_str().into();
        if let Some(source) = volume["spec"].get_mut("csi") {
            source["volumeHandle"] = volume_name.as_str().into();
        }
        volume["spec"]["claimRef"] = json!({"kind": "PersistentVolumeClaim", "apiVersion": "v1",
            "namespace": namespace, "name": name, "uid": uid(overall)});
        volume["status"] = json!({"phase": "Bound"});
        let mut claim = self.claim.object(number)?;
        claim["metadata"]["name"] = name.as_str().into();
        claim["metadata"]["namespace"] = namespace;
        claim["metadata"]["uid"] = uid(overall).into();
        claim["metadata"]["annotations"]["pv.kubernetes.io/bind-completed"] = "true".into();
        claim["spec"]["volumeName"] = volume_name.into();
        claim["status"] = json!({"phase": "Bound"});
        let spec = pod.get_mut("spec").context("the pod has no spec")?;
        spec["volumes"] = json!([{"name": "vol", "persistentVolumeClaim": {"claimName": name}}]);
        Ok((volume, claim))
    }
}
