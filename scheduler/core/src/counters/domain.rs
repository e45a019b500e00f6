//! Topology keys, their domains as small numbers, and the domain of each row.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use rustc_hash::FxHashMap;

use super::Row;
use crate::plugins::inter_pod_affinity::label;

/// The domain of rows without the label.
pub(super) const NONE: u32 = u32::MAX;

/// More keys than this are left to the plugins: each takes four bytes a node, and who writes pods
/// chooses them.
const KEYS_MAX: usize = 256;

/// Every key that was asked for or that a pod's term has.
#[derive(Debug, Default)]
pub(super) struct Keys {
    by_name: FxHashMap<Arc<str>, usize>,
    keys: Vec<Key>,
}

/// One topology key. Numbers of domains without rows are used again.
#[derive(Debug)]
pub(super) struct Key {
    name: Arc<str>,
    by_value: Arc<FxHashMap<Arc<str>, u32>>,
    values: Vec<Arc<str>>,
    free: Vec<u32>,
    /// The domain of each row.
    rows: Arc<Vec<u32>>,
    /// The number of rows of each domain.
    pub(super) sizes: Vec<u32>,
    /// How many rows have the label.
    labelled: usize,
    /// How many domains have more than one row.
    shared: usize,
}

/// What an answer keeps of a key.
#[derive(Clone, Debug)]
pub(super) struct Domains {
    name: Arc<str>,
    by_value: Arc<FxHashMap<Arc<str>, u32>>,
    rows: Arc<Vec<u32>>,
}

impl Domains {
    /// The domain of a row.
    pub(super) fn at(&self, row: usize) -> u32 {
        self.rows.get(row).copied().unwrap_or(NONE)
    }

    /// The domain of a node that may be in no row. [`NONE`] also for one that no row is in.
    pub(super) fn of(&self, node: &Node) -> u32 {
        let value = label(node, &self.name).and_then(|value| self.by_value.get(value));
        value.copied().unwrap_or(NONE)
    }

    /// Whether the node has the label.
    pub(super) fn includes(&self, node: &Node) -> bool {
        label(node, &self.name).is_some()
    }
}

impl Keys {
    /// The number of a key, which gets one if it has none.
    pub(super) fn number(&mut self, name: &str, rows: &[Row]) -> Option<usize> {
        if let Some(&number) = self.by_name.get(name) {
            return Some(number);
        }
        if self.keys.len() == KEYS_MAX {
            return None;
        }
        let name: Arc<str> = name.into();
        let mut key = Key::new(Arc::clone(&name));
        for (row, Row { node, .. }) in rows.iter().enumerate() {
            key.set(row, label(node, &name));
        }
        self.by_name.insert(name, self.keys.len());
        self.keys.push(key);
        Some(self.keys.len() - 1)
    }

    pub(super) fn get(&self, number: usize) -> &Key {
        &self.keys[number]
    }

    /// Whether the node in this row would change the row's domain of some key.
    pub(super) fn would_move(&self, row: usize, node: &Node) -> bool {
        self.keys.iter().any(|key| key.value_at(row) != label(node, &key.name))
    }

    pub(super) fn set(&mut self, row: usize, node: &Node) {
        self.keys.iter_mut().for_each(|key| key.set(row, label(node, &key.name.clone())));
    }

    pub(super) fn clear(&mut self, row: usize) {
        self.keys.iter_mut().for_each(|key| key.set(row, None));
    }
}

impl Key {
    fn new(name: Arc<str>) -> Self {
        let (values, free, sizes) = (Vec::new(), Vec::new(), Vec::new());
        let (by_value, rows) = (Arc::default(), Arc::default());
        Self { name, by_value, values, free, rows, sizes, labelled: 0, shared: 0 }
    }

    /// Whether every row among so many has the label.
    pub(super) fn is_everywhere(&self, rows: usize) -> bool {
        self.labelled == rows
    }

    /// Whether no two rows are in one domain.
    pub(super) fn is_unique(&self) -> bool {
        self.shared == 0
    }

    /// The domain of a row.
    pub(super) fn at(&self, row: usize) -> u32 {
        self.rows.get(row).copied().unwrap_or(NONE)
    }

    /// The domain of this value, if some row is in it.
    pub(super) fn domain(&self, value: &str) -> Option<u32> {
        self.by_value.get(value).copied()
    }

    /// What an answer keeps.
    pub(super) fn domains(&self) -> Domains {
        Domains {
            name: Arc::clone(&self.name),
            by_value: Arc::clone(&self.by_value),
            rows: Arc::clone(&self.rows),
        }
    }

    fn value_at(&self, row: usize) -> Option<&str> {
        self.values.get(self.at(row) as usize).map(AsRef::as_ref)
    }

    fn set(&mut self, row: usize, value: Option<&str>) {
        let old = self.at(row);
        let new = value.map_or(NONE, |value| self.take(value));
        let rows = Arc::make_mut(&mut self.rows);
        if rows.len() <= row {
            rows.resize(row + 1, NONE);
        }
        rows[row] = new;
        if old != NONE {
            self.leave(old);
        }
    }

    fn take(&mut self, value: &str) -> u32 {
        self.labelled += 1;
        if let Some(&domain) = self.by_value.get(value) {
            let size = &mut self.sizes[domain as usize];
            *size += 1;
            self.shared += usize::from(*size == 2);
            return domain;
        }
        let value: Arc<str> = value.into();
        let domain = match self.free.pop() {
            Some(domain) => domain,
            None => {
                self.values.push(Arc::clone(&value));
                self.sizes.push(0);
                u32::try_from(self.values.len() - 1).expect("there are fewer domains than rows")
            }
        };
        self.values[domain as usize] = Arc::clone(&value);
        self.sizes[domain as usize] = 1;
        Arc::make_mut(&mut self.by_value).insert(value, domain);
        domain
    }

    fn leave(&mut self, domain: u32) {
        self.labelled -= 1;
        let size = &mut self.sizes[domain as usize];
        *size -= 1;
        self.shared -= usize::from(*size == 1);
        if *size == 0 {
            let value = Arc::clone(&self.values[domain as usize]);
            Arc::make_mut(&mut self.by_value).remove(&value);
            self.free.push(domain);
        }
    }
}

/// Adds to a number in a list that is as long as it has to be.
pub(super) fn add(numbers: &mut Vec<u32>, at: usize, sign: i32) {
    if numbers.len() <= at {
        numbers.resize(at + 1, 0);
    }
    numbers[at] = numbers[at].wrapping_add_signed(sign);
}

/// The numbers of a domain or row; those past the end are zero.
pub(super) fn number(numbers: &[u32], at: u32) -> u32 {
    numbers.get(at as usize).copied().unwrap_or(0)
}
