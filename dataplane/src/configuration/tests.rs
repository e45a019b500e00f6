//! Files that are taken, with what becomes of them, and files that are refused, with the words.

use proptest::prelude::*;

use super::*;

const HEADER: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";

fn parse(body: &str) -> Result<KubeProxyConfiguration, String> {
    KubeProxyConfiguration::parse(format!("{HEADER}{body}").as_bytes())
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

#[test]
fn an_empty_file_is_the_default() {
    let configuration = parse("").unwrap();
    assert_eq!(configuration, KubeProxyConfiguration::defaulted());
    let checked = configuration.check().unwrap();
    assert_eq!(checked.healthz_address(), Some("0.0.0.0:10256".parse().unwrap()));
    assert_eq!(checked.metrics_address(), Some("127.0.0.1:10249".parse().unwrap()));
    assert_eq!(checked.local_detection(), &LocalDetection::ClusterCidr(Vec::new()));
    assert_eq!(checked.node_port_addresses(), []);
    assert!(checked.localhost_node_ports() && !checked.masquerade_all());
    assert_eq!(checked.health_timeout(), Duration::from_secs(60));
    assert_eq!(checked.min_sync_period(), Duration::ZERO);
    assert_eq!(checked.node_ip(), None);
    assert_eq!(checked.configuration().oom_score_adj, Some(-999));
    assert_eq!(checked.without_effect(), Vec::<String>::new());
}

/// The ConfigMap that kubeadm writes.
#[test]
fn kubeadms_file_is_taken_as_it_is() {
    let checked = checked(
        "bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection:
  acceptContentTypes: \"\"
  burst: 0
  contentType: \"\"
  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
  qps: 0
clusterCIDR: 10.244.0.0/16
configSyncPeriod: 0s
conntrack:
  maxPerCore: null
  min: null
  tcpBeLiberal: false
  tcpCloseWaitTimeout: null
  tcpEstablishedTimeout: null
  udpStreamTimeout: 0s
  udpTimeout: 0s
detectLocal:
  bridgeInterface: \"\"
  interfaceNamePrefix: \"\"
detectLocalMode: \"\"
enableProfiling: false
healthzBindAddress: \"\"
hostnameOverride: \"\"
iptables:
  localhostNodePorts: null
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
ipvs:
  excludeCIDRs: null
  minSyncPeriod: 0s
  scheduler: \"\"
  strictARP: false
  syncPeriod: 0s
  tcpFinTimeout: 0s
  tcpTimeout: 0s
  udpTimeout: 0s
logging:
  flushFrequency: 0
  options:
    json:
      infoBufferSize: \"0\"
    text:
      infoBufferSize: \"0\"
  verbosity: 0
metricsBindAddress: \"\"
mode: \"\"
nftables:
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
nodePortAddresses: null
oomScoreAdj: null
portRange: \"\"
showHiddenMetricsForVersion: \"\"
winkernel:
  enableDSR: false
  forwardHealthCheckVip: false
  networkName: \"\"
  rootHnsEndpointName: \"\"
  sourceVip: \"\"
",
    );
    let cidrs = vec!["10.244.0.0/16".parse().unwrap()];
    assert_eq!(checked.local_detection(), &LocalDetection::ClusterCidr(cidrs));
    let connection = &checked.configuration().client_connection;
    assert_eq!(connection.kubeconfig, "/var/lib/kube-proxy/kubeconfig.conf");
}

#[test]
fn the_mode_chooses_the_section_that_counts() {
    let sections = "iptables: {syncPeriod: 10s, minSyncPeriod: 1s, localhostNodePorts: false}
nftables: {syncPeriod: 20s, minSyncPeriod: 2s, masqueradeAll: true}
ipvs: {syncPeriod: 40s, minSyncPeriod: 4s}
";
    let of = |mode: &str| checked(&format!("mode: {mode}\n{sections}"));
    for (mode, sync, min_sync, masquerade_all) in
        [("iptables", 10, 1, false), ("nftables", 20, 2, true), ("ipvs", 40, 4, false)]
    {
        let checked = of(mode);
        assert_eq!(checked.health_timeout(), Duration::from_secs(2 * sync), "{mode}");
        assert_eq!(checked.min_sync_period(), Duration::from_secs(min_sync), "{mode}");
        assert_eq!(checked.masquerade_all(), masquerade_all, "{mode}");
        assert!(!checked.localhost_node_ports(), "{mode}");
    }
    assert_eq!(of("nftables").node_port_addresses(), [NodePortAddress::Primary]);
    assert_eq!(of("iptables").node_port_addresses(), []);
    assert!(checked("mode: nftables\nnodePortAddresses: [localhost]").localhost_node_ports());
}

#[test]
fn pods_are_told_from_others_by_every_mode() {
    let detection = |body: &str| checked(body).local_detection().clone();
    assert_eq!(detection("detectLocalMode: NodeCIDR"), LocalDetection::NodeCidr);
    assert_eq!(
        detection("detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: cni0}"),
        LocalDetection::Bridge("cni0".to_owned())
    );
    assert_eq!(
        detection("detectLocalMode: InterfaceNamePrefix\ndetectLocal: {interfaceNamePrefix: veth}"),
        LocalDetection::InterfacePrefix("veth".to_owned())
    );
    let cidrs = ["10.244.0.0/16", "fd00:10::/56"].map(|cidr| cidr.parse().unwrap());
    assert_eq!(
        detection("clusterCIDR: \"10.244.0.0/16,fd00:10::/56\""),
        LocalDetection::ClusterCidr(cidrs.to_vec())
    );
}

#[test]
fn addresses_take_the_usual_ports_and_families() {
    let addresses = |body: &str| {
        let checked = checked(body);
        [checked.healthz_address(), checked.metrics_address()].map(|it| it.unwrap().to_string())
    };
    assert_eq!(addresses("bindAddress: \"::\""), ["[::]:10256", "[::1]:10249"]);
    assert_eq!(
        addresses("healthzBindAddress: 10.0.0.5\nmetricsBindAddress: \"fd00::5\""),
        ["10.0.0.5:10256", "[fd00::5]:10249"]
    );
    assert_eq!(
        addresses("healthzBindAddress: 0.0.0.0:1\nmetricsBindAddress: \"[::]:2\""),
        ["0.0.0.0:1", "[::]:2"]
    );
    assert_eq!(checked("bindAddress: 192.0.2.7").node_ip(), Some("192.0.2.7".parse().unwrap()));
}

#[test]
fn what_has_no_effect_is_known_by_name() {
    let checked = checked(
        "mode: ipvs
ipvs: {scheduler: lc, strictARP: true}
conntrack: {maxPerCore: 0}
featureGates: {NFTablesProxyMode: true}
",
    );
    let expected = ["conntrack.maxPerCore", "featureGates", "ipvs.scheduler", "ipvs.strictARP"];
    assert_eq!(checked.without_effect(), expected);
}

#[test]
fn packets_pass_the_kernel_unless_it_says_otherwise() {
    assert!(!checked("").direct_return());
    for (mode, direct) in [("SNAT", false), ("DSR", true)] {
        let body = format!("pintle:\n  loadBalancerMode: {mode}");
        assert_eq!(checked(&body).direct_return(), direct);
    }
    assert_eq!(checked("").pod_links(), PodLinks::WhenNeeded);
    assert_eq!(checked("pintle: {podLinks: Always}").pod_links(), PodLinks::Always);
    assert_eq!(checked("").express(), Express::Off);
    for (value, express) in
        [("Disabled", Express::Off), ("Native", Express::Native), ("BestEffort", Express::Generic)]
    {
        let body = format!("pintle: {{nodePortAcceleration: {value}}}");
        assert_eq!(checked(&body).express(), express);
    }
}

#[test]
fn each_refusal_names_the_field() {
    for (body, words) in [
        ("nodePortAddress: [primary]", "unknown field \"nodePortAddress\""),
        ("iptables: {masquerade: true}", "unknown field \"iptables.masquerade\""),
        ("mode: iptables\nmode: ipvs", "mode"),
        ("iptables: {masqueradeBit: fourteen}", "masqueradeBit"),
        (
            "pintle: {nodePortAcceleration: Fast}",
            "pintle.nodePortAcceleration: Invalid value: \"Fast\"",
        ),
        ("pintle: {podLinks: Never}", "pintle.podLinks: Invalid value: \"Never\": must be When"),
        (
            "featureGates: {AllAlpha: false, NFTablesMode: true}",
            "featureGates: Invalid value: \"NFTablesMode\": unrecognized feature gate: NFTablesMode",
        ),
        ("mode: userspace", "mode: Invalid value: \"userspace\": must be iptables, ipvs"),
        ("iptables: {masqueradeBit: 32}", "iptables.masqueradeBit: Invalid value: 32: must be wi"),
        ("iptables: {syncPeriod: -1s}", "iptables.syncPeriod: Invalid value: \"-1s\": must be gr"),
        (
            "iptables: {syncPeriod: 1s, minSyncPeriod: 2s}",
            "than or equal to iptables.minSyncPeriod",
        ),
        ("iptables: {syncPeriod: 5}", "syncPeriod"),
        ("iptables: {syncPeriod: 5 apples}", "unknown unit \" apples\""),
        ("oomScoreAdj: 1001", "oomScoreAdj: Invalid value: 1001: must be within the range [-1000"),
        ("bindAddress: here", "bindAddress: Invalid value: \"here\": not a valid textual"),
        ("healthzBindAddress: 0.0.0.0:0", "healthzBindAddress: Invalid value: \"0\": must be a v"),
        ("healthzBindAddress: host:1", "healthzBindAddress: Invalid value: \"host\": must be a v"),
        ("metricsBindAddress: \"1:2:3:\"", "metricsBindAddress: Invalid value: \"1:2:3:\": must "),
        ("clusterCIDR: 10.0.0.0", "clusterCIDR: Invalid value: \"10.0.0.0\": must be a valid CIDR"),
        ("clusterCIDR: 10.0.0.0/8,11.0.0.0/8", "clusterCIDR: Invalid value"),
        ("nodePortAddresses: [everywhere]", "nodePortAddresses[0]: Invalid value: \"everywhere\""),
        ("detectLocalMode: Guess", "detectLocalMode: Unsupported value: \"Guess\""),
        ("detectLocalMode: BridgeInterface", "detectLocal.bridgeInterface: Invalid value: \"\""),
        ("portRange: 9-1", "portRange: Invalid value: \"9-1\": must be a valid port range"),
        ("conntrack: {min: -1}", "conntrack.min: Invalid value: -1: must be greater than or equ"),
        ("conntrack: {udpTimeout: -1s}", "conntrack.udpTimeout: Invalid value: \"-1s\""),
        ("mode: ipvs\nipvs: {excludeCIDRs: [x]}", "ipvs.excludeCIDRs[0]: Invalid value: \"x\""),
        ("clientConnection: {burst: -1}", "clientConnection.burst: Invalid value: -1"),
        ("configSyncPeriod: -1s", "configSyncPeriod: Invalid value: \"-1s\""),
        ("showHiddenMetricsForVersion: \"1.20\"", "showHiddenMetricsForVersion: Invalid value"),
        ("logging: {format: xml}", "logging.format: Invalid value: \"xml\""),
    ] {
        let message = refusal(body);
        assert!(message.contains(words), "{body}: {message}");
        assert!(!message.contains('\n'), "{body}: {message}");
    }
}

#[test]
fn the_kind_is_this_one() {
    let parse = |text: &str| KubeProxyConfiguration::parse(text.as_bytes()).unwrap_err();
    assert_eq!(parse("kind: KubeProxyConfiguration"), "Object 'apiVersion' is missing");
    assert_eq!(parse("apiVersion: kubeproxy.config.k8s.io/v1alpha1"), "Object 'Kind' is missing");
    let other = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration";
    assert!(parse(other).contains("no kind \"KubeSchedulerConfiguration\" is registered"));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = KubeProxyConfiguration::read("/nonexistent/config.conf".as_ref()).unwrap_err();
    assert_eq!(error.to_string(), "read /nonexistent/config.conf");
}

#[test]
fn what_is_shown_reads_back() {
    let configuration = checked("mode: nftables\nclusterCIDR: 10.0.0.0/8").configuration().clone();
    let text = serde_json::to_string(&configuration).unwrap();
    assert_eq!(KubeProxyConfiguration::parse(text.as_bytes()).unwrap(), configuration);
}

proptest! {
    #[test]
    fn nothing_panics(body in "\\PC{0,60}", key in "[a-zA-Z]{1,20}", value in "\\PC{0,20}") {
        for text in [format!("{HEADER}{body}"), format!("{HEADER}{key}: {value}"), body] {
            if let Ok(read) = KubeProxyConfiguration::parse(text.as_bytes()) {
                let _ = read.check();
            }
        }
    }

    #[test]
    fn addresses_never_panic(text in "[0-9a-f.:\\[\\]]{0,24}") {
        let mut errors = Errors::new();
        let address = check_address(&text, &Path::new("it"), &mut errors);
        prop_assert!(errors.is_empty() == (address.is_some() || text.is_empty()));
    }
}
