//! A checked profile as the core's: each plugin built once, with its arguments.
//!
//! The core has one list for PreFilter and Filter and one for PreScore and Score: a plugin is in it
//! if it is enabled at the second of the two.

use std::collections::BTreeMap;
use std::sync::Arc;

use pintle_scheduler_core::framework::{
    self, Extender, ExtensionPoint, Plugin, PluginName, Weighted,
};
use pintle_scheduler_core::plugins;
use pintle_scheduler_core::plugins::pod_topology_spread::Defaults;
use pintle_scheduler_core::preemption::Shortlist;

use super::arguments::{NodeResourcesFitArgs, ResourceSpec, ScoringStrategy};
use super::{CheckedConfiguration, Enabled, PluginArguments, PluginTable, Profile};

impl CheckedConfiguration {
    /// The profiles as the core takes them, all with these extenders.
    pub fn build(&self, extenders: &[Arc<dyn Extender>]) -> framework::Profiles {
        let ignored = self.ignored_by_scheduler();
        let profiles = self.profiles();
        profiles
            .map(|(profile, table)| framework::Profile {
                extenders: extenders.to_vec(),
                ..build_one(profile, table, &ignored)
            })
            .collect()
    }

    /// The resources that extenders want left to them.
    fn ignored_by_scheduler(&self) -> Vec<String> {
        let extenders = self.configuration().extenders.iter();
        let resources = extenders.flat_map(|extender| &extender.managed_resources);
        let ignored = resources.filter(|resource| resource.ignored_by_scheduler);
        ignored.map(|resource| resource.name.clone()).collect()
    }
}

fn build_one(profile: &Profile, table: &PluginTable, ignored: &[String]) -> framework::Profile {
    let mut bench = Bench { arguments: &profile.arguments, ignored, built: BTreeMap::new() };
    framework::Profile {
        scheduler_name: profile.scheduler_name.clone(),
        pre_enqueue: bench.all(table.at(ExtensionPoint::PreEnqueue)),
        filter: bench.all(table.at(ExtensionPoint::Filter)),
        post_filter: bench.all(table.at(ExtensionPoint::PostFilter)),
        score: bench.weighted(table.at(ExtensionPoint::Score)),
        reserve: bench.all(table.at(ExtensionPoint::Reserve)),
        extenders: Vec::new(),
    }
}

/// Where the plugins of one profile are built.
struct Bench<'a> {
    arguments: &'a PluginArguments,
    ignored: &'a [String],
    built: BTreeMap<PluginName, Option<Arc<dyn Plugin>>>,
}

