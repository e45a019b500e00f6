use proptest::prelude::*;
use serde_json::json;

use super::*;

fn strategic(object: Value, patch: &Value) -> Result<Value, PatchError> {
    Patch::parse(Format::Strategic, patch.to_string().as_bytes())?.apply(Kind::Pod, object)
}

fn spec(spec: &Value) -> Value {
    json!({ "spec": spec })
}

#[test]
fn strategic_merge_is_upstreams() {
    for (what, object, patch, expected) in [
        (
            "items merge by name, new ones follow the patch's",
            json!({"containers": [{"name": "a", "image": "1", "tty": true}, {"name": "b"}]}),
            json!({"containers": [{"name": "a", "image": "2"}, {"name": "c"}]}),
            json!({"containers": [
                {"name": "a", "image": "2", "tty": true}, {"name": "c"}, {"name": "b"}]}),
        ),
        (
            "items are deleted by name",
            json!({"containers": [{"name": "a"}, {"name": "b"}]}),
            json!({"containers": [{"$patch": "delete", "name": "a"}]}),
            json!({"containers": [{"name": "b"}]}),
        ),
        (
            "a list is replaced",
            json!({"containers": [{"name": "a"}, {"name": "b"}]}),
            json!({"containers": [{"name": "c", "image": null}, {"$patch": "replace"}]}),
            json!({"containers": [{"name": "c"}]}),
        ),
        (
            "lists without a key are replaced",
            json!({"tolerations": [{"key": "a"}]}),
            json!({"tolerations": [{"key": "b"}]}),
            json!({"tolerations": [{"key": "b"}]}),
        ),
        (
            "an item's own lists merge by their keys",
            json!({"containers": [{"name": "a", "ports": [{"containerPort": 80, "name": "x"}],
                "args": ["1"]}]}),
            json!({"containers": [{"name": "a", "ports": [{"containerPort": 80, "name": "y"},
                {"containerPort": 81}], "args": ["2"]}]}),
            json!({"containers": [{"name": "a", "ports": [{"containerPort": 80, "name": "y"},
                {"containerPort": 81}], "args": ["2"]}]}),
        ),
        (
            "null removes, maps merge",
            json!({"nodeSelector": {"a": "1", "b": "2"}, "hostname": "x"}),
            json!({"nodeSelector": {"a": null, "c": "3"}, "hostname": null}),
            json!({"nodeSelector": {"b": "2", "c": "3"}}),
        ),
        (
            "a map is replaced",
            json!({"nodeSelector": {"a": "1"}}),
            json!({"nodeSelector": {"$patch": "replace", "b": "2"}}),
            json!({"nodeSelector": {"b": "2"}}),
        ),
        (
            "only the retained keys stay",
            json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
            json!({"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"],
                "hostPath": {"path": "/x"}}]}),
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}),
        ),
        (
            "the order is set, what it does not name keeps its place",
            json!({"containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}),
            json!({"$setElementOrder/containers": [{"name": "d"}, {"name": "c"}, {"name": "a"}],
                "containers": [{"name": "d"}]}),
            json!({"containers": [{"name": "d"}, {"name": "b"}, {"name": "c"}, {"name": "a"}]}),
        ),
        (
            "an order alone reorders",
            json!({"containers": [{"name": "a"}, {"name": "b"}]}),
            json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}),
            json!({"containers": [{"name": "b"}, {"name": "a"}]}),
        ),
        (
            "directives do not reach new objects",
            json!({}),
            json!({"securityContext": {"$patch": "merge", "runAsUser": 1, "runAsGroup": null}}),
            json!({"securityContext": {"runAsUser": 1}}),
        ),
    ] {
        let got = strategic(spec(&object), &spec(&patch)).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(got, spec(&expected), "{what}");
    }
}

#[test]
fn sets_of_scalars_merge_and_lose_items() {
    let object = json!({"metadata": {"finalizers": ["a", "b"]}});
    let add = json!({"metadata": {"finalizers": ["b", "c"]}});
    let added = strategic(object.clone(), &add).unwrap();
    assert_eq!(added["metadata"]["finalizers"], json!(["a", "b", "c"]));
    let remove = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}});
    let removed = strategic(object, &remove).unwrap();
    assert_eq!(removed, json!({"metadata": {"finalizers": ["b"]}}));
}

#[test]
fn bad_strategic_patches_are_refused() {
    for (patch, error) in [
        (json!({"$patch": "explode"}), "unknown patch type found: \"explode\""),
        (
            json!({"containers": [{"image": "x"}]}),
            "map: {\"image\":\"x\"} does not contain declared merge key: name",
        ),
        (json!({"containers": ["x"]}), "a list item must be an object"),
        (
            json!({"containers": [{"name": "a", "$patch": "merge"}]}),
            "merging lists cannot yet be specified in the patch",
        ),
        (json!({"$retainKeys": ["a"], "b": 1}), "field \"b\" is in the patch but not in"),
        (json!({"$retainKeys": 1}), "$retainKeys must be a list"),
    ] {
        let error_got = strategic(spec(&json!({})), &spec(&patch)).unwrap_err().to_string();
        assert!(error_got.starts_with(error), "{error_got}");
    }
}

