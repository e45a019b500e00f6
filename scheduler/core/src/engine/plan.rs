//! A profile as the index runs it: its plugins by what they look at.

use std::sync::Arc;

use super::scope::{self, Normalization, Scope};
use crate::cache::Snapshot;
use crate::counters::{Asked, Part, Weights};
use crate::framework::{Extender, Plugin, PluginName, Profile, Weighted};
use crate::plugins::{
    NodeResourcesBalancedAllocation, NodeResourcesFit, ResourceWeight, ScoringStrategy,
};
use crate::pod::PodInfo;

/// A profile's plugins by what they look at.
#[derive(Debug)]
pub(super) struct Plan {
    /// The plugins as the profile has them, to know it by.
    filter: Vec<Arc<dyn Plugin>>,
    score: Vec<Weighted>,
    extenders: Vec<Arc<dyn Extender>>,
    /// The profile has something that the index does not hold for any pod.
    is_unusual: bool,
    pub(super) fixed_filters: Vec<Arc<dyn Plugin>>,
    /// Those that need no normalisation.
    pub(super) fixed_scores: Vec<Weighted>,
    /// Those that are normalised by the highest score, and whether that is reversed.
    pub(super) scaled_scores: Vec<(Weighted, bool)>,
    pub(super) moving_filters: Vec<Arc<dyn Plugin>>,
    pub(super) moving_scores: Vec<Weighted>,
    cluster: Vec<Arc<dyn Plugin>>,
    /// What the moving plugins come to, if they are such that it can be computed in columns.
    pub(super) arithmetic: Option<Arithmetic>,
}

/// NodeResourcesFit and NodeResourcesBalancedAllocation over CPU and memory, as numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Arithmetic {
    /// Whether NodeResourcesFit filters.
    pub(super) fits: bool,
    /// Whether full nodes are better.
    pub(super) most_allocated: bool,
    /// What CPU and memory count in NodeResourcesFit's score.
    pub(super) resource_weights: [f64; 2],
    /// What NodeResourcesFit's score counts; 0 if it does not score.
    pub(super) fit_weight: f64,
    /// What NodeResourcesBalancedAllocation's score counts; 0 if it does not score.
    pub(super) balanced_weight: f64,
}

/// Up to here sums of weighted scores are exact in the arithmetic of the columns, and fit their rows.
const WEIGHT_MAX: i64 = 1 << 16;

impl Plan {
    pub(super) fn new(profile: &Profile) -> Self {
        // Every field is named: a new extension point has to be thought about. What comes before or
        // after the choice of a node is not the engine's.
        let Profile {
            scheduler_name: _,
            pre_enqueue: _,
            filter,
            post_filter: _,
            score,
            reserve: _,
            extenders,
        } = profile;
        let by_scope = |wanted: Scope| {
            let plugins = filter.iter().filter(move |p| scope::of(p.name()) == wanted);
            plugins.cloned().collect::<Vec<_>>()
        };
        let scores = |wanted: Scope, normalization: fn(Normalization) -> bool| {
            let plugins = score.iter().filter(move |weighted| {
                let name = weighted.plugin.name();
                scope::of(name) == wanted && normalization(scope::normalization(name))
            });
            plugins.cloned().collect::<Vec<_>>()
        };
        let mut cluster = by_scope(Scope::Cluster);
        for Weighted { plugin, .. } in score {
            let is_known = cluster.iter().any(|known| known.name() == plugin.name());
            if scope::of(plugin.name()) == Scope::Cluster && !is_known {
                cluster.push(Arc::clone(plugin));
            }
        }
        let scaled = scores(Scope::Fixed, |n| n != Normalization::None).into_iter();
        let mut plan = Self {
            filter: filter.clone(),
            score: score.clone(),
            extenders: extenders.clone(),
            is_unusual: !score.iter().all(|w| (0..=WEIGHT_MAX).contains(&w.weight)),
            fixed_filters: by_scope(Scope::Fixed),
            fixed_scores: scores(Scope::Fixed, |n| n == Normalization::None),
            scaled_scores: scaled
                .map(|weighted| {
                    let reverse = Normalization::ByHighest { reverse: true };
                    let is_reverse = scope::normalization(weighted.plugin.name()) == reverse;
                    (weighted, is_reverse)
                })
                .collect(),
            moving_filters: by_scope(Scope::Moving),
            moving_scores: scores(Scope::Moving, |_| true),
            cluster,
            arithmetic: None,
        };
        plan.arithmetic = plan.arithmetic();
        plan
    }

    /// Whether this is the plan of that profile.
    pub(super) fn is_of(&self, profile: &Profile) -> bool {
        self.filter.len() == profile.filter.len()
            && self.score.len() == profile.score.len()
            && self.extenders.len() == profile.extenders.len()
            && self.extenders.iter().zip(&profile.extenders).all(|(a, b)| Arc::ptr_eq(a, b))
            && self.filter.iter().zip(&profile.filter).all(|(a, b)| Arc::ptr_eq(a, b))
            && self
                .score
                .iter()
                .zip(&profile.score)
                .all(|(a, b)| Arc::ptr_eq(&a.plugin, &b.plugin) && a.weight == b.weight)
    }

