//! Links, addresses and routes of one network namespace, over rtnetlink.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd as _;
use std::sync::LazyLock;

use futures::TryStreamExt as _;
use ipnet::Ipv4Net;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::{NetNs, NetworkError};

/// A netlink socket inside one namespace. While it is open the kernel keeps the namespace, so open
/// it for one piece of work and drop it.
#[derive(Debug)]
pub struct Netlink {
    handle: rtnetlink::Handle,
    driver: JoinHandle<()>,
}

/// An IPv4 route of the main table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to; `0.0.0.0/0` is the default route.
    pub to: Ipv4Net,
    /// The next hop, in a network that is on a link already.
    pub via: Ipv4Addr,
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Who sends the requests. The kernel carries a request out on the thread that sends it, and for a link
/// that can take tens of milliseconds (the rtnl lock, RCU's grace periods): on the caller's runtime
/// everybody else's work would wait for it.
static DRIVERS: LazyLock<io::Result<Runtime>> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(DRIVERS_MAX)
        .thread_name("netlink")
        .enable_io()
        .build()
});

fn drivers() -> Result<&'static Runtime, NetworkError> {
    let failed = |error: &io::Error| {
        NetworkError::io("start the threads for netlink", io::Error::from(error.kind()))
    };
    DRIVERS.as_ref().map_err(failed)
}

/// One waits for a grace period while another works; the rtnl lock allows no more.
const DRIVERS_MAX: usize = 2;

impl Netlink {
    /// A socket in `namespace`, or in this process's own.
    pub async fn open(namespace: Option<&NetNs>) -> Result<Self, NetworkError> {
        let drivers = drivers()?;
        let connect = move || {
            let _entered = drivers.enter();
            rtnetlink::new_connection()
        };
        let connected = match namespace {
            Some(namespace) => namespace.spawn_in(connect).await?,
            None => connect(),
        };
        let (connection, handle, _messages) =
            connected.map_err(|source| NetworkError::io("open a netlink socket", source))?;
        Ok(Self { handle, driver: drivers.spawn(connection) })
    }

    /// The index of a link, if it is there.
    pub async fn find_link(&self, name: &str) -> Result<Option<u32>, NetworkError> {
        let mut found = self.handle.link().get().match_name(name).execute();
        match found.try_next().await {
            Ok(link) => Ok(link.map(|link| link.header.index)),
            Err(error) => {
                let error = NetworkError::netlink(format!("look up link {name}"), error);
                match error.os_error() {
                    Some(ENODEV) => Ok(None),
                    _ => Err(error),
                }
            }
        }
    }

    /// The index of a link that should be there.
    async fn link(&self, name: &str, act: &str) -> Result<u32, NetworkError> {
        self.find_link(name)
            .await?
            .ok_or_else(|| NetworkError::NoLink { act: act.to_owned(), link: name.to_owned() })
    }

