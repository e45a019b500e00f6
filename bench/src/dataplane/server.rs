//! The endpoints: one server for all of their addresses.
//!
//! A few threads accept, answer each request with as many bytes, and go on to the next connection when
//! the client has closed. The client closes, by a reset, so that no port is left in TIME_WAIT.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::Context as _;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, listen, setsockopt, shutdown,
    socket, sockopt,
};
use pintle_node::NetNs;

/// The server of a world. Dropping it ends it.
pub(super) struct Server {
    listener: Arc<TcpListener>,
    stopping: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    pub(super) fn start(namespace: &NetNs, port: u16) -> anyhow::Result<Self> {
        let listener = Arc::new(namespace.run_in(move || open(port))??);
        let stopping = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::with_capacity(CONNECTIONS);
        for _ in 0..CONNECTIONS {
            let (listener, stopping) = (Arc::clone(&listener), Arc::clone(&stopping));
            let serve = move || {
                while !stopping.load(Ordering::Acquire) {
                    if let Ok((stream, _)) = listener.accept() {
                        answer(stream);
                    }
                }
            };
            threads.push(std::thread::Builder::new().name("endpoint".into()).spawn(serve)?);
        }
        Ok(Self { listener, stopping, threads })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        // Lets every accept() fail.
        let _ = shutdown(self.listener.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// With a long queue: a client may be faster than the server for a while.
fn open(port: u16) -> anyhow::Result<TcpListener> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    let any = std::net::SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
    bind(socket.as_raw_fd(), &SockaddrIn::from(any)).context("bind the endpoints' server")?;
    listen(&socket, Backlog::MAXALLOWABLE)?;
    Ok(TcpListener::from(socket))
}

fn answer(mut stream: TcpStream) {
    let mut request = [0; REQUEST_BYTES];
    // An error is a client that has reset the connection, which is how it closes.
    while stream.read_exact(&mut request).is_ok() && stream.write_all(&request).is_ok() {}
}

/// The size of a request and of its answer.
pub(super) const REQUEST_BYTES: usize = 64;
/// How many connections are served at a time; a client has no more at once.
pub(super) const CONNECTIONS: usize = 4;
