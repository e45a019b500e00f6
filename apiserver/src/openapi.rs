//! OpenAPI, as little as kubectl needs to trust the server with validation.
//!
//! `/openapi/v3` names for every kind a `patch` operation with the `fieldValidation` parameter:
//! kubectl then leaves unknown fields to the server. `/openapi/v2` is an empty protobuf document for
//! kubectl before 1.27. There are no schemas, so `kubectl explain` has nothing to say.

use http::{HeaderValue, Response, StatusCode, header};
use pintle_api::scheme::{self, RESOURCES};
use serde_json::{Map, Value, json};

use crate::body::Body;
use crate::handlers::Call;
use crate::status;

pub(crate) fn answer(call: &Call<'_>) -> Option<Response<Body>> {
    match call.info.path.trim_end_matches('/') {
        "/openapi/v2" => Some(v2(call)),
        "/openapi/v3" => Some(status::json(StatusCode::OK, &index())),
        path => {
            let group = path.strip_prefix("/openapi/v3/")?;
            let (name, version) = scheme::groups().into_iter().find(|g| root(*g) == group)?;
            Some(status::json(StatusCode::OK, &document(name, version)))
        }
    }
}

fn root((group, version): (&str, &str)) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

fn index() -> Value {
    let paths: Map<String, Value> = scheme::groups()
        .into_iter()
        .map(|group| {
            let root = root(group);
            let url = format!("/openapi/v3/{root}?hash={}", env!("CARGO_PKG_VERSION"));
            (root, json!({ "serverRelativeURL": url }))
        })
        .collect();
    json!({ "paths": paths })
}

fn document(group: &str, version: &str) -> Value {
    let mut paths = Map::new();
    let served = RESOURCES.iter().filter(|r| r.group() == group && r.version() == version);
    for resource in served.filter(|resource| resource.verbs.contains(&"patch")) {
        let namespace = if resource.namespaced { "/namespaces/{namespace}" } else { "" };
        let path = format!("/{}{namespace}/{}/{{name}}", root((group, version)), resource.plural);
        let gvk = json!({ "group": group, "version": version, "kind": resource.kind.name() });
        let parameters: Vec<Value> = ["dryRun", "fieldManager", "fieldValidation", "force"]
            .into_iter()
            .map(|name| json!({ "name": name, "in": "query", "schema": { "type": "string" } }))
            .collect();
        let patch = json!({
            "x-kubernetes-action": "patch",
            "x-kubernetes-group-version-kind": gvk,
            "parameters": parameters,
            "responses": { "200": { "description": "OK" } },
        });
        paths.insert(path, json!({ "patch": patch }));
    }
    json!({
        "openapi": "3.0.0",
        "info": { "title": "Kubernetes", "version": "v1.35.0+pintle" },
        "paths": paths,
        "components": { "schemas": {} },
    })
}

fn v2(call: &Call<'_>) -> Response<Body> {
    let accept = call.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    if !accept.unwrap_or_default().contains("proto-openapi.spec.v2@v1.0+protobuf") {
        let info = json!({ "title": "Kubernetes", "version": "v1.35.0+pintle" });
        let swagger = json!({ "swagger": "2.0", "info": info, "paths": {}, "definitions": {} });
        return status::json(StatusCode::OK, &swagger);
    }
    let mut response = Response::new(Body::full(v2_protobuf()));
    response.headers_mut().insert(header::CONTENT_TYPE, V2_PROTOBUF);
    response
}

/// `openapi.v2.Document` of gnostic: swagger = 1, info = 2 (title = 1, version = 2), paths = 8,
/// definitions = 9; all length-delimited and shorter than 128 bytes.
fn v2_protobuf() -> Vec<u8> {
    let field = |number: u8, content: &[u8]| {
        let length = u8::try_from(content.len()).expect("the texts above are short");
        [&[number << 3 | 2, length], content].concat()
    };
    let info = [field(1, b"Kubernetes"), field(2, b"v1.35.0+pintle")].concat();
    [field(1, b"2.0"), field(2, &info), field(8, b""), field(9, b"")].concat()
}

/// As upstream since 1.27: Go does not parse the `@` of the name that clients ask for.
const V2_PROTOBUF: HeaderValue =
    HeaderValue::from_static("application/com.github.proto-openapi.spec.v2.v1.0+protobuf");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_in_its_document() {
        for resource in RESOURCES.iter().filter(|resource| resource.is_stored()) {
            let document = document(resource.group(), resource.version());
            let found = document["paths"].as_object().unwrap().values().any(|item| {
                item["patch"]["x-kubernetes-group-version-kind"]["kind"] == resource.kind.name()
            });
            assert!(found, "{}", resource.plural);
        }
    }

    #[test]
    fn the_v2_document_is_protobuf() {
        let bytes = v2_protobuf();
        assert_eq!(&bytes[..7], b"\x0a\x032.0\x12\x1c");
        assert!(bytes.ends_with(b"\x42\x00\x4a\x00"));
        // kubectl 1.20 fails on a media type that Go cannot parse.
        assert!(!V2_PROTOBUF.to_str().unwrap().contains('@'));
    }
}
