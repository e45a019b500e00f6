//! `performance-config.yaml` as scheduler_perf reads it. Thresholds and collectors of metrics are
//! upstream's own and are not looked at. An operation or a feature gate that is not known is an error of
//! the cases that have it, not of the file.

mod gate;
mod operation;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::Deserialize;

use super::template::Parameters;

pub(crate) use operation::{
    Barrier, CheckPodScheduled, Churn, ChurnMode, CreateAny, CreateNamespaces, CreateNodes,
    CreatePods, CreateResourceDriver, DeletePods, Labels, Operation, Selection, Stage, UpdateAny,
};

/// Several workloads of one shape.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Case {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) default_pod_template_path: Option<PathBuf>,
    workload_template: Vec<serde_json::Value>,
    pub(crate) workloads: Vec<Workload>,
    #[serde(default)]
    pub(crate) labels: Vec<String>,
    #[serde(default)]
    feature_gates: BTreeMap<String, bool>,
}

impl Case {
    /// What is done, one after the other.
    pub(crate) fn operations(&self) -> anyhow::Result<Vec<Operation>> {
        let of_workloads = self.workloads.iter().flat_map(|workload| &workload.feature_gates);
        for (name, _) in self.feature_gates.iter().chain(of_workloads) {
            if !gate::is_known(name) {
                bail!("featureGates: {name} is not known");
            }
        }
        let read = |(index, value): (usize, &serde_json::Value)| {
            operation::read(value).with_context(|| format!("step {}", index + 1))
        };
        self.workload_template.iter().enumerate().map(read).collect()
    }
}

/// One size of a [`Case`].
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Workload {
    pub(crate) name: String,
    #[serde(default)]
    feature_gates: BTreeMap<String, bool>,
    #[serde(default)]
    pub(crate) params: BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    pub(crate) labels: Vec<String>,
}

/// A number, or the name of a parameter that is one.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Count {
    #[serde(default)]
    count: Option<usize>,
    #[serde(default)]
    count_param: Option<String>,
    /// How many times the count.
    #[serde(default)]
    count_multiplier_param: Option<String>,
}

/// How many claims a node's devices are enough for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MaxClaims {
    #[serde(default)]
    max_claims_per_node: Option<usize>,
    #[serde(default)]
    max_claims_per_node_param: Option<String>,
}

/// Values for an object's template; those that begin with `$` are the workload's.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub(crate) struct TemplateParams(BTreeMap<String, serde_json::Value>);

impl TemplateParams {
    pub(crate) fn of(&self, workload: &Workload, count: usize) -> anyhow::Result<Parameters> {
        let mut parameters = Parameters::from([("Count".to_owned(), count.into())]);
        for (name, value) in &self.0 {
            let value = match value.as_str().filter(|text| text.starts_with('$')) {
                Some(text) => workload.parameter(text)?.clone(),
                None => value.clone(),
            };
            parameters.insert(name.clone(), value);
        }
        Ok(parameters)
    }
}

/// Read a file.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<Case>> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    serde_saphyr::from_str(&text).with_context(|| format!("parse {}", path.display()))
}

impl Count {
    /// The number for this workload; 1 if none is given, as upstream's createAny has it.
    pub(crate) fn of(&self, workload: &Workload) -> anyhow::Result<usize> {
        let count = match &self.count_param {
            None => self.count.unwrap_or(1),
            Some(name) => workload.number(name)?,
        };
        let times = self.count_multiplier_param.as_ref().map(|name| workload.number(name));
        Ok(count.saturating_mul(times.transpose()?.unwrap_or(1)))
    }
}

impl MaxClaims {
    /// The number for this workload.
    pub(crate) fn of(&self, workload: &Workload) -> anyhow::Result<usize> {
        match &self.max_claims_per_node_param {
            None => self.max_claims_per_node.context("maxClaimsPerNode is missing"),
            Some(name) => workload.number(name),
        }
    }
}

impl Workload {
    fn number(&self, name: &str) -> anyhow::Result<usize> {
        let value = self.parameter(name)?.as_u64();
        let value = value.with_context(|| format!("parameter {name} is not a number"))?;
        Ok(usize::try_from(value)?)
    }

    fn truth(&self, name: &str) -> anyhow::Result<bool> {
        let value = self.parameter(name)?.as_bool();
        value.with_context(|| format!("parameter {name} is neither true nor false"))
    }

    fn parameter(&self, name: &str) -> anyhow::Result<&serde_json::Value> {
        let Some(key) = name.strip_prefix('$') else {
            bail!("parameter {name:?} must begin with $")
        };
        self.params.get(key).with_context(|| format!("workload {} has no {name}", self.name))
    }
}
