use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::*;

#[test]
fn a_free_subnet_is_chosen_beside_used_ones() {
    let id = ClusterId::derive("subnet");
    let first = choose_subnet(&id, &[]).unwrap();
    assert!(NODE_RANGE.contains(&first));
    let bridge = Ipv4Net::new_assert(address(first, 1).addr(), 24);
    let second = choose_subnet(&id, &[bridge]).unwrap();
    assert_ne!(second, first);
    let single = Ipv4Net::new_assert(address(first, 9).addr(), 32);
    assert_eq!(choose_subnet(&id, &[single]), Some(second));
    assert_eq!(choose_subnet(&id, &["172.16.0.0/12".parse().unwrap()]), None);
}

/// Takes the cluster down even when an assertion fails.
struct Guard(ClusterId);

impl Drop for Guard {
    fn drop(&mut self) {
        let id = self.0.clone();
        let work = move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(cleanup(&id)).map(drop)
        };
        if let Err(error) = std::thread::spawn(work).join().unwrap() {
            eprintln!("clean up: {error}");
        }
    }
}

/// Puts the machine's own setting back, which a node that is the machine itself needs.
struct Forwarding(String);

impl Drop for Forwarding {
    fn drop(&mut self) {
        std::fs::write(IP_FORWARD, &self.0).unwrap();
    }
}

const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

async fn cluster(name: &str) -> (Guard, ClusterNetwork) {
    let id = ClusterId::derive(&format!("{name}-{}", std::process::id()));
    let guard = Guard(id.clone());
    let config = ClusterNetworkConfig { id, nodes: 2, subnet: None };
    (guard, ClusterNetwork::create(config).await.unwrap())
}

fn cidr(third: u8) -> Ipv4Net {
    // Out of the way of a cluster that may run on this machine.
    Ipv4Net::new_assert(Ipv4Addr::new(10, 213, third, 0), 24)
}

async fn join_nodes(cluster: &ClusterNetwork, base: u8) {
    for (node, third) in cluster.nodes().iter().zip(base..) {
        node.set_pod_cidr(cidr(third)).await.unwrap();
    }
    for (index, node) in cluster.nodes().iter().enumerate() {
        let peers = cluster.nodes().iter().enumerate().filter(|(other, _)| *other != index);
        let peers = peers.map(|(_, peer)| (peer.pod_cidr().unwrap(), peer.address())).collect();
        node.set_peers(peers).await.unwrap();
    }
}

/// Answers one connection with the peer's address as seen here.
fn echo_peer(namespace: &NetNs, address: SocketAddr) -> std::thread::JoinHandle<()> {
    let listener = namespace.run_in(|| TcpListener::bind(address)).unwrap().unwrap();
    std::thread::spawn(move || {
        let (mut stream, peer) = listener.accept().unwrap();
        stream.write_all(peer.ip().to_string().as_bytes()).unwrap();
    })
}

fn ask(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test]
#[ignore = "needs root"]
async fn pods_of_two_nodes_and_the_host_reach_each_other_untranslated() {
    let (_guard, cluster) = cluster("flow").await;
    join_nodes(&cluster, 1).await;
    let near = cluster.nodes()[0].attach_pod("near").await.unwrap();
    let far = cluster.nodes()[1].attach_pod("far").await.unwrap();
    let id = cluster.nodes()[0].cluster_id().clone();
    let near_ns = NetNs::open(&id.pod_namespace("near")).unwrap();
    let far_ns = NetNs::open(&id.pod_namespace("far")).unwrap();
    let target = SocketAddr::from((far.address, 8080));

    let server = echo_peer(&far_ns, target);
    assert_eq!(near_ns.run_in(|| ask(target)).unwrap(), near.address.to_string());
    server.join().unwrap();

    let server = echo_peer(&far_ns, target);
    let asked = tokio::task::spawn_blocking(move || ask(target)).await.unwrap();
    assert_eq!(asked, cluster.host_address().to_string());
    server.join().unwrap();
    cluster.teardown().await.unwrap();
}

