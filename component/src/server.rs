//! The listeners of a daemon: health and metrics. The plain one asks nobody who he is; the one with
//! TLS may ask an [`Authorize`] about what is not health.

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use parking_lot::RwLock;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::tls::TlsListener;
use crate::{Daemon, Health};

/// The metrics of one process. Daemons that share a process share the registry.
pub type Registry = Arc<RwLock<prometheus_client::registry::Registry>>;

/// Says whether a request for this path, with this bearer token if it has one, is answered: `Err`
/// is the refusal.
pub type Authorize =
    Arc<dyn Fn(String, Option<String>) -> BoxFuture<Result<(), Refusal>> + Send + Sync>;

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Why a request is not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status: 401, 403 or 500.
    pub status: u16,
    /// Plain text.
    pub body: String,
}

#[derive(Clone)]
struct Endpoints {
    health: Health,
    registry: Registry,
    authorize: Option<Authorize>,
}

/// Serve `/healthz`, `/livez`, `/readyz` and `/metrics` until `shutdown`.
pub async fn serve(
    listener: TcpListener,
    health: Health,
    registry: Registry,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let endpoints = Endpoints { health, registry, authorize: None };
    let router = Router::new().fallback(answer).with_state(endpoints);
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

/// As [`serve`], over TLS; all but health is for those whom `authorize` lets in.
pub async fn serve_tls(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    authorize: Option<Authorize>,
    daemon: &Daemon,
) -> io::Result<()> {
    let (health, registry) = (daemon.health.clone(), daemon.registry.clone());
    let endpoints = Endpoints { health, registry, authorize };
    let router = Router::new().fallback(answer).with_state(endpoints);
    let shutdown = daemon.shutdown.clone().cancelled_owned();
    axum::serve(TlsListener::new(listener, tls), router).with_graceful_shutdown(shutdown).await
}

async fn answer(State(endpoints): State<Endpoints>, request: Request) -> Response {
    let uri = request.uri();
    if let Some(reply) = endpoints.health.answer(uri.path(), uri.query().unwrap_or_default()) {
        let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::OK);
        return (status, reply.body).into_response();
    }
    if let Some(authorize) = &endpoints.authorize
        && let Err(refusal) = authorize(uri.path().to_owned(), bearer_token(&request)).await
    {
        let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::FORBIDDEN);
        return (status, refusal.body).into_response();
    }
    if uri.path() == "/metrics" {
        return ([(header::CONTENT_TYPE, METRICS_TYPE)], encode_metrics(&endpoints.registry))
            .into_response();
    }
    (StatusCode::NOT_FOUND, "404 page not found\n").into_response()
}

fn bearer_token(request: &Request) -> Option<String> {
    let header = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}

/// The registry in the OpenMetrics text format.
#[must_use]
pub fn encode_metrics(registry: &Registry) -> String {
    let mut text = String::new();
    // Encoding writes to a String only, which cannot fail.
    let _ = prometheus_client::encoding::text::encode(&mut text, &registry.read());
    text
}

const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
