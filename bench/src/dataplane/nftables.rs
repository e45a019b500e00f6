//! The rules and verdict maps of kube-proxy's mode nftables, as `nft -f` reads them.

use std::fmt::Write as _;
use std::net::SocketAddrV4;

use super::cluster::{Cluster, SERVICE_PORT};
use super::world::POD_CIDR;

/// The rules for all Services, on top of none.
pub(super) fn all(cluster: Cluster) -> String {
    let mut rules = String::from(BASE);
    for service in 0..cluster.services {
        let endpoints = cluster.endpoints_of(service);
        let ip = *cluster.cluster_ip(service).ip();
        let chain = service_chain(service);
        let _ = writeln!(rules, "add element ip kube-proxy cluster-ips {{ {ip} }}");
        let _ = writeln!(rules, "add chain ip kube-proxy {chain}");
        for to in &endpoints {
            let _ = writeln!(rules, "add chain ip kube-proxy {}", endpoint_chain(service, *to));
        }
        fill(&mut rules, cluster, service, &endpoints);
        endpoints.iter().for_each(|to| fill_endpoint(&mut rules, service, *to));
        let _ = writeln!(
            rules,
            "add element ip kube-proxy service-ips {{ {ip} . tcp . {SERVICE_PORT} : goto {chain} }}"
        );
        if let Some(port) = cluster.node_port(service) {
            let external = format!("external-{service:08}-bench/tcp");
            let _ = writeln!(rules, "add chain ip kube-proxy {external}");
            let _ = writeln!(rules, "add rule ip kube-proxy {external} jump mark-for-masquerade");
            let _ = writeln!(rules, "add rule ip kube-proxy {external} goto {chain}");
            let _ = writeln!(
                rules,
                "add element ip kube-proxy service-nodeports {{ tcp . {port} : goto {external} }}"
            );
        }
    }
    rules
}

/// What kube-proxy writes when one endpoint gives way to another: a new chain, the Service's chain
/// anew, and the old endpoint's chain emptied, to be removed later.
pub(super) fn change(cluster: Cluster, service: usize, turn: usize) -> String {
    let mut endpoints = cluster.endpoints_of(service);
    let old = std::mem::replace(&mut endpoints[0], cluster.replacement(turn));
    let mut rules = String::new();
    let new = endpoint_chain(service, endpoints[0]);
    let _ = writeln!(rules, "add chain ip kube-proxy {new}");
    let _ = writeln!(rules, "flush chain ip kube-proxy {new}");
    let _ = writeln!(rules, "flush chain ip kube-proxy {}", service_chain(service));
    fill(&mut rules, cluster, service, &endpoints);
    fill_endpoint(&mut rules, service, endpoints[0]);
    let _ = writeln!(rules, "flush chain ip kube-proxy {}", endpoint_chain(service, old));
    rules
}

fn fill(rules: &mut String, cluster: Cluster, service: usize, endpoints: &[SocketAddrV4]) {
    let ip = *cluster.cluster_ip(service).ip();
    let chain = service_chain(service);
    let _ = writeln!(
        rules,
        "add rule ip kube-proxy {chain} ip daddr {ip} ip saddr != {POD_CIDR} \
         jump mark-for-masquerade"
    );
    let verdicts = endpoints.iter().enumerate();
    let verdicts = verdicts
        .map(|(index, to)| format!("{index} : goto {}", endpoint_chain(service, *to)))
        .collect::<Vec<_>>()
        .join(", ");
    let count = endpoints.len();
    let _ = writeln!(
        rules,
        "add rule ip kube-proxy {chain} numgen random mod {count} vmap {{ {verdicts} }}"
    );
}

fn fill_endpoint(rules: &mut String, service: usize, to: SocketAddrV4) {
    let chain = endpoint_chain(service, to);
    let ip = to.ip();
    let _ =
        writeln!(rules, "add rule ip kube-proxy {chain} ip saddr {ip} jump mark-for-masquerade");
    let _ = writeln!(rules, "add rule ip kube-proxy {chain} meta l4proto tcp dnat to {to}");
}

