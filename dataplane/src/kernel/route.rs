//! What the kernel says of links and of the ways to addresses (`rtnetlink`, `uapi/linux/rtnetlink.h`), of
//! this thread's network namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use nix::sys::socket::SockProtocol;

use super::namespace::LinkRole;
use super::netlink::{ACK, DUMP, Netlink, attribute, find};

/// The roles of all links, by their numbers.
pub(super) fn roles() -> io::Result<BTreeMap<u32, LinkRole>> {
    let mut netlink = Netlink::open(SockProtocol::NetlinkRoute)?;
    let mut found = Vec::new();
    netlink.ask(RTM_GETLINK, DUMP, &[0; LINK_LENGTH], |_, body| found.extend(parse_link(body)))?;
    Ok(roles_of(&found))
}

/// The link by which packets to an address leave; `None` where there is no way to it, or it is the
/// node's own.
pub(super) fn link_to(address: IpAddr) -> io::Result<Option<u32>> {
    let (family, octets) = match address {
        IpAddr::V4(ip) => (AF_INET, ip.octets().to_vec()),
        IpAddr::V6(ip) => (AF_INET6, ip.octets().to_vec()),
    };
    let mut body = vec![0; ROUTE_LENGTH];
    body[..2].copy_from_slice(&[family, octets.len() as u8 * 8]);
    body.extend(attribute(RTA_DST, &octets));
    let mut link = None;
    let mut netlink = Netlink::open(SockProtocol::NetlinkRoute)?;
    let asked = netlink.ask(RTM_GETROUTE, ACK, &body, |_, body| link = parse_route(body));
    match asked {
        Err(error) if error.raw_os_error().is_some_and(|errno| NO_WAY.contains(&errno)) => Ok(None),
        Err(error) => Err(error),
        Ok(()) => Ok(link),
    }
}

/// What there is to know of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    index: u32,
    /// Its own kind; none of a physical device.
    kind: Vec<u8>,
    /// The bridge that it is a port of.
    bridge: Option<u32>,
}

/// `struct ifinfomsg` and attributes.
fn parse_link(body: &[u8]) -> Option<Known> {
    let index = u32::from_ne_bytes(body.get(4..8)?.try_into().ok()?);
    let attributes = body.get(LINK_LENGTH..)?;
    let info = find(attributes, IFLA_LINKINFO).unwrap_or_default();
    let text = |kind| {
        let text = find(info, kind).unwrap_or_default();
        text.strip_suffix(&[0]).unwrap_or(text).to_vec()
    };
    let master = find(attributes, IFLA_MASTER).and_then(|value| value.first_chunk());
    let is_port = text(IFLA_INFO_SLAVE_KIND) == b"bridge";
    let bridge = master.map(|bytes| u32::from_ne_bytes(*bytes)).filter(|_| is_port);
    Some(Known { index, kind: text(IFLA_INFO_KIND), bridge })
}

fn roles_of(links: &[Known]) -> BTreeMap<u32, LinkRole> {
    let is_inner = |link: &Known| [b"veth".as_slice(), b"tun"].contains(&link.kind.as_slice());
    let outward: BTreeSet<u32> =
        links.iter().filter(|link| !is_inner(link)).filter_map(|link| link.bridge).collect();
    let role = |link: &Known| match &*link.kind {
        _ if link.bridge.is_some() => LinkRole::Port,
        b"bridge" if !outward.contains(&link.index) => LinkRole::Inner,
        b"veth" => LinkRole::Inner,
        _ => LinkRole::Outer,
    };
    links.iter().map(|link| (link.index, role(link))).collect()
}

/// `struct rtmsg` and attributes.
fn parse_route(body: &[u8]) -> Option<u32> {
    let kind = *body.get(7)?;
    let link = find(body.get(ROUTE_LENGTH..)?, RTA_OIF)?.first_chunk()?;
    (kind == RTN_UNICAST).then_some(u32::from_ne_bytes(*link))
}

/// What the kernel says where there is no way, or one that says so.
const NO_WAY: [i32; 5] = [
    nix::libc::ENETUNREACH,
    nix::libc::EHOSTUNREACH,
    nix::libc::EACCES,
    nix::libc::EINVAL,
    nix::libc::EAFNOSUPPORT,
];

// uapi/linux/rtnetlink.h
const RTM_GETLINK: u16 = 18;
const RTM_GETROUTE: u16 = 26;
const ROUTE_LENGTH: usize = 12;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTN_UNICAST: u8 = 1;
// uapi/linux/if_link.h
const LINK_LENGTH: usize = 16;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, kind: &str, bridge: Option<u32>) -> Known {
        Known { index, kind: kind.into(), bridge }
    }

    #[test]
    fn a_bridge_is_inner_while_none_of_its_ports_leads_elsewhere() {
        let pods = [link(1, "", None), link(2, "bridge", None), link(3, "veth", Some(2))];
        let roles = roles_of(&pods);
        assert_eq!(roles[&1], LinkRole::Outer, "a physical device");
        assert_eq!(roles[&2], LinkRole::Inner);
        assert_eq!(roles[&3], LinkRole::Port);
        for elsewhere in ["", "vxlan", "bond"] {
            let links = [&pods[..], &[link(4, elsewhere, Some(2))]].concat();
            let roles = roles_of(&links);
            assert_eq!((roles[&2], roles[&4]), (LinkRole::Outer, LinkRole::Port), "{elsewhere}");
        }
        let roles = roles_of(&[link(5, "veth", None), link(6, "vxlan", None)]);
        assert_eq!((roles[&5], roles[&6]), (LinkRole::Inner, LinkRole::Outer));
    }

    #[test]
    fn a_link_is_read_as_the_kernel_writes_it() {
        let info = [attribute(1, b"veth\0"), attribute(4, b"bridge\0")].concat();
        let mut body = vec![0; LINK_LENGTH];
        body[4..8].copy_from_slice(&7_u32.to_ne_bytes());
        body.extend(attribute(IFLA_MASTER, &2_u32.to_ne_bytes()));
        let without = parse_link(&body).unwrap();
        assert_eq!(without, link(7, "", None), "a master that is no bridge");
        body.extend(attribute(IFLA_LINKINFO, &info));
        assert_eq!(parse_link(&body).unwrap(), link(7, "veth", Some(2)));
        assert_eq!(parse_link(&body[..10]), None);
    }

    #[test]
    fn the_way_to_an_own_address_leaves_by_no_link() {
        assert_eq!(link_to("127.0.0.1".parse().unwrap()).unwrap(), None);
    }
}
