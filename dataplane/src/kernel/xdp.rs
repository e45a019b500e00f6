//! The program before the kernel (XDP) on a link: by its driver, else by the kernel's own imitation, else
//! not at all.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use nix::sys::socket::SockProtocol;

use super::netlink::{ACK, Netlink, attribute, find};
use super::syscall::{self, Hook};

/// Whether packets that turn back on the link that they came in by may do so before the kernel makes
/// anything of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Express {
    /// No: all packets are the kernel's.
    #[default]
    Off,
    /// Where the link's driver can.
    Native,
    /// Where the driver cannot, by the kernel's imitation of one, which spares less.
    Generic,
}

/// How a program is attached to a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Native,
    Generic,
}

/// Attach to a link of this thread's network namespace, or let an attachment that is pinned run this
/// program. `None`: the link has none, and why was logged.
pub(super) fn attach(
    program: &OwnedFd,
    link: (u32, &str),
    express: Express,
    pin: Option<&Path>,
) -> Option<(OwnedFd, Mode)> {
    let (index, name) = link;
    let mut reasons = Vec::new();
    for mode in [Mode::Native, Mode::Generic] {
        if mode == Mode::Generic && express != Express::Generic {
            continue;
        }
        match attach_one(program, index, mode, pin) {
            Ok(attached) => {
                let before = reasons.join(", ");
                tracing::info!(link = name, ?mode, before, "packets turn back before the kernel");
                return Some((attached, mode));
            }
            Err(error) => reasons.push(format!("{mode:?}: {error}")),
        }
    }
    tracing::info!(link = name, reasons = reasons.join(", "), "all packets pass the kernel");
    None
}

fn attach_one(
    program: &OwnedFd,
    index: u32,
    mode: Mode,
    pin: Option<&Path>,
) -> io::Result<OwnedFd> {
    let hook = match mode {
        Mode::Native => Hook::XdpNative,
        Mode::Generic => Hook::XdpGeneric,
    };
    let link = syscall::attach_to_link(program.as_fd(), index, hook)?;
    if mode == Mode::Native && !sends_back(index)? {
        // A veth pair, of which the other end takes packets of the kernel alone.
        return Err(io::Error::other("the driver takes no packets from a program"));
    }
    if let Some(pin) = pin {
        syscall::pin(link.as_fd(), pin)?;
    }
    Ok(link)
}

/// Whether the driver sends what a program hands it, now that there is one
/// (`Documentation/netlink/specs/netdev.yaml`).
fn sends_back(index: u32) -> io::Result<bool> {
    let mut netlink = Netlink::open(SockProtocol::NetlinkGeneric)?;
    let family = family(&mut netlink, b"netdev\0")?;
    let mut body = generic(NETDEV_CMD_DEV_GET);
    body.extend(attribute(NETDEV_A_DEV_IFINDEX, &index.to_ne_bytes()));
    let mut features = 0;
    netlink.ask(family, ACK, &body, |_, body| {
        let value =
            body.get(GENERIC_LENGTH..).and_then(|body| find(body, NETDEV_A_DEV_XDP_FEATURES));
        features =
            value.and_then(|value| value.first_chunk()).map_or(0, |v| u64::from_ne_bytes(*v));
    })?;
    Ok(features & NETDEV_XDP_ACT_NDO_XMIT != 0)
}

/// The number of a family of generic netlink.
fn family(netlink: &mut Netlink, name: &[u8]) -> io::Result<u16> {
    let mut body = generic(CTRL_CMD_GETFAMILY);
    body.extend(attribute(CTRL_ATTR_FAMILY_NAME, name));
    let mut number = None;
    netlink.ask(GENL_ID_CTRL, ACK, &body, |_, body| {
        let value = body.get(GENERIC_LENGTH..).and_then(|body| find(body, CTRL_ATTR_FAMILY_ID));
        number = value.and_then(|value| value.first_chunk()).map(|v| u16::from_ne_bytes(*v));
    })?;
    number.ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// `struct genlmsghdr`.
fn generic(command: u8) -> Vec<u8> {
    vec![command, 1, 0, 0]
}

// uapi/linux/genetlink.h
const GENERIC_LENGTH: usize = 4;
const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
// uapi/linux/netdev.h
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
const NETDEV_XDP_ACT_NDO_XMIT: u64 = 4;
