//! Numbers by topology domain.

use k8s_openapi::api::core::v1::Node;
use rustc_hash::FxHashMap;

/// A number for each (topology key, value of that label). Domains without a number have zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ByDomain(FxHashMap<Box<str>, FxHashMap<Box<str>, i64>>);

impl ByDomain {
    /// Whether no domain was ever counted in.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds to the node's domain of `key`, if it is in one.
    pub fn add(&mut self, node: &Node, key: &str, number: i64) {
        let Some(value) = label(node, key) else { return };
        self.add_to(key, value, number);
    }

    /// Adds to a domain.
    pub fn add_to(&mut self, key: &str, value: &str, number: i64) {
        let values = match self.0.get_mut(key) {
            Some(values) => values,
            None => self.0.entry(key.into()).or_default(),
        };
        match values.get_mut(value) {
            Some(total) => *total += number,
            None => {
                values.insert(value.into(), number);
            }
        }
    }

    /// The number of a domain.
    pub fn get(&self, key: &str, value: &str) -> i64 {
        self.0.get(key).and_then(|values| values.get(value)).copied().unwrap_or(0)
    }

    /// The numbers of the domains that the node is in.
    pub fn of_node<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = i64> + 'a {
        self.0.iter().filter_map(|(key, values)| values.get(label(node, key)?).copied())
    }
}

/// The node's label of this key.
pub fn label<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    node.metadata.labels.as_ref()?.get(key).map(String::as_str)
}
