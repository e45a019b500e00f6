//! Files that are taken, with what becomes of them, and files that are refused, with the words.

use pintle_scheduler_core::framework::{ExtensionPoint, PluginName, Profile as CoreProfile};
use proptest::prelude::*;

use super::*;

const HEADER: &str =
    "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";

fn parse(body: &str) -> Result<KubeSchedulerConfiguration, String> {
    KubeSchedulerConfiguration::parse(format!("{HEADER}{body}").as_bytes())
}

fn checked(body: &str) -> CheckedConfiguration {
    parse(body).unwrap().check().unwrap()
}

/// What stops the start: the decoder's words or the validation's.
fn refusal(body: &str) -> String {
    match parse(body) {
        Err(message) => message,
        Ok(configuration) => configuration.check().unwrap_err().to_string(),
    }
}

fn core(body: &str) -> CoreProfile {
    let profiles = checked(body).build(&[]);
    profiles.iter().next().unwrap().clone()
}

#[test]
fn an_empty_file_is_the_default() {
    let configuration = parse("").unwrap();
    assert_eq!(configuration, KubeSchedulerConfiguration::default());
    assert_eq!(configuration.parallelism, 16);
    assert_eq!(configuration.pod_initial_backoff_seconds, 1);
    assert_eq!(configuration.pod_max_backoff_seconds, 10);
    assert!(configuration.enable_profiling && configuration.enable_contention_profiling);
    let election = &configuration.leader_election;
    assert!(election.leader_elect);
    assert_eq!(
        [election.lease_duration, election.renew_deadline, election.retry_period]
            .map(|duration| duration.to_string()),
        ["15s", "10s", "2s"]
    );
    assert_eq!(election.resource_lock, "leases");
    assert_eq!(election.resource_name, "kube-scheduler");
    assert_eq!(election.resource_namespace, "kube-system");
    assert_eq!(configuration.profiles[0].scheduler_name, "default-scheduler");
    let arguments = &configuration.profiles[0].arguments;
    assert_eq!(arguments.default_preemption.min_candidate_nodes_percentage(), 10);
    assert_eq!(arguments.default_preemption.min_candidate_nodes_absolute(), 100);
    assert_eq!(arguments.inter_pod_affinity.hard_pod_affinity_weight(), 1);
    assert_eq!(arguments.volume_binding.bind_timeout_seconds(), 600);
    assert_eq!(arguments.pod_topology_spread.defaulting_type, "System");
    assert_eq!(arguments.dynamic_resources.filter_timeout().to_string(), "10s");
    configuration.check().unwrap();
}

#[test]
fn the_default_is_the_cores_default() {
    let (built, default) = (core(""), CoreProfile::default_plugins("default-scheduler"));
    assert_eq!(format!("{built:?}"), format!("{default:?}"));
}

#[test]
fn a_full_file_is_taken() {
    let configuration = checked(
        "parallelism: 4\n\
         leaderElection: {leaderElect: false, leaseDuration: 1m30s, resourceName: mine}\n\
         clientConnection: {kubeconfig: /k, qps: 5.5, burst: 10, contentType: application/json}\n\
         enableProfiling: false\n\
         percentageOfNodesToScore: 50\n\
         podInitialBackoffSeconds: 2\n\
         podMaxBackoffSeconds: 20\n\
         delayCacheUntilActive: true\n\
         profiles:\n\
         - schedulerName: packer\n\
         \x20 pluginConfig:\n\
         \x20 - name: NodeResourcesFit\n\
         \x20   args:\n\
         \x20     apiVersion: kubescheduler.config.k8s.io/v1\n\
         \x20     kind: NodeResourcesFitArgs\n\
         \x20     ignoredResourceGroups: [example.com]\n\
         \x20     scoringStrategy: {type: MostAllocated, resources: [{name: cpu, weight: 3}]}\n\
         \x20 - {name: InterPodAffinity, args: {hardPodAffinityWeight: 7}}\n\
         \x20 - {name: VolumeBinding, args: {bindTimeoutSeconds: 0}}\n\
         \x20 - {name: DefaultPreemption}\n\
         - schedulerName: other\n\
         extenders:\n\
         - urlPrefix: https://extender:8443/v1\n\
         \x20 prioritizeVerb: score\n\
         \x20 weight: 2\n\
         \x20 httpTimeout: 500ms\n\
         \x20 tlsConfig: {caData: cGVt}\n\
         \x20 managedResources: [{name: example.com/gpu, ignoredByScheduler: true}]\n",
    );
    let it = configuration.configuration();
    assert_eq!(it.client_connection.qps, Some(5.5));
    assert_eq!(it.client_connection.kubeconfig.as_deref(), Some("/k"));
    assert_eq!(it.leader_election.lease_duration.to_string(), "1m30s");
    assert!(
        !it.leader_election.leader_elect && !it.enable_profiling && it.delay_cache_until_active
    );
    assert!(!it.enable_contention_profiling, "it goes with profiling");
    assert!(configuration.limits_nodes_to_score());
    let arguments = &it.profiles[0].arguments;
    assert_eq!(arguments.inter_pod_affinity.hard_pod_affinity_weight(), 7);
    assert_eq!(arguments.volume_binding.bind_timeout_seconds(), 0);
    let extender = &it.extenders[0];
    assert_eq!(extender.tls_config.as_ref().unwrap().ca_data.0, b"pem");
    assert_eq!(extender.http_timeout.to_string(), "500ms");
    let built = configuration.build(&[]);
    assert_eq!(built.iter().count(), 2);
    let packer = built.iter().find(|profile| profile.scheduler_name == "packer").unwrap();
    let fit = format!("{:?}", packer.plugin(PluginName::NodeResourcesFit).unwrap());
    for part in ["MostAllocated", "weight: 3", "example.com/gpu", "{\"example.com\"}"] {
        assert!(fit.contains(part), "{part}: {fit}");
    }
}

