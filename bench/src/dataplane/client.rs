//! The client: what it does to the endpoints, and how long that takes.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddrV4, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use nix::libc::linger;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, connect, setsockopt, socket, sockopt,
};

use super::server::{CONNECTIONS, REQUEST_BYTES};

/// Microseconds of `turns` calls of connect() to each address, the addresses in turn. The call alone:
/// what comes before and after is the same for all.
pub(super) fn connects(to: &[SocketAddrV4], turns: usize) -> anyhow::Result<Vec<Vec<f64>>> {
    let mut samples = vec![Vec::with_capacity(turns); to.len()];
    for _ in 0..turns {
        for (address, samples) in to.iter().zip(&mut samples) {
            let took = connect_one(&open()?, *address)?;
            samples.push(took.as_secs_f64() * 1e6);
        }
    }
    Ok(samples)
}

/// How long one call of connect() takes.
pub(super) fn connect_one(socket: &OwnedFd, to: SocketAddrV4) -> anyhow::Result<Duration> {
    let start = Instant::now();
    let connected = connect(socket.as_raw_fd(), &SockaddrIn::from(to));
    let took = start.elapsed();
    connected.with_context(|| format!("connect to {to}"))?;
    Ok(took)
}

/// Connections a second that each carry one request, by as many threads as the server has.
pub(super) fn short_connections(to: &[SocketAddrV4], took: Duration) -> anyhow::Result<f64> {
    by_all(took, |thread, until| {
        let mut count = 0;
        while Instant::now() < until {
            let address = to[(thread + count) % to.len()];
            let socket = open()?;
            connect(socket.as_raw_fd(), &SockaddrIn::from(address))
                .with_context(|| format!("connect to {address}"))?;
            request(&mut TcpStream::from(socket))?;
            count += 1;
        }
        Ok(count)
    })
}

/// Requests a second on connections that are kept, one a thread.
pub(super) fn kept_connections(to: &[SocketAddrV4], took: Duration) -> anyhow::Result<f64> {
    by_all(took, |thread, until| {
        let address = to[thread % to.len()];
        let socket = open()?;
        connect(socket.as_raw_fd(), &SockaddrIn::from(address))
            .with_context(|| format!("connect to {address}"))?;
        let mut stream = TcpStream::from(socket);
        let mut count = 0;
        while Instant::now() < until {
            request(&mut stream)?;
            count += 1;
        }
        Ok(count)
    })
}

fn by_all(
    took: Duration,
    work: impl Fn(usize, Instant) -> anyhow::Result<usize> + Sync,
) -> anyhow::Result<f64> {
    let start = Instant::now();
    let until = start + took;
    let counts = std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> =
            (0..CONNECTIONS).map(|thread| scope.spawn(move || work(thread, until))).collect();
        let joined = threads.into_iter().map(|thread| {
            thread.join().unwrap_or_else(|_| Err(anyhow!("a thread of the client panicked")))
        });
        joined.collect::<anyhow::Result<Vec<usize>>>()
    })?;
    Ok(counts.into_iter().sum::<usize>() as f64 / start.elapsed().as_secs_f64())
}

/// A socket whose connection is reset when it is closed.
pub(super) fn open() -> anyhow::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
    setsockopt(&socket, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 })?;
    // Lost packets must not stop the bench for ever.
    setsockopt(&socket, sockopt::TcpUserTimeout, &10_000)?;
    Ok(socket)
}

pub(super) fn request(stream: &mut TcpStream) -> anyhow::Result<()> {
    let mut buffer = [b'r'; REQUEST_BYTES];
    stream.write_all(&buffer)?;
    stream.read_exact(&mut buffer).context("read the answer")
}
