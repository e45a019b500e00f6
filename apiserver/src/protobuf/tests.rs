//! The schema against the types that check a JSON body, and bodies as Go writes them.

use std::collections::BTreeSet;

use pintle_api::decode::{self, FieldValidation, Syntax};
use pintle_api::scheme::{Kind, RESOURCES};
use serde_json::{Value, json};

use super::*;

/// The bytes of a field that is a text or message.
fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = content.len();
    while length > 0x7f {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    [out, content.to_vec()].concat()
}

fn number(number: u8, value: u8) -> Vec<u8> {
    vec![number << 3, value]
}

fn enveloped(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let types = [bytes(1, api_version.as_bytes()), bytes(2, kind.as_bytes())].concat();
    [MAGIC.to_vec(), bytes(1, &types), bytes(2, raw), bytes(3, b""), bytes(4, b"")].concat()
}

/// Every kind that a body may be of.
fn kinds() -> BTreeSet<Kind> {
    let subresources = RESOURCES.iter().flat_map(|resource| resource.subresources);
    let kinds = RESOURCES.iter().map(|resource| resource.kind);
    kinds.chain(subresources.map(|sub| sub.kind)).chain([Kind::DeleteOptions]).collect()
}

/// An object with every field of a message in it.
fn full(schema: &Schema, fields: &[Field], out: &mut Map<String, Value>) {
    for field in fields {
        let Some(name) = field.name else {
            let Type::Message(inner) = field.kind else { continue };
            full(schema, schema.message(inner), out);
            continue;
        };
        let value = match field.kind {
            Type::Text => json!("a"),
            Type::Flag => json!(true),
            Type::Number => json!(1),
            Type::Bytes => json!("YQ=="),
            Type::Time => json!("2026-01-02T03:04:05Z"),
            Type::MicroTime => json!("2026-01-02T03:04:05.000006Z"),
            Type::Quantity => json!("1"),
            Type::IntOrString => json!(80),
            Type::Raw => json!({"a": 1}),
            Type::Message(inner) => match empty(schema, inner) {
                Value::Object(mut map) => {
                    full(schema, schema.message(inner), &mut map);
                    Value::Object(map)
                }
                _ => json!(["a"]),
            },
        };
        let value = match field.shape {
            Shape::One => value,
            Shape::Many => json!([value]),
            Shape::Map => json!({"key": value}),
        };
        out.insert(name.to_owned(), value);
    }
}

#[test]
fn every_field_is_one_that_a_json_body_may_have() {
    let schema = Schema::get();
    for kind in kinds() {
        let (api_version, name) = (kind.api_version(), kind.name());
        let fields = schema
            .of_kind(&api_version, name)
            .unwrap_or_else(|| panic!("{name} is not in messages.txt"));
        let mut object = Map::new();
        object.insert("apiVersion".to_owned(), api_version.into());
        object.insert("kind".to_owned(), name.into());
        full(schema, fields, &mut object);
        let text = Value::Object(object).to_string();
        let decoded = decode::decode(kind, text.as_bytes(), Syntax::Json, FieldValidation::Strict);
        assert_eq!(decoded.err(), None, "{name}");
    }
}

#[test]
fn messages_are_named_and_hold_no_message_that_holds_them() {
    fn descend(schema: &Schema, name: &'static str, above: &mut Vec<&'static str>) {
        assert!(!above.contains(&name), "{above:?} {name}");
        above.push(name);
        assert!(schema.messages().any(|(known, _)| known == name), "{name}");
        for field in schema.message(name) {
            if let Type::Message(inner) = field.kind {
                descend(schema, inner, above);
            }
        }
        above.pop();
    }
    let schema = Schema::get();
    for (name, fields) in schema.messages() {
        descend(schema, name, &mut Vec::new());
        let numbers: BTreeSet<u64> = fields.iter().map(|field| field.number).collect();
        assert_eq!(numbers.len(), fields.len(), "{name}");
    }
}

#[test]
fn a_binding_is_read() {
    // Go writes every text that is no pointer, also an empty one, and an empty creationTimestamp.
    let metadata = [bytes(1, b"a"), bytes(2, b""), bytes(3, b"default"), bytes(8, b"")].concat();
    let target = [bytes(1, b"Node"), bytes(2, b""), bytes(3, b"node-1"), bytes(7, b"")].concat();
    let raw = [bytes(1, &metadata), bytes(2, &target)].concat();
    let expected = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": {"name": "a", "namespace": "default", "creationTimestamp": null},
        "target": {"kind": "Node", "name": "node-1"},
    });
    assert_eq!(read(&enveloped("v1", "Binding", &raw)), Ok(Some(expected)));
}

