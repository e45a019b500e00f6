//! Objects in versions of their group that are not served, as the version that is.
//!
//! Mirrors the conversions of `k8s.io/kubernetes/pkg/apis/resource` from `v1beta1` and `v1beta2` to
//! `v1`. `v1beta2` has the shape of `v1`; in `v1beta1` a request names its class itself, and what is
//! known of a device stands in its `basic`. Other groups and versions are left as they are.

use serde_json::{Map, Value};

/// Makes of an object in an older version of `resource.k8s.io` one in the version that is served.
pub fn to_served(object: &mut Value) {
    let is_flat = match object.get("apiVersion").and_then(Value::as_str) {
        Some("resource.k8s.io/v1beta1") => true,
        Some("resource.k8s.io/v1beta2") => false,
        _ => return,
    };
    object["apiVersion"] = "resource.k8s.io/v1".into();
    if !is_flat {
        return;
    }
    match object.get("kind").and_then(Value::as_str) {
        Some("ResourceClaim") => each(object, "/spec/devices/requests", request),
        Some("ResourceClaimTemplate") => each(object, "/spec/spec/devices/requests", request),
        Some("ResourceSlice") => each(object, "/spec/devices", device),
        _ => {}
    }
}

fn each(object: &mut Value, pointer: &str, convert: fn(&mut Map<String, Value>)) {
    let list = object.pointer_mut(pointer).and_then(Value::as_array_mut);
    list.into_iter().flatten().filter_map(Value::as_object_mut).for_each(convert);
}

/// What a request of `v1beta1` says of its devices itself.
const OF_EXACTLY: &[&str] = &[
    "deviceClassName",
    "selectors",
    "allocationMode",
    "count",
    "adminAccess",
    "tolerations",
    "capacity",
];

fn request(request: &mut Map<String, Value>) {
    let moved = OF_EXACTLY.iter().filter_map(|name| request.remove_entry(*name));
    let exactly: Map<String, Value> = moved.collect();
    if !exactly.is_empty() {
        request.insert("exactly".to_owned(), exactly.into());
    }
}

fn device(device: &mut Map<String, Value>) {
    if let Some(Value::Object(basic)) = device.remove("basic") {
        device.extend(basic);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn converted(mut object: Value) -> Value {
        to_served(&mut object);
        object
    }

    #[test]
    fn the_newer_beta_has_the_served_shape() {
        let class =
            |version: &str| json!({"apiVersion": version, "kind": "DeviceClass", "spec": {}});
        assert_eq!(converted(class("resource.k8s.io/v1beta2")), class("resource.k8s.io/v1"));
        assert_eq!(converted(class("other.k8s.io/v1beta2")), class("other.k8s.io/v1beta2"));
    }

    #[test]
    fn the_older_beta_is_rearranged() {
        let requests = json!([
            {"name": "a", "deviceClassName": "c", "count": 2},
            {"name": "b", "firstAvailable": [{"name": "x", "deviceClassName": "c"}]}]);
        let spec = json!({"devices": {"requests": requests}});
        let expected = json!([
            {"name": "a", "exactly": {"deviceClassName": "c", "count": 2}},
            {"name": "b", "firstAvailable": [{"name": "x", "deviceClassName": "c"}]}]);
        let (version, template) = ("resource.k8s.io/v1beta1", "ResourceClaimTemplate");
        let claim = json!({"apiVersion": version, "kind": "ResourceClaim", "spec": spec});
        assert_eq!(converted(claim)["spec"]["devices"]["requests"], expected);
        let template = json!({"apiVersion": version, "kind": template, "spec": {"spec": spec}});
        assert_eq!(converted(template)["spec"]["spec"]["devices"]["requests"], expected);
        let slice = json!({"apiVersion": version, "kind": "ResourceSlice",
            "spec": {"devices": [{"name": "d", "basic": {"attributes": {"a": {"int": 1}}}}]}});
        assert_eq!(
            converted(slice),
            json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice",
                "spec": {"devices": [{"name": "d", "attributes": {"a": {"int": 1}}}]}})
        );
    }
}
