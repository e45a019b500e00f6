//! What a request is about: verb, resource, subresource, namespace and name.
//!
//! Mirrors k8s.io/apiserver's `RequestInfo`; the same value decides authorization and routing.

use http::Method;
use pintle_api::scheme::{self, Resource};

use crate::query::{self, Query};

/// A request, read as far as its path and method go.
#[derive(Clone, Debug)]
pub(crate) struct Info {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; for paths
    /// that are no resources the method in lower case.
    pub(crate) verb: &'static str,
    pub(crate) path: String,
    /// What the path names; `None` for discovery, health and the like.
    pub(crate) target: Option<Target>,
}

/// A resource, or one object of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Target {
    pub(crate) group: String,
    pub(crate) version: String,
    /// Plural, as in the path.
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Target {
    pub(crate) fn scheme(&self) -> Option<&'static Resource> {
        scheme::by_plural(&self.group, &self.version, &self.resource)
    }
}

impl Info {
    pub(crate) fn parse(method: &Method, path: &str, query: &Query) -> Self {
        let target = target(path);
        let verb = verb(method, target.as_ref(), query);
        Self { verb, path: path.to_owned(), target }
    }

    /// A request about a pod.
    pub(crate) fn of_pod(
        verb: &'static str,
        subresource: &str,
        namespace: &str,
        name: &str,
    ) -> Self {
        let target = Target {
            version: "v1".to_owned(),
            resource: "pods".to_owned(),
            subresource: subresource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            ..Target::default()
        };
        Self { verb, path: String::new(), target: Some(target) }
    }

    pub(crate) fn is_long_running(&self) -> bool {
        self.verb == "watch"
    }
}

fn target(path: &str) -> Option<Target> {
    let decoded: Vec<String> = path
        .split('/')
        .filter(|segment| !segment.is_empty())
        .map(|segment| query::decode(segment, false))
        .collect();
    let mut segments: Vec<&str> = decoded.iter().map(String::as_str).collect();
    let (group, version) = match segments.as_slice() {
        ["api", version, _, ..] => ("", *version),
        ["apis", group, version, _, ..] => (*group, *version),
        _ => return None,
    };
    segments.drain(..if group.is_empty() { 2 } else { 3 });
    let mut target =
        Target { group: group.to_owned(), version: version.to_owned(), ..Target::default() };
    match segments.as_slice() {
        // `namespaces/x` and its subresources are about the namespace itself.
        ["namespaces", namespace, rest @ ..]
            if !rest.is_empty() && !matches!(rest, ["status" | "finalize"]) =>
        {
            target.namespace = (*namespace).to_owned();
            fill(&mut target, rest);
        }
        ["namespaces", name, ..] => {
            target.namespace = (*name).to_owned();
            fill(&mut target, &segments);
        }
        rest => fill(&mut target, rest),
    }
    Some(target)
}

fn fill(target: &mut Target, segments: &[&str]) {
    let at = |index: usize| segments.get(index).copied().unwrap_or_default().to_owned();
    target.resource = at(0);
    target.name = at(1);
    target.subresource = segments.get(2..).unwrap_or_default().join("/");
}

fn verb(method: &Method, target: Option<&Target>, query: &Query) -> &'static str {
    let Some(target) = target else {
        return match *method {
            Method::GET => "get",
            Method::HEAD => "head",
            Method::POST => "post",
            Method::PUT => "put",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "other",
        };
    };
    let collection = target.name.is_empty();
    match *method {
        Method::GET | Method::HEAD if query.flag("watch") => "watch",
        Method::GET | Method::HEAD if collection => "list",
        Method::GET | Method::HEAD => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if collection => "deletecollection",
        Method::DELETE => "delete",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "reads better in the tables below")]
    fn parse(method: Method, path: &str) -> (String, String) {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let info = Info::parse(&method, path, &Query::parse(query));
        let target = info.target.map(|t| {
            format!(
                "{}|{}|{}|{}|{}|{}",
                t.group, t.version, t.resource, t.subresource, t.namespace, t.name
            )
        });
        (info.verb.to_owned(), target.unwrap_or_default())
    }

    #[test]
    fn paths_are_read_as_upstream_reads_them() {
        let cases = [
            (Method::GET, "/api/v1/pods", "list", "|v1|pods|||"),
            (Method::GET, "/api/v1/pods?watch=1", "watch", "|v1|pods|||"),
            (Method::GET, "/api/v1/namespaces", "list", "|v1|namespaces|||"),
            (Method::GET, "/api/v1/namespaces/a", "get", "|v1|namespaces||a|a"),
            (Method::PUT, "/api/v1/namespaces/a/finalize", "update", "|v1|namespaces|finalize|a|a"),
            (Method::POST, "/api/v1/namespaces/a/pods", "create", "|v1|pods||a|"),
            (Method::POST, "/api/v1/namespaces/a/pods/b/binding", "create", "|v1|pods|binding|a|b"),
            (
                Method::PATCH,
                "/apis/apps/v1/namespaces/a/deployments/b/scale",
                "patch",
                "apps|v1|deployments|scale|a|b",
            ),
            (
                Method::DELETE,
                "/apis/apps/v1/namespaces/a/deployments",
                "deletecollection",
                "apps|v1|deployments||a|",
            ),
            (Method::GET, "/apis/apps/v1", "get", ""),
            (Method::GET, "/healthz", "get", ""),
        ];
        for (method, path, verb, target) in cases {
            assert_eq!(parse(method, path), (verb.to_owned(), target.to_owned()), "{path}");
        }
    }
}
