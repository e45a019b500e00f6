//! The pods that a spread constraint counts, by domain, of the rows that it counts.

use std::collections::BTreeMap;

use super::domain::{NONE, add, number};

/// Numbers by domain, patched row by row.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Pods by domain.
    pods: Vec<u32>,
    /// Rows that count, by domain.
    rows: Vec<u32>,
    /// What each row adds: its domain, [`NONE`] if it does not count, and its pods.
    parts: Vec<(u32, u32)>,
    /// How many domains with a row have so many pods.
    domains: BTreeMap<u32, u32>,
}

impl Tally {
    /// The row is in this domain, with so many pods. A row that does not count is in [`NONE`].
    pub(super) fn set(&mut self, row: usize, domain: u32, pods: u32) {
        if self.parts.len() <= row {
            self.parts.resize(row + 1, (NONE, 0));
        }
        let (old, old_pods) = std::mem::replace(&mut self.parts[row], (domain, pods));
        if (old, old_pods) != (domain, pods) {
            self.change(old, old_pods, -1);
            self.change(domain, pods, 1);
        }
    }

    /// Forgets the rows from this one on.
    pub(super) fn truncate(&mut self, rows: usize) {
        for row in rows..self.parts.len() {
            self.set(row, NONE, 0);
        }
        self.parts.truncate(rows);
    }

    /// The pods in the domain.
    pub(super) fn at(&self, domain: u32) -> u32 {
        number(&self.pods, domain)
    }

    /// The pods in the emptiest domain, or 0 if there are fewer domains than these.
    pub(super) fn lowest(&self, min_domains: i32) -> i64 {
        let domains = self.domains.values().sum::<u32>();
        if i64::from(domains) < i64::from(min_domains) {
            return 0;
        }
        self.domains.first_key_value().map_or(i64::from(i32::MAX), |(pods, _)| i64::from(*pods))
    }

    fn change(&mut self, domain: u32, pods: u32, sign: i32) {
        if domain == NONE {
            return;
        }
        let at = domain as usize;
        self.count_domain(at, -1);
        add(&mut self.rows, at, sign);
        add(&mut self.pods, at, sign.wrapping_mul(pods.cast_signed()));
        self.count_domain(at, 1);
    }

    /// The domain has as many pods as it has, or no longer (`sign` is -1).
    fn count_domain(&mut self, at: usize, sign: i32) {
        if self.rows.get(at).copied().unwrap_or(0) == 0 {
            return;
        }
        let pods = self.pods[at];
        let count = self.domains.entry(pods).or_default();
        *count = count.wrapping_add_signed(sign);
        if *count == 0 {
            self.domains.remove(&pods);
        }
    }
}
