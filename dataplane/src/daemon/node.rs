//! At which of the node's addresses node ports answer, as they come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::net::IpAddr;

use pintle_ebpf_common::{Address, node_address};
use tokio::task::spawn_blocking;

use super::listener::{self, NodePort};
use crate::kernel::{Link, NodeNamespace};
use crate::plan::{NodePortAddress, NodeSpec, node_port_addresses};

/// The node's addresses, and which of them are in the tables.
pub(super) struct NodePorts {
    namespace: NodeNamespace,
    wanted: Vec<NodePortAddress>,
    /// Whether loopback addresses may be among them.
    localhost: bool,
    links: Vec<Link>,
    chosen: BTreeMap<Address, u32>,
    news: bool,
}

/// The node as its links show it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NodeNews {
    /// Where node ports answer.
    pub(super) addresses: BTreeMap<Address, u32>,
    pub(super) links: Vec<Link>,
}

impl NodePorts {
    pub(super) fn new(
        namespace: NodeNamespace,
        wanted: Vec<NodePortAddress>,
        localhost: bool,
    ) -> Self {
        let (links, chosen) = (Vec::new(), BTreeMap::new());
        // An earlier process may have left addresses that are none any more.
        Self { namespace, wanted, localhost, links, chosen, news: true }
    }

    /// Look at the node's links. If that fails they are as they were.
    pub(super) async fn look(&mut self) {
        let namespace = self.namespace.clone();
        match spawn_blocking(move || namespace.links()).await {
            Ok(Ok(links)) => {
                self.news |= links != self.links;
                self.links = links;
            }
            Ok(Err(error)) => {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%error, source, "the node's addresses stay as they were");
            }
            Err(panic) => tracing::warn!(error = %panic, "look at the node's addresses"),
        }
    }

    /// Choose among the node's addresses.
    pub(super) fn choose(&mut self, node: &NodeSpec) {
        let all: Vec<IpAddr> =
            self.links.iter().flat_map(|link| &link.addresses).copied().collect();
        let mut chosen = node_port_addresses(&self.wanted, node, &all);
        chosen.retain(|_, flags| self.localhost || *flags & node_address::LOOPBACK == 0);
        self.news |= chosen != self.chosen;
        self.chosen = chosen;
    }

    /// Those of these ports at which a process of the node listens.
    pub(super) fn taken(
        &self,
        ports: BTreeSet<NodePort>,
    ) -> impl Future<Output = BTreeSet<NodePort>> + Send + use<> {
        let namespace = self.namespace.clone();
        let look = spawn_blocking(move || namespace.run(move || listener::taken(&ports)));
        async move { look.await.ok().and_then(Result::ok).unwrap_or_default() }
    }

    pub(super) fn has_news(&self) -> bool {
        self.news
    }

    /// The node's links and the chosen addresses, if they may be news.
    pub(super) fn take_news(&mut self) -> Option<NodeNews> {
        let news = || NodeNews { addresses: self.chosen.clone(), links: self.links.clone() };
        mem::take(&mut self.news).then(news)
    }
}
