//! kube-proxy's two listeners: health on one, metrics on the other.
//!
//! Mirrors `cmd/kube-proxy/app/server.go` (`serveHealthz`, `serveMetrics`): an address that cannot be
//! had is tried again, unless it shall end the process. Beside kube-proxy's paths both answer
//! `/readyz`, which kube-proxy has not: whether the Services are in the kernel's tables.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use k8s_openapi::jiff::Timestamp;
use pintle_component::{Daemon, encode_metrics};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::Error;
use super::metrics::Metrics;
use super::status::{Probe, Status};

/// Where one node's dataplane answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Serving {
    /// `/healthz` and `/livez`; none if there is none.
    pub healthz: Option<SocketAddr>,
    /// `/metrics`, `/proxyMode` and `/configz`; none if there is none.
    pub metrics: Option<SocketAddr>,
    /// Whether an address that cannot be had ends the daemon.
    pub hard_fail: bool,
    /// What `/configz` shows: the configuration as it was read.
    pub configz: Value,
}

/// What the answers are made of.
pub(super) struct Answers {
    pub(super) status: Status,
    pub(super) metrics: Metrics,
    pub(super) daemon: Daemon,
    pub(super) configz: Value,
}

/// Serve until the daemon stops. What ends earlier is an error.
pub(super) fn start(serving: &Serving, answers: Answers) -> JoinSet<Result<(), Error>> {
    let answers = Arc::new(answers);
    let hard_fail = serving.hard_fail;
    let mut servers = JoinSet::new();
    if let Some(address) = serving.healthz {
        let router = Router::new().fallback(health).with_state(Arc::clone(&answers));
        servers.spawn(serve(address, "healthz", hard_fail, router, answers.daemon.clone()));
    }
    if let Some(address) = serving.metrics {
        let router = Router::new().fallback(observe).with_state(Arc::clone(&answers));
        servers.spawn(serve(address, "metrics", hard_fail, router, answers.daemon.clone()));
    }
    servers
}

