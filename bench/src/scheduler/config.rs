//! `performance-config.yaml` as scheduler_perf reads it. Feature gates, thresholds and collectors of
//! metrics are upstream's own and are not looked at; an operation that is not known is an error.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Deserialize;

/// Several workloads of one shape.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Case {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) default_pod_template_path: Option<PathBuf>,
    pub(crate) workload_template: Vec<Operation>,
    pub(crate) workloads: Vec<Workload>,
}

/// One size of a [`Case`].
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Workload {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) params: BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    pub(crate) labels: Vec<String>,
}

/// What is done, one after the other.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "opcode", rename_all = "camelCase")]
pub(crate) enum Operation {
    Barrier {},
    Churn(Churn),
    CreateAny(CreateAny),
    CreateNamespaces(CreateNamespaces),
    CreateNodes(CreateNodes),
    CreatePodSets(CreatePodSets),
    CreatePods(CreatePods),
    DeletePods(DeletePods),
    Sleep(Sleep),
    StartCollectingMetrics {},
    StopCollectingMetrics {},
}

/// A number, or the name of a parameter that is one.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Count {
    #[serde(default)]
    count: Option<usize>,
    #[serde(default)]
    count_param: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreateNodes {
    #[serde(flatten)]
    pub(crate) count: Count,
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

/// Every node gets these amounts too.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AllocatableStrategy {
    #[serde(default)]
    pub(crate) node_allocatable: BTreeMap<String, String>,
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
    pub(crate) namespace: Option<String>,
    #[serde(default)]
    pub(crate) pod_template_path: Option<PathBuf>,
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
    pub(crate) namespace: Option<String>,
    pub(crate) template_path: PathBuf,
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

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeletePods {
    pub(crate) namespace: String,
    #[serde(default)]
    pub(crate) delete_pods_per_second: u64,
    #[serde(default)]
    pub(crate) skip_wait_to_completion: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sleep {
    #[serde(default)]
    duration: Option<String>,
    #[serde(default)]
    duration_param: Option<String>,
}

/// Read a file.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<Case>> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    serde_saphyr::from_str(&text).with_context(|| format!("parse {}", path.display()))
}

impl Count {
    /// The number for this workload; 1 if none is given, as upstream's createAny has it.
    pub(crate) fn of(&self, workload: &Workload) -> anyhow::Result<usize> {
        match &self.count_param {
            None => Ok(self.count.unwrap_or(1)),
            Some(name) => {
                let value = workload.parameter(name)?.as_u64();
                let value = value.with_context(|| format!("parameter {name} is not a number"))?;
                Ok(usize::try_from(value)?)
            }
        }
    }
}

impl Sleep {
    /// How long for this workload.
    pub(crate) fn of(&self, workload: &Workload) -> anyhow::Result<Duration> {
        let text = match (&self.duration, &self.duration_param) {
            (_, Some(name)) => workload.parameter(name)?.as_str().map(str::to_owned),
            (text, None) => text.clone(),
        };
        let text = text.context("sleep: no duration")?;
        let span: jiff::SignedDuration =
            text.parse().with_context(|| format!("sleep: duration {text:?}"))?;
        Ok(Duration::try_from(span)?)
    }
}

impl Workload {
    fn parameter(&self, name: &str) -> anyhow::Result<&serde_json::Value> {
        let Some(key) = name.strip_prefix('$') else {
            bail!("parameter {name:?} must begin with $")
        };
        self.params.get(key).with_context(|| format!("workload {} has no {name}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_format_is_read() {
        let text = r#"
- name: Basic
  defaultPodTemplatePath: ../templates/pod.yaml
  workloadTemplate:
  - opcode: createNodes
    countParam: $initNodes
    labelNodePrepareStrategy:
      labelKey: "zone"
      labelValues: ["a", "b"]
  - opcode: churn
    mode: recreate
    number: 1
    templatePaths: [pod.yaml]
    intervalMilliseconds: 1000
  - opcode: sleep
    duration: 1m5s
  - opcode: createPods
    countParam: $measurePods
    collectMetrics: true
  - opcode: barrier
    stageRequirement: Attempted
  workloads:
  - name: 5Nodes
    featureGates: {A: false}
    labels: [short]
    threshold: 7
    params: {initNodes: 5, measurePods: 10}
"#;
        let cases: Vec<Case> = serde_saphyr::from_str(text).unwrap();
        let (case, workload) = (&cases[0], &cases[0].workloads[0]);
        let [Operation::CreateNodes(nodes), Operation::Churn(churn), Operation::Sleep(sleep), ..] =
            case.workload_template.as_slice()
        else {
            panic!("{case:?}")
        };
        assert_eq!(nodes.count.of(workload).unwrap(), 5);
        assert_eq!((churn.mode, churn.interval_milliseconds), (ChurnMode::Recreate, 1000));
        assert_eq!(sleep.of(workload).unwrap(), Duration::from_secs(65));
        let unknown = "- {name: x, workloadTemplate: [{opcode: other}], workloads: []}";
        assert!(serde_saphyr::from_str::<Vec<Case>>(unknown).is_err());
    }

    #[test]
    fn a_missing_parameter_is_named() {
        let count = Count { count: None, count_param: Some("$n".to_owned()) };
        let workload = Workload { name: "w".to_owned(), params: BTreeMap::new(), labels: vec![] };
        let error = count.of(&workload).unwrap_err().to_string();
        assert_eq!(error, "workload w has no $n");
    }
}
