//! The rules of kube-proxy's mode iptables, as `iptables-restore` reads them.

use std::fmt::Write as _;

use super::cluster::{Cluster, SERVICE_PORT};
use super::world::POD_CIDR;

/// The rules for all Services, on top of none.
pub(super) fn all(cluster: Cluster) -> String {
    let mut rules = String::from(MANGLE);
    rules.push_str(FILTER);
    rules.push_str("*nat\n");
    rules.push_str(CHAINS);
    (0..cluster.services).for_each(|service| declare(&mut rules, cluster, service));
    rules.push_str(BASE);
    for service in 0..cluster.services {
        let ip = cluster.cluster_ip(service).ip().to_owned();
        let chain = service_chain(service);
        let _ = writeln!(
            rules,
            "-A KUBE-SERVICES -m tcp -p tcp -d {ip}/32 --dport {SERVICE_PORT} -j {chain}"
        );
        if let Some(port) = cluster.node_port(service) {
            let external = external_chain(service);
            for only in ["-d 127.0.0.0/8 ", ""] {
                let _ = writeln!(
                    rules,
                    "-A KUBE-NODEPORTS {only}-m tcp -p tcp --dport {port} -j {external}"
                );
            }
            let _ = writeln!(rules, "-A {external} -j KUBE-MARK-MASQ");
            let _ = writeln!(rules, "-A {external} -j {chain}");
        }
        let endpoints = cluster.endpoints_of(service);
        fill(&mut rules, cluster, service, &endpoints);
    }
    rules.push_str("-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\n");
    rules.push_str("COMMIT\n");
    rules
}

/// The rules of one Service anew: what kube-proxy writes in a partial update.
pub(super) fn change(cluster: Cluster, service: usize, turn: usize) -> String {
    let mut rules = String::from("*nat\n");
    declare(&mut rules, cluster, service);
    let mut endpoints = cluster.endpoints_of(service);
    endpoints[0] = cluster.replacement(turn);
    fill(&mut rules, cluster, service, &endpoints);
    rules.push_str("COMMIT\n");
    rules
}

/// Makes the chains, or empties them.
fn declare(rules: &mut String, cluster: Cluster, service: usize) {
    let _ = writeln!(rules, ":{} - [0:0]", service_chain(service));
    for endpoint in 0..cluster.endpoints {
        let _ = writeln!(rules, ":{} - [0:0]", endpoint_chain(service, endpoint));
    }
    if cluster.node_port(service).is_some() {
        let _ = writeln!(rules, ":{} - [0:0]", external_chain(service));
    }
}

fn fill(
    rules: &mut String,
    cluster: Cluster,
    service: usize,
    endpoints: &[std::net::SocketAddrV4],
) {
    let ip = *cluster.cluster_ip(service).ip();
    let chain = service_chain(service);
    let _ = writeln!(
        rules,
        "-A {chain} -m tcp -p tcp -d {ip}/32 --dport {SERVICE_PORT} ! -s {POD_CIDR} -j KUBE-MARK-MASQ"
    );
    for (index, to) in endpoints.iter().enumerate() {
        let target = endpoint_chain(service, index);
        let left = endpoints.len() - index;
        let chance = if left == 1 {
            String::new()
        } else {
            format!("-m statistic --mode random --probability {:.10} ", 1.0 / left as f64)
        };
        let _ = writeln!(rules, "-A {chain} {chance}-j {target}");
        let _ = writeln!(rules, "-A {target} -s {} -j KUBE-MARK-MASQ", to.ip());
        let _ = writeln!(rules, "-A {target} -m tcp -p tcp -j DNAT --to-destination {to}");
    }
}

fn service_chain(service: usize) -> String {
    format!("KUBE-SVC-{service:016}")
}

fn external_chain(service: usize) -> String {
    format!("KUBE-EXT-{service:016}")
}

fn endpoint_chain(service: usize, endpoint: usize) -> String {
    format!("KUBE-SEP-{service:011}-{endpoint:04}")
}

/// By which kube-proxy sees whether somebody else has emptied the tables. That the table is there makes
/// each packet pass it.
const MANGLE: &str = "*mangle
:KUBE-PROXY-CANARY - [0:0]
COMMIT
";

const FILTER: &str = "*filter
:KUBE-SERVICES - [0:0]
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-FIREWALL - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
-A INPUT -j KUBE-FIREWALL
-A INPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
-A INPUT -j KUBE-NODEPORTS
-A INPUT -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES
-A FORWARD -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
-A FORWARD -j KUBE-FORWARD
-A FORWARD -m conntrack --ctstate NEW -j KUBE-SERVICES
-A FORWARD -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES
-A OUTPUT -j KUBE-FIREWALL
-A OUTPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
-A OUTPUT -m conntrack --ctstate NEW -j KUBE-SERVICES
-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
";

const CHAINS: &str = ":KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
";

const BASE: &str = "-A PREROUTING -j KUBE-SERVICES
-A OUTPUT -j KUBE-SERVICES
-A POSTROUTING -j KUBE-POSTROUTING
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
";
