use k8s_openapi::api::core::v1::Pod;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// A pod of one of a few templates: some fields of each kind, so that alike ones come again.
fn pod() -> impl Strategy<Value = Value> {
    let choices = (0..3_u8, 0..3_u8, any::<bool>(), 0..4_u8, 0..4_u8, any::<bool>());
    (choices, 0..40_u16).prop_map(|((cpu, labels, gated, node, status, last), number)| {
        let mut spec = json!({"priority": cpu, "schedulerName": "s", "containers": [
            {"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu.to_string()}},
                "env": [{"name": "x", "value": "},\"nodeName\":\"fake\""}]}]});
        if gated {
            spec["schedulingGates"] = json!([{"name": "g"}]);
        }
        if node > 0 {
            spec["nodeName"] = json!(format!("n{node}"));
        }
        if !last {
            spec["terminationGracePeriodSeconds"] = json!(9);
        }
        let mut pod = json!({
            "metadata": {"name": format!("p{number}"), "namespace": "d", "generation": 1,
                "uid": format!("{number:08x}-0000-4000-8000-000000000000"),
                "resourceVersion": number.to_string(), "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {"app": labels.to_string()}},
            "spec": spec,
        });
        pod["status"] = match status {
            0 => json!({}),
            1 => json!({"phase": "Pending", "nominatedNodeName": "m", "conditions": [
                {"type": "PodScheduled", "status": "False"}]}),
            2 => json!({"phase": "Running", "startTime": "2026-01-02T00:00:00Z", "conditions": [
                {"type": "DisruptionTarget", "status": "True"}]}),
            _ => json!({"phase": "Running", "containerStatuses": [{"name": "c", "image": "i",
                "imageID": "", "ready": true, "restartCount": 0,
                "resources": {"requests": {"cpu": "7"}}}]}),
        };
        if status == 2 && labels == 0 {
            pod["metadata"]["deletionTimestamp"] = json!("2026-01-03T00:00:00Z");
        }
        pod
    })
}

proptest! {
    #[test]
    fn a_pod_that_was_read_is_the_pod(
        pods in proptest::collection::vec((pod(), 0..3_u8), 1..30),
    ) {
        let (mut reader, mut templates) = (Reader::default(), Templates::default());
        for (object, way) in pods {
            let text = object.to_string();
            let pod: Arc<Pod> = Arc::new(serde_json::from_str(&text).unwrap());
            let expected = PodInfo::shared(pod, &mut templates);
            let seen = match way {
                0 => serde_json::from_str::<RawPod>(&text).unwrap().read(&mut reader),
                way => local(object, way == 1).read(&mut reader),
            };
            let seen = seen.unwrap();
            prop_assert_eq!(seen.info.object(), expected.object());
            prop_assert_eq!(&seen.info.uid, &expected.uid);
            prop_assert_eq!(&seen.info.template, &expected.template);
            prop_assert_eq!(&seen.info.requests, &expected.requests);
            prop_assert_eq!(seen.info.placed_nonzero(), expected.placed_nonzero());
            prop_assert_eq!(seen.info.priority, expected.priority);
            prop_assert_eq!(seen.info.node_name(), expected.node_name());
            prop_assert_eq!(seen.info.start_seconds(), expected.start_seconds());
            prop_assert_eq!(seen.info.is_terminating(), expected.is_terminating());
            prop_assert_eq!(seen.info.nominated_node(), expected.nominated_node());
            prop_assert_eq!(seen.metadata.name.as_deref(), Some(expected.name()));
        }
    }
}

/// The pod as an API server in the same process has it.
fn local(mut pod: Value, is_read: bool) -> LocalPod {
    let version = pod["metadata"]["resourceVersion"].take();
    pod["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    LocalPod {
        json: pod.to_string().into(),
        resource_version: version.as_str().unwrap().parse().unwrap(),
        read: is_read.then(|| serde_json::from_value(pod).unwrap()),
    }
}

fn read(reader: &mut Reader, name: &str, spec: &str) -> SeenPod {
    let text = format!(r#"{{"metadata": {{"name": "{name}", "namespace": "d"}}, "spec": {spec}}}"#);
    serde_json::from_str::<RawPod>(&text).unwrap().read(reader).unwrap()
}

#[test]
fn a_spec_that_comes_again_is_shared_on_whatever_node() {
    let mut reader = Reader::default();
    let a = read(&mut reader, "a", r#"{"containers":[{"name":"c"}]}"#);
    let b = read(&mut reader, "b", r#"{"containers":[{"name":"c"}],"nodeName":"n"}"#);
    assert!(Arc::ptr_eq(&a.info.pod, &b.info.pod));
    assert_eq!((a.info.node_name(), b.info.node_name()), (None, Some("n")));
    assert_eq!(reader.known.len(), 1);
    let other = read(&mut reader, "c", r#"{"containers":[{"name":"d"}],"nodeName":"n"}"#);
    assert!(!Arc::ptr_eq(&a.info.pod, &other.info.pod));
}

#[test]
fn a_node_that_is_not_last_is_found_all_the_same() {
    let mut reader = Reader::default();
    for name in ["a", "b"] {
        let seen = read(&mut reader, name, r#"{"nodeName":"n","containers":[{"name":"c"}]}"#);
        assert_eq!(seen.info.node_name(), Some("n"));
    }
}

#[test]
fn what_is_kept_is_bounded() {
    let mut reader = Reader::default();
    for number in 0..SPECS_MAX + 2 {
        read(&mut reader, "a", &format!(r#"{{"containers":[],"priority":{number}}}"#));
    }
    assert_eq!(reader.known.len(), 2);
}

#[test]
fn of_a_pod_that_is_gone_the_last_sight_is_told() {
    let (mut reader, informer) = (Reader::default(), pintle_client::Informer::new(&[]));
    let (sender, told) = std::sync::mpsc::channel();
    informer.on_change(move |change: &pintle_client::Change<SeenPod>| {
        sender.send((change.old.clone(), change.new.clone())).unwrap();
    });
    let pod = |name: &str| {
        local(
            json!({"metadata": {"name": name, "namespace": "d", "uid": name,
                "resourceVersion": "3"}, "spec": {"containers": []}}),
            false,
        )
    };
    for event in [Event::Apply(pod("a")), Event::Delete(pod("b")), Event::Delete(pod("a"))] {
        informer.apply(reader.read(event).unwrap());
    }
    let (_, added) = told.recv().unwrap();
    let (last, gone) = told.recv().unwrap();
    assert!(gone.is_none() && Arc::ptr_eq(&added.unwrap(), &last.unwrap()));
    assert!(told.try_recv().is_err());
}
