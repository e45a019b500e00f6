//! Which plugins run at which extension point: the file's sets merged with the defaults and with
//! `multiPoint`.
//!
//! Mirrors `mergePluginSet` (`pkg/scheduler/apis/config/v1/default_plugins.go`) and
//! `expandMultiPointPlugins` (`pkg/scheduler/framework/runtime/framework.go`): what a point says of
//! a plugin wins over `multiPoint`, and what the file says wins over the defaults.

use pintle_api::field::{Errors, Path};
use pintle_scheduler_core::framework::{ExtensionPoint, PluginName};

use super::v1::{Plugin, PluginSet, Plugins};

#[cfg(test)]
mod tests;

/// A plugin at a point; the weight counts at Score alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enabled {
    /// Which.
    pub plugin: PluginName,
    /// At least 1.
    pub weight: i32,
}

/// The plugins of a profile, by extension point, in the order in which they run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginTable([Vec<Enabled>; POINTS.len()]);

impl PluginTable {
    /// The plugins at a point.
    pub fn at(&self, point: ExtensionPoint) -> &[Enabled] {
        let place = POINTS.iter().position(|(of, _)| *of == point).expect("every point is listed");
        &self.0[place]
    }
}

/// The extension points, and what the file calls them.
const POINTS: [(ExtensionPoint, &str); 12] = [
    (ExtensionPoint::PreEnqueue, "preEnqueue"),
    (ExtensionPoint::QueueSort, "queueSort"),
    (ExtensionPoint::PreFilter, "preFilter"),
    (ExtensionPoint::Filter, "filter"),
    (ExtensionPoint::PostFilter, "postFilter"),
    (ExtensionPoint::PreScore, "preScore"),
    (ExtensionPoint::Score, "score"),
    (ExtensionPoint::Reserve, "reserve"),
    (ExtensionPoint::Permit, "permit"),
    (ExtensionPoint::PreBind, "preBind"),
    (ExtensionPoint::Bind, "bind"),
    (ExtensionPoint::PostBind, "postBind"),
];

/// `getDefaultPlugins`: what `multiPoint` has if the file says nothing, with weights.
const DEFAULTS: [(PluginName, Option<i32>); 20] = [
    (PluginName::SchedulingGates, None),
    (PluginName::PrioritySort, None),
    (PluginName::NodeUnschedulable, None),
    (PluginName::NodeName, None),
    (PluginName::TaintToleration, Some(3)),
    (PluginName::NodeAffinity, Some(2)),
    (PluginName::NodePorts, None),
    (PluginName::NodeResourcesFit, Some(1)),
    (PluginName::VolumeRestrictions, None),
    (PluginName::NodeVolumeLimits, None),
    (PluginName::VolumeBinding, None),
    (PluginName::VolumeZone, None),
    (PluginName::PodTopologySpread, Some(2)),
    (PluginName::InterPodAffinity, Some(2)),
    (PluginName::DynamicResources, Some(2)),
    (PluginName::DefaultPreemption, None),
    (PluginName::NodeResourcesBalancedAllocation, Some(1)),
    (PluginName::ImageLocality, Some(1)),
    (PluginName::DefaultBinder, None),
    (PluginName::GangScheduling, None),
];

/// The points that a plugin implements.
fn points(plugin: PluginName) -> &'static [ExtensionPoint] {
    use ExtensionPoint::{
        Bind, Filter, PostFilter, PreBind, PreEnqueue, PreFilter, PreScore, QueueSort, Reserve,
        Score,
    };
    match plugin {
        PluginName::SchedulingGates => &[PreEnqueue],
        PluginName::PrioritySort => &[QueueSort],
        PluginName::NodeUnschedulable | PluginName::NodeName => &[Filter],
        PluginName::TaintToleration => &[Filter, PreScore, Score],
        PluginName::NodeAffinity
        | PluginName::NodeResourcesFit
        | PluginName::PodTopologySpread
        | PluginName::InterPodAffinity => &[PreFilter, Filter, PreScore, Score],
        PluginName::NodePorts
        | PluginName::VolumeRestrictions
        | PluginName::NodeVolumeLimits
        | PluginName::VolumeZone => &[PreFilter, Filter],
        PluginName::VolumeBinding => &[PreFilter, Filter, Reserve, PreBind, PreScore, Score],
        PluginName::DynamicResources => {
            &[PreEnqueue, PreFilter, Filter, PostFilter, Score, Reserve, PreBind]
        }
        PluginName::DefaultPreemption => &[PreEnqueue, PostFilter],
        PluginName::NodeResourcesBalancedAllocation => &[PreScore, Score],
        PluginName::ImageLocality => &[Score],
        PluginName::DefaultBinder => &[Bind],
        PluginName::GangScheduling => &[PreEnqueue],
        // Alpha in 1.35, and off by default.
        PluginName::NodeDeclaredFeatures => &[],
    }
}

/// The plugin of this name, if there is one here.
pub(super) fn find(name: &str) -> Option<PluginName> {
    PluginName::ALL.iter().copied().find(|plugin| plugin.as_str() == name)
}

/// Removed with the volume types that were moved out of the tree.
const REMOVED: [&str; 4] = ["AzureDiskLimits", "CinderLimits", "EBSLimits", "GCEPDLimits"];

/// What the validation of `enabled` and `pluginConfig` says of a plugin that there is no more.
pub(super) fn removed(name: &str) -> Option<String> {
    REMOVED.contains(&name).then(|| {
        format!(
            "was invalid in version \"v1\" (KubeSchedulerConfiguration is version {:?})",
            super::API_VERSION
        )
    })
}

