//! The arguments of plugins (`pluginConfig`), with their defaults and what makes them acceptable.
//!
//! Mirrors `types_pluginargs.go`, `defaults.go` and `validation_pluginargs.go` with the feature
//! gates of release 1.35 at their defaults.

use k8s_openapi::api::core::v1::{NodeAffinity, TopologySpreadConstraint};
use pintle_api::decode;
use pintle_api::field::{Errors, Path};
use pintle_api::{syntax, validation};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::duration::GoDuration;
use super::{API_VERSION, GROUP};

/// The arguments of every plugin of a profile that takes any.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PluginArguments {
    /// Of DefaultPreemption.
    pub default_preemption: DefaultPreemptionArgs,
    /// Of DynamicResources.
    pub dynamic_resources: DynamicResourcesArgs,
    /// Of InterPodAffinity.
    pub inter_pod_affinity: InterPodAffinityArgs,
    /// Of NodeAffinity.
    pub node_affinity: NodeAffinityArgs,
    /// Of NodeResourcesBalancedAllocation.
    pub node_resources_balanced_allocation: NodeResourcesBalancedAllocationArgs,
    /// Of NodeResourcesFit.
    pub node_resources_fit: NodeResourcesFitArgs,
    /// Of PodTopologySpread.
    pub pod_topology_spread: PodTopologySpreadArgs,
    /// Of VolumeBinding.
    pub volume_binding: VolumeBindingArgs,
}

impl PluginArguments {
    /// Reads the arguments of one plugin and sets their defaults. Those of a plugin that takes none
    /// are not looked at, as upstream does not. Returns unknown fields; the error is a field of the
    /// wrong type.
    pub(super) fn read(&mut self, plugin: &str, value: &Value) -> Result<Vec<String>, String> {
        let value = &mut match value {
            Value::Null => json!({}),
            other => other.clone(),
        };
        match plugin {
            "DefaultPreemption" => read(plugin, value, &mut self.default_preemption),
            "DynamicResources" => read(plugin, value, &mut self.dynamic_resources),
            "InterPodAffinity" => read(plugin, value, &mut self.inter_pod_affinity),
            "NodeAffinity" => read(plugin, value, &mut self.node_affinity),
            "NodeResourcesBalancedAllocation" => {
                read(plugin, value, &mut self.node_resources_balanced_allocation)
            }
            "NodeResourcesFit" => read(plugin, value, &mut self.node_resources_fit),
            "PodTopologySpread" => read(plugin, value, &mut self.pod_topology_spread),
            "VolumeBinding" => read(plugin, value, &mut self.volume_binding),
            _ => Ok(Vec::new()),
        }
    }

    /// Sets what is still to be defaulted: lists and weights.
    pub(super) fn set_defaults(&mut self) {
        default_resources(&mut self.node_resources_balanced_allocation.resources);
        let fit = &mut self.node_resources_fit;
        let least = || ScoringStrategy { strategy: STRATEGIES[0].to_owned(), ..Default::default() };
        default_resources(&mut fit.scoring_strategy.get_or_insert_with(least).resources);
        let spread = &mut self.pod_topology_spread;
        if spread.defaulting_type.is_empty() {
            spread.defaulting_type = SYSTEM.to_owned();
        }
    }

    /// Checks the arguments of one plugin; `path` is that of its `args`.
    pub(super) fn check(&self, plugin: &str, path: &Path<'_>, errors: &mut Errors) {
        match plugin {
            "DefaultPreemption" => check_preemption(&self.default_preemption, path, errors),
            "DynamicResources" => check_dynamic(&self.dynamic_resources, path, errors),
            "InterPodAffinity" => {
                let weight = self.inter_pod_affinity.hard_pod_affinity_weight();
                within(weight, 0, 100, &path.child("hardPodAffinityWeight"), errors);
            }
            "NodeAffinity" => {
                if let Some(added) = &self.node_affinity.added_affinity {
                    validation::node_affinity(added, &path.child("addedAffinity"), errors);
                }
            }
            "NodeResourcesBalancedAllocation" => {
                check_balanced(&self.node_resources_balanced_allocation, path, errors);
            }
            "NodeResourcesFit" => check_fit(&self.node_resources_fit, path, errors),
            "PodTopologySpread" => check_spread(&self.pod_topology_spread, path, errors),
            "VolumeBinding" => check_volume_binding(&self.volume_binding, path, errors),
            _ => {}
        }
    }
}

