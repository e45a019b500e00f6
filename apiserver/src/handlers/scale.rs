//! The `scale` subresource: `autoscaling/v1` Scale over `spec.replicas`.

use http::{Response, StatusCode};
use pintle_api::scheme::{Kind, Resource};
use pintle_api::status::Status;
use serde_json::{Value, json};

use super::write::{Part, Write};
use super::{Call, options, patch as patches, render, update as updates};
use crate::body::Body;
use crate::request::Target;
use crate::server::Core;
use crate::{object, status};

pub(super) async fn get(
    core: &Core,
    _: &Call<'_>,
    target: &Target,
    resource: &'static Resource,
) -> Result<Response<Body>, Status> {
    let found = core.storage.get(resource, &target.namespace, &target.name).await?;
    let scale = scale_of(&found.full());
    Ok(status::json(StatusCode::OK, &scale))
}

pub(super) async fn update(
    core: &Core,
    call: &Call<'_>,
    target: &Target,
    resource: &'static Resource,
) -> Result<Response<Body>, Status> {
    let mut decoded = options::decode(call, Kind::Scale)?;
    updates::check_address(resource, target, &mut decoded.object)?;
    let scale = decoded.object;
    let write = Write { resource, target, part: Part::Main, dry_run: call.query.dry_run()? };
    let written = write.apply(core, |current| scaled(current, &scale)).await?;
    let response = status::json(StatusCode::OK, &scale_of(&written.full()));
    Ok(render::with_warnings(response, &decoded.warnings))
}

pub(super) async fn patch(
    core: &Core,
    call: &Call<'_>,
    target: &Target,
    resource: &'static Resource,
) -> Result<Response<Body>, Status> {
    let patch = patches::parse(call)?;
    let (validation, mut warnings) = (options::field_validation(call)?, Vec::new());
    let write = Write { resource, target, part: Part::Main, dry_run: call.query.dry_run()? };
    let change = |current: Value| {
        let (scale, found) = patches::apply(validation, &patch, Kind::Scale, scale_of(&current))?;
        warnings = found;
        scaled(current, &scale)
    };
    let written = write.apply(core, change).await?;
    let response = status::json(StatusCode::OK, &scale_of(&written.full()));
    Ok(render::with_warnings(response, &warnings))
}

fn scale_of(object: &Value) -> Value {
    let mut metadata = json!({});
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object["metadata"].get(key) {
            metadata[key] = value.clone();
        }
    }
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": { "replicas": object["spec"]["replicas"].as_i64().unwrap_or(0) },
        "status": {
            "replicas": object["status"]["replicas"].as_i64().unwrap_or(0),
            "selector": selector_text(&object["spec"]["selector"]),
        },
    })
}

/// The object with the replicas of `scale`, at the revision that it names.
fn scaled(mut object: Value, scale: &Value) -> Result<Value, Status> {
    let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
    if replicas < 0 {
        let mut errors = pintle_api::field::Errors::new();
        let path = pintle_api::field::Path::new("spec");
        let detail = "must be greater than or equal to 0";
        errors.invalid(&path.child("replicas"), replicas, detail);
        let subject = pintle_api::status::Subject {
            group: "autoscaling",
            kind: "Scale",
            name: object::name(&object),
        };
        return Err(Status::invalid(subject, &errors));
    }
    object::section(&mut object, "spec").insert("replicas".to_owned(), json!(replicas));
    for key in ["resourceVersion", "uid"] {
        let wanted = json!(object::meta(scale, key));
        object::metadata(&mut object).insert(key.to_owned(), wanted);
    }
    Ok(object)
}

/// A label selector in the form of a query, as `metav1.FormatLabelSelector` prints it.
fn selector_text(selector: &Value) -> String {
    let mut terms: Vec<String> = Vec::new();
    // A ReplicationController's selector is the labels themselves.
    let is_plain = selector["matchLabels"].is_null() && selector["matchExpressions"].is_null();
    let labels = if is_plain { selector } else { &selector["matchLabels"] };
    for (key, value) in labels.as_object().into_iter().flatten() {
        terms.push(format!("{key}={}", value.as_str().unwrap_or_default()));
    }
    for requirement in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = object::text(requirement, &["key"]);
        let values = requirement["values"].as_array().into_iter().flatten();
        let values: Vec<&str> = values.filter_map(Value::as_str).collect();
        let values = values.join(",");
        terms.push(match object::text(requirement, &["operator"]) {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    terms.sort_unstable();
    terms.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_written_as_queries() {
        let selector = json!({
            "matchLabels": {"b": "1", "a": "2"},
            "matchExpressions": [
                {"key": "c", "operator": "In", "values": ["x", "y"]},
                {"key": "d", "operator": "DoesNotExist"},
            ],
        });
        assert_eq!(selector_text(&selector), "!d,a=2,b=1,c in (x,y)");
        assert_eq!(selector_text(&json!({"b": "1", "a": "2"})), "a=2,b=1");
        assert_eq!(selector_text(&Value::Null), "");
    }

    #[test]
    fn negative_replicas_are_refused() {
        let object = json!({"metadata": {"name": "a"}, "spec": {"replicas": 1}});
        let error = scaled(object, &json!({"spec": {"replicas": -1}})).unwrap_err();
        assert_eq!(error.code(), 422);
        assert!(error.message().contains("spec.replicas: Invalid value: -1"), "{error}");
    }
}
