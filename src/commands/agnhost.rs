//! `pintle agnhost`: a server that says who it is, and a client that counts who answered.
//!
//! Mirrors the commands `netexec` and `connect` of Kubernetes' e2e test image agnhost as far as a
//! Service needs to be tried; `connect` also asks for the answering pod's name and repeats.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use axum::Router;
use axum::extract::{ConnectInfo, Query, State};
use axum::routing::get;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, UdpSocket};

use crate::cli::{AgnhostCommand, ConnectArgs, NetexecArgs};

pub(crate) fn run(command: &AgnhostCommand) -> anyhow::Result<()> {
    match command {
        AgnhostCommand::Netexec(args) => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("start the runtime")?
            .block_on(netexec(args)),
        AgnhostCommand::Connect(args) => connect(args),
    }
}

async fn netexec(args: &NetexecArgs) -> anyhow::Result<()> {
    let shutdown = pintle_component::shutdown_on_signal().context("listen for signals")?;
    let http = (Ipv4Addr::UNSPECIFIED, args.http_port);
    let listener = TcpListener::bind(http)
        .await
        .with_context(|| format!("listen on TCP port {}", args.http_port))?;
    let router = Router::new()
        .route("/", get(async || "netexec\n"))
        .route("/hostname", get(hostname))
        .route("/clientip", get(client_ip))
        .route("/echo", get(echo))
        .route("/healthz", get(async || "ok"))
        .with_state(own_name())
        .into_make_service_with_connect_info::<SocketAddr>();
    let delay = Duration::from_secs(args.delay_shutdown);
    let stopped = async move {
        shutdown.cancelled().await;
        tokio::time::sleep(delay).await;
    };
    if args.udp_port == 0 {
        axum::serve(listener, router).with_graceful_shutdown(stopped).await?;
        return Ok(());
    }
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, args.udp_port))
        .await
        .with_context(|| format!("listen on UDP port {}", args.udp_port))?;
    tokio::select! {
        served = axum::serve(listener, router).with_graceful_shutdown(stopped) => Ok(served?),
        failed = answer_datagrams(&socket) => failed,
    }
}

async fn hostname(State(name): State<String>) -> String {
    name
}

async fn client_ip(ConnectInfo(peer): ConnectInfo<SocketAddr>) -> String {
    peer.to_string()
}

#[derive(Deserialize)]
struct Echo {
    #[serde(default)]
    msg: String,
}

async fn echo(Query(echo): Query<Echo>) -> String {
    echo.msg
}

async fn answer_datagrams(socket: &UdpSocket) -> anyhow::Result<()> {
    let name = own_name();
    let mut buffer = [0; DATAGRAM_BYTES_MAX];
    loop {
        let (length, peer) = socket.recv_from(&mut buffer).await.context("receive a datagram")?;
        let request = String::from_utf8_lossy(&buffer[..length]);
        let reply = match request.trim() {
            "hostname" => name.clone(),
            "clientip" => peer.to_string(),
            other => other.strip_prefix("echo ").unwrap_or_default().to_owned(),
        };
        // The peer may be gone by now; the next one should still be answered.
        let _ = socket.send_to(reply.as_bytes(), peer).await;
    }
}

/// The pod's name where the manifest passes it, else the host's.
fn own_name() -> String {
    ["POD_NAME", "HOSTNAME"]
        .iter()
        .find_map(|key| std::env::var(key).ok())
        .or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok())
        .map(|name| name.trim().to_owned())
        .unwrap_or_default()
}

/// What `connect` prints, as one line of JSON.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Tally {
    /// Connections that got an answer, by the name that answered.
    pub(crate) answered: BTreeMap<String, u32>,
    /// Connections that failed, by the reason.
    pub(crate) failed: BTreeMap<String, u32>,
    /// From the first connection to the last answer.
    pub(crate) elapsed_ms: u64,
}

fn connect(args: &ConnectArgs) -> anyhow::Result<()> {
    let mut tally = Tally::default();
    let start = Instant::now();
    for number in 0..args.count {
        if number > 0 && args.interval_ms > 0 {
            std::thread::sleep(Duration::from_millis(args.interval_ms));
        }
        match ask_hostname(args.address, Duration::from_millis(args.timeout_ms)) {
            Ok(name) => *tally.answered.entry(name).or_default() += 1,
            Err(error) => *tally.failed.entry(format!("{error:#}")).or_default() += 1,
        }
    }
    tally.elapsed_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    println!("{}", serde_json::to_string(&tally)?);
    let failed: u32 = tally.failed.values().sum();
    if failed > 0 {
        bail!("{failed} of {} connections to {} failed", args.count, args.address);
    }
    Ok(())
}

fn ask_hostname(address: SocketAddr, timeout: Duration) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, timeout).context("connect")?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    write!(stream, "GET /hostname HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")
        .context("send")?;
    let mut reply = Vec::new();
    stream.take(REPLY_BYTES_MAX).read_to_end(&mut reply).context("receive")?;
    let reply = String::from_utf8(reply).context("receive")?;
    let (head, body) =
        reply.split_once("\r\n\r\n").ok_or_else(|| anyhow!("the answer was cut short"))?;
    if !head.starts_with("HTTP/1.1 200") {
        bail!("answered {:?}", head.lines().next().unwrap_or_default());
    }
    Ok(body.trim().to_owned())
}

/// The largest UDP payload over IPv4.
const DATAGRAM_BYTES_MAX: usize = 65_507;
/// A host name and headers fit with room to spare; a wrong server cannot fill the memory.
const REPLY_BYTES_MAX: u64 = 64 << 10;