fn read<T: DeserializeOwned>(
    plugin: &str,
    value: &mut Value,
    into: &mut T,
) -> Result<Vec<String>, String> {
    let mut stated = |field: &str| {
        let removed = value.as_object_mut().and_then(|object| object.shift_remove(field));
        removed.and_then(|value| value.as_str().map(str::to_owned)).filter(|text| !text.is_empty())
    };
    let (version, kind) = (stated("apiVersion"), stated("kind"));
    let expected = format!("{plugin}Args");
    let kind = kind.unwrap_or_else(|| expected.clone());
    if version.as_deref().is_some_and(|version| version != API_VERSION) {
        let version = version.unwrap_or_default();
        return Err(format!("no kind {kind:?} is registered for version {version:?}"));
    }
    if kind != expected {
        return Err(format!(
            "args for plugin {plugin} were not of type {expected}.{GROUP}, got {kind}.{GROUP}"
        ));
    }
    let (typed, unknown) = decode::read(value)
        .map_err(|error| format!("decoding args for plugin {plugin}: {error}"))?;
    *into = typed;
    Ok(unknown)
}

/// Of DefaultPreemption: how many candidates are looked for.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct DefaultPreemptionArgs {
    min_candidate_nodes_percentage: Option<i32>,
    min_candidate_nodes_absolute: Option<i32>,
}

impl DefaultPreemptionArgs {
    /// Of the nodes, in percent, 0..=100.
    pub fn min_candidate_nodes_percentage(&self) -> i32 {
        self.min_candidate_nodes_percentage.unwrap_or(10)
    }

    /// At least so many, 0 or more.
    pub fn min_candidate_nodes_absolute(&self) -> i32 {
        self.min_candidate_nodes_absolute.unwrap_or(100)
    }
}

/// Of DynamicResources.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct DynamicResourcesArgs {
    filter_timeout: Option<GoDuration>,
    binding_timeout: Option<GoDuration>,
}

impl DynamicResourcesArgs {
    /// How long the search for devices may take for one node; zero is without limit.
    pub fn filter_timeout(&self) -> GoDuration {
        self.filter_timeout.unwrap_or(GoDuration::from_secs(10))
    }
}

/// Of InterPodAffinity.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct InterPodAffinityArgs {
    hard_pod_affinity_weight: Option<i32>,
    /// Whether preferences of pods that run already count only for pods with affinities of their own.
    pub ignore_preferred_terms_of_existing_pods: bool,
}

impl InterPodAffinityArgs {
    /// What a required affinity of a pod that runs already counts, 0..=100.
    pub fn hard_pod_affinity_weight(&self) -> i32 {
        self.hard_pod_affinity_weight.unwrap_or(1)
    }
}

/// Of NodeAffinity.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeAffinityArgs {
    /// Put on every pod beside its own.
    pub added_affinity: Option<NodeAffinity>,
}

/// Of NodeResourcesBalancedAllocation.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeResourcesBalancedAllocationArgs {
    /// What is balanced.
    pub resources: Vec<ResourceSpec>,
}

/// A resource and how much it counts.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceSpec {
    /// The resource.
    pub name: String,
    /// How much it counts.
    pub weight: i64,
}

/// Of NodeResourcesFit.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeResourcesFitArgs {
    /// Extended resources that are not checked.
    pub ignored_resources: Vec<String>,
    /// Prefixes of extended resources that are not checked.
    pub ignored_resource_groups: Vec<String>,
    /// How nodes are scored.
    pub scoring_strategy: Option<ScoringStrategy>,
}

/// How NodeResourcesFit scores.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct ScoringStrategy {
    /// LeastAllocated, MostAllocated or RequestedToCapacityRatio.
    #[serde(rename = "type")]
    pub strategy: String,
    /// What is scored.
    pub resources: Vec<ResourceSpec>,
    /// For the last of the three.
    pub requested_to_capacity_ratio: Option<RequestedToCapacityRatioParam>,
}

/// A score by utilization.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct RequestedToCapacityRatioParam {
    /// Points, by rising utilization.
    pub shape: Vec<UtilizationShapePoint>,
}

/// A point of a shape.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct UtilizationShapePoint {
    /// In percent.
    pub utilization: i32,
    /// 0..=10.
    pub score: i32,
}

/// Of PodTopologySpread.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct PodTopologySpreadArgs {
    /// For pods without constraints of their own, if `defaulting_type` is `List`.
    pub default_constraints: Vec<TopologySpreadConstraint>,
    /// `System` or `List`.
    pub defaulting_type: String,
}

