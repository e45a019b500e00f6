//! What happens by itself while pods are scheduled: objects come and go or change, pods are deleted.

use std::time::Duration;

use pintle_scheduler_core::PodUid;

use super::Run;
use super::create::Created;
use super::update::Updates;
use crate::scheduler::config::{Churn, ChurnMode, DeletePods};
use crate::scheduler::template::Template;

/// A churn under way.
pub(super) struct Ticker {
    templates: Vec<Template>,
    namespace: String,
    mode: ChurnMode,
    number: usize,
    interval: Duration,
    next: Duration,
    ticks: usize,
    /// For each template what was created at each place, to be deleted at the next pass.
    created: Vec<Vec<Option<Created>>>,
}

impl Ticker {
    /// When it ticks next; `None` if it is done.
    pub(super) fn next(&self) -> Option<Duration> {
        let is_done =
            self.mode == ChurnMode::Create && self.number > 0 && self.ticks >= self.number;
        (!is_done).then_some(self.next)
    }
}

/// Pods being deleted one after the other.
pub(super) struct Deletions {
    pods: Vec<PodUid>,
    interval: Duration,
    next: Duration,
}

impl Deletions {
    /// When the next is deleted; `None` if all are.
    pub(super) fn next(&self) -> Option<Duration> {
        (!self.pods.is_empty()).then_some(self.next)
    }
}

impl Run<'_> {
    pub(super) fn start_churn(&mut self, index: usize, churn: &Churn) -> anyhow::Result<()> {
        let templates: anyhow::Result<Vec<Template>> =
            churn.template_paths.iter().map(|path| self.template(path)).collect();
        let templates = templates?;
        let places = || (0..churn.number.max(1)).map(|_| None).collect();
        let interval = Duration::from_millis(churn.interval_milliseconds.max(1));
        self.churns.push(Ticker {
            created: templates.iter().map(|_| places()).collect(),
            templates,
            namespace: churn.namespace.clone().unwrap_or_else(|| format!("namespace-{index}")),
            mode: churn.mode,
            number: churn.number,
            interval,
            next: self.clock.now() + interval,
            ticks: 0,
        });
        Ok(())
    }

    pub(super) fn start_deleting(&mut self, pods: &DeletePods) {
        let concerned = self.placed.iter().filter(|(_, placed)| {
            let info = &placed.info;
            pods.concerns(info.namespace(), info.pod.metadata.labels.as_ref())
        });
        let uids: Vec<PodUid> = concerned.map(|(uid, _)| uid.clone()).collect();
        if pods.delete_pods_per_second == 0 || !pods.skip_wait_to_completion {
            uids.iter().for_each(|uid| self.delete_pod(uid));
            return;
        }
        let per_second = u32::try_from(pods.delete_pods_per_second).unwrap_or(u32::MAX);
        let interval = Duration::from_secs(1) / per_second;
        self.deletions.push(Deletions { pods: uids, interval, next: self.clock.now() + interval });
    }

    /// When something happens by itself next.
    pub(super) fn next_tick(&self) -> Option<Duration> {
        let churns = self.churns.iter().filter_map(Ticker::next);
        let deletions = self.deletions.iter().filter_map(Deletions::next);
        churns.chain(deletions).chain(self.updates.iter().filter_map(Updates::next)).min()
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Duration) -> anyhow::Result<()> {
        let mut churns = std::mem::take(&mut self.churns);
        for churn in &mut churns {
            while churn.next().is_some_and(|next| next <= now) {
                churn.next += churn.interval;
                self.churn(churn);
            }
        }
        self.churns = churns;
        let mut deletions = std::mem::take(&mut self.deletions);
        for deletion in &mut deletions {
            while deletion.next().is_some_and(|next| next <= now) {
                deletion.next += deletion.interval;
                if let Some(uid) = deletion.pods.pop() {
                    self.delete_pod(&uid);
                }
            }
        }
        self.deletions = deletions;
        self.update_due(now)
    }

    fn churn(&mut self, churn: &mut Ticker) {
        let place = churn.ticks % churn.number.max(1);
        let number = CHURNED_FROM + churn.ticks;
        churn.ticks += 1;
        for (template, created) in churn.templates.iter().zip(&mut churn.created) {
            let before = match churn.mode {
                ChurnMode::Create => None,
                ChurnMode::Recreate => created[place].take(),
            };
            match before {
                Some(object) => self.delete(&object),
                // A template that is no good was found out when it was read.
                None => created[place] = self.create(template, number, Some(&churn.namespace)).ok(),
            }
        }
    }
}

/// Numbers of churned objects, so that their names are their own.
const CHURNED_FROM: usize = 10_000_000;
