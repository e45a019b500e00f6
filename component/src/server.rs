//! The plain HTTP listener of a daemon: health and metrics, nothing that needs authentication.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use parking_lot::RwLock;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::Health;

/// The metrics of one process. Daemons that share a process share the registry.
pub type Registry = Arc<RwLock<prometheus_client::registry::Registry>>;

#[derive(Clone)]
struct Endpoints {
    health: Health,
    registry: Registry,
}

/// Serve `/healthz`, `/livez`, `/readyz` and `/metrics` until `shutdown`.
pub async fn serve(
    listener: TcpListener,
    health: Health,
    registry: Registry,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let router = Router::new().fallback(answer).with_state(Endpoints { health, registry });
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

async fn answer(State(endpoints): State<Endpoints>, request: Request) -> Response {
    let uri = request.uri();
    if uri.path() == "/metrics" {
        return ([(header::CONTENT_TYPE, METRICS_TYPE)], encode_metrics(&endpoints.registry))
            .into_response();
    }
    match endpoints.health.answer(uri.path(), uri.query().unwrap_or_default()) {
        Some(reply) => {
            let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::OK);
            (status, reply.body).into_response()
        }
        None => (StatusCode::NOT_FOUND, "404 page not found\n").into_response(),
    }
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