/// Of VolumeBinding.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeBindingArgs {
    bind_timeout_seconds: Option<i64>,
    shape: Option<Vec<UtilizationShapePoint>>,
}

impl VolumeBindingArgs {
    /// How long volumes may take to be bound, 0 or more.
    pub fn bind_timeout_seconds(&self) -> i64 {
        self.bind_timeout_seconds.unwrap_or(600)
    }
}

const SYSTEM: &str = "System";
const LIST: &str = "List";
const STRATEGIES: [&str; 3] = ["LeastAllocated", "MostAllocated", "RequestedToCapacityRatio"];

/// CPU and memory if there is nothing; a weight of zero is one.
fn default_resources(resources: &mut Vec<ResourceSpec>) {
    if resources.is_empty() {
        *resources = ["cpu", "memory"].map(|n| ResourceSpec { name: n.into(), weight: 1 }).into();
    }
    for resource in resources.iter_mut().filter(|resource| resource.weight == 0) {
        resource.weight = 1;
    }
}

fn within(value: i32, min: i32, max: i32, path: &Path<'_>, errors: &mut Errors) {
    if !(min..=max).contains(&value) {
        errors.invalid(path, value, format!("not in valid range [{min}, {max}]"));
    }
}

fn check_preemption(args: &DefaultPreemptionArgs, path: &Path<'_>, errors: &mut Errors) {
    let (percentage, absolute) =
        (args.min_candidate_nodes_percentage(), args.min_candidate_nodes_absolute());
    let (path_percentage, path_absolute) =
        (path.child("minCandidateNodesPercentage"), path.child("minCandidateNodesAbsolute"));
    within(percentage, 0, 100, &path_percentage, errors);
    if absolute < 0 {
        errors.invalid(&path_absolute, absolute, "not in valid range [0, inf)");
    }
    if percentage == 0 && absolute == 0 {
        for (path, other) in [
            (path_percentage, "minCandidateNodesAbsolute"),
            (path_absolute, "minCandidateNodesPercentage"),
        ] {
            errors.invalid(&path, 0, format!("cannot be zero at the same time as {other}"));
        }
    }
}

fn check_dynamic(args: &DynamicResourcesArgs, path: &Path<'_>, errors: &mut Errors) {
    if let Some(timeout) = args.filter_timeout
        && timeout < GoDuration::default()
    {
        let path = path.child("filterTimeout");
        errors.invalid(&path, timeout.to_string(), "must be zero or positive");
    }
    if args.binding_timeout.is_some() {
        errors.forbidden(
            &path.child("bindingTimeout"),
            "DRADeviceBindingConditions or DRAResourceClaimDeviceStatus feature gate is disabled",
        );
    }
}

fn check_balanced(
    args: &NodeResourcesBalancedAllocationArgs,
    path: &Path<'_>,
    errors: &mut Errors,
) {
    let list = path.child("resources");
    for (i, resource) in args.resources.iter().enumerate() {
        let path = list.index(i);
        if args.resources[..i].iter().any(|earlier| earlier.name == resource.name) {
            errors.duplicate(&path.child("name"), resource.name.as_str());
        }
        if resource.weight != 1 {
            errors.invalid(&path.child("weight"), resource.weight, "must be 1");
        }
    }
}

fn check_fit(args: &NodeResourcesFitArgs, path: &Path<'_>, errors: &mut Errors) {
    let list = path.child("ignoredResources");
    for (i, name) in args.ignored_resources.iter().enumerate() {
        errors.each_invalid(&list.index(i), name, syntax::qualified_name(name));
    }
    let list = path.child("ignoredResourceGroups");
    for (i, group) in args.ignored_resource_groups.iter().enumerate() {
        let path = list.index(i);
        if group.contains('/') {
            errors.invalid(&path, group.as_str(), "resource group name can't contain '/'");
        }
        errors.each_invalid(&path, group, syntax::qualified_name(group));
    }
    let path = path.child("scoringStrategy");
    if let Some(strategy) = &args.scoring_strategy {
        check_strategy(strategy, &path, errors);
    }
}

