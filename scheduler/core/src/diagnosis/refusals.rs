//! Which nodes refuse a pod, and why, with every distinct reason kept once.
//!
//! Thousands of nodes refuse for a handful of reasons. A copy costs two pointers; whoever changes it
//! while others hold copies pays for a copy of four bytes a node.

use std::fmt;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::Refused;
use crate::framework::{PluginName, PluginSet, Rejection};

/// Refusals by node (an index into the snapshot).
#[derive(Clone, Default)]
pub struct Refusals {
    /// By node the kind of its refusal plus one; 0 if it does not refuse.
    nodes: Arc<Vec<u32>>,
    kinds: Arc<Kinds>,
    count: usize,
}

/// The distinct refusals.
#[derive(Clone, Debug, Default)]
struct Kinds {
    list: Vec<RefusalKind>,
    numbers: FxHashMap<(Option<PluginName>, Rejection), u32>,
    /// Those that no node has any more.
    free: Vec<u32>,
}

/// One refusal, shared by nodes.
#[derive(Clone, Debug)]
pub struct RefusalKind {
    /// The first plugin that refused; `None` if it was an extender.
    pub plugin: Option<PluginName>,
    /// How and why.
    pub rejection: Rejection,
    /// How many nodes.
    pub count: usize,
}

impl Refusals {
    /// How many nodes refuse.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether no node refuses.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The node's refusal.
    pub fn get(&self, node: usize) -> Option<&RefusalKind> {
        Some(&self.kinds.list[self.kind_of(node)?])
    }

    /// The nodes that refuse, in order.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &RefusalKind)> {
        let numbers = self.nodes.iter().enumerate().filter(|(_, kind)| **kind > 0);
        numbers.map(|(node, kind)| (node, &self.kinds.list[*kind as usize - 1]))
    }

    /// The distinct refusals, in no particular order.
    pub fn kinds(&self) -> impl Iterator<Item = &RefusalKind> {
        self.kinds.list.iter().filter(|kind| kind.count > 0)
    }

    /// The plugins that refuse some node.
    pub fn plugins(&self) -> PluginSet {
        self.kinds().filter_map(|kind| kind.plugin).collect()
    }

    /// The nodes of `0..node_count` for which `test` says yes, which is asked once a kind, or
    /// `others` if they do not refuse.
    pub fn select(
        &self,
        node_count: usize,
        others: bool,
        test: impl Fn(&Rejection) -> bool,
    ) -> Vec<usize> {
        let kinds = self.kinds.list.iter().map(|kind| test(&kind.rejection));
        let is_wanted: Vec<bool> = std::iter::once(others).chain(kinds).collect();
        let mut nodes = Vec::with_capacity(node_count);
        let known = self.nodes.iter().take(node_count).enumerate();
        nodes.extend(known.filter(|(_, kind)| is_wanted[**kind as usize]).map(|(node, _)| node));
        if others {
            nodes.extend(self.nodes.len().min(node_count)..node_count);
        }
        nodes
    }

    /// Adds a refusal; one that the node has already is replaced.
    pub fn push(&mut self, Refused { node, plugin, rejection }: Refused) {
        self.set(node, Some((plugin, rejection)));
    }

    /// Sets what the node says; `None`: it does not refuse.
    pub fn set(&mut self, node: usize, refusal: Option<(Option<PluginName>, Rejection)>) {
        let old = self.kind_of(node);
        if let (Some(old), Some((plugin, rejection))) = (old, &refusal) {
            let kind = &self.kinds.list[old];
            if kind.plugin == *plugin && kind.rejection == *rejection {
                return;
            }
        }
        if old.is_none() && refusal.is_none() {
            return;
        }
        let kinds = Arc::make_mut(&mut self.kinds);
        let new = refusal.map_or(0, |(plugin, rejection)| kinds.take(plugin, rejection) + 1);
        if let Some(old) = old {
            kinds.release(old);
        }
        self.count += usize::from(new > 0);
        self.count -= usize::from(old.is_some());
        let nodes = Arc::make_mut(&mut self.nodes);
        if nodes.len() <= node {
            nodes.resize(node + 1, 0);
        }
        nodes[node] = new;
    }

    /// Forgets the nodes from `node_count` on.
    pub fn truncate(&mut self, node_count: usize) {
        for node in (node_count..self.nodes.len()).rev() {
            self.set(node, None);
        }
        if self.nodes.len() > node_count {
            Arc::make_mut(&mut self.nodes).truncate(node_count);
        }
    }

    fn kind_of(&self, node: usize) -> Option<usize> {
        (*self.nodes.get(node)? as usize).checked_sub(1)
    }
}

