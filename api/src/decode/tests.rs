use proptest::prelude::*;
use serde_json::json;

use super::*;

fn pod(body: &str, validation: FieldValidation) -> Result<Decoded, DecodeError> {
    decode(Kind::Pod, body.as_bytes(), Syntax::Json, validation)
}

const ODD: &str = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x","nam":1},
    "spec":{"containers":[{"name":"a","name":"b","imagee":"i"}],"foo":{"bar":1}}}"#;

#[test]
fn unknown_and_duplicate_fields_are_found_by_path() {
    let decoded = pod(ODD, FieldValidation::Warn).unwrap();
    assert_eq!(
        decoded.warnings,
        [
            "duplicate field \"spec.containers[0].name\"",
            "unknown field \"metadata.nam\"",
            "unknown field \"spec.containers[0].imagee\"",
            "unknown field \"spec.foo\"",
        ]
    );
    assert_eq!(
        decoded.object,
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"},
            "spec": {"containers": [{"name": "b"}]}})
    );
    assert!(pod(ODD, FieldValidation::Ignore).unwrap().warnings.is_empty());
}

#[test]
fn strict_refuses_in_upstreams_words() {
    assert_eq!(
        pod(ODD, FieldValidation::Strict).unwrap_err().to_string(),
        "Pod in version \"v1\" cannot be handled as a Pod: strict decoding error: duplicate field \
         \"spec.containers[0].name\", unknown field \"metadata.nam\", unknown field \
         \"spec.containers[0].imagee\", unknown field \"spec.foo\""
    );
}

#[test]
fn wrong_types_name_struct_path_and_type() {
    for (kind, body, error) in [
        (
            Kind::Deployment,
            json!({"spec": {"replicas": "three"}}),
            "Deployment in version \"apps/v1\" cannot be handled as a Deployment: json: cannot \
             unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            Kind::Deployment,
            json!({"spec": {"replicas": 1.5}}),
            "cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of \
             type int32",
        ),
        (
            Kind::Pod,
            json!({"spec": {"containers": [{"image": 5}]}}),
            "cannot unmarshal number into Go struct field Container.spec.containers[0].image of \
             type string",
        ),
        (
            Kind::Pod,
            json!({"spec": {"containers": {"name": "a"}}}),
            "cannot unmarshal object into Go struct field PodSpec.spec.containers of type array",
        ),
        (
            Kind::Pod,
            json!({"spec": "x"}),
            "cannot unmarshal string into Go struct field Pod.spec of type PodSpec",
        ),
        (
            Kind::Pod,
            json!({"metadata": {"labels": {"a": 1}}}),
            "cannot unmarshal number into Go struct field ObjectMeta.metadata.labels.a of type \
             string",
        ),
        (
            Kind::Pod,
            json!({"spec": {"containers": [{"resources": {"requests": {"cpu": "5Q"}}}]}}),
            "spec.containers[0].resources.requests.cpu: Invalid value: \"5Q\": quantities must \
             match the regular expression",
        ),
        (Kind::Secret, json!({"data": {"a": "%"}}), "data.a: Invalid symbol 37, offset 0."),
        (
            Kind::Pod,
            json!({"metadata": {"deletionTimestamp": "now"}}),
            "cannot be handled as a Pod: metadata.deletionTimestamp: ",
        ),
    ] {
        let got = check(kind, &mut body.clone()).unwrap_err().to_string();
        assert!(got.contains(error), "{body}: {got}");
    }
}

#[test]
fn nulls_go_and_quantities_become_canonical() {
    let mut pod = json!({"metadata": {"creationTimestamp": null, "name": "x"}, "spec": {
        "nodeName": null, "containers": [{"name": "a", "resources": {
            "requests": {"cpu": 0.5, "memory": "1024Mi"}, "limits": {"cpu": 1}}}]}});
    assert_eq!(check(Kind::Pod, &mut pod).unwrap(), Vec::<String>::new());
    assert_eq!(
        pod,
        json!({"metadata": {"name": "x"}, "spec": {"containers": [{"name": "a", "resources": {
            "requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": "1"}}}]}})
    );
}

