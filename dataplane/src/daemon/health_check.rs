//! What load balancers ask a node: whether it has endpoints of a Service that keeps its traffic to
//! the node's own (`healthCheckNodePort`).
//!
//! Mirrors `pkg/proxy/healthcheck/service_health.go`: 200 if there is a ready endpoint on this node
//! and the dataplane keeps up, else 503, whatever the path. A node with terminating endpoints alone
//! says 503, so that it is sent nothing new while it still serves what comes.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::status::Status;
use crate::kernel::NodeNamespace;
use crate::plan::{LocalEndpoints, ServiceName};

/// The servers of one node.
pub(super) struct HealthChecks {
    namespace: NodeNamespace,
    status: Status,
    servers: BTreeMap<ServiceName, Server>,
}

/// One Service's. Dropping it closes its port.
struct Server {
    port: u16,
    local_endpoints: Arc<Mutex<LocalEndpoints>>,
    /// `None`: the port could not be had.
    running: Option<AbortHandle>,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.abort();
        }
    }
}

impl HealthChecks {
    pub(super) fn new(namespace: NodeNamespace, status: Status) -> Self {
        Self { namespace, status, servers: BTreeMap::new() }
    }

    /// These Services are asked for at these ports, with so many ready endpoints on this node.
    pub(super) fn set<'a>(
        &mut self,
        wanted: impl Iterator<Item = (&'a ServiceName, u16, LocalEndpoints)>,
    ) {
        let mut before = std::mem::take(&mut self.servers);
        for (service, port, local_endpoints) in wanted {
            let kept = before.remove(service).filter(|server| server.port == port);
            let server = kept.unwrap_or_else(|| self.start(service, port));
            *server.local_endpoints.lock() = local_endpoints;
            self.servers.insert(service.clone(), server);
        }
    }

    fn start(&self, service: &ServiceName, port: u16) -> Server {
        let local_endpoints = Arc::default();
        let listener = self.namespace.run(move || listen(port));
        let running = match listener.map_err(io::Error::other).and_then(|listener| listener) {
            Ok(listener) => {
                let answer = Answer {
                    service: service.clone(),
                    local_endpoints: Arc::clone(&local_endpoints),
                    status: self.status.clone(),
                };
                Some(tokio::spawn(serve(listener, answer)).abort_handle())
            }
            Err(error) => {
                tracing::warn!(%service, port, %error, "load balancers cannot ask for the Service");
                None
            }
        };
        Server { port, local_endpoints, running }
    }
}

/// At all addresses of both families, or of IPv4 where there is no other.
fn listen(port: u16) -> io::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
        .or_else(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[derive(Clone)]
struct Answer {
    service: ServiceName,
    local_endpoints: Arc<Mutex<LocalEndpoints>>,
    status: Status,
}

async fn serve(listener: TcpListener, answer: Answer) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let places = Arc::new(Semaphore::new(CLIENTS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let answer = answer.clone();
                tokio::spawn(async move {
                    // A client that is gone or slow needs no answer.
                    let _ = timeout(PATIENCE, answer.give(stream)).await;
                    drop(place);
                });
            }
            // Out of descriptors, say: others may be closed soon.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

impl Answer {
    async fn give(self, mut stream: TcpStream) -> io::Result<()> {
        let (mut request, mut buffer) = (Vec::new(), [0; 512]);
        while !request.windows(4).any(|end| end == b"\r\n\r\n") {
            let length = stream.read(&mut buffer).await?;
            if length == 0 || request.len() > REQUEST_BYTES_MAX {
                return Ok(());
            }
            request.extend_from_slice(&buffer[..length]);
        }
        let text = self.text(stream.local_addr()?);
        stream.write_all(text.as_bytes()).await?;
        stream.shutdown().await
    }

    /// For who asks at this address.
    fn text(&self, asked: SocketAddr) -> String {
        let LocalEndpoints { ipv4, ipv6 } = *self.local_endpoints.lock();
        let local = if asked.ip().to_canonical().is_ipv4() { ipv4 } else { ipv6 };
        let healthy = self.status.is_keeping_up();
        let status = if local > 0 && healthy { "200 OK" } else { "503 Service Unavailable" };
        let ServiceName { namespace, name } = &self.service;
        let body = format!(
            "{{\n\t\"service\": {{\n\t\t\"namespace\": \"{namespace}\",\n\t\t\"name\": \"{name}\"\n\t}},\n\
             \t\"localEndpoints\": {local},\n\t\"serviceProxyHealthy\": {healthy}\n}}\n"
        );
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\n\
             X-Content-Type-Options: nosniff\r\nX-Load-Balancing-Endpoint-Weight: {local}\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    }
}

/// Of one port, at one time. Load balancers ask from a few addresses, every few seconds.
const CLIENTS_MAX: usize = 64;
/// A request line and some headers; nothing of them is looked at.
const REQUEST_BYTES_MAX: usize = 8 << 10;
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(port: u16) -> io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: node\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn a_node_says_whether_it_has_endpoints_and_keeps_up() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let status = Status::default();
        let mut checks = HealthChecks::new(NodeNamespace::Own, status.clone());
        let web = ServiceName::new("shop", "web");
        checks.set([(&web, port, LocalEndpoints { ipv4: 2, ipv6: 0 })].into_iter());
        let answer = ask(port).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("\r\nX-Content-Type-Options: nosniff\r\n"), "{answer}");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        let expected = serde_json::json!({
            "service": { "namespace": "shop", "name": "web" },
            "localEndpoints": 2, "serviceProxyHealthy": true,
        });
        assert_eq!(body, expected);
        checks.set([(&web, port, LocalEndpoints { ipv4: 0, ipv6: 3 })].into_iter());
        let answer = ask(port).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.contains("\"localEndpoints\": 0"), "{answer}");
        checks.set([].into_iter());
        for _ in 0..100 {
            if ask(port).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the port is still served");
    }
}
