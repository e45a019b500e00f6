//! The cache against a plain map, and what handlers hear.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::watcher::Event;
use parking_lot::Mutex;
use proptest::prelude::*;

use super::{Indexer, Informer, ObjectKey};

const BY_LABEL: Indexer<ConfigMap> = Indexer {
    name: "label",
    value: |map| map.metadata.labels.as_ref().and_then(|labels| labels.get("l").cloned()),
};

fn config_map(namespace: u8, name: u8, version: u32, label: Option<u8>) -> ConfigMap {
    let mut map = ConfigMap::default();
    map.metadata.namespace = Some(format!("ns{namespace}"));
    map.metadata.name = Some(format!("n{name}"));
    map.metadata.resource_version = Some(version.to_string());
    map.metadata.labels = label.map(|l| [("l".to_owned(), l.to_string())].into());
    map
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8, Option<u8>),
    Delete(u8, u8),
    Relist(Vec<(u8, u8, Option<u8>)>),
}

fn step() -> impl Strategy<Value = Step> {
    let object = || (0..3_u8, 0..4_u8, proptest::option::of(0..2_u8));
    prop_oneof![
        4 => object().prop_map(|(ns, n, l)| Step::Put(ns, n, l)),
        2 => (0..3_u8, 0..4_u8).prop_map(|(ns, n)| Step::Delete(ns, n)),
        1 => proptest::collection::vec(object(), 0..6).prop_map(Step::Relist),
    ]
}

fn events(step: Step, version: &mut u32) -> Vec<Event<ConfigMap>> {
    let mut object = |(ns, n, l)| {
        *version += 1;
        config_map(ns, n, *version, l)
    };
    match step {
        Step::Put(ns, n, l) => vec![Event::Apply(object((ns, n, l)))],
        Step::Delete(ns, n) => vec![Event::Delete(object((ns, n, None)))],
        Step::Relist(all) => {
            let mut events = vec![Event::Init];
            events.extend(all.into_iter().map(|o| Event::InitApply(object(o))));
            events.push(Event::InitDone);
            events
        }
    }
}

proptest! {
    /// The handlers' view, built from changes alone, is the cache; the indices agree with a scan.
    #[test]
    fn handlers_see_exactly_what_the_cache_holds(
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let informer = Informer::new(&[BY_LABEL]);
        let seen: Arc<Mutex<BTreeMap<ObjectKey, ConfigMap>>> = Arc::default();
        let view = Arc::clone(&seen);
        informer.on_change(move |change| {
            let key = ObjectKey::of(change.latest().as_ref());
            let old = match &change.new {
                Some(new) => view.lock().insert(key, new.as_ref().clone()),
                None => view.lock().remove(&key),
            };
            assert_eq!(old.as_ref(), change.old.as_deref());
        });
        let mut version = 0;
        for step in steps {
            for event in events(step, &mut version) {
                informer.apply(event);
            }
            let listed: Vec<ConfigMap> =
                informer.list().iter().map(|object| object.as_ref().clone()).collect();
            let expected: Vec<ConfigMap> = seen.lock().values().cloned().collect();
            prop_assert_eq!(&listed, &expected);
            for ns in 0..3 {
                let ns = format!("ns{ns}");
                let scan = listed.iter().filter(|o| o.metadata.namespace.as_ref() == Some(&ns));
                prop_assert_eq!(informer.in_namespace(&ns).len(), scan.count());
            }
            for label in ["0", "1"] {
                let indexed = informer.by_index("label", label);
                let scan = listed.iter().filter(|o| (BY_LABEL.value)(o).as_deref() == Some(label));
                prop_assert!(indexed.iter().map(Arc::as_ref).eq(scan));
            }
        }
    }
}

#[test]
fn a_relist_reports_what_vanished_and_is_silent_about_the_unchanged() {
    let informer = Informer::new(&[]);
    informer.apply(Event::Apply(config_map(0, 0, 1, None)));
    informer.apply(Event::Apply(config_map(0, 1, 2, None)));
    let heard: Arc<Mutex<Vec<(String, bool)>>> = Arc::default();
    let log = Arc::clone(&heard);
    informer.on_change(move |change| {
        log.lock()
            .push((ObjectKey::of(change.latest().as_ref()).to_string(), change.new.is_some()));
    });
    assert!(!informer.is_synced());
    informer.apply(Event::Init);
    informer.apply(Event::InitApply(config_map(0, 1, 2, None)));
    informer.apply(Event::InitDone);
    assert!(informer.is_synced());
    assert_eq!(*heard.lock(), [("ns0/n0".to_owned(), false)]);
}
