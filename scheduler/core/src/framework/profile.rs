//! Which plugins run, in which order and with which weights.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{ClusterEvent, Extender, Plugin, PluginName, PluginSet};
use crate::plugins;
use crate::pod::PodInfo;

/// A plugin at the score point.
#[derive(Clone, Debug)]
pub struct Weighted {
    /// The plugin.
    pub plugin: Arc<dyn Plugin>,
    /// What its normalised score is multiplied by.
    pub weight: i64,
}

/// One scheduler of possibly several in a process, as a KubeSchedulerConfiguration profile.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Pods choose it by `spec.schedulerName`.
    pub scheduler_name: String,
    /// Plugins that may keep a pod out of the active queue.
    pub pre_enqueue: Vec<Arc<dyn Plugin>>,
    /// Plugins that filter, in order: the first refusal counts.
    pub filter: Vec<Arc<dyn Plugin>>,
    /// Plugins that are asked when no node is left.
    pub post_filter: Vec<Arc<dyn Plugin>>,
    /// Plugins that score.
    pub score: Vec<Weighted>,
    /// Plugins that take what the pod will use, in order.
    pub reserve: Vec<Arc<dyn Plugin>>,
    /// Extenders, in the order in which they filter.
    pub extenders: Vec<Arc<dyn Extender>>,
}

impl Profile {
    /// The default plugins with their default weights
    /// (`pkg/scheduler/apis/config/v1/default_plugins.go`).
    pub fn default_plugins(scheduler_name: &str) -> Self {
        let taints: Arc<dyn Plugin> = Arc::new(plugins::TaintToleration);
        let affinity: Arc<dyn Plugin> = Arc::new(plugins::NodeAffinity::default());
        let fit: Arc<dyn Plugin> = Arc::new(plugins::NodeResourcesFit::default());
        let spread: Arc<dyn Plugin> = Arc::new(plugins::PodTopologySpread::default());
        let pods: Arc<dyn Plugin> = Arc::new(plugins::InterPodAffinity::default());
        let devices: Arc<dyn Plugin> = Arc::new(plugins::DynamicResources::default());
        let balanced: Arc<dyn Plugin> =
            Arc::new(plugins::NodeResourcesBalancedAllocation::default());
        let volumes: Arc<dyn Plugin> = Arc::new(plugins::VolumeBinding);
        let preemption: Arc<dyn Plugin> = Arc::new(plugins::DefaultPreemption::default());
        let weighted =
            |plugin: &Arc<dyn Plugin>, weight| Weighted { plugin: plugin.clone(), weight };
        Self {
            scheduler_name: scheduler_name.to_owned(),
            pre_enqueue: vec![
                Arc::new(plugins::SchedulingGates),
                devices.clone(),
                preemption.clone(),
                Arc::new(plugins::GangScheduling),
            ],
            filter: vec![
                Arc::new(plugins::NodeUnschedulable),
                Arc::new(plugins::NodeName),
                taints.clone(),
                affinity.clone(),
                Arc::new(plugins::NodePorts),
                fit.clone(),
                Arc::new(plugins::VolumeRestrictions),
                Arc::new(plugins::NodeVolumeLimits),
                volumes.clone(),
                Arc::new(plugins::VolumeZone),
                spread.clone(),
                pods.clone(),
                devices.clone(),
            ],
            post_filter: vec![devices.clone(), preemption],
            reserve: vec![volumes.clone(), devices.clone()],
            extenders: vec![],
            score: vec![
                weighted(&taints, 3),
                weighted(&affinity, 2),
                weighted(&fit, 1),
                weighted(&volumes, 1),
                weighted(&spread, 2),
                weighted(&pods, 2),
                weighted(&devices, 2),
                weighted(&balanced, 1),
                Weighted { plugin: Arc::new(plugins::ImageLocality), weight: 1 },
            ],
        }
    }

    /// The plugins that registered the event.
    pub fn interested(&self, event: ClusterEvent) -> PluginSet {
        let plugins = self.pre_enqueue.iter().chain(&self.filter).chain(&self.reserve);
        let registered = plugins.filter(|p| p.events().iter().any(|e| e.covers(event)));
        registered.map(|plugin| plugin.name()).collect()
    }

    /// The plugin of this name, at whichever point it runs.
    pub fn plugin(&self, name: PluginName) -> Option<&Arc<dyn Plugin>> {
        let gates = self.pre_enqueue.iter().chain(&self.filter).chain(&self.post_filter);
        let plugins = gates.chain(&self.reserve).chain(self.score.iter().map(|w| &w.plugin));
        let mut plugins = plugins;
        plugins.find(|plugin| plugin.name() == name)
    }
}

/// The profiles of a process by scheduler name.
#[derive(Clone, Debug)]
pub struct Profiles(BTreeMap<String, Profile>);

impl Profiles {
    /// One profile under its name.
    pub fn single(profile: Profile) -> Self {
        Self(BTreeMap::from([(profile.scheduler_name.clone(), profile)]))
    }

    /// The profile that schedules the pod; `None` if the pod is another scheduler's.
    pub fn of(&self, pod: &PodInfo) -> Option<&Profile> {
        self.0.get(pod.scheduler_name())
    }

    /// Every profile.
    pub fn iter(&self) -> impl Iterator<Item = &Profile> {
        self.0.values()
    }
}

impl FromIterator<Profile> for Profiles {
    fn from_iter<I: IntoIterator<Item = Profile>>(profiles: I) -> Self {
        let by_name = profiles.into_iter().map(|it| (it.scheduler_name.clone(), it));
        Self(by_name.collect())
    }
}