    /// The names of the links that begin with `prefix`.
    pub async fn list_links(&self, prefix: &str) -> Result<Vec<String>, NetworkError> {
        let links: Vec<LinkMessage> = self
            .handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|error| NetworkError::netlink("list links", error))?;
        let name = |link: LinkMessage| {
            link.attributes.into_iter().find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) if name.starts_with(prefix) => Some(name),
                _ => None,
            })
        };
        Ok(links.into_iter().filter_map(name).collect())
    }

    /// Make a bridge, up, that keeps its hardware address for life.
    ///
    /// Left to itself a bridge takes the lowest address among its ports', so it would change as ports
    /// come and go, and every neighbour that has the old one would send into the void until its entry
    /// grows old: half a minute and more.
    pub async fn add_bridge(&self, name: &str) -> Result<(), NetworkError> {
        let failed = |error| NetworkError::netlink(format!("add bridge {name}"), error);
        let message = LinkBridge::new(name).build();
        self.handle.link().add(message).execute().await.map_err(failed)?;
        let Some(address) = self.hardware_address(name).await? else { return Ok(()) };
        let index = self.link(name, &format!("set the address of bridge {name}")).await?;
        let message = LinkUnspec::new_with_index(index).address(address).build();
        self.handle.link().set(message).execute().await.map_err(failed)
    }

    /// The hardware address of a link, if it is there and has one.
    pub async fn hardware_address(&self, name: &str) -> Result<Option<Vec<u8>>, NetworkError> {
        let mut found = self.handle.link().get().match_name(name).execute();
        let failed = |error| NetworkError::netlink(format!("look up link {name}"), error);
        let link = found.try_next().await.map_err(failed)?;
        let mut attributes = link.into_iter().flat_map(|link: LinkMessage| link.attributes);
        Ok(attributes.find_map(|attribute| match attribute {
            LinkAttribute::Address(address) => Some(address),
            _ => None,
        }))
    }

    /// Make a veth pair: `name` here, up and a port of `bridge`; `peer` in the other namespace.
    pub async fn add_veth(
        &self,
        name: &str,
        bridge: &str,
        peer: &str,
        peer_namespace: &File,
    ) -> Result<(), NetworkError> {
        let act = format!("add veth {name} on bridge {bridge}");
        let bridge = self.link(bridge, &act).await?;
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(peer)
            .setns_by_fd(peer_namespace.as_raw_fd())
            .build();
        let message = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(
            rtnetlink::packet_route::link::InfoKind::Veth,
        )
        .name(name)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .controller(bridge)
        .up()
        .build();
        let added = self.handle.link().add(message).execute().await;
        added.map_err(|error| NetworkError::netlink(act, error))
    }

    /// Set a link up.
    pub async fn set_up(&self, name: &str) -> Result<(), NetworkError> {
        let act = format!("set link {name} up");
        let index = self.link(name, &act).await?;
        let message = LinkUnspec::new_with_index(index).up().build();
        let set = self.handle.link().set(message).execute().await;
        set.map_err(|error| NetworkError::netlink(act, error))
    }

    /// Remove a link; one that is not there is fine.
    pub async fn delete_link(&self, name: &str) -> Result<(), NetworkError> {
        let Some(index) = self.find_link(name).await? else { return Ok(()) };
        match self.handle.link().del(index).execute().await {
            Ok(()) => Ok(()),
            Err(error) => {
                let error = NetworkError::netlink(format!("delete link {name}"), error);
                // The other end of a veth pair may have taken it away in the meantime.
                if error.os_error() == Some(ENODEV) { Ok(()) } else { Err(error) }
            }
        }
    }

    /// Give a link an address with its network's prefix length.
    pub async fn add_address(&self, link: &str, address: Ipv4Net) -> Result<(), NetworkError> {
        let act = format!("add address {address} to link {link}");
        let index = self.link(link, &act).await?;
        let request =
            self.handle.address().add(index, IpAddr::V4(address.addr()), address.prefix_len());
        request.execute().await.map_err(|error| NetworkError::netlink(act, error))
    }

    /// The networks of all IPv4 addresses and routes but default routes.
    pub async fn used_networks(&self) -> Result<Vec<Ipv4Net>, NetworkError> {
        let failed = |error| NetworkError::netlink("list addresses and routes", error);
        let mut used = Vec::new();
        let mut addresses = self.handle.address().get().execute();
        while let Some(message) = addresses.try_next().await.map_err(failed)? {
            let address = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(IpAddr::V4(address)) => Some(*address),
                _ => None,
            });
            used.extend(address.and_then(|it| Ipv4Net::new(it, message.header.prefix_len).ok()));
        }
        let everything = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let mut routes = self.handle.route().get(everything).execute();
        while let Some(message) = routes.try_next().await.map_err(failed)? {
            used.extend(destination(&message).filter(|network| network.prefix_len() > 0));
        }
        Ok(used)
    }

    /// Add a route; fails with `EEXIST` where the destination has one.
    pub async fn add_route(&self, route: Route) -> Result<(), NetworkError> {
        let added = self.handle.route().add(message(route)).execute().await;
        added.map_err(|error| NetworkError::netlink(describe("add", route), error))
    }

    /// Add a route, in place of the one the destination has.
    pub async fn replace_route(&self, route: Route) -> Result<(), NetworkError> {
        let replaced = self.handle.route().add(message(route)).replace().execute().await;
        replaced.map_err(|error| NetworkError::netlink(describe("replace", route), error))
    }

    /// Remove a route; one that is not there is fine.
    pub async fn delete_route(&self, route: Route) -> Result<(), NetworkError> {
        match self.handle.route().del(message(route)).execute().await {
            Ok(()) => Ok(()),
            Err(error) => {
                let error = NetworkError::netlink(describe("delete", route), error);
                if error.os_error() == Some(ESRCH) { Ok(()) } else { Err(error) }
            }
        }
    }
}

fn message(route: Route) -> RouteMessage {
    RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(route.to.network(), route.to.prefix_len())
        .gateway(route.via)
        .build()
}

fn describe(verb: &str, route: Route) -> String {
    format!("{verb} route {} via {}", route.to, route.via)
}

fn destination(message: &RouteMessage) -> Option<Ipv4Net> {
    message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => {
            Ipv4Net::new(*address, message.header.destination_prefix_length).ok()
        }
        _ => None,
    })
}

const ENODEV: i32 = nix::errno::Errno::ENODEV as i32;
const ESRCH: i32 = nix::errno::Errno::ESRCH as i32;
