//! Connections: accept, TLS, who the client is, HTTP.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::ApiServer;
use crate::Error;
use crate::auth::UserInfo;

pub(super) async fn serve(
    server: &ApiServer,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let acceptor = TlsAcceptor::from(tls);
    let graceful = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Some(stream) = accept(&listener, &shutdown).await? {
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            tracing::warn!(limit = CONNECTIONS_MAX, "too many connections: one was refused");
            continue;
        };
        let (server, acceptor, watcher) = (server.clone(), acceptor.clone(), graceful.watcher());
        tokio::spawn(async move {
            if let Err(error) = talk(server, acceptor, stream, watcher).await {
                tracing::debug!(%error, "connection ended");
            }
            drop(slot);
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests still in flight were cut off");
    }
    Ok(())
}

/// The next connection; `None` on shutdown.
async fn accept(
    listener: &TcpListener,
    shutdown: &CancellationToken,
) -> Result<Option<TcpStream>, Error> {
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return Ok(None),
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => return Ok(Some(stream)),
            // The client went away, or this process is out of descriptors for the moment.
            Err(error) if is_passing(&error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            Err(error) => return Err(Error::Listen(error)),
        }
    }
}

fn is_passing(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    // EMFILE and ENFILE have no stable kind.
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
        || matches!(error.raw_os_error(), Some(23 | 24))
}

async fn talk(
    server: ApiServer,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    watcher: hyper_util::server::graceful::Watcher,
) -> Result<(), tower::BoxError> {
    stream.set_nodelay(true)?;
    let stream = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await??;
    let certificates = stream.get_ref().1.peer_certificates();
    let user = certificates.and_then(|chain| UserInfo::from_certificate(chain.first()?));
    let user = user.map(Arc::new);
    let service = service_fn(move |request| {
        let (server, user) = (server.clone(), user.clone());
        async move { Ok::<_, Infallible>(server.answer(request, user).await) }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_READ);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    watcher.watch(connection).await
}

/// Bounds memory for connections: TLS and HTTP/2 buffers are some 50 KiB each.
const CONNECTIONS_MAX: usize = 20_000;
/// client-go puts all watches of a process on one connection; Go's own default is 250.
const STREAMS_MAX: u32 = 4096;
/// A client that does not finish its handshake holds a connection no longer than this.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Go's `ReadHeaderTimeout` in k8s.io/apiserver.
const HEADER_READ: Duration = Duration::from_secs(32);
/// Finds clients that are gone although their watches are quiet.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(15);
/// How long requests in flight may take to finish at shutdown.
const DRAIN: Duration = Duration::from_secs(5);
/// Between tries to accept when descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