    /// Whether the index gives the reference's answer for the pod, as far as the plugins go that look
    /// at one node at a time.
    pub(super) fn covers(&self, pod: &PodInfo, snapshot: &Snapshot) -> bool {
        !self.is_unusual
            && !snapshot.has_nominations_with_affinity()
            && !asks_for_devices(pod, snapshot)
            && !self.extenders.iter().any(|extender| extender.is_interested(pod))
    }

    /// Whether nobody else is asked about pods.
    pub(super) fn has_no_extenders(&self) -> bool {
        self.extenders.is_empty()
    }

    /// The other plugins that have something to say of the pod.
    pub(super) fn wide(&self, pod: &PodInfo, snapshot: &Snapshot) -> Vec<&dyn Plugin> {
        let plugins = self.cluster.iter().map(|plugin| &**plugin);
        plugins.filter(|plugin| !scope::is_idle(*plugin, pod, snapshot)).collect()
    }

    /// What the counters are asked about a pod of which these plugins have something to say; `None`
    /// if one of them is not theirs.
    pub(super) fn asked<'a>(&self, number: usize, wide: &[&'a dyn Plugin]) -> Option<Asked<'a>> {
        let mut asked = Asked { plan: number, ..Asked::default() };
        for plugin in wide {
            let name = plugin.name();
            let filters = self.filters(name);
            let weight = self.weight(name);
            let any = plugin.as_any()?;
            if let Some(plugin) = any.downcast_ref() {
                asked.affinity = Some(Part { plugin, filters, weight });
            } else {
                let plugin = any.downcast_ref()?;
                asked.spread = Some(Part { plugin, filters, weight });
            }
        }
        Some(asked)
    }

    /// The resources that few nodes have and without which NodeResourcesFit refuses one for the pod.
    pub(super) fn required<'a>(&'a self, pod: &'a PodInfo) -> impl Iterator<Item = &'a str> {
        let plugins = self.moving_filters.iter().filter_map(|plugin| plugin.as_any());
        let fit = plugins.filter_map(|plugin| plugin.downcast_ref::<NodeResourcesFit>());
        fit.flat_map(|fit| fit.required(pod))
    }

    /// What the plugins' scores count.
    pub(super) fn weights(&self) -> Weights {
        Weights {
            affinity: self.weight(PluginName::InterPodAffinity),
            spread: self.weight(PluginName::PodTopologySpread),
        }
    }

    fn weight(&self, name: PluginName) -> i64 {
        let weighted = self.score.iter().find(|weighted| weighted.plugin.name() == name);
        weighted.map_or(0, |weighted| weighted.weight)
    }

    /// Whether the profile has the plugin filter.
    pub(super) fn filters(&self, name: PluginName) -> bool {
        self.filter.iter().any(|plugin| plugin.name() == name)
    }

    /// The plugins that score, as the profile has them.
    pub(super) fn scores(&self) -> &[Weighted] {
        &self.score
    }

    fn arithmetic(&self) -> Option<Arithmetic> {
        let names = |name: PluginName| self.moving_filters.iter().any(|p| p.name() == name);
        let weighted = |name: PluginName| {
            let mut found = self.moving_scores.iter().filter(move |w| w.plugin.name() == name);
            found.next().map(|weighted| (weighted.weight, &weighted.plugin))
        };
        let mut arithmetic = Arithmetic {
            fits: names(PluginName::NodeResourcesFit),
            most_allocated: false,
            resource_weights: [1.0; 2],
            fit_weight: 0.0,
            balanced_weight: 0.0,
        };
        if let Some((weight, plugin)) = weighted(PluginName::NodeResourcesFit) {
            let fit = plugin.as_any()?.downcast_ref::<NodeResourcesFit>()?;
            arithmetic.most_allocated = match &fit.strategy {
                ScoringStrategy::LeastAllocated => false,
                ScoringStrategy::MostAllocated => true,
                ScoringStrategy::RequestedToCapacityRatio(_) => return None,
            };
            arithmetic.resource_weights = cpu_and_memory(&fit.resources)?;
            arithmetic.fit_weight = exact(weight)?;
        }
        if let Some((weight, plugin)) = weighted(PluginName::NodeResourcesBalancedAllocation) {
            let plugin = plugin.as_any()?.downcast_ref::<NodeResourcesBalancedAllocation>()?;
            cpu_and_memory(&plugin.resources)?;
            arithmetic.balanced_weight = exact(weight)?;
        }
        Some(arithmetic)
    }
}

/// Whether devices stand for something that the pod asks for: what NodeResourcesFit says of it depends
/// on device classes then.
fn asks_for_devices(pod: &PodInfo, snapshot: &Snapshot) -> bool {
    let objects = snapshot.objects();
    pod.signature.asks.scalars && objects.classes_asked_for(&pod.requests).next().is_some()
}

/// The weights of CPU and memory if these are all.
fn cpu_and_memory(resources: &[ResourceWeight]) -> Option<[f64; 2]> {
    match resources {
        [a, b] if a.name == "cpu" && b.name == "memory" => {
            Some([exact(a.weight)?, exact(b.weight)?])
        }
        [b, a] if a.name == "cpu" && b.name == "memory" => {
            Some([exact(a.weight)?, exact(b.weight)?])
        }
        _ => None,
    }
}

#[expect(clippy::cast_precision_loss, reason = "small enough to be exact")]
fn exact(weight: i64) -> Option<f64> {
    (1..=WEIGHT_MAX).contains(&weight).then_some(weight as f64)
}
