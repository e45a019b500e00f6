//! What a workload does: the operations of scheduler_perf, field by field, and pintle's own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use k8s_openapi::api::storage::v1::VolumeNodeResources;
use serde::Deserialize;

use super::{Count, MaxClaims, TemplateParams, Workload};

/// What is done, one after the other.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "opcode", rename_all = "camelCase")]
pub(crate) enum Operation {
    AllocResourceClaims(AllocResourceClaims),
    Barrier(Barrier),
    CheckPodScheduled(CheckPodScheduled),
    Churn(Churn),
    /// pintle's own: a scheduler that starts anew with what is there.
    ColdStart {},
    CreateAny(CreateAny),
    CreateNamespaces(CreateNamespaces),
    CreateNodes(CreateNodes),
    CreatePodSets(CreatePodSets),
    CreatePods(CreatePods),
    /// What createAny was for claims before there was one.
    CreateResourceClaims(CreateAny),
    CreateResourceDriver(CreateResourceDriver),
    DeletePods(DeletePods),
    Sleep(Sleep),
    StartCollectingMetrics(Selection),
    StopCollectingMetrics {},
    UpdateAny(UpdateAny),
    UpdateDeviceConditions(UpdateDeviceConditions),
}

impl Operation {
    /// Whether it makes claims for devices, or devices.
    pub(crate) fn is_about_claims(&self) -> bool {
        matches!(
            self,
            Self::AllocResourceClaims(_)
                | Self::CreateResourceClaims(_)
                | Self::CreateResourceDriver(_)
        )
    }
}

/// Every operation with its fields.
const OPERATIONS: &[(&str, &[&str])] = &[
    ("allocResourceClaims", &["namespace"]),
    ("barrier", &["labelSelector", "namespaces", "stageRequirement"]),
    (
        "checkPodScheduled",
        &["namespace", "duration", "durationParam", "expectedScheduled", "scheduledParam"],
    ),
    ("churn", &["mode", "number", "intervalMilliseconds", "namespace", "templatePaths"]),
    ("coldStart", &[]),
    ("createAny", &["count", "countParam", "namespace", "templatePath", "templateParams"]),
    ("createNamespaces", &["count", "countParam", "prefix", "namespaceTemplatePath"]),
    (
        "createNodes",
        &[
            "count",
            "countParam",
            "nodeTemplatePath",
            "templateParams",
            "labelNodePrepareStrategy",
            "uniqueNodeLabelStrategy",
            "nodeAllocatableStrategy",
        ],
    ),
    ("createPodSets", &["count", "countParam", "namespacePrefix", "createPodsOp"]),
    (
        "createPods",
        &[
            "count",
            "countParam",
            "countMultiplierParam",
            "collectMetrics",
            "duration",
            "durationParam",
            "namespace",
            "persistentVolumeClaimTemplatePath",
            "persistentVolumeTemplatePath",
            "podTemplatePath",
            "signatureBatchSize",
            "signatureBatchSizeParam",
            "skipWaitToCompletion",
            "steadyState",
            "steadyStateParam",
            "templateParams",
        ],
    ),
    ("createResourceClaims", &["count", "countParam", "namespace", "templatePath"]),
    ("createResourceDriver", &["driverName", "nodes", "maxClaimsPerNode", "maxClaimsPerNodeParam"]),
    ("deletePods", &["labelSelector", "namespace", "deletePodsPerSecond", "skipWaitToCompletion"]),
    ("sleep", &["duration", "durationParam"]),
    ("startCollectingMetrics", &["name", "namespaces", "labelSelector"]),
    ("stopCollectingMetrics", &[]),
    (
        "updateAny",
        &["count", "countParam", "namespace", "templatePath", "updatePerSecond", "subresources"],
    ),
    (
        "updateDeviceConditions",
        &[
            "namespace",
            "conditions",
            "conditionStatusParam",
            "conditionTypeParam",
            "duration",
            "durationParam",
        ],
    ),
];

pub(super) fn read(value: &serde_json::Value) -> anyhow::Result<Operation> {
    let value = &with_small_initials(value);
    let opcode = value["opcode"].as_str().context("opcode is missing")?;
    let known = OPERATIONS.iter().find(|(name, _)| *name == opcode);
    let Some((_, fields)) = known else {
        let names: Vec<&str> = OPERATIONS.iter().map(|(name, _)| *name).collect();
        bail!("opcode {opcode:?} is not known; known are {}", names.join(", "));
    };
    for field in value.as_object().into_iter().flat_map(serde_json::Map::keys) {
        if field != "opcode" && !fields.contains(&field.as_str()) {
            bail!("opcode {opcode}: field {field} is not known");
        }
    }
    serde_json::from_value(value.clone()).with_context(|| format!("opcode {opcode}"))
}

