//! Netlink: questions to parts of the kernel, and their answers (`uapi/linux/netlink.h`).

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

/// A connection to one part of the kernel, in the network namespace that it was made in.
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// Connect in this thread's network namespace.
    pub(super) fn open(to: SockProtocol) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, to)?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Ask, and read the answer to its end: each message's kind and body.
    pub(super) fn ask(
        &mut self,
        kind: u16,
        flags: u16,
        body: &[u8],
        each: impl FnMut(u16, &[u8]),
    ) -> io::Result<()> {
        self.sequence += 1;
        let message = message(kind, NLM_F_REQUEST | flags, self.sequence, body);
        send(self.socket.as_raw_fd(), &message, MsgFlags::empty())?;
        self.receive(each)
    }

    fn receive(&self, mut each: impl FnMut(u16, &[u8])) -> io::Result<()> {
        let mut buffer = vec![0; RECEIVE_BYTES];
        loop {
            let length = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            let mut rest = &buffer[..length];
            while let Some((kind, sequence, body, after)) = split_message(rest) {
                rest = after;
                match kind {
                    _ if sequence != self.sequence => {}
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => return outcome(body),
                    _ => each(kind, body),
                }
            }
        }
    }
}

/// An error message's number; 0 acknowledges.
fn outcome(body: &[u8]) -> io::Result<()> {
    match body.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes)) {
        Some(0) => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(-errno)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// `struct nlmsghdr` and a body.
fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER_LENGTH + body.len());
    message.extend(((HEADER_LENGTH + body.len()) as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend(sequence.to_ne_bytes());
    message.extend([0; 4]);
    message.extend(body);
    message
}

/// `struct nlattr`, and what it says, to a multiple of four bytes.
pub(super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut attribute = Vec::with_capacity(4 + value.len() + 3);
    attribute.extend((4 + value.len() as u16).to_ne_bytes());
    attribute.extend(kind.to_ne_bytes());
    attribute.extend(value);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}

/// The first message's kind, sequence number and body, and what follows it.
fn split_message(bytes: &[u8]) -> Option<(u16, u32, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let sequence = u32::from_ne_bytes(bytes.get(8..12)?.try_into().ok()?);
    let body = bytes.get(HEADER_LENGTH..length)?;
    let after = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, sequence, body, after))
}

/// The first attribute of a kind.
pub(super) fn find(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & NLA_TYPE_MASK;
        let value = bytes.get(4..length)?;
        if kind == wanted {
            return Some(value);
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
}

/// The answer has an end: of many messages, or a single acknowledgement.
pub(super) const DUMP: u16 = 0x300;
pub(super) const ACK: u16 = 4;

/// More than the kernel puts into one answer.
const RECEIVE_BYTES: usize = 64 << 10;

const HEADER_LENGTH: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLA_TYPE_MASK: u16 = 0x3fff;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_follow_one_another() {
        let mut bytes = message(20, 0, 1, &[1, 2, 3]);
        bytes.push(0);
        bytes.extend(message(NLMSG_DONE, 0, 2, &[]));
        let (kind, sequence, body, rest) = split_message(&bytes).unwrap();
        assert_eq!((kind, sequence, body), (20, 1, &[1, 2, 3][..]));
        let (kind, _, _, rest) = split_message(rest).unwrap();
        assert_eq!(kind, NLMSG_DONE);
        assert_eq!(split_message(rest), None);
    }

    #[test]
    fn attributes_are_found_and_cut_ones_are_not() {
        let bytes = [attribute(1, &[1]), attribute(2 | 1 << 15, &[5, 6])].concat();
        assert_eq!(find(&bytes, 2), Some(&[5, 6][..]));
        assert_eq!(find(&bytes, 3), None);
        assert_eq!(find(&bytes[..13], 2), None);
        assert_eq!(find(&[0; 8], 2), None);
    }
}
