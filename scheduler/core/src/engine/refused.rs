//! Why each node refuses the pods of a class, kept up to date row by row: the diagnosis of a pod that
//! no node will have.

use super::local::{Local, nominated_from};
use crate::cache::{ChangeLog, Snapshot};
use crate::diagnosis::{Diagnosis, Refusals};
use crate::framework::Code;
use crate::pod::PodInfo;

/// The refusals of a class.
#[derive(Debug)]
pub(super) struct Refused {
    refusals: Refusals,
    /// Up to where [`ChangeLog::rows`] is taken over; `u64::MAX` before the first time.
    cursor: u64,
}

impl Default for Refused {
    fn default() -> Self {
        Self { refusals: Refusals::default(), cursor: u64::MAX }
    }
}

impl Refused {
    /// Why no node will have the pod, of a class that yields to nominated pods of at least this
    /// priority; `None` if a plugin could not tell.
    pub(super) fn diagnosis(
        &mut self,
        local: &Local<'_>,
        snapshot: &Snapshot,
        changes: &ChangeLog,
        pod: &PodInfo,
        yields_from: Option<i32>,
    ) -> Option<Box<Diagnosis>> {
        self.catch_up(local, snapshot, changes, yields_from)?;
        let mut refused = self.refusals.clone();
        // A pod does not yield to itself.
        if let Some((row, verdict)) = local.check_nominated(snapshot, pod) {
            refused.set(row, verdict.err().map(|(plugin, rejection)| (Some(plugin), rejection)));
        }
        let (node_count, plugins) = (snapshot.nodes().len(), refused.plugins());
        Some(Box::new(Diagnosis { node_count, plugins, refused, ..Diagnosis::default() }))
    }

    fn catch_up(
        &mut self,
        local: &Local<'_>,
        snapshot: &Snapshot,
        changes: &ChangeLog,
        yields_from: Option<i32>,
    ) -> Option<()> {
        let rows = snapshot.nodes().len();
        let missed = changes.rows.since(self.cursor).filter(|missed| missed.len() < rows);
        self.cursor = u64::MAX;
        self.refusals.truncate(rows);
        let mut look_at = |row: usize| self.look_at(row, local, snapshot, yields_from);
        match missed {
            Some(missed) => {
                let missed = missed.iter().map(|row| *row as usize).filter(|row| *row < rows);
                missed.into_iter().try_for_each(&mut look_at)?;
            }
            None => (0..rows).try_for_each(&mut look_at)?,
        }
        self.cursor = changes.rows.end();
        Some(())
    }

    fn look_at(
        &mut self,
        row: usize,
        local: &Local<'_>,
        snapshot: &Snapshot,
        yields_from: Option<i32>,
    ) -> Option<()> {
        let node = &snapshot.nodes()[row];
        let verdict = match yields_from {
            Some(priority) => local.check_beside(node, nominated_from(node, snapshot, priority)),
            None => local.check(node),
        };
        let refusal = verdict.err();
        if refusal.as_ref().is_some_and(|(_, rejection)| rejection.code() == Code::Error) {
            return None;
        }
        self.refusals.set(row, refusal.map(|(plugin, rejection)| (Some(plugin), rejection)));
        Some(())
    }
}