impl Kinds {
    /// The number of a refusal that one more node has.
    fn take(&mut self, plugin: Option<PluginName>, rejection: Rejection) -> u32 {
        let key = (plugin, rejection);
        if let Some(&number) = self.numbers.get(&key) {
            self.list[number as usize].count += 1;
            return number;
        }
        let kind = RefusalKind { plugin, rejection: key.1.clone(), count: 1 };
        let number = match self.free.pop() {
            Some(number) => {
                self.list[number as usize] = kind;
                number
            }
            None => {
                self.list.push(kind);
                // There are no more kinds than nodes, and fewer than 2^32 nodes.
                u32::try_from(self.list.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.numbers.insert(key, number);
        number
    }

    fn release(&mut self, number: usize) {
        let kind = &mut self.list[number];
        kind.count -= 1;
        if kind.count == 0 {
            self.numbers.remove(&(kind.plugin, kind.rejection.clone()));
            self.free.push(u32::try_from(number).unwrap_or(u32::MAX));
        }
    }
}

impl PartialEq for Refusals {
    fn eq(&self, other: &Self) -> bool {
        let same = |((a, one), (b, other)): ((usize, &RefusalKind), (usize, &RefusalKind))| {
            a == b && one.plugin == other.plugin && one.rejection == other.rejection
        };
        self.count == other.count && self.iter().zip(other.iter()).all(same)
    }
}

impl Eq for Refusals {}

impl fmt::Debug for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refusals = self.iter().map(|(node, kind)| (node, (kind.plugin, &kind.rejection)));
        f.debug_map().entries(refusals).finish()
    }
}

impl Extend<Refused> for Refusals {
    fn extend<I: IntoIterator<Item = Refused>>(&mut self, refused: I) {
        refused.into_iter().for_each(|refused| self.push(refused));
    }
}

impl FromIterator<Refused> for Refusals {
    fn from_iter<I: IntoIterator<Item = Refused>>(refused: I) -> Self {
        let mut refusals = Self::default();
        refusals.extend(refused);
        refusals
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::framework::Code;

    /// One of few refusals, or none.
    fn refusal(number: u8) -> Option<(Option<PluginName>, Rejection)> {
        let plugin = (number > 2).then_some(PluginName::NodeResourcesFit);
        match number % 3 {
            0 => None,
            1 => Some((plugin, Rejection::unschedulable("Insufficient cpu"))),
            _ => Some((plugin, Rejection::unresolvable("Insufficient cpu"))),
        }
    }

    proptest! {
        #[test]
        fn it_is_a_map(changes in vec((0..9_usize, 0..6_u8, prop::option::of(0..9_usize)), 0..40)) {
            let (mut refusals, mut plain) = (Refusals::default(), BTreeMap::new());
            for (node, number, truncated) in changes {
                let copy = refusals.clone();
                refusals.set(node, refusal(number));
                match refusal(number) {
                    Some(refusal) => plain.insert(node, refusal),
                    None => plain.remove(&node),
                };
                if let Some(count) = truncated.filter(|count| *count > 6) {
                    refusals.truncate(count);
                    plain.retain(|node, _| *node < count);
                }
                prop_assert_eq!(copy.iter().count(), copy.len(), "copies stay as they were");
                let mine = refusals.iter().map(|(node, k)| (node, (k.plugin, k.rejection.clone())));
                prop_assert_eq!(mine.collect::<BTreeMap<_, _>>(), plain.clone());
                prop_assert_eq!(refusals.len(), plain.len());
                prop_assert_eq!(refusals.kinds().map(|kind| kind.count).sum::<usize>(), plain.len());
                prop_assert!(refusals.kinds.list.len() <= 5);
                for others in [false, true] {
                    let is_wanted = |node: &usize| plain.get(node).map_or(others, |refusal| {
                        refusal.1.code() == Code::Unschedulable
                    });
                    let selected = refusals.select(8, others, |r| r.code() == Code::Unschedulable);
                    prop_assert_eq!(selected, (0..8).filter(is_wanted).collect::<Vec<_>>());
                }
            }
        }
    }
}