fn check_strategy(strategy: &ScoringStrategy, path: &Path<'_>, errors: &mut Errors) {
    if !STRATEGIES.contains(&strategy.strategy.as_str()) {
        errors.not_supported(&path.child("type"), &strategy.strategy, &STRATEGIES);
    }
    let list = path.child("resources");
    for (i, ResourceSpec { name, weight }) in strategy.resources.iter().enumerate() {
        if !(1..=100).contains(weight) {
            let detail = format!("resource weight of {name} not in valid range (0, 100]");
            errors.invalid(&list.index(i).child("weight"), *weight, detail);
        }
    }
    let path = path.child("requestedToCapacityRatio");
    match (strategy.strategy.as_str() == STRATEGIES[2], &strategy.requested_to_capacity_ratio) {
        (true, Some(ratio)) => check_shape(&ratio.shape, &path.child("shape"), errors),
        (true, None) => {
            errors.required(&path, "must be specified when type is RequestedToCapacityRatio");
        }
        (false, Some(_)) => {
            errors.forbidden(&path, "must be nil when type is not RequestedToCapacityRatio");
        }
        (false, None) => {}
    }
}

fn check_shape(shape: &[UtilizationShapePoint], path: &Path<'_>, errors: &mut Errors) {
    if shape.is_empty() {
        return errors.required(path, "at least one point must be specified");
    }
    let falling = shape.windows(2).position(|two| two[0].utilization >= two[1].utilization);
    if let Some(i) = falling.map(|i| i + 1) {
        let detail = "values must be sorted in increasing order";
        errors.invalid(&path.index(i).child("utilization"), shape[i].utilization, detail);
    }
    for (i, point) in shape.iter().enumerate() {
        let path = path.index(i);
        within(point.utilization, 0, 100, &path.child("utilization"), errors);
        within(point.score, 0, 10, &path.child("score"), errors);
    }
}

fn check_spread(args: &PodTopologySpreadArgs, path: &Path<'_>, errors: &mut Errors) {
    let constraints = &args.default_constraints;
    let path_type = path.child("defaultingType");
    match args.defaulting_type.as_str() {
        LIST => {}
        SYSTEM if constraints.is_empty() => {}
        SYSTEM => errors.invalid(&path_type, SYSTEM, "when .defaultConstraints are not empty"),
        other => errors.not_supported(&path_type, other, &[SYSTEM, LIST]),
    }
    let list = path.child("defaultConstraints");
    for (i, constraint) in constraints.iter().enumerate() {
        check_constraint(constraint, &list.index(i), errors);
        let same = |other: &TopologySpreadConstraint| {
            other.topology_key == constraint.topology_key
                && other.when_unsatisfiable == constraint.when_unsatisfiable
        };
        if constraints[..i].iter().any(same) {
            let (key, action) = (&constraint.topology_key, &constraint.when_unsatisfiable);
            errors.duplicate(&list.index(i), format!("{{{key}, {action}}}"));
        }
    }
}

fn check_constraint(it: &TopologySpreadConstraint, path: &Path<'_>, errors: &mut Errors) {
    if it.max_skew <= 0 {
        errors.invalid(&path.child("maxSkew"), it.max_skew, "not in valid range (0, inf)");
    }
    let path_key = path.child("topologyKey");
    if it.topology_key.is_empty() {
        errors.required(&path_key, "can not be empty");
    } else {
        let problems = syntax::qualified_name(&it.topology_key);
        errors.each_invalid(&path_key, &it.topology_key, problems);
    }
    let path_action = path.child("whenUnsatisfiable");
    match it.when_unsatisfiable.as_str() {
        "DoNotSchedule" | "ScheduleAnyway" => {}
        "" => errors.required(&path_action, "can not be empty"),
        other => errors.not_supported(&path_action, other, &["DoNotSchedule", "ScheduleAnyway"]),
    }
    if it.label_selector.is_some() {
        let detail = "constraint must not define a selector, as they deduced for each pod";
        errors.forbidden(&path.child("labelSelector"), detail);
    }
}

fn check_volume_binding(args: &VolumeBindingArgs, path: &Path<'_>, errors: &mut Errors) {
    let seconds = args.bind_timeout_seconds();
    if seconds < 0 {
        let detail = "invalid BindTimeoutSeconds, should not be a negative value";
        errors.invalid(&path.child("bindTimeoutSeconds"), seconds, detail);
    }
    if let Some(shape) = &args.shape {
        let points = shape.iter().map(|p| json!({"utilization": p.utilization, "score": p.score}));
        let detail = "unexpected field `shape`, remove it or turn on the feature gate \
                      StorageCapacityScoring";
        errors.invalid(&path.child("shape"), points.collect::<Vec<_>>(), detail);
    }
}