#[test]
fn weights_and_order_reach_the_core() {
    let profile = core(
        "profiles:\n- plugins:\n    multiPoint:\n      enabled: [{name: ImageLocality, weight: 7}]\n\
         \x20   score:\n      disabled: [{name: NodeAffinity}]\n\
         \x20     enabled: [{name: PodTopologySpread, weight: 9}]\n",
    );
    let scores: Vec<(PluginName, i64)> =
        profile.score.iter().map(|it| (it.plugin.name(), it.weight)).collect();
    assert_eq!(scores[0], (PluginName::PodTopologySpread, 9), "what the point names comes first");
    assert!(scores.contains(&(PluginName::ImageLocality, 7)));
    assert!(scores.contains(&(PluginName::TaintToleration, 3)));
    assert!(scores.iter().all(|(name, _)| *name != PluginName::NodeAffinity));
    assert!(profile.filter.iter().any(|it| it.name() == PluginName::NodeAffinity));
}

#[test]
fn the_kind_must_be_this_one() {
    for (file, error) in [
        ("", "Object 'Kind' is missing"),
        ("kind: KubeSchedulerConfiguration", "Object 'apiVersion' is missing"),
        (
            "apiVersion: kubescheduler.config.k8s.io/v1beta3\nkind: KubeSchedulerConfiguration",
            "no kind \"KubeSchedulerConfiguration\" is registered for version \
             \"kubescheduler.config.k8s.io/v1beta3\"; write apiVersion: \
             kubescheduler.config.k8s.io/v1 and kind: KubeSchedulerConfiguration",
        ),
        (
            "apiVersion: v1\nkind: ConfigMap",
            "no kind \"ConfigMap\" is registered for version \"v1\"; write apiVersion: \
             kubescheduler.config.k8s.io/v1 and kind: KubeSchedulerConfiguration",
        ),
        (
            "apiVersion: kubescheduler.config.k8s.io/v1\nkind: NodeAffinityArgs",
            "couldn't decode as KubeSchedulerConfiguration, got kubescheduler.config.k8s.io/v1, \
             Kind=NodeAffinityArgs",
        ),
        ("kind: 3", "json: cannot unmarshal 3 into kind of type string"),
        ("[1]", "Object 'Kind' is missing"),
    ] {
        assert_eq!(
            KubeSchedulerConfiguration::parse(file.as_bytes()).unwrap_err(),
            error,
            "{file}"
        );
    }
    let tabs = KubeSchedulerConfiguration::parse(b"a: [").unwrap_err();
    assert!(tabs.starts_with("couldn't get version/kind; yaml parse error: "), "{tabs}");
}

