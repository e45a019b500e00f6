//! kube-proxy's rules, one by one, over the real sockets of three nodes: each Service below is one
//! case, and what is asked of it is all there is to the rule.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::cluster::{
    Client, Cluster, Family, OUTSIDE, REFUSED, SILENT, TCP, UDP, UNREACHABLE, V4, V6, at, gateway,
    node_ip, pod_ip,
};
use Client::{Node, Outside, Pod, PodsPackets};

/// A Service with every kind of address, in both families.
pub(crate) struct Case {
    pub(crate) number: u16,
    spec: Value,
    ip_mode: &'static str,
    /// The node of each endpoint's pod, and the rest of the endpoint.
    endpoints: Vec<(usize, Value)>,
    check: fn(&Asked<'_>),
}

/// A case under check.
pub(crate) struct Asked<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) number: u16,
    pub(crate) family: Family,
}

impl Case {
    pub(crate) fn new(spec: Value, endpoints: Vec<(usize, Value)>, check: fn(&Asked<'_>)) -> Self {
        Self { number: 0, spec, ip_mode: "VIP", endpoints, check }
    }

    pub(crate) fn service(&self) -> Value {
        let Self { number, ip_mode, .. } = self;
        let ingress =
            [V4, V6].map(|f| json!({ "ip": load_balancer(f, *number), "ipMode": ip_mode }));
        let ips = [V4, V6].map(|family| cluster_ip(family, *number));
        let externals = [V4, V6].map(|family| external(family, *number));
        let port = |name: &str, protocol: &str, target: u16| {
            json!({ "name": name, "protocol": protocol, "port": 80, "targetPort": target,
                "nodePort": node_port(*number) })
        };
        let mut spec = json!({
            "type": "LoadBalancer", "clusterIP": ips[0], "clusterIPs": ips,
            "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack",
            "externalIPs": externals,
            "ports": [port("tcp", "TCP", TCP), port("udp", "UDP", UDP)],
        });
        for (field, value) in self.spec.as_object().into_iter().flatten() {
            spec[field] = value.clone();
        }
        json!({
            "apiVersion": "v1", "kind": "Service", "spec": spec,
            "metadata": { "name": format!("case-{number}"), "namespace": "test",
                "resourceVersion": "1" },
            "status": { "loadBalancer": { "ingress": ingress } },
        })
    }

    pub(crate) fn slices(&self) -> [Value; 2] {
        [V4, V6].map(|family| {
            let endpoint = |(node, rest): &(usize, Value)| {
                let mut endpoint = json!({
                    "addresses": [pod_ip(family, *node)], "nodeName": format!("node-{node}"),
                    "conditions": { "ready": true },
                });
                for (field, value) in rest.as_object().into_iter().flatten() {
                    endpoint[field] = value.clone();
                }
                endpoint
            };
            let family = ["IPv4", "IPv6"][family];
            json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "addressType": family,
                "metadata": {
                    "name": format!("case-{}-{}", self.number, family.to_lowercase()),
                    "namespace": "test", "resourceVersion": "1",
                    "labels": { "kubernetes.io/service-name": format!("case-{}", self.number) },
                },
                "ports": [
                    { "name": "tcp", "protocol": "TCP", "port": TCP },
                    { "name": "udp", "protocol": "UDP", "port": UDP },
                ],
                "endpoints": self.endpoints.iter().map(endpoint).collect::<Vec<_>>(),
            })
        })
    }
}

fn cluster_ip(family: Family, number: u16) -> String {
    [format!("10.96.0.{number}"), format!("fd96::{number}")][family].clone()
}

pub(crate) fn load_balancer(family: Family, number: u16) -> String {
    [format!("203.0.113.{number}"), format!("2001:db8:7::{number}")][family].clone()
}

fn external(family: Family, number: u16) -> String {
    [format!("203.0.113.{}", 100 + number), format!("2001:db8:8::{number}")][family].clone()
}

pub(crate) fn node_port(number: u16) -> u16 {
    30_000 + number
}

