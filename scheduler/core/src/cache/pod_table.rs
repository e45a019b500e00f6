//! The pods that a scheduler knows, by identity and by number.
//!
//! A pod is looked for by its identity when something is told of it. What is done with it in between
//! goes by its number ([`crate::pod::PodNumber`]): its entry lies between those of the pods that came
//! before and after it, so that pods decided about in their order are found side by side.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::Assumed;
use crate::pod::{PodInfo, PodNumber, PodUid};

/// The table.
#[derive(Debug, Default)]
pub(super) struct PodTable {
    by_uid: FxHashMap<PodUid, PodNumber>,
    entries: Vec<Option<Known>>,
    free: Vec<PodNumber>,
    placed: usize,
}

#[derive(Debug)]
struct Known {
    /// As it is on its node; as it was last seen while it has none.
    info: Arc<PodInfo>,
    place: Option<Place>,
}

/// Where a pod is.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) node: Arc<str>,
    /// `None` once the pod was seen bound.
    pub(super) assumed: Option<Assumed>,
}

impl PodTable {
    /// How many pods have a place.
    pub(super) fn placed_count(&self) -> usize {
        self.placed
    }

    /// The pods that have a place.
    pub(super) fn placed(&self) -> impl Iterator<Item = (&Arc<PodInfo>, &Place)> {
        let known = self.entries.iter().flatten();
        known.filter_map(|known| Some((&known.info, known.place.as_ref()?)))
    }

    /// The pod as it is on its node, and where.
    pub(super) fn get(&self, uid: &PodUid) -> Option<(&Arc<PodInfo>, &Place)> {
        let known = self.at(*self.by_uid.get(uid)?)?;
        Some((&known.info, known.place.as_ref()?))
    }

    pub(super) fn place_mut(&mut self, uid: &PodUid) -> Option<&mut Place> {
        let number = *self.by_uid.get(uid)?;
        self.at_mut(number)?.place.as_mut()
    }

    /// A pod without a node was seen: it has a number from now on.
    pub(super) fn admit(&mut self, info: PodInfo) -> Arc<PodInfo> {
        let uid = info.uid.clone();
        match self.by_uid.entry(uid) {
            Entry::Occupied(entry) => {
                let number = *entry.get();
                let info = Arc::new(info.numbered(number));
                if let Some(known) = self.at_mut(number)
                    && known.place.is_none()
                {
                    known.info = Arc::clone(&info);
                }
                info
            }
            Entry::Vacant(entry) => {
                let number = free_number(&mut self.free, &mut self.entries);
                entry.insert(number);
                let info = Arc::new(info.numbered(number));
                self.entries[number.at()] = Some(Known { info: Arc::clone(&info), place: None });
                info
            }
        }
    }

    /// Whether the pod has a place.
    pub(super) fn is_placed(&self, info: &PodInfo) -> bool {
        self.number_of(info).and_then(|number| self.at(number)).is_some_and(|it| it.place.is_some())
    }

    /// The pod has this place now; returns the pod and the place that it had.
    pub(super) fn set(
        &mut self,
        info: &Arc<PodInfo>,
        place: Place,
    ) -> Option<(Arc<PodInfo>, Place)> {
        let number = self.number_of(info).unwrap_or_else(|| {
            let number = free_number(&mut self.free, &mut self.entries);
            self.by_uid.insert(info.uid.clone(), number);
            number
        });
        let known = Known { info: Arc::clone(info), place: Some(place) };
        let before = self.entries[number.at()].replace(known);
        let before = before.and_then(|known| Some((known.info, known.place?)));
        self.placed += usize::from(before.is_none());
        before
    }

    /// The pod has no place any more, but is still there.
    pub(super) fn displace(&mut self, uid: &PodUid) -> Option<Place> {
        let number = *self.by_uid.get(uid)?;
        let place = self.at_mut(number)?.place.take()?;
        self.placed -= 1;
        Some(place)
    }

    /// The pod is gone; returns the place that it had.
    pub(super) fn remove(&mut self, uid: &PodUid) -> Option<Place> {
        let number = self.by_uid.remove(uid)?;
        let known = self.entries.get_mut(number.at())?.take();
        self.free.push(number);
        if self.by_uid.is_empty() {
            // The next pods lie side by side again, whatever the order in which these left.
            self.entries.clear();
            self.free.clear();
        }
        let place = known?.place?;
        self.placed -= 1;
        Some(place)
    }

    /// The number that the pod says, if that is its own; else the table is asked.
    fn number_of(&self, info: &PodInfo) -> Option<PodNumber> {
        let is_own = |known: &Known| known.info.uid == info.uid;
        let own = info.number().filter(|number| self.at(*number).is_some_and(is_own));
        own.or_else(|| self.by_uid.get(&info.uid).copied())
    }

    fn at(&self, number: PodNumber) -> Option<&Known> {
        self.entries.get(number.at())?.as_ref()
    }

    fn at_mut(&mut self, number: PodNumber) -> Option<&mut Known> {
        self.entries.get_mut(number.at())?.as_mut()
    }
}

fn free_number(free: &mut Vec<PodNumber>, entries: &mut Vec<Option<Known>>) -> PodNumber {
    free.pop().unwrap_or_else(|| {
        entries.push(None);
        PodNumber::new(entries.len() - 1)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str) -> PodInfo {
        let pod = json!({"metadata": {"name": name, "uid": name}});
        PodInfo::new(Arc::new(serde_json::from_value(pod).unwrap()))
    }

    fn place(node: &str) -> Place {
        Place { node: node.into(), assumed: None }
    }

    #[test]
    fn a_number_of_another_table_is_not_believed() {
        let (mut table, mut other) = (PodTable::default(), PodTable::default());
        let (a, b) = (table.admit(pod("a")), other.admit(pod("b")));
        assert_eq!(a.number(), b.number());
        assert!(table.set(&b, place("n")).is_none());
        assert!(table.is_placed(&b) && !table.is_placed(&a));
        assert!(table.get(&a.uid).is_none());
        assert_eq!(table.placed().map(|(info, _)| info.name()).collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn a_pod_keeps_its_number_until_it_is_gone() {
        let mut table = PodTable::default();
        let (first, _) = (table.admit(pod("a")), table.admit(pod("b")));
        table.set(&first, place("n"));
        let again = table.admit(pod("a"));
        assert_eq!(again.number(), first.number());
        assert!(Arc::ptr_eq(table.get(&first.uid).unwrap().0, &first), "as it is on its node");
        assert_eq!(&*table.displace(&first.uid).unwrap().node, "n");
        assert_eq!(table.placed_count(), 0);
        assert!(table.set(&again, place("m")).is_none());
        assert_eq!(&*table.remove(&first.uid).unwrap().node, "m");
        assert_eq!(table.placed_count(), 0);
        let next = table.admit(pod("c"));
        assert_eq!(next.number(), first.number(), "it is free again");
        assert!(!table.is_placed(&first), "what had it before is not found by it");
    }
}
