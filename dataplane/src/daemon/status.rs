//! What the health checks say: the component's own, and kube-proxy's `/healthz` and `/livez`.
//!
//! Mirrors `pkg/proxy/healthcheck/proxy_health.go`: healthy while starting up, and then unless an
//! update waits for longer than two sync periods; `/healthz` also says when the node is on its way
//! out, so that load balancers send it nothing new.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use pintle_component::Health;

/// Shared by the loop, which writes it, and the checks. Cheap to clone.
#[derive(Clone)]
pub(super) struct Status {
    state: Arc<Mutex<State>>,
    /// An update that waits for longer is late.
    late: Duration,
}

#[derive(Default)]
struct State {
    synced: bool,
    /// Since when something is known that the kernel does not have.
    behind_since: Option<Instant>,
    last_updated: Option<Timestamp>,
    /// The node is being deleted.
    node_leaving: bool,
}

/// Which of kube-proxy's two endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    /// `/healthz`, for load balancers.
    Healthz,
    /// `/livez`, for whoever restarts the process.
    Livez,
}

/// What a probe is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProbeReply {
    /// HTTP status: 200 or 503.
    pub(super) status: u16,
    /// JSON.
    pub(super) body: String,
}

impl Default for Status {
    /// Late after a minute, as kube-proxy with its default sync period of 30 s.
    fn default() -> Self {
        Self::new(Duration::from_secs(60))
    }
}

impl Status {
    pub(super) fn new(late: Duration) -> Self {
        Self { state: Arc::default(), late }
    }

    pub(super) fn add_checks(&self, health: &Health, node: &str) {
        let status = self.clone();
        health.add_ready(&format!("dataplane/{node}"), move || status.ready());
        let status = self.clone();
        health.add_live(&format!("dataplane-sync/{node}"), move || status.live());
    }

    /// Something changed that is not yet in the kernel.
    pub(super) fn behind(&self) {
        self.state.lock().behind_since.get_or_insert_with(Instant::now);
    }

    /// The kernel has all that is known.
    pub(super) fn applied(&self) {
        let mut state = self.state.lock();
        state.synced = true;
        state.behind_since = None;
        state.last_updated = Some(Timestamp::now());
    }

    /// The node is on its way out, or is not.
    pub(super) fn set_node_leaving(&self, leaving: bool) {
        self.state.lock().node_leaving = leaving;
    }

    /// Whether no update waits for long. So it is while starting up.
    pub(super) fn is_keeping_up(&self) -> bool {
        let state = self.state.lock();
        !state.synced || !self.is_late(&state)
    }

    /// kube-proxy's answer.
    pub(super) fn probe(&self, probe: Probe, now: Timestamp) -> ProbeReply {
        let keeps_up = self.is_keeping_up();
        let state = self.state.lock();
        let eligible = !state.node_leaving;
        let healthy = keeps_up && (eligible || probe == Probe::Livez);
        // Where all is well that is the latest news, however long nothing has changed.
        let updated = if healthy { Some(now) } else { state.last_updated };
        let updated = updated.map_or_else(|| NEVER.to_owned(), go_time);
        let now = go_time(now);
        let body = match probe {
            Probe::Healthz => format!(
                r#"{{"lastUpdated": "{updated}","currentTime": "{now}", "nodeEligible": {eligible}}}"#
            ),
            Probe::Livez => format!(r#"{{"lastUpdated": "{updated}","currentTime": "{now}"}}"#),
        };
        ProbeReply { status: if healthy { 200 } else { 503 }, body }
    }

    fn ready(&self) -> Result<(), String> {
        if self.state.lock().synced {
            Ok(())
        } else {
            Err("Services and EndpointSlices are not applied yet".to_owned())
        }
    }

    fn live(&self) -> Result<(), String> {
        let state = self.state.lock();
        match state.behind_since.map(|since| since.elapsed()) {
            Some(late) if self.is_late(&state) => {
                Err(format!("an update waits for {} s to be applied", late.as_secs()))
            }
            _ => Ok(()),
        }
    }

    fn is_late(&self, state: &State) -> bool {
        state.behind_since.is_some_and(|since| since.elapsed() > self.late)
    }
}

/// A time as Go prints it.
fn go_time(time: Timestamp) -> String {
    format!("{} +0000 UTC", time.strftime("%Y-%m-%d %H:%M:%S%.f"))
}

/// Go's time that is none.
const NEVER: &str = "0001-01-01 00:00:00 +0000 UTC";

#[cfg(test)]
mod tests {
    use super::*;

    fn late_by(status: &Status, seconds: u64) {
        status.state.lock().behind_since =
            Instant::now().checked_sub(status.late + Duration::from_secs(seconds));
    }

    #[test]
    fn ready_after_the_first_update_and_live_unless_one_is_late() {
        let (status, health) = (Status::default(), Health::new());
        status.add_checks(&health, "node-0");
        assert_eq!(health.answer("/readyz/dataplane/node-0", "").unwrap().status, 500);
        status.behind();
        assert_eq!(health.answer("/livez", "").unwrap().status, 200);
        status.applied();
        assert!(health.is_ready());
        late_by(&status, 5);
        let reply = health.answer("/livez", "").unwrap();
        assert_eq!(reply.status, 500);
        assert!(reply.body.contains("an update waits for 65 s to be applied"), "{}", reply.body);
    }

    #[test]
    fn kube_proxys_probes_know_of_late_updates_and_of_a_leaving_node() {
        let status = Status::new(Duration::from_secs(10));
        let now: Timestamp = "2026-02-03T04:05:06.78Z".parse().unwrap();
        let probe = |which| status.probe(which, now);
        let all_well = r#"{"lastUpdated": "2026-02-03 04:05:06.78 +0000 UTC","currentTime": "2026-02-03 04:05:06.78 +0000 UTC""#;
        // Starting up, with whatever waits.
        late_by(&status, 1);
        let reply = probe(Probe::Healthz);
        assert_eq!(reply.body, format!("{all_well}, \"nodeEligible\": true}}"));
        assert_eq!(reply.status, 200);
        let reply = probe(Probe::Livez);
        assert_eq!((reply.status, reply.body), (200, format!("{all_well}}}")));

        status.applied();
        status.set_node_leaving(true);
        let reply = probe(Probe::Healthz);
        assert_eq!(reply.status, 503);
        assert!(reply.body.ends_with("\"nodeEligible\": false}"), "{}", reply.body);
        assert_eq!(probe(Probe::Livez).status, 200);
        assert!(status.is_keeping_up(), "the node's end is no business of Services' health checks");

        status.set_node_leaving(false);
        late_by(&status, 1);
        status.state.lock().last_updated = Some("2026-02-03T04:04:00Z".parse().unwrap());
        for which in [Probe::Healthz, Probe::Livez] {
            let reply = probe(which);
            assert_eq!(reply.status, 503);
            let stale = r#"{"lastUpdated": "2026-02-03 04:04:00 +0000 UTC","#;
            assert!(reply.body.starts_with(stale), "{}", reply.body);
        }
        assert!(!status.is_keeping_up());
        status.applied();
        assert_eq!(probe(Probe::Healthz).status, 200);
    }
}
