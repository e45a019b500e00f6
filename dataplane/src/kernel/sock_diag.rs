//! The connected UDP sockets of a network namespace, and their end.
//!
//! Speaks netlink's `sock_diag` (`uapi/linux/inet_diag.h`), which lists sockets with their cookies and
//! their state, and so never a socket that is not connected. (It also shows what programs keep with a
//! socket, but not of UDP's.) A program that walks the sockets (`bpf_iter` with `bpf_sock_destroy`) would
//! have to be entered in each namespace all the same, and needs a function of the kernel that the loader
//! cannot name.

use std::io;

use nix::sys::socket::SockProtocol;
use pintle_ebpf_common::protocol;

use super::netlink::{ACK, DUMP, Netlink};

/// A connection to `sock_diag` of the network namespace that it was made in.
pub(super) struct SockDiag(Netlink);

/// A connected UDP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConnectedSocket {
    family: u8,
    /// The kernel's description of it, which names it in requests (`struct inet_diag_sockid`).
    id: [u8; ID_LENGTH],
    /// The kernel's number of it.
    pub(super) cookie: u64,
}

impl SockDiag {
    /// Connect in this thread's network namespace.
    pub(super) fn open() -> io::Result<Self> {
        Netlink::open(SockProtocol::NetlinkSockDiag).map(Self)
    }

    /// The connected UDP sockets.
    pub(super) fn connected(&mut self) -> io::Result<Vec<ConnectedSocket>> {
        let mut found = Vec::new();
        for family in [AF_INET, AF_INET6] {
            let body = request(family, 1 << ESTABLISHED, &[0; ID_LENGTH]);
            self.0.ask(SOCK_DIAG_BY_FAMILY, DUMP, &body, |_, body| found.extend(parse(body)))?;
        }
        Ok(found)
    }

    /// Disconnect a socket: an owner who waits hears `ECONNABORTED`. One that is gone is fine.
    pub(super) fn destroy(&mut self, socket: &ConnectedSocket) -> io::Result<()> {
        let body = request(socket.family, u32::MAX, &socket.id);
        match self.0.ask(SOCK_DESTROY, ACK, &body, |_, _| ()) {
            Err(error) if error.raw_os_error().is_some_and(|errno| GONE.contains(&errno)) => Ok(()),
            other => other,
        }
    }
}

/// `struct inet_diag_req_v2`.
fn request(family: u8, states: u32, id: &[u8; ID_LENGTH]) -> Vec<u8> {
    let mut body = vec![family, protocol::UDP, 0, 0];
    body.extend(states.to_ne_bytes());
    body.extend(id);
    body
}

/// `struct inet_diag_msg`, as far as the socket's description, which ends with its cookie in two words.
fn parse(body: &[u8]) -> Option<ConnectedSocket> {
    let family = *body.first()?;
    let id: [u8; ID_LENGTH] = body.get(4..4 + ID_LENGTH)?.try_into().ok()?;
    let word = |at: usize| u32::from_ne_bytes(std::array::from_fn(|byte| id[at + byte]));
    let cookie = u64::from(word(40)) | u64::from(word(44)) << 32;
    Some(ConnectedSocket { family, id, cookie })
}

/// The socket is closed, or what it was named by is another's.
const GONE: [i32; 2] = [nix::libc::ENOENT, nix::libc::ESTALE];

// uapi/linux/sock_diag.h
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
/// `struct inet_diag_sockid`.
const ID_LENGTH: usize = 48;
// net/tcp_states.h: what a connected UDP socket is too.
const ESTABLISHED: u32 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_known_by_its_cookie_and_a_truncated_answer_is_none() {
        let mut body = vec![AF_INET; 4 + 40];
        body.extend([1, 0, 0, 0, 2, 0, 0, 0]);
        let cookie = u64::from(u32::from_ne_bytes([1, 0, 0, 0]))
            | u64::from(u32::from_ne_bytes([2, 0, 0, 0])) << 32;
        assert_eq!(parse(&body).unwrap().cookie, cookie);
        for length in 0..body.len() {
            assert_eq!(parse(&body[..length]), None, "{length}");
        }
    }
}