#[test]
fn what_is_no_object_in_json_is_read() {
    let limit = [bytes(1, b"cpu"), bytes(2, &bytes(1, b"250m"))].concat();
    let probe_port = [number(1, 0), number(2, 80), bytes(3, b"")].concat();
    let get = [bytes(1, b"/"), bytes(2, &probe_port)].concat();
    let probe = bytes(1, &bytes(2, &get));
    let container = [bytes(1, b"c"), bytes(8, &bytes(1, &limit)), bytes(10, &probe)].concat();
    let volume = [bytes(1, b"v"), bytes(2, &bytes(2, b""))].concat();
    let seconds = [&[8], &[0x80, 0xe5, 0x92, 0xce, 0x06][..], &number(2, 0)].concat();
    let metadata = [
        bytes(8, &seconds),
        bytes(11, &[bytes(1, b"app"), bytes(2, b"x")].concat()),
        bytes(14, b"one"),
        bytes(14, b"two"),
    ]
    .concat();
    // terminationGracePeriodSeconds is a pointer, hostNetwork is not.
    let spec = [bytes(1, &volume), bytes(2, &container), number(4, 0), number(11, 0)].concat();
    let raw = [bytes(1, &metadata), bytes(2, &spec), bytes(3, b"")].concat();
    let expected = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "creationTimestamp": "2026-03-26T04:13:52Z",
            "labels": {"app": "x"},
            "finalizers": ["one", "two"],
        },
        "spec": {
            "volumes": [{"name": "v", "emptyDir": {}}],
            "containers": [{
                "name": "c",
                "resources": {"limits": {"cpu": "250m"}},
                "livenessProbe": {"httpGet": {"path": "/", "port": 80}},
            }],
            "terminationGracePeriodSeconds": 0,
        },
        "status": {},
    });
    assert_eq!(read(&enveloped("v1", "Pod", &raw)), Ok(Some(expected)));
}

#[test]
fn a_negative_number_a_list_that_is_a_message_and_packed_numbers_are_read() {
    let minus_one = [&[24][..], &[0xff; 9], &[1]].concat();
    let class = read(&enveloped("scheduling.k8s.io/v1", "PriorityClass", &{
        [&[16][..], &minus_one[1..]].concat()
    }));
    assert_eq!(class.unwrap().unwrap()["value"], -1);
    let extra = [bytes(1, b"k"), bytes(2, &[bytes(1, b"x"), bytes(1, b"y")].concat())].concat();
    let raw = bytes(2, &bytes(5, &extra));
    let review = read(&enveloped("authorization.k8s.io/v1", "SubjectAccessReview", &raw));
    assert_eq!(review.unwrap().unwrap()["spec"]["extra"], json!({"k": ["x", "y"]}));
    let groups = bytes(2, &bytes(14, &bytes(4, &[1, 0xac, 2])));
    let pod = read(&enveloped("v1", "Pod", &groups));
    assert_eq!(
        pod.unwrap().unwrap()["spec"]["securityContext"]["supplementalGroups"],
        json!([1, 300])
    );
}

#[test]
fn what_is_no_message_is_refused() {
    let whole = enveloped("v1", "Pod", &bytes(1, &bytes(1, b"a")));
    for length in 0..whole.len() {
        // What ends between two fields is a shorter message.
        if let Err(status) = read(&whole[..length]) {
            assert_eq!(status.code(), 400, "{length}: {status:?}");
        }
    }
    assert_eq!(read(b"{}").unwrap_err().code(), 400);
    assert_eq!(read(&enveloped("v1", "Bogus", b"")), Ok(None));
    assert_eq!(read(&enveloped("example.com/v1", "Widget", b"")), Ok(None));
    let text = read(&enveloped("v1", "Pod", &bytes(1, &bytes(1, b"\xff")))).unwrap_err();
    assert!(text.to_string().contains("UTF-8"), "{text}");
    // A field of a number that nobody knows is passed over.
    assert!(read(&enveloped("v1", "Pod", &[0xf8, 0x7f, 1])).is_ok());
}
