//! Servers on the loopback device that tell who they are.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

/// A server of one protocol on a port of the kernel's choice. It answers each connection or datagram
/// with its own port. Dropping it closes its socket.
pub(crate) struct Backend {
    addr: SocketAddr,
    stop: Arc<AtomicBool>,
    udp: bool,
    thread: Option<JoinHandle<()>>,
}

impl Backend {
    pub(crate) fn tcp() -> Self {
        Self::tcp_at(Ipv4Addr::LOCALHOST.into())
    }

    pub(crate) fn tcp_at(ip: IpAddr) -> Self {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let addr = listener.local_addr().unwrap();
        Self::start(addr, false, move |stop| {
            while let Ok((mut stream, _)) = listener.accept() {
                if stop.load(Ordering::Acquire) {
                    // Serve those who are in the queue already.
                    listener.set_nonblocking(true).unwrap();
                }
                // The client may have gone already.
                let _ = stream.write_all(addr.port().to_string().as_bytes());
            }
        })
    }

    pub(crate) fn udp() -> Self {
        Self::udp_at(Ipv4Addr::LOCALHOST.into())
    }

    pub(crate) fn udp_at(ip: IpAddr) -> Self {
        let socket = UdpSocket::bind((ip, 0)).unwrap();
        let addr = socket.local_addr().unwrap();
        Self::start(addr, true, move |stop| {
            let mut buffer = [0; 64];
            while let Ok((_, client)) = socket.recv_from(&mut buffer) {
                if stop.load(Ordering::Acquire) {
                    return;
                }
                let _ = socket.send_to(addr.port().to_string().as_bytes(), client);
            }
        })
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What it answers.
    pub(crate) fn name(&self) -> String {
        self.addr.port().to_string()
    }

    fn start(
        addr: SocketAddr,
        udp: bool,
        serve: impl FnOnce(Arc<AtomicBool>) + Send + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || serve(stopped));
        Self { addr, stop, udp, thread: Some(thread) }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // Wake it.
        if self.udp {
            let _ = UdpSocket::bind((self.addr.ip(), 0)).unwrap().send_to(b"stop", self.addr);
        } else {
            let _ = TcpStream::connect(self.addr);
        }
        let _ = self.thread.take().unwrap().join();
    }
}