#[tokio::test]
#[ignore = "needs root"]
async fn teardown_and_cleanup_leave_nothing() {
    let (_guard, cluster) = cluster("teardown").await;
    join_nodes(&cluster, 11).await;
    let id = cluster.nodes()[0].cluster_id().clone();
    cluster.nodes()[0].attach_pod("one").await.unwrap();
    cluster.nodes()[0].attach_pod("two").await.unwrap();
    cluster.nodes()[0].detach_pod("two").await.unwrap();
    assert_eq!(NetNs::list(&id.namespace_prefix()).unwrap().len(), 3);
    // As after a crash: nothing is torn down, the next start finds it.
    drop(cluster);
    let cleaned = cleanup(&id).await.unwrap();
    assert_eq!((cleaned.links, cleaned.namespaces), (3, 3), "{cleaned:?}");

    assert_eq!(NetNs::list(&id.namespace_prefix()).unwrap(), []);
    let netlink = Netlink::open(None).await.unwrap();
    assert_eq!(netlink.list_links(&id.link_prefix()).await.unwrap(), Vec::<String>::new());
    let left = netlink.used_networks().await.unwrap();
    assert!(!left.contains(&cidr(11)) && !left.contains(&cidr(12)), "{left:?}");
    assert_eq!(cleanup(&id).await.unwrap(), crate::Cleaned::default());
}

#[tokio::test]
#[ignore = "needs root"]
async fn pods_come_and_go_at_once_with_addresses_of_their_own() {
    let (_guard, cluster) = cluster("many").await;
    join_nodes(&cluster, 21).await;
    let node = &cluster.nodes()[0];
    let names: Vec<String> = (0..20).map(|n| format!("pod-{n}")).collect();
    let attached = futures::future::join_all(names.iter().map(|name| node.attach_pod(name))).await;
    let mut addresses: Vec<_> = attached.into_iter().map(|pod| pod.unwrap().address).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 20);
    futures::future::join_all(names.iter().map(|name| node.detach_pod(name))).await;
    let again = node.attach_pod("again").await.unwrap();
    assert!(!addresses.contains(&again.address));
    cluster.teardown().await.unwrap();
}

/// A neighbour that has learnt it would lose its gateway, and with it every other node.
#[tokio::test]
#[ignore = "needs root"]
async fn bridges_keep_their_hardware_address_as_pods_come_and_go() {
    let (_guard, cluster) = cluster("address").await;
    join_nodes(&cluster, 41).await;
    let node = &cluster.nodes()[0];
    let netlink = Netlink::open(node.namespace()).await.unwrap();
    let first = netlink.hardware_address("cni0").await.unwrap().expect("a bridge has one");
    for number in 0..8 {
        node.attach_pod(&format!("pod-{number}")).await.unwrap();
        assert_eq!(netlink.hardware_address("cni0").await.unwrap().as_ref(), Some(&first));
    }
    for number in 0..8 {
        node.detach_pod(&format!("pod-{number}")).await.unwrap();
        assert_eq!(netlink.hardware_address("cni0").await.unwrap().as_ref(), Some(&first));
    }
    cluster.teardown().await.unwrap();
}

#[tokio::test]
#[ignore = "needs root"]
async fn a_machine_as_a_node_leaves_nothing_either() {
    let id = ClusterId::derive(&format!("host-{}", std::process::id()));
    let _guard = Guard(id.clone());
    let _forwarding = Forwarding(std::fs::read_to_string(IP_FORWARD).unwrap());
    let node = NodeNetwork::host(id.clone(), Ipv4Addr::LOCALHOST);
    node.set_pod_cidr(cidr(31)).await.unwrap();
    let pod = node.attach_pod("solo").await.unwrap();
    let target = SocketAddr::from((pod.address, 8080));
    let server = echo_peer(&node.pod_namespace("solo"), target);
    let asked = tokio::task::spawn_blocking(move || ask(target)).await.unwrap();
    assert_eq!(asked, "10.213.31.1");
    server.join().unwrap();
    // As after a crash: a new agent knows nothing of the old one's pods.
    let node = NodeNetwork::host(id.clone(), Ipv4Addr::LOCALHOST);
    node.remove().await.unwrap();
    assert_eq!(cleanup(&id).await.unwrap(), crate::Cleaned::default());
    node.set_pod_cidr(cidr(31)).await.unwrap();
    node.remove().await.unwrap();
}

#[tokio::test]
#[ignore = "needs root"]
async fn a_subnet_too_small_for_the_nodes_is_refused_and_leaves_nothing() {
    let id = ClusterId::derive(&format!("small-{}", std::process::id()));
    let subnet = Some("172.31.254.0/30".parse().unwrap());
    let config = ClusterNetworkConfig { id: id.clone(), nodes: 2, subnet };
    let error = ClusterNetwork::create(config).await.unwrap_err();
    assert_eq!(error.to_string(), "give 2 nodes addresses in 172.31.254.0/30: it holds 1");
    assert_eq!(NetNs::list(&id.namespace_prefix()).unwrap(), []);
}
