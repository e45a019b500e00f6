//! Features of a link, as `ethtool -K` switches them (`uapi/linux/ethtool_netlink.h`).

use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, bail};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

/// Switch on a feature of a link of this thread's network namespace.
pub(super) fn switch_on(link: &str, feature: &str) -> anyhow::Result<()> {
    let mut family = vec![CTRL_CMD_GETFAMILY, 1, 0, 0];
    family.extend(attribute(CTRL_ATTR_FAMILY_NAME, b"ethtool\0"));
    let answer = ask(GENL_ID_CTRL, &family)?;
    let number = find(answer.get(20..).unwrap_or_default(), CTRL_ATTR_FAMILY_ID)
        .and_then(|value| value.first_chunk())
        .context("the kernel has no ethtool over netlink")?;
    let bit = [attribute(BIT_NAME, &text(feature)), attribute(BIT_VALUE, &[])].concat();
    let mut change = vec![ETHTOOL_MSG_FEATURES_SET, 1, 0, 0];
    change.extend(attribute(NESTED | HEADER, &attribute(HEADER_DEV_NAME, &text(link))));
    let bits = attribute(NESTED | BITS, &attribute(NESTED | BIT, &bit));
    change.extend(attribute(NESTED | FEATURES_WANTED, &bits));
    ask(u16::from_ne_bytes(*number), &change)
        .with_context(|| format!("switch on {feature} of {link}"))?;
    Ok(())
}

/// Ask generic netlink; the answer is its first message, or an acknowledgement.
fn ask(kind: u16, body: &[u8]) -> anyhow::Result<Vec<u8>> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket =
        socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkGeneric)?;
    let mut message = ((16 + body.len()) as u32).to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend((NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    send(socket.as_raw_fd(), &message, MsgFlags::empty())?;
    let mut answer = vec![0; 16 << 10];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    answer.truncate(length);
    let is_error = answer.get(4..6) == Some(NLMSG_ERROR.to_ne_bytes().as_slice());
    let errno = answer.get(16..20).and_then(|bytes| bytes.first_chunk());
    match errno.map(|errno| i32::from_ne_bytes(*errno)) {
        Some(errno) if is_error && errno != 0 => bail!(std::io::Error::from_raw_os_error(-errno)),
        _ => Ok(answer),
    }
}

fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

/// `struct nlattr`, and what it says, to a multiple of four bytes.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut attribute = (4 + value.len() as u16).to_ne_bytes().to_vec();
    attribute.extend(kind.to_ne_bytes());
    attribute.extend(value);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}

fn find(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?);
        let value = bytes.get(4..length)?;
        if kind == wanted {
            return Some(value);
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
}

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLMSG_ERROR: u16 = 2;
const NESTED: u16 = 0x8000;
// uapi/linux/genetlink.h
const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
// uapi/linux/ethtool_netlink.h
const ETHTOOL_MSG_FEATURES_SET: u8 = 12;
const HEADER: u16 = 1;
const HEADER_DEV_NAME: u16 = 2;
const FEATURES_WANTED: u16 = 3;
const BITS: u16 = 3;
const BIT: u16 = 1;
const BIT_NAME: u16 = 2;
const BIT_VALUE: u16 = 3;