fn apply(format: Format, object: &Value, patch: &Value) -> Result<Value, PatchError> {
    Patch::parse(format, patch.to_string().as_bytes())?.apply(Kind::Pod, object.clone())
}

#[test]
fn json_patches_apply_or_say_why_not() {
    let object = json!({"a": [1, 2], "b": "x"});
    let patch = json!([{"op": "test", "path": "/b", "value": "x"},
        {"op": "add", "path": "/a/-", "value": 3}, {"op": "remove", "path": "/b"}]);
    assert_eq!(apply(Format::Json, &object, &patch).unwrap(), json!({"a": [1, 2, 3]}));
    for (patch, code, text) in [
        (json!([{"op": "test", "path": "/b", "value": 1}]), 422, "testing value 0 at path \"/b\""),
        (json!([{"op": "remove", "path": "/c"}]), 422, "operation 0 at path \"/c\" failed"),
        (json!([{"op": "fly", "path": "/c"}]), 400, "error decoding patch: unknown variant `fly`"),
        (json!({}), 400, "error decoding patch: "),
    ] {
        let error = apply(Format::Json, &object, &patch).unwrap_err();
        let status = Status::from(error);
        assert_eq!(status.code(), code);
        assert!(status.message().contains(text), "{status}");
    }
}

#[test]
fn json_patches_are_bounded() {
    let many: Vec<Value> =
        (0..=OPERATIONS_MAX).map(|_| json!({"op": "test", "path": "", "value": {}})).collect();
    let error = apply(Format::Json, &json!({}), &Value::from(many)).unwrap_err();
    assert!(matches!(error, PatchError::TooManyOperations(10_001)), "{error}");
    let copies: Vec<Value> =
        (0..64).map(|i| json!({"op": "copy", "from": "", "path": format!("/k{i}")})).collect();
    let error = apply(Format::Json, &json!({"x": 1}), &Value::from(copies)).unwrap_err();
    assert!(matches!(error, PatchError::CopiesTooLarge | PatchError::TooDeep), "{error}");
    let wrap: Vec<Value> = (0..500)
        .flat_map(|_| {
            [
                json!({"op": "move", "from": "/a", "path": "/b"}),
                json!({"op": "add", "path": "/a", "value": {}}),
                json!({"op": "move", "from": "/b", "path": "/a/x"}),
            ]
        })
        .collect();
    let error = apply(Format::Json, &json!({"a": {}}), &Value::from(wrap)).unwrap_err();
    assert!(matches!(error, PatchError::TooDeep), "{error}");
}

#[test]
fn merge_patch_is_the_rfcs() {
    let object = json!({"a": {"b": 1, "c": 2}, "d": [1]});
    let patch = json!({"a": {"b": null, "e": {"f": null}}, "d": [2]});
    assert_eq!(
        apply(Format::Merge, &object, &patch).unwrap(),
        json!({"a": {"c": 2, "e": {}}, "d": [2]})
    );
    assert!(apply(Format::Merge, &object, &json!([1])).is_err());
}

fn pods() -> impl Strategy<Value = Value> {
    let item = ("[a-d]", prop::option::of("[x-z]")).prop_map(|(name, image)| {
        image.map_or_else(|| json!({"name": name}), |i| json!({"name": name, "image": i}))
    });
    let labels = prop::collection::btree_map("[a-c]", "[x-z]", 0..3);
    (prop::collection::vec(item, 0..5), labels).prop_map(|(mut containers, labels)| {
        let mut seen = std::collections::BTreeSet::new();
        containers.retain(|c| seen.insert(c["name"].as_str().unwrap().to_owned()));
        json!({"metadata": {"labels": labels}, "spec": {"containers": containers}})
    })
}

proptest! {
    #[test]
    fn empty_patches_change_nothing(pod in pods()) {
        prop_assert_eq!(&strategic(pod.clone(), &json!({})).unwrap(), &pod);
        prop_assert_eq!(&apply(Format::Merge, &pod, &json!({})).unwrap(), &pod);
        prop_assert_eq!(&apply(Format::Json, &pod, &json!([])).unwrap(), &pod);
    }

    #[test]
    fn patching_twice_is_patching_once(pod in pods(), patch in pods()) {
        let once = strategic(pod.clone(), &patch).unwrap();
        prop_assert_eq!(&strategic(once.clone(), &patch).unwrap(), &once);
        let once = apply(Format::Merge, &pod, &patch).unwrap();
        prop_assert_eq!(&apply(Format::Merge, &once, &patch).unwrap(), &once);
    }

    #[test]
    fn merging_keeps_every_name_once(pod in pods(), patch in pods()) {
        let names = |pod: &Value| -> Vec<String> {
            let containers = pod["spec"]["containers"].as_array().unwrap();
            containers.iter().map(|c| c["name"].as_str().unwrap().to_owned()).collect()
        };
        let merged = names(&strategic(pod.clone(), &patch).unwrap());
        let mut expected = [names(&pod), names(&patch)].concat();
        expected.sort();
        expected.dedup();
        let mut sorted = merged.clone();
        sorted.sort();
        prop_assert_eq!(sorted, expected);
        // The patch's own order stands.
        let wanted = names(&patch);
        let of_patch: Vec<_> = merged.into_iter().filter(|n| wanted.contains(n)).collect();
        prop_assert_eq!(of_patch, wanted);
    }
}
