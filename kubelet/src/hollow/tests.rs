use super::*;

#[test]
fn a_hollow_pod_runs_at_once() {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": "web", "namespace": "default", "uid": "u1" },
        "spec": { "nodeName": "n", "initContainers": [{ "name": "i" }, { "name": "s", "restartPolicy": "Always" }],
                  "containers": [{ "name": "a", "readinessProbe": { "tcpSocket": { "port": 1 } } }] },
    }))
    .unwrap();
    let status = running(&pod, [10, 0, 0, 2].into(), [1, 2, 3, 4].into(), Timestamp::UNIX_EPOCH);
    assert_eq!(status.phase.as_deref(), Some("Running"));
    let conditions = status.conditions.unwrap();
    assert!(conditions.iter().all(|it| it.status == "True"), "{conditions:?}");
    let init = status.init_container_statuses.unwrap();
    assert!(init[0].state.as_ref().unwrap().terminated.is_some());
    assert!(init[1].state.as_ref().unwrap().running.is_some());
}

#[test]
fn addresses_come_from_the_node_or_else_from_the_shared_range() {
    let mut addresses = Addresses::default();
    let cidr = Some("10.244.7.0/30".parse().unwrap());
    let own = addresses.take("a", cidr, None).unwrap();
    assert_eq!(own, std::net::Ipv4Addr::new(10, 244, 7, 2));
    let overflow = addresses.take("a", cidr, None).unwrap();
    assert_eq!(overflow, std::net::Ipv4Addr::new(100, 64, 0, 2));
    let kept = addresses.take("b", None, Some([100, 64, 0, 3].into())).unwrap();
    assert_ne!(addresses.take("b", None, None), Some(kept));
    addresses.release("a", own);
    assert_eq!(addresses.take("a", cidr, None), Some(own));
}
