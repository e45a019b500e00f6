//! Connections into a pod for its probes, made from inside its network namespace.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use pintle_node::NetNs;

use super::super::RuntimeError;

/// Connect, and if `request` is given send it and read the beginning of the answer.
pub(super) async fn connect(
    namespace: Option<NetNs>,
    address: SocketAddr,
    request: Option<String>,
    timeout: Duration,
) -> Result<Vec<u8>, RuntimeError> {
    let work = move || talk(address, request.as_deref(), timeout);
    let talked = match namespace {
        Some(namespace) => {
            namespace.spawn_in(work).await.map_err(|error| RuntimeError::new(&error))?
        }
        None => {
            tokio::task::spawn_blocking(work).await.map_err(|error| RuntimeError::new(&error))?
        }
    };
    talked.map_err(|error| {
        let reason = match error.kind() {
            io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "i/o timeout".to_owned(),
            _ => error.to_string(),
        };
        RuntimeError { message: format!("dial tcp {address}: connect: {reason}") }
    })
}

fn talk(address: SocketAddr, request: Option<&str>, timeout: Duration) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    let Some(request) = request else { return Ok(Vec::new()) };
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut buffer = [0; 1024];
    // The status line is all that counts.
    while !answer.contains(&b'\n') && answer.len() < ANSWER_BYTES_MAX {
        match stream.read(&mut buffer)? {
            0 => break,
            read => answer.extend_from_slice(&buffer[..read]),
        }
    }
    Ok(answer)
}

/// A status line is far shorter.
const ANSWER_BYTES_MAX: usize = 8 * 1024;