impl Asked<'_> {
    fn tcp(&self, client: Client, ip: &str, port: u16, expected: &[String]) {
        let answers = self.cluster.tcp(client, at(ip, port));
        self.compare(client, &format!("{ip}, {port}"), &answers, expected);
    }

    pub(crate) fn udp(&self, client: Client, ip: &str, port: u16, expected: &[String]) {
        let answers = self.cluster.udp(client, at(ip, port)).into_iter();
        let answers = answers.map(|answer| match answer.split_once(" from ") {
            Some((told, _)) => told.to_owned(),
            None => answer,
        });
        self.compare(client, &format!("{ip}, {port} by UDP"), &answers.collect(), expected);
    }

    pub(crate) fn cluster_ip(&self, client: Client, expected: &[String]) {
        self.tcp(client, &cluster_ip(self.family, self.number), 80, expected);
    }

    pub(crate) fn load_balancer(&self, client: Client, expected: &[String]) {
        self.tcp(client, &load_balancer(self.family, self.number), 80, expected);
    }

    pub(crate) fn external_ip(&self, client: Client, expected: &[String]) {
        self.tcp(client, &external(self.family, self.number), 80, expected);
    }

    pub(crate) fn node_port(&self, client: Client, node: usize, expected: &[String]) {
        self.tcp(client, &node_ip(self.family, node), node_port(self.number), expected);
    }

    fn compare(&self, client: Client, to: &str, got: &BTreeSet<String>, expected: &[String]) {
        let expected: BTreeSet<String> = expected.iter().cloned().collect();
        assert_eq!(*got, expected, "case {}, {client:?} asks {to}", self.number);
    }

    /// The pods of these nodes answered, and saw the client under this address.
    pub(crate) fn saw(&self, pods: &[usize], client: &str) -> Vec<String> {
        pods.iter().map(|pod| format!("pod-{pod} saw {client}")).collect()
    }

    /// The same, of a client on a node, whom the pods see under their own node's address.
    pub(crate) fn saw_node(&self, pods: &[usize], node: usize) -> Vec<String> {
        let seen = |pod: &usize| match *pod == node {
            true => gateway(self.family, node),
            false => node_ip(self.family, node),
        };
        pods.iter().map(|pod| format!("pod-{pod} saw {}", seen(pod))).collect()
    }

    fn pod(&self, node: usize) -> String {
        pod_ip(self.family, node)
    }

    pub(crate) fn outside(&self) -> &'static str {
        OUTSIDE[self.family]
    }
}

fn told(what: &str) -> [String; 1] {
    [what.to_owned()]
}

/// Every address leads to every endpoint; clients from outside are masqueraded, pods are not.
fn policy_cluster(asked: &Asked<'_>) {
    let all = &[1, 2, 3];
    asked.cluster_ip(Pod(1), &asked.saw(all, &asked.pod(1)));
    asked.cluster_ip(Node(1), &asked.saw_node(all, 1));
    // Where kube-proxy masquerades these too, the client's address is kept on its way to this node's pod.
    let mut expected = asked.saw_node(&[2, 3], 1);
    expected.extend(asked.saw(&[1], asked.outside()));
    asked.cluster_ip(Outside, &expected);
    for client in [Pod(1), PodsPackets(2)] {
        let node = if matches!(client, Pod(_)) { 1 } else { 2 };
        asked.node_port(client, 3, &asked.saw_node(all, 3));
        let own: Vec<String> = match client {
            Pod(_) => asked.saw(all, &asked.pod(node)),
            _ => asked.saw_node(all, node),
        };
        asked.node_port(client, node, &own);
    }
    for node in all {
        asked.node_port(Outside, *node, &asked.saw_node(all, *node));
    }
    asked.node_port(Node(2), 2, &asked.saw_node(all, 2));
    asked.external_ip(Outside, &asked.saw_node(all, 1));
    asked.load_balancer(Outside, &asked.saw_node(all, 1));
    asked.load_balancer(Pod(3), &asked.saw(all, &asked.pod(3)));
}

/// A pod whose sockets the node does not see: its packets are translated, and masqueraded where the
/// answer would not come back otherwise.
fn packets_of_pods(asked: &Asked<'_>) {
    let mut expected = asked.saw(&[2, 3], &asked.pod(1));
    expected.extend(asked.saw(&[1], &gateway(asked.family, 1)));
    asked.cluster_ip(PodsPackets(1), &expected);
}

/// An endpoint that reaches itself by its Service.
fn hairpin(asked: &Asked<'_>) {
    asked.cluster_ip(Pod(1), &asked.saw(&[1], &asked.pod(1)));
    asked.cluster_ip(PodsPackets(1), &asked.saw(&[1], &gateway(asked.family, 1)));
}

/// From outside the node's own endpoints, unmasqueraded, or none; from pods and nodes all.
fn external_policy_local(asked: &Asked<'_>) {
    asked.load_balancer(Outside, &asked.saw(&[1], asked.outside()));
    asked.external_ip(Outside, &asked.saw(&[1], asked.outside()));
    asked.node_port(Outside, 2, &asked.saw(&[2], asked.outside()));
    asked.node_port(Outside, 3, &told(SILENT));
    asked.load_balancer(Pod(3), &asked.saw(&[1, 2], &asked.pod(3)));
    asked.load_balancer(PodsPackets(3), &asked.saw(&[1, 2], &asked.pod(3)));
    asked.load_balancer(Node(3), &asked.saw_node(&[1, 2], 3));
    asked.node_port(Node(3), 3, &asked.saw_node(&[1, 2], 3));
    asked.cluster_ip(Pod(3), &asked.saw(&[1, 2], &asked.pod(3)));
    for (node, status, local) in [(1, 200, 1), (2, 200, 1), (3, 503, 0)] {
        let (got, body) = asked.cluster.http(asked.family, node, HEALTH_CHECK + asked.number);
        assert_eq!((got, &body["localEndpoints"]), (status, &json!(local)), "node-{node}");
        assert_eq!(body["service"]["name"], format!("case-{}", asked.number));
    }
}

