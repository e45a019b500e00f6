//! One node's network: a bridge for its pods, their namespaces and addresses, and the routes to the
//! pods of other nodes by way of those nodes' addresses (flannel's `host-gw`).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::Ipv4Net;

use crate::id::fnv1a;
use crate::{AddressPool, ClusterId, NetNs, Netlink, NetworkError, PoolError, Route, set_sysctl};

/// The network of one node. Cheap to clone; clones are the same node.
#[derive(Clone, Debug)]
pub struct NodeNetwork {
    node: Arc<Node>,
}

/// A pod's place in the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodNetwork {
    /// The pod's address.
    pub address: Ipv4Addr,
    /// The file of its network namespace.
    pub namespace_path: PathBuf,
}

#[derive(Debug)]
struct Node {
    id: ClusterId,
    /// `None`: the node is this machine itself.
    namespace: Option<NetNs>,
    address: Ipv4Addr,
    bridge: String,
    state: Mutex<State>,
    /// Held while links and routes of the node itself change.
    setup: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    pool: Option<AddressPool>,
    pods: BTreeMap<String, Ipv4Addr>,
    peers: BTreeMap<Ipv4Net, Ipv4Addr>,
}

impl NodeNetwork {
    /// The machine itself as a node; pods get namespaces, the node's own is the caller's.
    #[must_use]
    pub fn host(id: ClusterId, address: Ipv4Addr) -> Self {
        let bridge = format!("{}c0", id.link_prefix());
        Self::new(id, None, address, bridge)
    }

    /// A node that lives in a namespace of its own.
    pub(crate) fn in_namespace(id: ClusterId, namespace: NetNs, address: Ipv4Addr) -> Self {
        Self::new(id, Some(namespace), address, POD_BRIDGE.to_owned())
    }

    fn new(id: ClusterId, namespace: Option<NetNs>, address: Ipv4Addr, bridge: String) -> Self {
        let state = Mutex::default();
        let setup = tokio::sync::Mutex::default();
        Self { node: Arc::new(Node { id, namespace, address, bridge, state, setup }) }
    }

    /// The cluster it belongs to.
    #[must_use]
    pub fn cluster_id(&self) -> &ClusterId {
        &self.node.id
    }