/// Fields as Go's decoder takes them, which some of upstream's files rely on: `ScheduledParam` is
/// `scheduledParam`.
fn with_small_initials(operation: &serde_json::Value) -> serde_json::Value {
    let Some(fields) = operation.as_object() else { return operation.clone() };
    let small = |(name, value): (&String, &serde_json::Value)| {
        let (first, rest) = name.split_at_checked(1).unwrap_or((name, ""));
        (first.to_ascii_lowercase() + rest, value.clone())
    };
    fields.iter().map(small).collect::<serde_json::Map<_, _>>().into()
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreateNodes {
    #[serde(flatten)]
    pub(crate) count: Count,
    #[serde(default)]
    pub(crate) template_params: TemplateParams,
    #[serde(default)]
    pub(crate) node_template_path: Option<PathBuf>,
    #[serde(default)]
    pub(crate) label_node_prepare_strategy: Option<LabelStrategy>,
    #[serde(default)]
    pub(crate) unique_node_label_strategy: Option<UniqueLabelStrategy>,
    #[serde(default)]
    pub(crate) node_allocatable_strategy: Option<AllocatableStrategy>,
}

/// Every node gets one of the values in turn.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LabelStrategy {
    pub(crate) label_key: String,
    #[serde(default)]
    pub(crate) label_values: Vec<String>,
}

/// Every node gets a value of its own.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UniqueLabelStrategy {
    pub(crate) label_key: String,
}

/// Every node gets these amounts too, and a CSINode with these drivers.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AllocatableStrategy {
    #[serde(default)]
    pub(crate) node_allocatable: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) csi_node_allocatable: BTreeMap<String, VolumeNodeResources>,
    /// Volume plugins whose work the drivers have taken over.
    #[serde(default)]
    pub(crate) migrated_plugins: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreateNamespaces {
    #[serde(flatten)]
    pub(crate) count: Count,
    pub(crate) prefix: String,
    #[serde(default)]
    pub(crate) namespace_template_path: Option<PathBuf>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreatePods {
    #[serde(flatten)]
    pub(crate) count: Count,
    #[serde(default)]
    pub(crate) template_params: TemplateParams,
    /// `count` pods are kept: one that got a node is deleted and another created, for a duration.
    #[serde(default)]
    steady_state: bool,
    #[serde(default)]
    steady_state_param: Option<String>,
    #[serde(flatten)]
    duration: Sleep,
    #[serde(default)]
    pub(crate) namespace: Option<String>,
    #[serde(default)]
    pub(crate) pod_template_path: Option<PathBuf>,
    /// So many pods in a row have the same label `signature`.
    #[serde(default)]
    signature_batch_size: Option<usize>,
    #[serde(default)]
    signature_batch_size_param: Option<String>,
    #[serde(default)]
    pub(crate) persistent_volume_template_path: Option<PathBuf>,
    #[serde(default)]
    pub(crate) persistent_volume_claim_template_path: Option<PathBuf>,
    #[serde(default)]
    pub(crate) collect_metrics: bool,
    #[serde(default)]
    pub(crate) skip_wait_to_completion: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreatePodSets {
    #[serde(flatten)]
    pub(crate) count: Count,
    pub(crate) namespace_prefix: String,
    pub(crate) create_pods_op: CreatePods,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreateAny {
    #[serde(flatten)]
    pub(crate) count: Count,
    #[serde(default)]
    pub(crate) template_params: TemplateParams,
    #[serde(default)]
    pub(crate) namespace: Option<String>,
    pub(crate) template_path: PathBuf,
}

/// A driver whose devices are on some of the nodes.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreateResourceDriver {
    pub(crate) driver_name: String,
    /// The nodes' names, with `*` and `?`.
    pub(crate) nodes: String,
    #[serde(flatten)]
    pub(crate) max_claims_per_node: MaxClaims,
}

/// Claims get devices though no pod asks for them.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct AllocResourceClaims {
    /// All if empty.
    #[serde(default)]
    pub(crate) namespace: String,
}

/// All pods of a namespace have a node, or none has.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CheckPodScheduled {
    pub(crate) namespace: String,
    #[serde(default)]
    expected_scheduled: bool,
    #[serde(default)]
    scheduled_param: Option<String>,
}

/// What a driver says of allocated devices. Nothing here waits for it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UpdateDeviceConditions {
    pub(crate) namespace: String,
}

