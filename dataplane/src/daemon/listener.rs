//! Whether a process already listens where a node port is about to be served.
//!
//! kube-proxy once opened a socket at each node port to keep others off. Here the programs do, but for
//! sockets that were bound before; those are found in the kernel's lists of sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use pintle_ebpf_common::{flag, protocol};

use crate::plan::{DesiredService, Protocol, ServiceName};

/// A port that is served at the node's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NodePort {
    pub(super) number: u16,
    pub(super) protocol: Protocol,
}

/// The Services' node ports.
#[derive(Debug, Default)]
pub(super) struct Served(BTreeMap<ServiceName, BTreeSet<NodePort>>);

impl Served {
    /// Services have changed: which node ports are new, and whose.
    pub(super) fn change(
        &mut self,
        changes: &[(ServiceName, DesiredService)],
    ) -> BTreeMap<NodePort, ServiceName> {
        let mut new = BTreeMap::new();
        for (name, service) in changes {
            let ports = node_ports(service);
            let before = if ports.is_empty() {
                self.0.remove(name)
            } else {
                self.0.insert(name.clone(), ports)
            };
            let before = before.unwrap_or_default();
            let now = self.0.get(name).into_iter().flatten();
            new.extend(now.filter(|port| !before.contains(port)).map(|port| (*port, name.clone())));
        }
        new
    }
}

fn node_ports(service: &DesiredService) -> BTreeSet<NodePort> {
    let frontends = service.ports.iter().flat_map(|port| &port.frontends);
    let of_node = frontends.filter(|frontend| frontend.flags & flag::NODE_PORT != 0);
    let ports = of_node.map(|frontend| NodePort {
        number: u16::from_be(frontend.key.port_be),
        protocol: match frontend.key.protocol {
            protocol::SCTP => Protocol::Sctp,
            protocol::UDP => Protocol::Udp,
            _ => Protocol::Tcp,
        },
    });
    ports.collect()
}

/// Those of these ports at which a process of this network namespace listens.
pub(super) fn taken(ports: &BTreeSet<NodePort>) -> BTreeSet<NodePort> {
    let lists = [
        ("/proc/thread-self/net/tcp", Protocol::Tcp),
        ("/proc/thread-self/net/tcp6", Protocol::Tcp),
        ("/proc/thread-self/net/udp", Protocol::Udp),
        ("/proc/thread-self/net/udp6", Protocol::Udp),
    ];
    let mut taken = BTreeSet::new();
    for (path, protocol) in lists {
        // A family that the kernel does not have has no list.
        let text = fs::read_to_string(path).unwrap_or_default();
        taken.extend(listening(&text, protocol).filter(|port| ports.contains(port)));
    }
    taken
}

/// The ports of a list: of TCP those that are listened at, of UDP those that are not connected.
fn listening(text: &str, protocol: Protocol) -> impl Iterator<Item = NodePort> {
    let state = if protocol == Protocol::Tcp { TCP_LISTEN } else { UDP_OPEN };
    text.lines().skip(1).filter_map(move |line| {
        let mut words = line.split_whitespace();
        let (_, number) = words.nth(1)?.rsplit_once(':')?;
        let number = u16::from_str_radix(number, 16).ok()?;
        (words.nth(1)? == state).then_some(NodePort { number, protocol })
    })
}

// net/tcp_states.h
const TCP_LISTEN: &str = "0A";
const UDP_OPEN: &str = "07";

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn lists_are_read_as_the_kernel_writes_them() {
        let text = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:7580 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
   1: 0100007F:7581 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 2 1
   2: garbage
";
        let ports: Vec<_> = listening(text, Protocol::Tcp).collect();
        assert_eq!(ports, [NodePort { number: 30080, protocol: Protocol::Tcp }]);
        assert_eq!(listening("", Protocol::Udp).count(), 0);
    }

    #[test]
    fn sockets_of_this_machine_are_found() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("[::1]:0").or_else(|_| UdpSocket::bind("127.0.0.1:0")).unwrap();
        let tcp = NodePort { number: tcp.local_addr().unwrap().port(), protocol: Protocol::Tcp };
        let udp = NodePort { number: udp.local_addr().unwrap().port(), protocol: Protocol::Udp };
        let not = NodePort { protocol: Protocol::Sctp, ..tcp };
        assert_eq!(taken(&[tcp, udp, not].into()), [tcp, udp].into());
    }
}