/// The sets of a profile, checked and merged; `path` is that of `plugins`. What is wrong is left
/// out of the table.
pub(super) fn resolve(
    plugins: &Plugins,
    scheduler_name: &str,
    path: &Path<'_>,
    errors: &mut Errors,
) -> PluginTable {
    check_set(&plugins.multi_point, None, &path.child("multiPoint"), errors);
    let multi_point = merge_with_defaults(&plugins.multi_point);
    let table = POINTS.map(|(point, name)| {
        let set = set_of(plugins, point);
        check_set(set, Some(point), &path.child(name), errors);
        expand(point, set, &multi_point)
    });
    let table = PluginTable(table);
    let sorts = table.at(ExtensionPoint::QueueSort).len();
    if sorts != 1 {
        errors.invalid(
            &path.child("queueSort"),
            sorts,
            format!(
                "only one queue sort plugin required for profile with scheduler name \
                 {scheduler_name:?}, but got {sorts}"
            ),
        );
    }
    if table.at(ExtensionPoint::Bind).is_empty() {
        let detail = format!(
            "at least one bind plugin is needed for profile with scheduler name {scheduler_name:?}"
        );
        errors.required(&path.child("bind"), &detail);
    }
    table
}

fn set_of(plugins: &Plugins, point: ExtensionPoint) -> &PluginSet {
    match point {
        ExtensionPoint::PreEnqueue => &plugins.pre_enqueue,
        ExtensionPoint::QueueSort => &plugins.queue_sort,
        ExtensionPoint::PreFilter => &plugins.pre_filter,
        ExtensionPoint::Filter => &plugins.filter,
        ExtensionPoint::PostFilter => &plugins.post_filter,
        ExtensionPoint::PreScore => &plugins.pre_score,
        ExtensionPoint::Score => &plugins.score,
        ExtensionPoint::Reserve => &plugins.reserve,
        ExtensionPoint::Permit => &plugins.permit,
        ExtensionPoint::PreBind => &plugins.pre_bind,
        ExtensionPoint::Bind => &plugins.bind,
        ExtensionPoint::PostBind => &plugins.post_bind,
    }
}

/// Unknown plugins, plugins that have nothing to do at the point, plugins named twice, weights
/// below zero. Of `disabled` nothing is asked: it may name what there no longer is.
fn check_set(set: &PluginSet, point: Option<ExtensionPoint>, path: &Path<'_>, errors: &mut Errors) {
    let list = path.child("enabled");
    let kind = point.map_or_else(|| "Plugin".to_owned(), |point| format!("{point:?}Plugin"));
    for (i, Plugin { name, weight }) in set.enabled.iter().enumerate() {
        let path = list.index(i);
        let detail = match find(name) {
            None => removed(name).or_else(|| Some(format!("{kind} {name:?} does not exist"))),
            Some(plugin) if point.is_some_and(|point| !points(plugin).contains(&point)) => {
                Some(format!("plugin {name:?} does not extend {kind} plugin"))
            }
            Some(_) if set.enabled[..i].iter().any(|earlier| earlier.name == *name) => {
                Some(format!("plugin {name:?} already registered as {kind:?}"))
            }
            Some(_) => None,
        };
        if let Some(detail) = detail {
            errors.invalid(&path, name.as_str(), detail);
        }
        if let Some(weight) = weight.filter(|weight| *weight < 0) {
            errors.invalid(&path.child("weight"), weight, "should not be negative");
        }
    }
}

/// The default plugins without those that the file disables; those that it enables again take the
/// place and the weight that it gives; the others that it enables come last.
fn merge_with_defaults(custom: &PluginSet) -> Vec<Plugin> {
    let is_disabled = |name: &str| {
        custom.disabled.iter().any(|disabled| disabled.name == name || disabled.name == "*")
    };
    let mut merged: Vec<Plugin> = DEFAULTS
        .iter()
        .map(|(plugin, weight)| Plugin { name: plugin.as_str().to_owned(), weight: *weight })
        .filter(|plugin| !is_disabled(&plugin.name))
        .collect();
    for plugin in &custom.enabled {
        match merged.iter_mut().find(|default| default.name == plugin.name) {
            Some(default) => *default = plugin.clone(),
            None => merged.push(plugin.clone()),
        }
    }
    merged
}

/// First those that both the point and `multiPoint` name, as the point orders them, then those of
/// `multiPoint` alone, then those of the point alone.
fn expand(point: ExtensionPoint, set: &PluginSet, multi_point: &[Plugin]) -> Vec<Enabled> {
    let implementing = |plugin: &Plugin| {
        find(&plugin.name)
            .filter(|name| points(*name).contains(&point))
            .map(|name| (name, plugin.weight.unwrap_or_default()))
    };
    let own: Vec<(PluginName, i32)> = set.enabled.iter().filter_map(implementing).collect();
    let is_disabled = |name: &str| set.disabled.iter().any(|disabled| disabled.name == name);
    let inherited: Vec<(PluginName, i32)> = if is_disabled("*") {
        Vec::new()
    } else {
        let kept = multi_point.iter().filter(|plugin| !is_disabled(&plugin.name));
        kept.filter_map(implementing).collect()
    };
    let has = |list: &[(PluginName, i32)], name| list.iter().any(|(other, _)| *other == name);
    let overriding = own.iter().filter(|(name, _)| has(&inherited, *name));
    let only_inherited = inherited.iter().filter(|(name, _)| !has(&own, *name));
    let only_own = own.iter().filter(|(name, _)| !has(&inherited, *name));
    let ordered = overriding.chain(only_inherited).chain(only_own);
    ordered.map(|&(plugin, weight)| Enabled { plugin, weight: weight.max(1) }).collect()
}
