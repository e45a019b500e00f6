//! Which images the nodes hold: what ImageLocality reads.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{ContainerImage, Node};
use rustc_hash::FxHashMap;

/// One image over all nodes (`fwk.ImageStateSummary`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageState {
    /// As the first node that reported the image has it.
    pub size_bytes: i64,
    /// How many nodes hold it.
    pub nodes: usize,
}

/// Every image that some node holds, by each of its names.
#[derive(Clone, Debug, Default)]
pub(super) struct ImageTable(FxHashMap<Box<str>, ImageState>);

impl ImageTable {
    pub(super) fn get(&self, name: &str) -> Option<ImageState> {
        self.0.get(name).copied()
    }

    /// A node holds other images than before.
    pub(super) fn replace(&mut self, old: Option<&Node>, new: Option<&Node>) {
        for (name, size_bytes) in names(new) {
            let fresh = ImageState { size_bytes, nodes: 0 };
            self.0.entry(name.into()).or_insert(fresh).nodes += 1;
        }
        for (name, _) in names(old) {
            if let Some(state) = self.0.get_mut(name) {
                state.nodes -= 1;
                if state.nodes == 0 {
                    self.0.remove(name);
                }
            }
        }
    }
}

/// Whether the two nodes report the same images.
pub(super) fn same(old: Option<&Node>, new: Option<&Node>) -> bool {
    fn images(node: Option<&Node>) -> &[ContainerImage] {
        let status = node.and_then(|node| node.status.as_ref());
        status.and_then(|status| status.images.as_deref()).unwrap_or_default()
    }
    images(old) == images(new)
}

/// Each name once, with the size of the first image that has it.
pub(super) fn names(node: Option<&Node>) -> impl Iterator<Item = (&str, i64)> {
    let images = node.and_then(|node| node.status.as_ref()).and_then(|s| s.images.as_deref());
    let mut seen = BTreeSet::new();
    images
        .unwrap_or_default()
        .iter()
        .flat_map(|image| {
            let size_bytes = image.size_bytes.unwrap_or(0).max(0);
            image.names.iter().flatten().map(move |name| (name.as_str(), size_bytes))
        })
        .filter(move |(name, _)| seen.insert(*name))
}
