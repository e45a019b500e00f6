//! Which nodes have a resource that few have (extended resources, huge pages), by its name.
//!
//! NodeResourcesFit refuses a pod that asks for such a resource on every node that has none of it,
//! whatever else is on the node. So the nodes that have some are all that need to be asked. Pods do not
//! change which these are; node objects do, and those that changed are listed anew.

use std::collections::BTreeSet;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::cache::{ChangeLog, NodeInfo, Snapshot};

/// Rows by resource.
#[derive(Debug, Default)]
pub(super) struct Holders {
    by_name: FxHashMap<Arc<str>, BTreeSet<usize>>,
    /// The names under which each row is listed.
    by_row: Vec<Vec<Arc<str>>>,
    /// Up to where [`ChangeLog::objects`] is taken over.
    cursor: Option<u64>,
}

static NONE_HAS: BTreeSet<usize> = BTreeSet::new();

impl Holders {
    /// The rows of the nodes that have the rarest of these resources; `None` if no resource is named.
    pub(super) fn of_rarest<'a>(
        &mut self,
        names: impl Iterator<Item = &'a str>,
        snapshot: &Snapshot,
        changes: &ChangeLog,
    ) -> Option<&BTreeSet<usize>> {
        let mut names = names.peekable();
        names.peek()?;
        self.catch_up(snapshot, changes);
        names.map(|name| self.by_name.get(name).unwrap_or(&NONE_HAS)).min_by_key(|rows| rows.len())
    }

    /// Takes over what changed since the last time.
    fn catch_up(&mut self, snapshot: &Snapshot, changes: &ChangeLog) {
        let end = changes.objects.end();
        if self.cursor == Some(end) {
            return;
        }
        let nodes = snapshot.nodes();
        let missed = self.cursor.and_then(|cursor| changes.objects.since(cursor));
        match missed.filter(|missed| missed.len() < nodes.len()) {
            Some(missed) => {
                let past = nodes.len()..self.by_row.len();
                past.for_each(|row| self.list(row, None));
                self.by_row.resize_with(nodes.len(), Vec::new);
                for row in missed.iter().map(|row| *row as usize) {
                    if let Some(node) = nodes.get(row) {
                        self.list(row, Some(node));
                    }
                }
            }
            None => {
                *self = Self::default();
                self.by_row.resize_with(nodes.len(), Vec::new);
                nodes.iter().enumerate().for_each(|(row, node)| self.list(row, Some(node)));
            }
        }
        self.cursor = Some(end);
    }

    /// Lists the row under what this node has.
    fn list(&mut self, row: usize, node: Option<&Arc<NodeInfo>>) {
        for name in std::mem::take(&mut self.by_row[row]) {
            if let Some(rows) = self.by_name.get_mut(&name) {
                rows.remove(&row);
                if rows.is_empty() {
                    self.by_name.remove(&name);
                }
            }
        }
        let has = node.into_iter().flat_map(|node| &node.allocatable().scalar);
        for (name, _) in has.filter(|(_, amount)| **amount > 0) {
            let known = self.by_name.get_key_value(name.as_str()).map(|(name, _)| Arc::clone(name));
            let name = known.unwrap_or_else(|| Arc::from(name.as_str()));
            self.by_name.entry(Arc::clone(&name)).or_default().insert(row);
            self.by_row[row].push(name);
        }
    }
}