impl Bench<'_> {
    fn all(&mut self, enabled: &[Enabled]) -> Vec<Arc<dyn Plugin>> {
        enabled.iter().filter_map(|enabled| self.plugin(enabled.plugin)).collect()
    }

    fn weighted(&mut self, enabled: &[Enabled]) -> Vec<Weighted> {
        let weighted = |enabled: &Enabled| {
            let plugin = self.plugin(enabled.plugin)?;
            Some(Weighted { plugin, weight: i64::from(enabled.weight) })
        };
        enabled.iter().filter_map(weighted).collect()
    }

    fn plugin(&mut self, name: PluginName) -> Option<Arc<dyn Plugin>> {
        if let Some(built) = self.built.get(&name) {
            return built.clone();
        }
        let built = self.build(name);
        self.built.insert(name, built.clone());
        built
    }

    /// `None` for those whose work is the queue's or the binder's.
    fn build(&self, name: PluginName) -> Option<Arc<dyn Plugin>> {
        let arguments = self.arguments;
        Some(match name {
            PluginName::SchedulingGates => Arc::new(plugins::SchedulingGates),
            PluginName::NodeUnschedulable => Arc::new(plugins::NodeUnschedulable),
            PluginName::NodeName => Arc::new(plugins::NodeName),
            PluginName::TaintToleration => Arc::new(plugins::TaintToleration),
            PluginName::NodeAffinity => {
                let added = arguments.node_affinity.added_affinity.clone();
                Arc::new(plugins::NodeAffinity::with_added(added.unwrap_or_default()))
            }
            PluginName::NodePorts => Arc::new(plugins::NodePorts),
            PluginName::NodeResourcesFit => {
                Arc::new(fit(&arguments.node_resources_fit, self.ignored))
            }
            PluginName::PodTopologySpread => {
                let given = &arguments.pod_topology_spread;
                let defaults = match given.defaulting_type.as_str() {
                    "List" => Defaults::List(given.default_constraints.clone()),
                    _ => Defaults::System,
                };
                Arc::new(plugins::PodTopologySpread { defaults })
            }
            PluginName::InterPodAffinity => {
                let given = &arguments.inter_pod_affinity;
                Arc::new(plugins::InterPodAffinity {
                    hard_pod_affinity_weight: given.hard_pod_affinity_weight(),
                    ignore_preferred_terms_of_existing_pods: given
                        .ignore_preferred_terms_of_existing_pods,
                })
            }
            PluginName::NodeResourcesBalancedAllocation => {
                let resources = &arguments.node_resources_balanced_allocation.resources;
                let resources = weights(resources);
                Arc::new(plugins::NodeResourcesBalancedAllocation { resources })
            }
            PluginName::DynamicResources => Arc::new(plugins::DynamicResources::default()),
            PluginName::GangScheduling => Arc::new(plugins::GangScheduling),
            PluginName::ImageLocality => Arc::new(plugins::ImageLocality),
            PluginName::VolumeRestrictions => Arc::new(plugins::VolumeRestrictions),
            PluginName::NodeVolumeLimits => Arc::new(plugins::NodeVolumeLimits),
            PluginName::DefaultPreemption => {
                let arguments = &arguments.default_preemption;
                let count = |given: i32| u32::try_from(given).unwrap_or_default();
                Arc::new(plugins::DefaultPreemption {
                    shortlist: Shortlist {
                        percentage_min: count(arguments.min_candidate_nodes_percentage()),
                        absolute_min: count(arguments.min_candidate_nodes_absolute()),
                    },
                })
            }
            PluginName::VolumeBinding => Arc::new(plugins::VolumeBinding),
            PluginName::VolumeZone => Arc::new(plugins::VolumeZone),
            _ => return None,
        })
    }
}

fn fit(arguments: &NodeResourcesFitArgs, ignored: &[String]) -> plugins::NodeResourcesFit {
    let ignored = arguments.ignored_resources.iter().chain(ignored);
    let given = arguments.scoring_strategy.as_ref();
    plugins::NodeResourcesFit {
        ignored_resources: ignored.cloned().collect(),
        ignored_resource_groups: arguments.ignored_resource_groups.iter().cloned().collect(),
        strategy: given.map_or(plugins::ScoringStrategy::LeastAllocated, strategy),
        resources: given.map(|given| weights(&given.resources)).unwrap_or_default(),
    }
}

fn strategy(given: &ScoringStrategy) -> plugins::ScoringStrategy {
    let shape = given.requested_to_capacity_ratio.iter().flat_map(|ratio| &ratio.shape);
    match given.strategy.as_str() {
        "MostAllocated" => plugins::ScoringStrategy::MostAllocated,
        "RequestedToCapacityRatio" => {
            let points = shape.map(|point| plugins::ShapePoint {
                utilization: point.utilization.into(),
                score: point.score.into(),
            });
            plugins::ScoringStrategy::RequestedToCapacityRatio(points.collect())
        }
        _ => plugins::ScoringStrategy::LeastAllocated,
    }
}

fn weights(resources: &[ResourceSpec]) -> Vec<plugins::ResourceWeight> {
    let weight = |spec: &ResourceSpec| plugins::ResourceWeight {
        name: spec.name.clone(),
        weight: spec.weight,
    };
    resources.iter().map(weight).collect()
}