    /// The node's own address (`InternalIP`).
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.node.address
    }

    /// The node's namespace; `None` if it is the machine itself.
    #[must_use]
    pub fn namespace(&self) -> Option<&NetNs> {
        self.node.namespace.as_ref()
    }

    /// The namespace of a pod, whether or not it is there.
    #[must_use]
    pub fn pod_namespace(&self, pod: &str) -> NetNs {
        NetNs::named(self.node.id.pod_namespace(pod))
    }

    /// The network of the node's pods, once set.
    #[must_use]
    pub fn pod_cidr(&self) -> Option<Ipv4Net> {
        self.state().pool.as_ref().map(AddressPool::network)
    }

    /// Make the bridge of the pods with the gateway address of `cidr`, and lead the machine's own
    /// packets to it. Once set it stays: a second, different one is an error.
    pub async fn set_pod_cidr(&self, cidr: Ipv4Net) -> Result<(), NetworkError> {
        let _setup = self.node.setup.lock().await;
        match self.pod_cidr() {
            Some(current) if current == cidr.trunc() => return Ok(()),
            Some(current) => {
                let source = std::io::Error::other(format!("it is {current} already"));
                return Err(NetworkError::io(format!("set the podCIDR to {cidr}"), source));
            }
            None => {}
        }
        let pool = AddressPool::new(cidr);
        let namespace = self.namespace();
        let gateway = Ipv4Net::new(pool.gateway(), cidr.prefix_len())
            .map_err(|source| NetworkError::io("gateway", std::io::Error::other(source)))?;
        let netlink = Netlink::open(namespace).await?;
        // A try before may have come only half way.
        netlink.delete_link(&self.node.bridge).await?;
        netlink.add_bridge(&self.node.bridge).await?;
        netlink.add_address(&self.node.bridge, gateway).await?;
        set_sysctl(namespace, "net/ipv4/ip_forward", "1")?;
        if namespace.is_some() {
            self.route_from_host(pool.network()).await?;
        }
        self.state().pool = Some(pool);
        Ok(())
    }

    async fn route_from_host(&self, cidr: Ipv4Net) -> Result<(), NetworkError> {
        let route = Route { to: cidr, via: self.node.address };
        match Netlink::open(None).await?.add_route(route).await {
            Err(error) if error.os_error() == Some(EEXIST) => {
                tracing::warn!(
                    %cidr,
                    "the machine has a route there already, so it cannot reach these pods itself"
                );
                Ok(())
            }
            other => other,
        }
    }

    /// Set the routes to the pods of other nodes: podCIDR to node address. The difference to the
    /// last call is applied.
    pub async fn set_peers(&self, peers: BTreeMap<Ipv4Net, Ipv4Addr>) -> Result<(), NetworkError> {
        let _setup = self.node.setup.lock().await;
        let current = self.state().peers.clone();
        if current == peers {
            return Ok(());
        }
        let netlink = Netlink::open(self.namespace()).await?;
        for (&to, &via) in current.iter().filter(|(to, _)| !peers.contains_key(to)) {
            netlink.delete_route(Route { to, via }).await?;
            self.state().peers.remove(&to);
        }
        for (&to, &via) in peers.iter().filter(|(to, via)| current.get(to) != Some(via)) {
            netlink.replace_route(Route { to, via }).await?;
            self.state().peers.insert(to, via);
        }
        Ok(())
    }

    /// Give a pod a namespace with `eth0` on the node's bridge and a default route. On failure
    /// nothing of it is left.
    pub async fn attach_pod(&self, pod: &str) -> Result<PodNetwork, NetworkError> {
        let address = self.allocate(pod)?;
        let attached = self.make_pod(pod, address).await;
        if attached.is_err()
            && let Err(error) = self.detach_pod(pod).await
        {
            tracing::warn!(pod, %error, "remains of a pod's network are left");
        }
        attached
    }

    fn allocate(&self, pod: &str) -> Result<Ipv4Net, NetworkError> {
        let failed = |source| NetworkError::Address { pod: pod.to_owned(), source };
        let mut state = self.state();
        let pool = state.pool.as_mut().ok_or_else(|| failed(PoolError::NoNetwork))?;
        let address = pool.allocate().map_err(failed)?;
        let prefix_len = pool.network().prefix_len();
        if let Some(previous) = state.pods.insert(pod.to_owned(), address)
            && let Some(pool) = state.pool.as_mut()
        {
            pool.release(previous);
        }
        Ipv4Net::new(address, prefix_len)
            .map_err(|error| NetworkError::io("address", std::io::Error::other(error)))
    }

    async fn make_pod(&self, pod: &str, address: Ipv4Net) -> Result<PodNetwork, NetworkError> {
        let namespace = NetNs::create(&self.node.id.pod_namespace(pod))?;
        let veth = veth_name(pod);
        let node = Netlink::open(self.namespace()).await?;
        let inside = namespace.file()?;
        node.add_veth(&veth, &self.node.bridge, POD_LINK, &inside).await?;
        drop((node, inside));
        let netlink = Netlink::open(Some(&namespace)).await?;
        netlink.set_up("lo").await?;
        netlink.add_address(POD_LINK, address).await?;
        netlink.set_up(POD_LINK).await?;
        let gateway = self.state().pool.as_ref().map(AddressPool::gateway);
        if let Some(gateway) = gateway {
            netlink.add_route(Route { to: Ipv4Net::default(), via: gateway }).await?;
        }
        Ok(PodNetwork { address: address.addr(), namespace_path: namespace.path() })
    }

    /// Remove a pod's namespace and link, and free its address. A pod that is not there is fine.
    pub async fn detach_pod(&self, pod: &str) -> Result<(), NetworkError> {
        let netlink = Netlink::open(self.namespace()).await?;
        netlink.delete_link(&veth_name(pod)).await?;
        self.pod_namespace(pod).delete()?;
        let mut state = self.state();
        if let Some(address) = state.pods.remove(pod)
            && let Some(pool) = state.pool.as_mut()
        {
            pool.release(address);
        }
        Ok(())
    }

    /// Remove the bridge of the pods, and with it the routes over it, the namespaces that are left of
    /// pods of a node that is the machine itself, and the routes to other nodes' pods. Afterwards
    /// the node has no podCIDR. What is not there is fine.
    pub async fn remove(&self) -> Result<(), NetworkError> {
        let _setup = self.node.setup.lock().await;
        self.remove_peers().await?;
        Netlink::open(self.namespace()).await?.delete_link(&self.node.bridge).await?;
        if self.namespace().is_none() {
            for namespace in NetNs::list(&self.node.id.pod_namespace(""))? {
                namespace.delete()?;
            }
        } else if let Some(to) = self.pod_cidr() {
            let route = Route { to, via: self.node.address };
            Netlink::open(None).await?.delete_route(route).await?;
        }
        *self.state() = State::default();
        Ok(())
    }

    async fn remove_peers(&self) -> Result<(), NetworkError> {
        let peers = std::mem::take(&mut self.state().peers);
        let netlink = Netlink::open(self.namespace()).await?;
        for (to, via) in peers {
            netlink.delete_route(Route { to, via }).await?;
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is made in one step, so the state is whole even after a panic.
        self.node.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// 44 bits of the pod's key; 15 characters are all the kernel takes.
fn veth_name(pod: &str) -> String {
    format!("veth{:011x}", fnv1a(pod.as_bytes()) & 0xfff_ffff_ffff)
}

const POD_BRIDGE: &str = "cni0";
const POD_LINK: &str = "eth0";
const EEXIST: i32 = nix::errno::Errno::EEXIST as i32;