fn service_chain(service: usize) -> String {
    format!("service-{service:08}-bench/tcp")
}

fn endpoint_chain(service: usize, to: SocketAddrV4) -> String {
    format!("endpoint-{service:08}-bench/tcp__{}/{}", to.ip(), to.port())
}

const BASE: &str = "add table ip kube-proxy
add set ip kube-proxy cluster-ips { type ipv4_addr; }
add set ip kube-proxy nodeport-ips { type ipv4_addr; }
add map ip kube-proxy service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
add map ip kube-proxy service-nodeports { type inet_proto . inet_service : verdict; }
add map ip kube-proxy no-endpoint-services { type ipv4_addr . inet_proto . inet_service : verdict; }
add map ip kube-proxy no-endpoint-nodeports { type inet_proto . inet_service : verdict; }
add map ip kube-proxy firewall-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
add element ip kube-proxy nodeport-ips { 192.0.2.1 }
add element ip kube-proxy nodeport-ips { 198.51.100.1 }
add chain ip kube-proxy filter-prerouting-pre-dnat { type filter hook prerouting priority -110; }
add chain ip kube-proxy filter-output-pre-dnat { type filter hook output priority -110; }
add chain ip kube-proxy filter-input { type filter hook input priority 0; }
add chain ip kube-proxy filter-forward { type filter hook forward priority 0; }
add chain ip kube-proxy filter-output { type filter hook output priority 0; }
add chain ip kube-proxy nat-prerouting { type nat hook prerouting priority -100; }
add chain ip kube-proxy nat-output { type nat hook output priority -100; }
add chain ip kube-proxy nat-postrouting { type nat hook postrouting priority 100; }
add chain ip kube-proxy cluster-ips-check
add chain ip kube-proxy firewall-check
add chain ip kube-proxy mark-for-masquerade
add chain ip kube-proxy masquerading
add chain ip kube-proxy reject-chain
add chain ip kube-proxy service-endpoints-check
add chain ip kube-proxy nodeport-endpoints-check
add chain ip kube-proxy services
add rule ip kube-proxy filter-prerouting-pre-dnat ct state new jump firewall-check
add rule ip kube-proxy filter-output-pre-dnat ct state new jump firewall-check
add rule ip kube-proxy filter-input ct state new jump nodeport-endpoints-check
add rule ip kube-proxy filter-input ct state new jump service-endpoints-check
add rule ip kube-proxy filter-forward ct state new jump service-endpoints-check
add rule ip kube-proxy filter-forward ct state new jump cluster-ips-check
add rule ip kube-proxy filter-output ct state new jump service-endpoints-check
add rule ip kube-proxy filter-output ct state new jump cluster-ips-check
add rule ip kube-proxy nat-prerouting jump services
add rule ip kube-proxy nat-output jump services
add rule ip kube-proxy nat-postrouting jump masquerading
add rule ip kube-proxy cluster-ips-check ip daddr @cluster-ips reject
add rule ip kube-proxy firewall-check ip daddr . meta l4proto . th dport vmap @firewall-ips
add rule ip kube-proxy mark-for-masquerade meta mark set meta mark or 0x4000
add rule ip kube-proxy masquerading meta mark & 0x4000 == 0 return
add rule ip kube-proxy masquerading meta mark set meta mark xor 0x4000
add rule ip kube-proxy masquerading masquerade fully-random
add rule ip kube-proxy reject-chain reject
add rule ip kube-proxy service-endpoints-check ip daddr . meta l4proto . th dport vmap @no-endpoint-services
add rule ip kube-proxy nodeport-endpoints-check ip daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports
add rule ip kube-proxy services ip daddr . meta l4proto . th dport vmap @service-ips
add rule ip kube-proxy services ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
";