/// Cluster IPs lead to the node's own endpoints alone; other addresses do not care.
fn internal_policy_local(asked: &Asked<'_>) {
    asked.cluster_ip(Pod(1), &asked.saw(&[1], &asked.pod(1)));
    asked.cluster_ip(Node(2), &asked.saw_node(&[2], 2));
    asked.cluster_ip(Pod(3), &told(UNREACHABLE));
    asked.cluster_ip(PodsPackets(3), &told(SILENT));
    asked.load_balancer(Outside, &asked.saw_node(&[1, 2], 1));
}

fn no_endpoints(asked: &Asked<'_>) {
    asked.cluster_ip(Pod(1), &told(REFUSED));
    asked.cluster_ip(Node(1), &told(REFUSED));
    asked.load_balancer(Pod(1), &told(REFUSED));
    asked.external_ip(Node(1), &told(REFUSED));
    asked.node_port(Node(1), 1, &told(REFUSED));
    asked.node_port(Outside, 1, &told(REFUSED));
    asked.cluster_ip(Outside, &told(REFUSED));
    asked.external_ip(Outside, &told(REFUSED));
    asked.load_balancer(Outside, &told(REFUSED));
    asked.udp(Outside, &load_balancer(asked.family, asked.number), 80, &told(REFUSED));
}

/// With no endpoint ready those that serve while they end.
fn all_terminate(asked: &Asked<'_>) {
    asked.cluster_ip(Pod(3), &asked.saw(&[1], &asked.pod(3)));
    asked.node_port(Outside, 2, &asked.saw_node(&[1], 2));
}

/// That is decided of the node's own endpoints and of all apart.
fn local_ones_terminate(asked: &Asked<'_>) {
    asked.load_balancer(Outside, &asked.saw(&[1], asked.outside()));
    asked.node_port(Outside, 2, &asked.saw(&[2], asked.outside()));
    asked.cluster_ip(Pod(1), &asked.saw(&[2], &asked.pod(1)));
    let (status, body) = asked.cluster.http(asked.family, 1, HEALTH_CHECK + asked.number);
    assert_eq!((status, &body["localEndpoints"]), (503, &json!(0)));
}

fn hints_for_zones(asked: &Asked<'_>) {
    asked.cluster_ip(Pod(1), &asked.saw(&[1], &asked.pod(1)));
    asked.cluster_ip(Pod(2), &asked.saw(&[2, 3], &asked.pod(2)));
    asked.load_balancer(Outside, &asked.saw_node(&[1], 1));
}

fn hints_for_nodes(asked: &Asked<'_>) {
    asked.cluster_ip(Pod(2), &asked.saw(&[2], &asked.pod(2)));
    asked.cluster_ip(Pod(3), &asked.saw(&[3], &asked.pod(3)));
}

fn incomplete_hints(asked: &Asked<'_>) {
    asked.cluster_ip(Pod(1), &asked.saw(&[1, 2, 3], &asked.pod(1)));
}

/// Whom the ranges do not name hears nothing at load balancers' addresses; elsewhere they mean nothing.
fn ranges_that_keep_out(asked: &Asked<'_>) {
    asked.load_balancer(Outside, &told(SILENT));
    asked.node_port(Outside, 1, &asked.saw_node(&[2], 1));
    asked.external_ip(Outside, &asked.saw_node(&[2], 1));
    asked.load_balancer(Pod(1), &asked.saw(&[2], &asked.pod(1)));
}

fn ranges_that_let_in(asked: &Asked<'_>) {
    asked.load_balancer(Outside, &asked.saw_node(&[2], 1));
}

/// The traffic is for the load balancer itself.
fn ip_mode_proxy(asked: &Asked<'_>) {
    for client in [Pod(1), PodsPackets(1)] {
        // By UDP, whose sockets do not try for two minutes.
        let answers = asked.cluster.udp(client, at(&load_balancer(asked.family, asked.number), 80));
        let is_answered = answers.iter().any(|answer| answer.starts_with("pod-"));
        assert!(!is_answered, "{client:?}: {answers:?}");
    }
    asked.node_port(Outside, 1, &asked.saw_node(&[2], 1));
}