async fn serve(
    address: SocketAddr,
    name: &'static str,
    hard_fail: bool,
    router: Router,
    daemon: Daemon,
) -> Result<(), Error> {
    loop {
        let outcome = async {
            let listener = TcpListener::bind(address).await?;
            tracing::info!(%address, "serving {name}");
            let shutdown = daemon.shutdown.clone().cancelled_owned();
            axum::serve(listener, router.clone()).with_graceful_shutdown(shutdown).await
        };
        match outcome.await {
            Ok(()) => return Ok(()),
            Err(source) if hard_fail => return Err(Error::Serve { name, address, source }),
            Err(error) => tracing::error!(%address, %error, "{name} is not served, will try again"),
        }
        tokio::select! {
            () = daemon.shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

async fn health(State(answers): State<Arc<Answers>>, request: Request) -> Response {
    let probe = match request.uri().path() {
        "/healthz" => Probe::Healthz,
        "/livez" => Probe::Livez,
        _ => return readiness(&answers, &request),
    };
    let reply = answers.status.probe(probe, Timestamp::now());
    answers.metrics.probed(probe, reply.status);
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    (status, [(header::CONTENT_TYPE, "application/json"), NOSNIFF], reply.body).into_response()
}

async fn observe(State(answers): State<Arc<Answers>>, request: Request) -> Response {
    const TEXT: (HeaderName, &str) = (header::CONTENT_TYPE, "text/plain; charset=utf-8");
    match request.uri().path() {
        "/metrics" => {
            // Reads the kernel's maps, which may be large.
            let daemon = answers.daemon.clone();
            let encoded = tokio::task::spawn_blocking(move || encode_metrics(&daemon.registry));
            let text = encoded.await.unwrap_or_default();
            ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response()
        }
        "/healthz" => ([TEXT, NOSNIFF], "ok").into_response(),
        "/proxyMode" => ([TEXT, NOSNIFF], "ebpf").into_response(),
        "/configz" => {
            let shown = serde_json::json!({ "kubeproxy.config.k8s.io": answers.configz });
            ([(header::CONTENT_TYPE, "application/json"), NOSNIFF], shown.to_string())
                .into_response()
        }
        _ => readiness(&answers, &request),
    }
}

fn readiness(answers: &Answers, request: &Request) -> Response {
    let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
    let ready = path == "/readyz" || path.starts_with("/readyz/");
    match answers.daemon.health.answer(path, query).filter(|_| ready) {
        Some(reply) => {
            let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::OK);
            (status, reply.body).into_response()
        }
        None => (StatusCode::NOT_FOUND, "404 page not found\n").into_response(),
    }
}

const NOSNIFF: (HeaderName, &str) = (header::X_CONTENT_TYPE_OPTIONS, "nosniff");
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How long after an address could not be had it is tried again.
const RETRY: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn free_address() -> SocketAddr {
        std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
    }

    fn answers(status: Status, daemon: &Daemon) -> Answers {
        Answers {
            status,
            metrics: Metrics::of(&daemon.registry, "node-0"),
            daemon: daemon.clone(),
            configz: serde_json::json!({ "mode": "iptables" }),
        }
    }

    async fn get(address: SocketAddr, path: &str) -> String {
        for _ in 0..100 {
            if let Ok(mut stream) = tokio::net::TcpStream::connect(address).await {
                let request =
                    format!("GET {path} HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n");
                stream.write_all(request.as_bytes()).await.unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await.unwrap();
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("nothing listens on {address}");
    }

    #[tokio::test]
    async fn both_listeners_answer_as_kube_proxys() {
        let (daemon, status) = (Daemon::default(), Status::default());
        status.add_checks(&daemon.health, "node-0");
        let serving = Serving {
            healthz: Some(free_address()),
            metrics: Some(free_address()),
            ..Serving::default()
        };
        let mut servers = start(&serving, answers(status.clone(), &daemon));
        let (healthz, metrics) = (serving.healthz.unwrap(), serving.metrics.unwrap());

        let answer = get(healthz, "/healthz").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("content-type: application/json\r\n"), "{answer}");
        assert!(answer.contains("x-content-type-options: nosniff\r\n"), "{answer}");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["nodeEligible"], true);
        assert_eq!(body["lastUpdated"], body["currentTime"]);
        status.set_node_leaving(true);
        assert!(get(healthz, "/healthz").await.starts_with("HTTP/1.1 503 "));
        assert!(get(healthz, "/livez?verbose").await.starts_with("HTTP/1.1 200 "));
        assert!(get(healthz, "/metrics").await.starts_with("HTTP/1.1 404 "));
        assert!(get(healthz, "/readyz").await.starts_with("HTTP/1.1 500 "));
        status.applied();
        assert!(get(healthz, "/readyz").await.starts_with("HTTP/1.1 200 "));

        assert!(get(metrics, "/healthz").await.ends_with("\r\n\r\nok"));
        assert!(get(metrics, "/proxyMode").await.ends_with("\r\n\r\nebpf"));
        let configz = get(metrics, "/configz").await;
        assert!(
            configz.ends_with(r#"{"kubeproxy.config.k8s.io":{"mode":"iptables"}}"#),
            "{configz}"
        );
        let text = get(metrics, "/metrics").await;
        for line in [
            "kubeproxy_proxy_healthz_total{code=\"200\",node=\"node-0\"} 1",
            "kubeproxy_proxy_healthz_total{code=\"503\",node=\"node-0\"} 1",
            "kubeproxy_proxy_livez_total{code=\"200\",node=\"node-0\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        daemon.shutdown.cancel();
        while let Some(ended) = servers.join_next().await {
            ended.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn an_address_in_use_ends_the_daemon_only_if_it_shall() {
        let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = taken.local_addr().unwrap();
        let daemon = Daemon::default();
        let serving = Serving { healthz: Some(address), hard_fail: true, ..Serving::default() };
        let mut servers = start(&serving, answers(Status::default(), &daemon));
        let error = servers.join_next().await.unwrap().unwrap().unwrap_err();
        assert_eq!(error.to_string(), format!("serve healthz on {address}"));

        let serving = Serving { hard_fail: false, ..serving };
        let mut servers = start(&serving, answers(Status::default(), &daemon));
        let ended = tokio::time::timeout(Duration::from_millis(100), servers.join_next()).await;
        assert!(ended.is_err(), "it tries again");
    }
}
