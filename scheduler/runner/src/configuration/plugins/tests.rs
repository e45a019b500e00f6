//! The merge rules, and all of them against a plain reading of the documentation.

use proptest::prelude::*;

use super::*;

fn set(enabled: &[&str], disabled: &[&str]) -> PluginSet {
    let plugin = |name: &&str| Plugin { name: (*name).to_owned(), weight: None };
    PluginSet {
        enabled: enabled.iter().map(plugin).collect(),
        disabled: disabled.iter().map(plugin).collect(),
    }
}

fn table(plugins: &Plugins) -> PluginTable {
    resolve(plugins, "s", &Path::new("plugins"), &mut Errors::new())
}

fn names(plugins: &Plugins, point: ExtensionPoint) -> Vec<&'static str> {
    table(plugins).at(point).iter().map(|enabled| enabled.plugin.as_str()).collect()
}

const DEFAULT_SCORES: [&str; 9] = [
    "TaintToleration",
    "NodeAffinity",
    "NodeResourcesFit",
    "VolumeBinding",
    "PodTopologySpread",
    "InterPodAffinity",
    "DynamicResources",
    "NodeResourcesBalancedAllocation",
    "ImageLocality",
];

#[test]
fn defaults() {
    let plugins = Plugins::default();
    assert_eq!(names(&plugins, ExtensionPoint::Score), DEFAULT_SCORES);
    assert_eq!(
        names(&plugins, ExtensionPoint::PreEnqueue),
        ["SchedulingGates", "DynamicResources", "DefaultPreemption", "GangScheduling"]
    );
    assert_eq!(
        names(&plugins, ExtensionPoint::PostFilter),
        ["DynamicResources", "DefaultPreemption"]
    );
    assert_eq!(names(&plugins, ExtensionPoint::Reserve), ["VolumeBinding", "DynamicResources"]);
    assert_eq!(names(&plugins, ExtensionPoint::QueueSort), ["PrioritySort"]);
    let weights: Vec<i32> =
        table(&plugins).at(ExtensionPoint::Score).iter().map(|enabled| enabled.weight).collect();
    assert_eq!(weights, [3, 2, 1, 1, 2, 2, 2, 1, 1]);
}

#[test]
fn a_point_wins_over_multi_point() {
    // All off at the point, one on again.
    let only = Plugins { score: set(&["ImageLocality"], &["*"]), ..Plugins::default() };
    assert_eq!(names(&only, ExtensionPoint::Score), ["ImageLocality"]);
    assert_eq!(names(&only, ExtensionPoint::PreScore).len(), 7, "other points are as they were");
    // Named at the point: first, in the point's order and with its weight.
    let score = set(&["ImageLocality", "NodeAffinity"], &[]);
    let mut first = Plugins { score, ..Plugins::default() };
    first.score.enabled[1].weight = Some(40);
    let scores = names(&first, ExtensionPoint::Score);
    assert_eq!(scores[..3], ["ImageLocality", "NodeAffinity", "TaintToleration"]);
    assert_eq!(scores.len(), 9);
    assert_eq!(table(&first).at(ExtensionPoint::Score)[1].weight, 40);
    assert_eq!(table(&first).at(ExtensionPoint::Score)[0].weight, 1, "not given is 1");
    // On and off at the same point: on.
    let both = Plugins { filter: set(&["NodePorts"], &["NodePorts"]), ..Plugins::default() };
    assert_eq!(names(&both, ExtensionPoint::Filter).last(), Some(&"NodePorts"));
}

#[test]
fn multi_point_replaces_in_place() {
    let mut plugins = Plugins { multi_point: set(&["NodeAffinity"], &[]), ..Plugins::default() };
    plugins.multi_point.enabled[0].weight = Some(11);
    assert_eq!(names(&plugins, ExtensionPoint::Score), DEFAULT_SCORES);
    assert_eq!(table(&plugins).at(ExtensionPoint::Score)[1].weight, 11);
    let none = Plugins { multi_point: set(&[], &["*"]), ..Plugins::default() };
    assert_eq!(names(&none, ExtensionPoint::Filter), Vec::<&str>::new());
    let few = Plugins {
        multi_point: set(&["DefaultBinder", "PrioritySort", "NodeName"], &["*"]),
        ..Plugins::default()
    };
    assert_eq!(names(&few, ExtensionPoint::Filter), ["NodeName"]);
    // Off, and on again: at the end.
    let again = Plugins { multi_point: set(&["NodeName"], &["NodeName"]), ..Plugins::default() };
    assert_eq!(names(&again, ExtensionPoint::Filter).last(), Some(&"NodeName"));
}

#[test]
fn no_queue_sort_is_an_error() {
    let plugins = Plugins { multi_point: set(&["DefaultBinder"], &["*"]), ..Plugins::default() };
    let mut errors = Errors::new();
    resolve(&plugins, "s", &Path::new("plugins"), &mut errors);
    assert_eq!(
        errors.to_string(),
        "plugins.queueSort: Invalid value: 0: only one queue sort plugin required for profile with \
         scheduler name \"s\", but got 0"
    );
}

fn any_set() -> impl Strategy<Value = PluginSet> {
    let name = || {
        let known = proptest::sample::select(PluginName::ALL).prop_map(PluginName::as_str);
        prop_oneof![8 => known, 1 => Just("*"), 1 => Just("Unknown")]
    };
    let enabled = proptest::collection::vec((name(), proptest::option::of(-1..5_i32)), 0..4);
    (enabled, proptest::collection::vec(name(), 0..3)).prop_map(|(enabled, disabled)| PluginSet {
        enabled: enabled
            .into_iter()
            .map(|(name, weight)| Plugin { name: name.to_owned(), weight })
            .collect(),
        disabled: set(&[], &disabled).disabled,
    })
}

proptest! {
    /// A plugin runs at Score iff the point enables it, or `multiPoint` or the defaults do and the
    /// point does not disable it; once each, with a weight of at least 1.
    #[test]
    fn who_runs_is_as_documented(multi_point in any_set(), score in any_set()) {
        let plugins = Plugins { multi_point, score, ..Plugins::default() };
        let table = table(&plugins);
        let scores = table.at(ExtensionPoint::Score);
        for &plugin in PluginName::ALL {
            let named = |list: &[Plugin], or_all: bool| {
                list.iter().any(|it| it.name == plugin.as_str() || (or_all && it.name == "*"))
            };
            let default = DEFAULTS.iter().any(|(name, _)| *name == plugin)
                && !named(&plugins.multi_point.disabled, true);
            let multi = default || named(&plugins.multi_point.enabled, false);
            let at_point = named(&plugins.score.enabled, false)
                || (multi && !named(&plugins.score.disabled, true));
            let runs = at_point && points(plugin).contains(&ExtensionPoint::Score);
            let times = scores.iter().filter(|enabled| enabled.plugin == plugin).count();
            // A name given twice is refused with an error; then the table does not count.
            let twice = plugins.score.enabled.iter().filter(|it| it.name == plugin.as_str()).count() > 1;
            if !twice {
                prop_assert_eq!(times, usize::from(runs), "{}", plugin);
            }
        }
        prop_assert!(scores.iter().all(|enabled| enabled.weight >= 1));
    }
}
