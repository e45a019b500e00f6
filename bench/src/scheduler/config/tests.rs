use std::time::Duration;

use super::*;

#[test]
fn upstreams_format_is_read() {
    let text = r#"
- name: Basic
  defaultPodTemplatePath: ../templates/pod.yaml
  workloadTemplate:
  - opcode: createNodes
    countParam: $initNodes
    labelNodePrepareStrategy:
      labelKey: "zone"
      labelValues: ["a", "b"]
  - opcode: churn
    mode: recreate
    number: 1
    templatePaths: [pod.yaml]
    intervalMilliseconds: 1000
  - opcode: sleep
    duration: 1m5s
  - opcode: createPods
    countParam: $measurePods
    collectMetrics: true
  - opcode: barrier
    stageRequirement: Attempted
  workloads:
  - name: 5Nodes
    featureGates: {SchedulerQueueingHints: false}
    labels: [short]
    threshold: 7
    params: {initNodes: 5, measurePods: 10}
"#;
    let cases: Vec<Case> = serde_saphyr::from_str(text).unwrap();
    let (case, workload) = (&cases[0], &cases[0].workloads[0]);
    let operations = case.operations().unwrap();
    let [Operation::CreateNodes(nodes), Operation::Churn(churn), Operation::Sleep(sleep), ..] =
        operations.as_slice()
    else {
        panic!("{case:?}")
    };
    assert_eq!(nodes.count.of(workload).unwrap(), 5);
    assert_eq!((churn.mode, churn.interval_milliseconds), (ChurnMode::Recreate, 1000));
    assert_eq!(sleep.of(workload).unwrap(), Duration::from_secs(65));
}

#[test]
fn what_is_not_known_of_an_operation_is_named() {
    let refused = |operation: &str| {
        let text = format!("- {{name: x, workloadTemplate: [{operation}], workloads: []}}");
        let cases: Vec<Case> = serde_saphyr::from_str(&text).unwrap();
        format!("{:#}", cases[0].operations().unwrap_err())
    };
    let unknown = refused("{opcode: waitForPodGroups}");
    assert!(unknown.starts_with(
        "step 1: opcode \"waitForPodGroups\" is not known; known are allocResourceClaims, "
    ));
    assert_eq!(
        refused("{opcode: createPods, count: 1, other: 2}"),
        "step 1: opcode createPods: field other is not known"
    );
    assert!(refused("{opcode: churn, mode: other}").contains("opcode churn: "));
}

#[test]
fn steady_states_and_multiples_are_read() {
    let text = "
- name: x
  workloadTemplate:
  - {opcode: createPods, countParam: $groups, countMultiplierParam: $size, steadyState: true, durationParam: $time}
  - {opcode: createPods, count: 3, duration: 1s}
  workloads: [{name: w, params: {groups: 4, size: 8, time: 2s}}]
";
    let cases: Vec<Case> = serde_saphyr::from_str(text).unwrap();
    let (workload, operations) = (&cases[0].workloads[0], cases[0].operations().unwrap());
    let read = |operation: &Operation| match operation {
        Operation::CreatePods(pods) => {
            (pods.count.of(workload).unwrap(), pods.steady_for(workload).unwrap())
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(read(&operations[0]), (32, Some(Duration::from_secs(2))));
    assert_eq!(read(&operations[1]), (3, None));
}

#[test]
fn a_missing_parameter_is_named() {
    let count = Count { count_param: Some("$n".to_owned()), ..Count::default() };
    let workload = Workload {
        name: "w".to_owned(),
        feature_gates: BTreeMap::new(),
        params: BTreeMap::new(),
        labels: vec![],
    };
    let error = count.of(&workload).unwrap_err().to_string();
    assert_eq!(error, "workload w has no $n");
}

#[test]
fn operations_about_devices_are_read() {
    let text = "
- name: x
  workloadTemplate:
  - {opcode: createResourceDriver, driverName: d, nodes: n-*, maxClaimsPerNodeParam: $claims}
  - {opcode: allocResourceClaims}
  - {opcode: createResourceClaims, namespace: a, templatePath: claim.yaml, count: 2}
  - {opcode: checkPodScheduled, namespace: a, ScheduledParam: $scheduled, durationParam: $time}
  - {opcode: updateDeviceConditions, namespace: a, ConditionTypeParam: $type}
  - {opcode: createPods, count: 4, signatureBatchSizeParam: $claims}
  workloads: [{name: w, params: {claims: 3, scheduled: true}}]
";
    let cases: Vec<Case> = serde_saphyr::from_str(text).unwrap();
    let (workload, operations) = (&cases[0].workloads[0], cases[0].operations().unwrap());
    let [
        Operation::CreateResourceDriver(driver),
        Operation::AllocResourceClaims(all),
        Operation::CreateResourceClaims(claims),
        Operation::CheckPodScheduled(check),
        Operation::UpdateDeviceConditions(_),
        Operation::CreatePods(pods),
    ] = operations.as_slice()
    else {
        panic!("{operations:?}")
    };
    assert_eq!(driver.max_claims_per_node.of(workload).unwrap(), 3);
    assert_eq!((all.namespace.as_str(), claims.count.of(workload).unwrap()), ("", 2));
    assert!(check.is_expected(workload).unwrap());
    assert_eq!(pods.signature_batch(workload).unwrap(), Some(3));
}

#[test]
fn a_mistaken_feature_gate_is_named() {
    let text = "
- {name: x, featureGates: {DRAExtendedResource: true}, workloadTemplate: [], workloads: [
    {name: w, featureGates: {Nope: false}}]}
";
    let cases: Vec<Case> = serde_saphyr::from_str(text).unwrap();
    let error = cases[0].operations().unwrap_err().to_string();
    assert_eq!(error, "featureGates: Nope is not known");
}
