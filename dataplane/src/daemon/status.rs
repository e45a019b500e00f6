//! What the health checks say.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pintle_component::Health;

/// Shared by the loop, which writes it, and the checks. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Status(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    synced: bool,
    /// Since when something is known that the kernel does not have.
    behind_since: Option<Instant>,
}

impl Status {
    pub(super) fn add_checks(&self, health: &Health, node: &str) {
        let status = self.clone();
        health.add_ready(&format!("dataplane/{node}"), move || status.ready());
        let status = self.clone();
        health.add_live(&format!("dataplane-sync/{node}"), move || status.live());
    }

    /// Something changed that is not yet in the kernel.
    pub(super) fn behind(&self) {
        self.0.lock().behind_since.get_or_insert_with(Instant::now);
    }

    /// The kernel has all that is known.
    pub(super) fn applied(&self) {
        *self.0.lock() = State { synced: true, behind_since: None };
    }

    /// Whether no update waits for long.
    pub(super) fn is_keeping_up(&self) -> bool {
        self.live().is_ok()
    }

    fn ready(&self) -> Result<(), String> {
        if self.0.lock().synced {
            Ok(())
        } else {
            Err("Services and EndpointSlices are not applied yet".to_owned())
        }
    }

    fn live(&self) -> Result<(), String> {
        match self.0.lock().behind_since.map(|since| since.elapsed()) {
            Some(late) if late > LATE => {
                Err(format!("an update waits for {} s to be applied", late.as_secs()))
            }
            _ => Ok(()),
        }
    }
}

/// kube-proxy calls itself unhealthy after two sync periods, which are 30 s each by default.
const LATE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_after_the_first_update_and_live_unless_one_is_late() {
        let (status, health) = (Status::default(), Health::new());
        status.add_checks(&health, "node-0");
        assert_eq!(health.answer("/readyz/dataplane/node-0", "").unwrap().status, 500);
        status.behind();
        assert_eq!(health.answer("/livez", "").unwrap().status, 200);
        status.applied();
        assert!(health.is_ready());
        status.0.lock().behind_since = Instant::now().checked_sub(LATE + Duration::from_secs(5));
        let reply = health.answer("/livez", "").unwrap();
        assert_eq!(reply.status, 500);
        assert!(reply.body.contains("an update waits for 65 s to be applied"), "{}", reply.body);
    }
}
