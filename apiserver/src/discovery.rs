//! Discovery: which groups, versions and resources are served, in the aggregated form (v2) and one
//! document a group-version, and `/version`.

use http::{HeaderValue, Response, StatusCode, header};
use pintle_api::scheme::{self, RESOURCES, Resource, Subresource};
use serde_json::{Value, json};

use crate::body::Body;
use crate::handlers::Call;
use crate::server::Core;
use crate::status;

/// The discovery document at a path, if it is one.
pub(crate) fn answer(core: &Core, call: &Call<'_>) -> Option<Response<Body>> {
    let segments: Vec<&str> = call.info.path.split('/').filter(|part| !part.is_empty()).collect();
    let document = match segments.as_slice() {
        ["api" | "apis"] if wants_aggregated(call) => return Some(aggregated(segments[0])),
        ["api"] => {
            let address =
                format!("{}:{}", core.config.advertise_address, core.config.advertise_port);
            json!({
                "kind": "APIVersions",
                "versions": ["v1"],
                "serverAddressByClientCIDRs": [
                    { "clientCIDR": "0.0.0.0/0", "serverAddress": address },
                ],
            })
        }
        ["apis"] => json!({
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": named_groups().into_iter().map(group).collect::<Vec<_>>(),
        }),
        ["api", version] => resources("", version)?,
        ["apis", name] => {
            let name = named_groups().into_iter().find(|known| known == name)?;
            let mut group = group(name);
            group["kind"] = json!("APIGroup");
            group["apiVersion"] = json!("v1");
            group
        }
        ["apis", name, version] => resources(name, version)?,
        [] => json!({ "paths": paths() }),
        _ => return None,
    };
    Some(status::json(StatusCode::OK, &document))
}

/// The answer of `/version`.
pub(crate) fn version() -> Response<Body> {
    status::json(
        StatusCode::OK,
        &json!({
            "major": "1",
            "minor": "35",
            "gitVersion": "v1.35.0+pintle",
            "gitCommit": "",
            "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z",
            "goVersion": "",
            "compiler": "rustc",
            "platform": concat!("linux/", "amd64"),
        }),
    )
}

/// Every group but core, once.
fn named_groups() -> Vec<&'static str> {
    let mut names: Vec<_> = scheme::groups().into_iter().map(|(group, _)| group).collect();
    names.retain(|name| !name.is_empty());
    names.dedup();
    names
}

/// The versions of a group, the preferred one first.
fn versions(name: &str) -> impl Iterator<Item = &'static str> {
    scheme::groups()
        .into_iter()
        .filter(move |(group, _)| *group == name)
        .map(|(_, version)| version)
}

fn group(name: &str) -> Value {
    let versions: Vec<Value> = versions(name)
        .map(|version| json!({ "groupVersion": format!("{name}/{version}"), "version": version }))
        .collect();
    json!({ "name": name, "preferredVersion": versions[0], "versions": versions })
}

fn paths() -> Vec<String> {
    let groups = named_groups().into_iter().flat_map(|group| {
        let versions = versions(group).map(move |version| format!("/apis/{group}/{version}"));
        std::iter::once(format!("/apis/{group}")).chain(versions)
    });
    let fixed = ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/metrics", "/openapi/v2"];
    let fixed = fixed.into_iter().chain(["/openapi/v3", "/readyz", "/version"]);
    let mut paths: Vec<String> = fixed.map(str::to_owned).chain(groups).collect();
    paths.sort_unstable();
    paths
}

fn served(group: &str, version: &str) -> Vec<&'static Resource> {
    RESOURCES.iter().filter(|r| r.group() == group && r.version() == version).collect()
}

/// An `APIResourceList`.
fn resources(group: &str, version: &str) -> Option<Value> {
    let served = served(group, version);
    if served.is_empty() {
        return None;
    }
    let mut list = Vec::new();
    for resource in served {
        list.push(json!({
            "name": resource.plural,
            "singularName": resource.singular,
            "namespaced": resource.namespaced,
            "kind": resource.kind.name(),
            "verbs": resource.verbs,
            "shortNames": resource.short_names,
            "categories": resource.categories,
        }));
        list.extend(resource.subresources.iter().map(|sub| subresource(resource, sub)));
    }
    let version = scheme::api_version(group, version);
    Some(json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": version,
        "resources": list,
    }))
}

fn subresource(resource: &Resource, subresource: &Subresource) -> Value {
    let mut entry = json!({
        "name": format!("{}/{}", resource.plural, subresource.name),
        "singularName": "",
        "namespaced": resource.namespaced,
        "kind": subresource.kind.name(),
        "verbs": subresource.verbs,
    });
    let (group, version, _) = subresource.kind.gvk();
    if (group, version) != (resource.group(), resource.version()) {
        entry["group"] = json!(group);
        entry["version"] = json!(version);
    }
    entry
}

fn wants_aggregated(call: &Call<'_>) -> bool {
    call.headers.get_all(header::ACCEPT).iter().any(|accept| {
        accept.to_str().unwrap_or_default().split(',').any(|range| {
            let has = |wanted: &str| range.split(';').any(|part| part.trim() == wanted);
            has("application/json") && has("v=v2") && has("as=APIGroupDiscoveryList")
        })
    })
}

/// An `APIGroupDiscoveryList` of core (`/api`) or of all other groups (`/apis`).
fn aggregated(root: &str) -> Response<Body> {
    let groups = if root == "api" { vec![""] } else { named_groups() };
    let items: Vec<Value> = groups.into_iter().map(aggregated_group).collect();
    let mut response = status::json(
        StatusCode::OK,
        &json!({
            "kind": "APIGroupDiscoveryList",
            "apiVersion": "apidiscovery.k8s.io/v2",
            "metadata": {},
            "items": items,
        }),
    );
    response.headers_mut().insert(header::CONTENT_TYPE, AGGREGATED);
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}

fn aggregated_group(name: &str) -> Value {
    let versions: Vec<Value> = versions(name)
        .map(|version| {
            let resources = aggregated_resources(name, version);
            json!({ "version": version, "freshness": "Current", "resources": resources })
        })
        .collect();
    let metadata = if name.is_empty() { json!({}) } else { json!({ "name": name }) };
    json!({ "metadata": metadata, "versions": versions })
}

fn aggregated_resources(name: &str, version: &str) -> Vec<Value> {
    let resources = served(name, version).into_iter().map(|resource| {
        let subresources = resource.subresources.iter().map(|sub| {
            json!({
                "subresource": sub.name,
                "responseKind": response_kind(sub.kind),
                "verbs": sub.verbs,
            })
        });
        json!({
            "resource": resource.plural,
            "responseKind": response_kind(resource.kind),
            "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
            "singularResource": resource.singular,
            "verbs": resource.verbs,
            "shortNames": resource.short_names,
            "categories": resource.categories,
            "subresources": subresources.collect::<Vec<_>>(),
        })
    });
    resources.collect()
}

fn response_kind(kind: scheme::Kind) -> Value {
    let (group, version, kind) = kind.gvk();
    json!({ "group": group, "version": version, "kind": kind })
}

const AGGREGATED: HeaderValue = HeaderValue::from_static(
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
);