#[test]
fn free_form_fields_are_left_alone() {
    let mut service = json!({"metadata": {"managedFields": [{"fieldsV1": {"f:x": {"y": 1}}}]},
        "spec": {"ports": [{"port": 80, "targetPort": "http"}, {"port": 81, "targetPort": 81}]}});
    let before = service.clone();
    assert_eq!(check(Kind::Service, &mut service).unwrap(), Vec::<String>::new());
    assert_eq!(service, before);
}

#[test]
fn bad_syntax_is_one_line() {
    for (bytes, syntax, error) in [
        (&b"{"[..], Syntax::Json, "json parse error: EOF while parsing an object"),
        (b"{} x", Syntax::Json, "json parse error: trailing characters"),
        (b"", Syntax::Json, "json parse error: EOF while parsing a value"),
        (b"\xff", Syntax::Json, "json parse error: "),
        (b"a: [b", Syntax::Yaml, "yaml parse error: "),
        (b"a: 1\n---\nb: 2\n", Syntax::Yaml, "yaml parse error: "),
    ] {
        let got = parse(bytes, syntax).unwrap_err().to_string();
        let want = format!("couldn't get version/kind; {error}");
        assert!(got.starts_with(&want) && !got.contains('\n'), "{got}");
    }
}

#[test]
fn depth_is_bounded() {
    for (syntax, depth) in [(Syntax::Json, DEPTH_MAX), (Syntax::Yaml, DEPTH_YAML_MAX)] {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        parse(nested(depth).as_bytes(), syntax).unwrap();
        parse(nested(depth + 1).as_bytes(), syntax).unwrap_err();
        parse(nested(100_000).as_bytes(), syntax).unwrap_err();
    }
}

#[test]
fn yaml_reads_as_json() {
    let document = parse(
        b"spec:\n  replicas: 3\n  on: true\n  a: 'x'\n  list: [1, ~]\n  replicas: 4\n",
        Syntax::Yaml,
    )
    .unwrap();
    assert_eq!(
        document.value,
        json!({"spec": {"replicas": 4, "on": true, "a": "x", "list": [1, null]}})
    );
    assert_eq!(document.duplicates, ["duplicate field \"spec.replicas\""]);
}

#[test]
fn every_kind_takes_its_empty_object() {
    for kind in crate::scheme::RESOURCES.iter().map(|r| r.kind).chain([
        Kind::Binding,
        Kind::Eviction,
        Kind::Scale,
        Kind::DeleteOptions,
    ]) {
        let mut object = json!({"apiVersion": kind.api_version(), "kind": kind.name()});
        assert_eq!(check(kind, &mut object).unwrap(), Vec::<String>::new(), "{kind:?}");
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z0-9]{0,6}".prop_map(Value::from),
    ];
    let key = prop_oneof![
        Just("spec"),
        Just("metadata"),
        Just("containers"),
        Just("name"),
        Just("labels"),
        Just("x"),
    ];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..5)
                .prop_map(|e| Value::Object(e.into_iter().map(|(k, v)| (k.into(), v)).collect())),
        ]
    })
}

proptest! {
    #[test]
    fn parsing_agrees_with_serde_json(value in any_json()) {
        let document = parse(value.to_string().as_bytes(), Syntax::Json).unwrap();
        prop_assert_eq!(document.value, value);
        prop_assert!(document.duplicates.is_empty());
    }

    #[test]
    fn a_checked_object_has_nothing_left_to_find(value in any_json()) {
        let mut object = json!({"spec": value});
        if check(Kind::Pod, &mut object).is_ok() {
            let pruned = object.clone();
            prop_assert_eq!(check(Kind::Pod, &mut object).unwrap(), Vec::<String>::new());
            prop_assert_eq!(&object, &pruned);
            serde_json::from_value::<core::v1::Pod>(object).unwrap();
        }
    }
}