#[test]
fn unknown_and_ill_typed_fields_stop_the_start() {
    for (body, error) in [
        ("foo: 1", "strict decoding error: unknown field \"foo\""),
        (
            "leaderElection: {leaderElected: true}",
            "strict decoding error: unknown field \"leaderElection.leaderElected\"",
        ),
        (
            "profiles: [{plugins: {filter: {enable: []}}}]",
            "strict decoding error: unknown field \"profiles[0].plugins.filter.enable\"",
        ),
        (
            "parallelism: 1\nparallelism: 2",
            "strict decoding error: duplicate field \"parallelism\"",
        ),
        (
            "parallelism: many",
            "json: cannot unmarshal string into Go struct field \
             KubeSchedulerConfiguration.parallelism of type int32",
        ),
        (
            "profiles: [{plugins: {score: {enabled: [{name: ImageLocality, weight: 3000000000}]}}}]",
            "json: cannot unmarshal number 3000000000 into Go struct field \
             Plugin.profiles[0].plugins.score.enabled[0].weight of type int32",
        ),
        (
            "leaderElection: {leaseDuration: 15}",
            "json: cannot unmarshal number into Go struct field \
             LeaderElectionConfiguration.leaderElection.leaseDuration of type string",
        ),
        (
            "leaderElection: {leaseDuration: fifteen}",
            "leaderElection.leaseDuration: time: invalid duration \"fifteen\"",
        ),
        (
            "profiles:\n- pluginConfig:\n  - name: NodeResourcesFit\n    args:\n      \
             scoringStrategy: {requestedToCapacityRatio: {shape: [{Score: 2, Utilization: 1}]}}",
            "strict decoding error: decoding .profiles[0].pluginConfig[0]: strict decoding error: \
             decoding args for plugin NodeResourcesFit: strict decoding error: unknown field \
             \"scoringStrategy.requestedToCapacityRatio.shape[0].Score\", unknown field \
             \"scoringStrategy.requestedToCapacityRatio.shape[0].Utilization\"",
        ),
        (
            "profiles: [{pluginConfig: [{name: VolumeBinding, args: {bindTimeoutSeconds: soon}}]}]",
            "decoding .profiles[0].pluginConfig[0]: decoding args for plugin VolumeBinding: json: \
             cannot unmarshal string into Go struct field VolumeBindingArgs.bindTimeoutSeconds of \
             type int64",
        ),
        (
            "profiles:\n- pluginConfig:\n  - name: DefaultPreemption\n    args: {apiVersion: \
             kubescheduler.config.k8s.io/v1, kind: InterPodAffinityArgs}",
            "decoding .profiles[0].pluginConfig[0]: args for plugin DefaultPreemption were not of \
             type DefaultPreemptionArgs.kubescheduler.config.k8s.io, got \
             InterPodAffinityArgs.kubescheduler.config.k8s.io",
        ),
    ] {
        assert_eq!(refusal(body), error, "{body}");
    }
}

#[test]
fn values_out_of_range_stop_the_start() {
    for (body, error) in [
        (
            "parallelism: 0",
            "parallelism: Invalid value: 0: should be an integer value greater than zero",
        ),
        (
            "percentageOfNodesToScore: 101",
            "percentageOfNodesToScore: Invalid value: 101: not in valid range [0-100]",
        ),
        (
            "podInitialBackoffSeconds: 5\npodMaxBackoffSeconds: 4",
            "podMaxBackoffSeconds: Invalid value: 4: must be greater than or equal to \
             PodInitialBackoffSeconds",
        ),
        (
            "clientConnection: {burst: -1}",
            "clientConnection.burst: Invalid value: -1: must be non-negative",
        ),
        (
            "leaderElection: {leaseDuration: 10s}",
            "leaderElection.leaseDuration: Invalid value: \"10s\": must be greater than \
             `RenewDeadline`",
        ),
        (
            "leaderElection: {resourceLock: endpoints}",
            "leaderElection.resourceLock: Invalid value: \"endpoints\": resourceLock value must be \
             \"leases\"",
        ),
        (
            "profiles: [{schedulerName: a}, {schedulerName: a}]",
            "profiles[1].schedulerName: Duplicate value: \"profiles[0].schedulerName\"",
        ),
        ("profiles: [{schedulerName: a}, {}]", "profiles[1].schedulerName: Required value"),
        (
            "profiles: [{schedulerName: a}, {schedulerName: b, plugins: {queueSort: {enabled: \
             [{name: PrioritySort}]}}}]",
            "profiles[1].plugins.queueSort: Invalid value: {\"enabled\":[\"PrioritySort\"],\
             \"disabled\":[]}: must be the same for all profiles",
        ),
        (
            "extenders: [{urlPrefix: 'http://e', prioritizeVerb: p}]",
            "extenders[0].weight: Invalid value: 0: must have a positive weight applied to it",
        ),
        (
            "extenders: [{urlPrefix: 'http://e', bindVerb: b}, {urlPrefix: 'http://f', bindVerb: b}]",
            "extenders: Invalid value: \"found 2 extenders implementing bind\": only one extender \
             can implement bind",
        ),
        (
            "extenders: [{urlPrefix: 'http://e', managedResources: [{name: cpu}]}]",
            "extenders[0].managedResources[0].name: Invalid value: \"cpu\": is an invalid extended \
             resource name",
        ),
        (
            "extenders: [{urlPrefix: e}]",
            "extenders[0].urlPrefix: Invalid value: \"e\": must be a URL of scheme http or https",
        ),
    ] {
        assert_eq!(refusal(body), error, "{body}");
    }
}

