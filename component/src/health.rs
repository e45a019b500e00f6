//! Named health checks and the text of `/healthz`, `/livez` and `/readyz`.
//!
//! Mirrors k8s.io/apiserver/pkg/server/healthz: `?verbose` lists every check, `?exclude=NAME` leaves
//! one out, `/readyz/NAME` asks for one alone, and a failing check answers 500 with the list.

use std::fmt::Write as _;
use std::sync::Arc;

use parking_lot::RwLock;

type Check = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// The checks of one daemon. Cheap to clone; clones share the checks.
#[derive(Clone)]
pub struct Health {
    checks: Arc<RwLock<Vec<Named>>>,
}

/// What an endpoint answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthReply {
    /// HTTP status: 200, 404 (no such check) or 500.
    pub status: u16,
    /// Plain text.
    pub body: String,
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Clone)]
struct Named {
    name: String,
    live: bool,
    check: Check,
}

impl Health {
    /// No checks but `ping`, which always passes.
    #[must_use]
    pub fn new() -> Self {
        let health = Self { checks: Arc::default() };
        health.add_live("ping", || Ok(()));
        health
    }

    /// Add a check that decides liveness (`/livez`, `/healthz`) and readiness.
    pub fn add_live<F>(&self, name: &str, check: F)
    where
        F: Fn() -> Result<(), String> + Send + Sync + 'static,
    {
        self.add(name, true, Arc::new(check));
    }

    /// Add a check that decides readiness (`/readyz`) alone.
    pub fn add_ready<F>(&self, name: &str, check: F)
    where
        F: Fn() -> Result<(), String> + Send + Sync + 'static,
    {
        self.add(name, false, Arc::new(check));
    }

    fn add(&self, name: &str, live: bool, check: Check) {
        self.checks.write().push(Named { name: name.to_owned(), live, check });
    }

    /// Whether every check passes.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.checks.read().iter().all(|named| (named.check)().is_ok())
    }

    /// The answer for a path such as `/readyz` or `/livez/ping` and its query string; `None` if the
    /// path is not a health endpoint.
    #[must_use]
    pub fn answer(&self, path: &str, query: &str) -> Option<HealthReply> {
        let path = path.strip_prefix('/')?;
        let (endpoint, single) = match path.split_once('/') {
            Some((endpoint, name)) => (endpoint, Some(name)),
            None => (path, None),
        };
        let live_only = match endpoint {
            "healthz" | "livez" => true,
            "readyz" => false,
            _ => return None,
        };
        let mut selected = self.checks.read().clone();
        selected.retain(|named| !live_only || named.live);
        if let Some(name) = single.filter(|name| !name.is_empty()) {
            selected.retain(|named| named.name == name);
            if selected.is_empty() {
                let body = format!("no check named {name:?}\n");
                return Some(HealthReply { status: 404, body });
            }
        }
        Some(report(endpoint, &selected, query))
    }
}

fn report(endpoint: &str, checks: &[Named], query: &str) -> HealthReply {
    let mut failed = false;
    let mut verbose = false;
    let mut excluded = Vec::new();
    for pair in query.split('&') {
        match pair.split_once('=').unwrap_or((pair, "")) {
            ("verbose", value) => verbose = value != "false",
            ("exclude", name) => excluded.push(name),
            _ => {}
        }
    }
    let mut body = String::new();
    for named in checks {
        // Writing to a String cannot fail.
        let _ = if excluded.contains(&named.name.as_str()) {
            writeln!(body, "[+]{} excluded: ok", named.name)
        } else {
            match (named.check)() {
                Ok(()) => writeln!(body, "[+]{} ok", named.name),
                Err(reason) => {
                    failed = true;
                    writeln!(body, "[-]{} failed: {reason}", named.name)
                }
            }
        };
    }
    if failed {
        body.push_str(endpoint);
        body.push_str(" check failed\n");
        return HealthReply { status: 500, body };
    }
    if verbose {
        body.push_str(endpoint);
        body.push_str(" check passed\n");
    } else {
        body = "ok".to_owned();
    }
    HealthReply { status: 200, body }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health() -> Health {
        let health = Health::new();
        health.add_ready("informer-sync", || Err("nodes not listed yet".to_owned()));
        health
    }

    #[test]
    fn liveness_ignores_readiness_checks() {
        let reply = health().answer("/livez", "").unwrap();
        assert_eq!(reply, HealthReply { status: 200, body: "ok".to_owned() });
    }

    #[test]
    fn readiness_names_what_failed() {
        let reply = health().answer("/readyz", "").unwrap();
        assert_eq!(reply.status, 500);
        assert_eq!(
            reply.body,
            "[+]ping ok\n[-]informer-sync failed: nodes not listed yet\nreadyz check failed\n"
        );
    }

    #[test]
    fn checks_can_be_excluded_listed_and_asked_alone() {
        let health = health();
        assert_eq!(health.answer("/readyz", "exclude=informer-sync").unwrap().status, 200);
        assert_eq!(health.answer("/readyz/ping", "verbose").unwrap().body.lines().count(), 2);
        assert_eq!(health.answer("/readyz/nope", "").unwrap().status, 404);
        assert_eq!(health.answer("/metrics", ""), None);
    }
}