/// One backend for a client, by whatever address it comes.
fn session_affinity(asked: &Asked<'_>) {
    let kept = |client, addresses: &[String]| {
        let port = |ip: &String| {
            if ip.starts_with("198") || ip.starts_with("fd51") {
                node_port(asked.number)
            } else {
                80
            }
        };
        let answers = addresses.iter().flat_map(|ip| asked.cluster.tcp(client, at(ip, port(ip))));
        let pods: BTreeSet<String> =
            answers.map(|answer| answer.split(' ').next().unwrap().to_owned()).collect();
        assert_eq!(pods.len(), 1, "{client:?}: {pods:?}");
        assert!(pods.iter().all(|pod| pod.starts_with("pod-")), "{pods:?}");
    };
    let (family, number) = (asked.family, asked.number);
    let addresses = [
        load_balancer(family, number),
        node_ip(family, 1),
        external(family, number),
        cluster_ip(family, number),
    ];
    kept(Outside, &addresses);
    kept(Pod(1), &addresses);
}

fn datagrams(asked: &Asked<'_>) {
    let all = &[1, 2, 3];
    let (family, number) = (asked.family, asked.number);
    asked.udp(Pod(1), &cluster_ip(family, number), 80, &asked.saw(all, &asked.pod(1)));
    asked.udp(Outside, &node_ip(family, 2), node_port(number), &asked.saw_node(all, 2));
    asked.udp(Outside, &load_balancer(family, number), 80, &asked.saw_node(all, 1));
}

const HEALTH_CHECK: u16 = 31_000;

fn cases() -> Vec<Case> {
    let ready = |nodes: &[usize]| nodes.iter().map(|node| (*node, json!({}))).collect::<Vec<_>>();
    let terminating = json!({ "conditions":
        { "ready": false, "serving": true, "terminating": true } });
    let unready = json!({ "conditions": { "ready": false, "serving": false } });
    let zone = |zone: &str| json!({ "zone": zone, "hints": { "forZones": [{ "name": zone }] } });
    let node = |node: usize| {
        (node, json!({ "hints": { "forNodes": [{ "name": format!("node-{node}") }] } }))
    };
    let external_local = |number: u16| json!({ "externalTrafficPolicy": "Local", "healthCheckNodePort": HEALTH_CHECK + number });
    let internal_local = json!({ "internalTrafficPolicy": "Local" });
    let ranges = |v4: &str, v6: &str| json!({ "loadBalancerSourceRanges": [v4, v6] });
    let affinity = json!({ "sessionAffinity": "ClientIP" });
    let zones = vec![(1, zone("a")), (2, zone("b")), (3, zone("b"))];
    let hinted = vec![node(1), node(2), node(3)];
    let incomplete = vec![(1, zone("a")), (2, zone("b")), (3, json!({}))];
    let plain = || json!({});
    let mut cases = vec![
        Case::new(plain(), ready(&[1, 2, 3]), policy_cluster),
        Case::new(plain(), ready(&[1, 2, 3]), packets_of_pods),
        Case::new(plain(), ready(&[1]), hairpin),
        Case::new(external_local(4), ready(&[1, 2]), external_policy_local),
        Case::new(internal_local, ready(&[1, 2]), internal_policy_local),
        Case::new(plain(), vec![], no_endpoints),
        Case::new(plain(), vec![(1, terminating.clone()), (2, unready)], all_terminate),
        Case::new(external_local(8), vec![(1, terminating), (2, plain())], local_ones_terminate),
        Case::new(plain(), zones, hints_for_zones),
        Case::new(plain(), hinted, hints_for_nodes),
        Case::new(plain(), incomplete, incomplete_hints),
        Case::new(ranges("198.51.100.0/28", "fd51:1::/64"), ready(&[2]), ranges_that_keep_out),
        Case::new(ranges("198.51.100.96/28", "fd51::/64"), ready(&[2]), ranges_that_let_in),
        Case { ip_mode: "Proxy", ..Case::new(plain(), ready(&[2]), ip_mode_proxy) },
        Case::new(affinity, ready(&[1, 2, 3]), session_affinity),
        Case::new(plain(), ready(&[1, 2, 3]), datagrams),
    ];
    for (number, case) in (1..).zip(&mut cases) {
        case.number = number;
    }
    cases
}

#[test]
#[ignore = "needs root"]
fn services_behave_as_kube_proxys_do() {
    let cases = cases();
    let services = cases.iter().map(Case::service).collect();
    let slices = cases.iter().flat_map(Case::slices).collect();
    let cluster = Cluster::start(services, slices);
    for (case, family) in cases.iter().flat_map(|case| [(case, V4), (case, V6)]) {
        (case.check)(&Asked { cluster: &cluster, number: case.number, family });
    }
}