/// Objects are replaced by those of a template, one after the other, and so are their states.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UpdateAny {
    #[serde(flatten)]
    pub(crate) count: Count,
    #[serde(default)]
    pub(crate) namespace: Option<String>,
    pub(crate) template_path: PathBuf,
    #[serde(default)]
    update_per_second: u32,
    #[serde(default)]
    pub(crate) subresources: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Churn {
    pub(crate) mode: ChurnMode,
    #[serde(default)]
    pub(crate) number: usize,
    #[serde(default = "half_a_second_ms")]
    pub(crate) interval_milliseconds: u64,
    #[serde(default)]
    pub(crate) namespace: Option<String>,
    pub(crate) template_paths: Vec<PathBuf>,
}

/// Upstream's default.
fn half_a_second_ms() -> u64 {
    500
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum ChurnMode {
    /// Objects are created, `number` of them or without end.
    Create,
    /// `number` objects are created and deleted in turn.
    Recreate,
}

/// Some of the pods.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Selection {
    /// All if empty.
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default)]
    label_selector: Labels,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Barrier {
    /// The pods that are waited for.
    #[serde(flatten)]
    pub(crate) pods: Selection,
    #[serde(default)]
    pub(crate) stage_requirement: Stage,
}

/// What a barrier waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum Stage {
    /// The scheduler has tried every pod.
    Attempted,
    /// Every pod has a node.
    #[default]
    Scheduled,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeletePods {
    pub(crate) namespace: String,
    #[serde(default)]
    label_selector: Labels,
    #[serde(default)]
    pub(crate) delete_pods_per_second: u64,
    #[serde(default)]
    pub(crate) skip_wait_to_completion: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sleep {
    #[serde(default)]
    duration: Option<String>,
    #[serde(default)]
    duration_param: Option<String>,
}

/// Labels, each with the value that is asked for.
pub(crate) type Labels = BTreeMap<String, String>;

/// Whether the labels are among a pod's.
fn selects(selector: &Labels, labels: Option<&Labels>) -> bool {
    let value = |key: &String| labels.and_then(|labels| labels.get(key));
    selector.iter().all(|(key, wanted)| value(key) == Some(wanted))
}

impl Selection {
    /// Whether a pod is among them.
    pub(crate) fn concerns(&self, namespace: &str, labels: Option<&Labels>) -> bool {
        let is_there = self.namespaces.is_empty() || self.namespaces.iter().any(|n| n == namespace);
        is_there && selects(&self.label_selector, labels)
    }
}

impl DeletePods {
    /// Whether a pod is deleted.
    pub(crate) fn concerns(&self, namespace: &str, labels: Option<&Labels>) -> bool {
        self.namespace == namespace && selects(&self.label_selector, labels)
    }
}

impl UpdateDeviceConditions {
    /// Why it cannot be done.
    pub(crate) fn why_not(&self) -> String {
        let Self { namespace } = self;
        format!(
            "updateDeviceConditions: in namespace {namespace:?} nothing waits for conditions of \
             devices (DRADeviceBindingConditions)"
        )
    }
}

impl CheckPodScheduled {
    /// Whether the pods are to have nodes.
    pub(crate) fn is_expected(&self, workload: &Workload) -> anyhow::Result<bool> {
        match &self.scheduled_param {
            None => Ok(self.expected_scheduled),
            Some(name) => workload.truth(name),
        }
    }
}

impl UpdateAny {
    /// The time between two of them.
    pub(crate) fn interval(&self) -> Duration {
        Duration::from_secs(1).checked_div(self.update_per_second).unwrap_or_default()
    }
}

impl CreatePods {
    /// How long the pods are kept at their number, if they are.
    pub(crate) fn steady_for(&self, workload: &Workload) -> anyhow::Result<Option<Duration>> {
        let is_steady = match &self.steady_state_param {
            None => self.steady_state,
            Some(name) => workload.truth(name)?,
        };
        if !is_steady {
            return Ok(None);
        }
        self.duration.of(workload).context("steadyState").map(Some)
    }

    /// How many pods in a row have one label `signature`, if pods have it.
    pub(crate) fn signature_batch(&self, workload: &Workload) -> anyhow::Result<Option<usize>> {
        let size = match &self.signature_batch_size_param {
            None => self.signature_batch_size,
            Some(name) => Some(workload.number(name)?),
        };
        Ok(size.filter(|size| *size > 0))
    }
}

impl Sleep {
    /// How long for this workload.
    pub(crate) fn of(&self, workload: &Workload) -> anyhow::Result<Duration> {
        let text = match (&self.duration, &self.duration_param) {
            (_, Some(name)) => workload.parameter(name)?.as_str().map(str::to_owned),
            (text, None) => text.clone(),
        };
        let text = text.context("duration is missing")?;
        let span: jiff::SignedDuration =
            text.parse().with_context(|| format!("duration {text:?}"))?;
        Ok(Duration::try_from(span)?)
    }
}