/// The refusal of these arguments, after the path of the arguments.
fn arguments(plugin: &str, args: &str) -> String {
    let body = format!("profiles: [{{pluginConfig: [{{name: {plugin}, args: {args}}}]}}]");
    refusal(&body).replace("profiles[0].pluginConfig[0].args.", "")
}

#[test]
fn arguments_are_checked() {
    let shape =
        "scoringStrategy: {type: RequestedToCapacityRatio, requestedToCapacityRatio: {shape";
    for (plugin, args, error) in [
        (
            "DefaultPreemption",
            "{minCandidateNodesPercentage: 101}",
            "minCandidateNodesPercentage: Invalid value: 101: not in valid range [0, 100]",
        ),
        (
            "InterPodAffinity",
            "{hardPodAffinityWeight: -1}",
            "hardPodAffinityWeight: Invalid value: -1: not in valid range [0, 100]",
        ),
        (
            "NodeAffinity",
            "{addedAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: \
             [{matchExpressions: [{key: a, operator: Near}]}]}}}",
            "addedAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].\
             matchExpressions[0].operator: Invalid value: \"Near\": not a valid selector operator",
        ),
        (
            "NodeResourcesBalancedAllocation",
            "{resources: [{name: cpu, weight: 2}]}",
            "resources[0].weight: Invalid value: 2: must be 1",
        ),
        (
            "NodeResourcesFit",
            "{scoringStrategy: {type: Best}}",
            "scoringStrategy.type: Unsupported value: \"Best\": supported values: \
             \"LeastAllocated\", \"MostAllocated\", \"RequestedToCapacityRatio\"",
        ),
        (
            "NodeResourcesFit",
            "{scoringStrategy: {type: LeastAllocated, resources: [{name: cpu, weight: 101}]}}",
            "scoringStrategy.resources[0].weight: Invalid value: 101: resource weight of cpu not \
             in valid range (0, 100]",
        ),
        (
            "NodeResourcesFit",
            "{scoringStrategy: {type: RequestedToCapacityRatio}}",
            "scoringStrategy.requestedToCapacityRatio: Required value: must be specified when type \
             is RequestedToCapacityRatio",
        ),
        (
            "NodeResourcesFit",
            &format!("{{{shape}: []}}}}}}"),
            "scoringStrategy.requestedToCapacityRatio.shape: Required value: at least one point \
             must be specified",
        ),
        (
            "NodeResourcesFit",
            &format!(
                "{{{shape}: [{{utilization: 5, score: 1}}, {{utilization: 5, score: 2}}]}}}}}}"
            ),
            "scoringStrategy.requestedToCapacityRatio.shape[1].utilization: Invalid value: 5: \
             values must be sorted in increasing order",
        ),
        (
            "NodeResourcesFit",
            &format!("{{{shape}: [{{utilization: 5, score: 11}}]}}}}}}"),
            "scoringStrategy.requestedToCapacityRatio.shape[0].score: Invalid value: 11: not in \
             valid range [0, 10]",
        ),
        (
            "PodTopologySpread",
            "{defaultConstraints: [{maxSkew: 1, topologyKey: z, whenUnsatisfiable: DoNotSchedule}]}",
            "defaultingType: Invalid value: \"System\": when .defaultConstraints are not empty",
        ),
        (
            "PodTopologySpread",
            "{defaultingType: List, defaultConstraints: [{maxSkew: 0, topologyKey: z, \
             whenUnsatisfiable: DoNotSchedule}]}",
            "defaultConstraints[0].maxSkew: Invalid value: 0: not in valid range (0, inf)",
        ),
        (
            "VolumeBinding",
            "{shape: []}",
            "shape: Invalid value: []: unexpected field `shape`, remove it or turn on the feature \
             gate StorageCapacityScoring",
        ),
        (
            "DynamicResources",
            "{filterTimeout: -1s}",
            "filterTimeout: Invalid value: \"-1s\": must be zero or positive",
        ),
    ] {
        assert_eq!(arguments(plugin, args), error, "{plugin} {args}");
    }
}

