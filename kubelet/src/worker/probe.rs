//! Probes one running container again and again: `exec`, `tcpSocket` or `httpGet`.
//!
//! Connections are made from inside the pod's network. HTTP is a plain GET whose status line counts;
//! `scheme: HTTPS` and gRPC are not done, and count as failed with a message that says so.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Pod, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use pintle_client::{EventRecord, reference_to};

use super::Shared;
use crate::pod::{ProbeCounter, Verdict};
use crate::runtime::{ContainerRun, ContainerRuntime, PodRef};

/// Which of a container's probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Liveness,
    Readiness,
    Startup,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Liveness => "liveness",
            Self::Readiness => "readiness",
            Self::Startup => "startup",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
            Self::Startup => "Startup",
        }
    }
}

/// One probe of one run of a container.
pub(super) struct Prober<R> {
    pub(super) shared: Arc<Shared<R>>,
    pub(super) pod: Arc<Pod>,
    pub(super) key: PodRef,
    pub(super) run: Arc<ContainerRun>,
    pub(super) container: Container,
    pub(super) kind: Kind,
    pub(super) probe: Probe,
    pub(super) ip: Ipv4Addr,
}

impl<R: ContainerRuntime> Prober<R> {
    /// Probe until the task is dropped, and report each verdict that differs from the one before; a
    /// startup probe ends with its first.
    pub(super) async fn run<F: Future<Output = ()>>(self, report: impl Fn(Verdict) -> F) {
        tokio::time::sleep(seconds(self.probe.initial_delay_seconds, 0)).await;
        let mut counter = ProbeCounter::new(&self.probe);
        let mut tick = tokio::time::interval(seconds(self.probe.period_seconds, 10));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut reported = None;
        loop {
            tick.tick().await;
            let result = match self.once().await {
                Ok(()) => Verdict::Success,
                Err(output) => {
                    self.unhealthy(&output);
                    Verdict::Failure
                }
            };
            let verdict = counter.observe(result);
            if verdict.is_some() && verdict != reported {
                reported = verdict;
                if let Some(verdict) = verdict {
                    report(verdict).await;
                }
                if self.kind == Kind::Startup {
                    return;
                }
            }
        }
    }

    fn unhealthy(&self, output: &str) {
        let message = format!("{} probe failed: {output}", self.kind.title());
        let mut reference = reference_to(&*self.pod);
        reference.field_path = Some(format!("spec.containers{{{}}}", self.container.name));
        self.shared.events.record(reference, EventRecord::warning("Unhealthy", message));
    }

    async fn once(&self) -> Result<(), String> {
        let timeout = seconds(self.probe.timeout_seconds, 1);
        let runtime = &self.shared.runtime;
        if let Some(command) = self.probe.exec.as_ref().and_then(|it| it.command.as_ref()) {
            let ran = runtime.exec(&self.key, &self.run, command, timeout).await;
            let output = ran.map_err(|error| error.message)?;
            return if output.code == 0 { Ok(()) } else { Err(output.output) };
        }
        if let Some(action) = &self.probe.tcp_socket {
            let address = self.address(action.host.as_deref(), &action.port)?;
            let connected = runtime.connect(&self.key, address, None, timeout).await;
            return connected.map(drop).map_err(|error| error.message);
        }
        let Some(action) = &self.probe.http_get else {
            return Err("this kind of probe is not supported".to_owned());
        };
        if action.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")) {
            return Err("probes over HTTPS are not supported".to_owned());
        }
        let address = self.address(action.host.as_deref(), &action.port)?;
        let request = request(action, address);
        let answer = runtime.connect(&self.key, address, Some(request), timeout).await;
        match status_code(&answer.map_err(|error| error.message)?) {
            Some(200..=399) => Ok(()),
            Some(code) => Err(format!("HTTP probe failed with statuscode: {code}")),
            None => Err("malformed HTTP response".to_owned()),
        }
    }

    fn address(&self, host: Option<&str>, port: &IntOrString) -> Result<SocketAddr, String> {
        let ip = match host.filter(|it| !it.is_empty()) {
            Some(host) => host.parse().map_err(|_| format!("host {host:?} is not an address"))?,
            None => IpAddr::V4(self.ip),
        };
        Ok(SocketAddr::new(ip, resolve_port(&self.container, port)?))
    }
}

fn resolve_port(container: &Container, port: &IntOrString) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten();
            let found =
                named.filter(|it| it.name.as_ref() == Some(name)).map(|it| it.container_port);
            found.into_iter().next().or_else(|| name.parse().ok()).unwrap_or(0)
        }
    };
    u16::try_from(number).ok().filter(|it| *it > 0).ok_or(format!("invalid port number: {port:?}"))
}

fn request(action: &HTTPGetAction, address: SocketAddr) -> String {
    let path = action.path.as_deref().filter(|it| !it.is_empty()).unwrap_or("/");
    let slash = if path.starts_with('/') { "" } else { "/" };
    let mut headers = String::new();
    let given = |name: &str| {
        action.http_headers.iter().flatten().any(|it| it.name.eq_ignore_ascii_case(name))
    };
    if !given("Host") {
        headers.push_str(&format!("Host: {address}\r\n"));
    }
    if !given("User-Agent") {
        headers.push_str("User-Agent: kube-probe/1.35\r\n");
    }
    for header in action.http_headers.iter().flatten() {
        headers.push_str(&format!("{}: {}\r\n", header.name, header.value));
    }
    format!("GET {slash}{path} HTTP/1.1\r\n{headers}Accept: */*\r\nConnection: close\r\n\r\n")
}

fn status_code(answer: &[u8]) -> Option<u16> {
    let text = String::from_utf8_lossy(answer);
    let mut fields = text.lines().next()?.split(' ');
    fields.next().filter(|version| version.starts_with("HTTP/1."))?;
    fields.next()?.parse().ok()
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    let seconds = value.and_then(|it| u64::try_from(it).ok()).filter(|it| *it > 0);
    Duration::from_secs(seconds.unwrap_or(default))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_status_line_counts() {
        assert_eq!(status_code(b"HTTP/1.1 204 No Content\r\nX: 500\r\n"), Some(204));
        assert_eq!(status_code(b"HTTP/1.0 503\r\n"), Some(503));
        assert_eq!(status_code(b"SSH-2.0-x\r\n"), None);
        assert_eq!(status_code(b""), None);
    }

    #[test]
    fn a_port_is_found_by_its_name() {
        let container: Container = serde_json::from_value(serde_json::json!({
            "name": "a", "ports": [{ "name": "web", "containerPort": 8080 }]
        }))
        .unwrap();
        let name = |text: &str| IntOrString::String(text.to_owned());
        assert_eq!(resolve_port(&container, &name("web")), Ok(8080));
        assert_eq!(resolve_port(&container, &name("81")), Ok(81));
        assert!(resolve_port(&container, &name("nope")).is_err());
        assert!(resolve_port(&container, &IntOrString::Int(70000)).is_err());
    }

    #[test]
    fn a_request_is_plain_http() {
        let action: HTTPGetAction =
            serde_json::from_value(serde_json::json!({ "path": "ready", "port": 80 })).unwrap();
        let text = request(&action, "10.0.0.1:80".parse().unwrap());
        assert!(text.starts_with("GET /ready HTTP/1.1\r\nHost: 10.0.0.1:80\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\n"));
    }
}