#[test]
fn plugins_that_do_not_exist_stop_the_start() {
    for (body, error) in [
        (
            "profiles: [{plugins: {filter: {enabled: [{name: Coscheduling}]}}}]",
            "profiles[0].plugins.filter.enabled[0]: Invalid value: \"Coscheduling\": FilterPlugin \
             \"Coscheduling\" does not exist",
        ),
        (
            "profiles: [{plugins: {score: {enabled: [{name: NodePorts}]}}}]",
            "profiles[0].plugins.score.enabled[0]: Invalid value: \"NodePorts\": plugin \
             \"NodePorts\" does not extend ScorePlugin plugin",
        ),
        (
            "profiles: [{plugins: {filter: {enabled: [{name: NodePorts}, {name: NodePorts}]}}}]",
            "profiles[0].plugins.filter.enabled[1]: Invalid value: \"NodePorts\": plugin \
             \"NodePorts\" already registered as \"FilterPlugin\"",
        ),
        (
            "profiles: [{plugins: {multiPoint: {enabled: [{name: EBSLimits}]}}}]",
            "profiles[0].plugins.multiPoint.enabled[0]: Invalid value: \"EBSLimits\": was invalid \
             in version \"v1\" (KubeSchedulerConfiguration is version \
             \"kubescheduler.config.k8s.io/v1\")",
        ),
        (
            "profiles: [{plugins: {score: {enabled: [{name: ImageLocality, weight: -2}]}}}]",
            "profiles[0].plugins.score.enabled[0].weight: Invalid value: -2: should not be negative",
        ),
        (
            "profiles: [{pluginConfig: [{name: NodeResourceFit}]}]",
            "profiles[0].pluginConfig[0].name: Not found: \"NodeResourceFit\"",
        ),
        (
            "profiles: [{pluginConfig: [{name: NodePorts}, {name: NodePorts}]}]",
            "profiles[0].pluginConfig[1]: Duplicate value: \"NodePorts\"",
        ),
        (
            "profiles: [{plugins: {bind: {disabled: [{name: DefaultBinder}]}}}]",
            "profiles[0].plugins.bind: Required value: at least one bind plugin is needed for \
             profile with scheduler name \"default-scheduler\"",
        ),
    ] {
        assert_eq!(refusal(body), error, "{body}");
    }
    // What is switched off need not exist.
    checked("profiles: [{plugins: {filter: {disabled: [{name: EBSLimits}]}}}]");
}

#[test]
fn a_file_is_named() {
    let missing = KubeSchedulerConfiguration::read(FilePath::new("/nonexistent/c.yaml"));
    assert_eq!(missing.unwrap_err().to_string(), "read /nonexistent/c.yaml");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{HEADER}foo: 1\n")).unwrap();
    let error = KubeSchedulerConfiguration::read(file.path()).unwrap_err().to_string();
    let path = file.path().display();
    assert_eq!(error, format!("{path}: strict decoding error: unknown field \"foo\""));
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        let _ = parse(&text);
    }

    /// Lines of a real file in any order and number: taken or refused, in one line.
    #[test]
    fn no_mixture_of_fields_panics(
        lines in proptest::collection::vec(prop_oneof![
            Just("parallelism: -1"), Just("profiles: [{}, {}]"), Just("profiles: [null]"),
            Just("extenders: [{}]"), Just("leaderElection: null"), Just("leaderElection: []"),
            Just("profiles: [{plugins: {multiPoint: {disabled: [{name: '*'}]}}}]"),
            Just("profiles: [{pluginConfig: [{name: NodeAffinity, args: 3}]}]"),
            Just("percentageOfNodesToScore: 9223372036854775807"),
            Just("podMaxBackoffSeconds: -9223372036854775808"),
        ], 0..4),
    ) {
        if let Ok(configuration) = parse(&lines.join("\n"))
            && let Err(errors) = configuration.check()
        {
            prop_assert!(!errors.to_string().contains('\n'));
        }
    }
}

#[test]
fn every_point_can_be_asked_for() {
    let configuration = checked("");
    let (_, table) = configuration.profiles().next().unwrap();
    assert_eq!(table.at(ExtensionPoint::PostBind), []);
    assert_eq!(table.at(ExtensionPoint::Bind).len(), 1);
}
