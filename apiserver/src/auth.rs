//! Who asks, and whether they may.
//!
//! Authentication: x509 client certificates (`CN` the user, `O` its groups) and static bearer
//! tokens; nobody is anonymous. Authorization: `system:masters` may do everything, and the parts of
//! the control plane what their upstream roles say ([`policy`]); there is no RBAC yet.

mod policy;
mod token;

use pintle_api::status::{Status, Subject};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::FromDer as _;

use crate::request::{Info, Target};

pub(crate) use token::Tokens;

/// An authenticated user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserInfo {
    /// Such as `system:kube-scheduler`.
    pub name: String,
    /// Such as `system:masters`.
    pub groups: Vec<String>,
}

impl UserInfo {
    /// A user of some groups.
    pub fn new<'a>(name: &str, groups: impl IntoIterator<Item = &'a str>) -> Self {
        Self { name: name.to_owned(), groups: groups.into_iter().map(str::to_owned).collect() }
    }

    /// The one that may do everything: `system:admin` of `system:masters`.
    #[must_use]
    pub fn admin() -> Self {
        Self::new("system:admin", [MASTERS])
    }

    /// The user that a client certificate, already verified, is for.
    pub(crate) fn from_certificate(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(der).ok()?;
        let subject = certificate.subject();
        let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
        let groups = subject.iter_organization().filter_map(|group| group.as_str().ok());
        Some(Self { name, groups: groups.map(str::to_owned).collect() })
    }

    fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }
}

/// 403, in upstream's words, unless `user` may make this request.
pub(crate) fn authorize(user: &UserInfo, info: &Info) -> Result<(), Status> {
    match &info.target {
        None => authorize_path(user, info.verb, &info.path),
        Some(target) => authorize_target(user, info.verb, target),
    }
}

/// 403 unless `user` may do this with a path that is no resource.
pub(crate) fn authorize_path(user: &UserInfo, verb: &str, path: &str) -> Result<(), Status> {
    if user.is_in(MASTERS) || policy::may_read_path(path) && matches!(verb, "get" | "head") {
        return Ok(());
    }
    let why = format!("User {:?} cannot {verb} path {path:?}", user.name);
    Err(Status::forbidden(Subject { group: "", kind: "", name: "" }, &why))
}

/// 403 unless `user` may do this with a resource.
pub(crate) fn authorize_target(user: &UserInfo, verb: &str, target: &Target) -> Result<(), Status> {
    match user.is_in(MASTERS) || policy::allows(user, verb, target) {
        true => Ok(()),
        false => Err(refusal(user, verb, target)),
    }
}

fn refusal(user: &UserInfo, verb: &str, target: &Target) -> Status {
    let resource = match target.subresource.as_str() {
        "" => target.resource.clone(),
        subresource => format!("{}/{subresource}", target.resource),
    };
    let scope = match target.namespace.as_str() {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {namespace:?}"),
    };
    let why = format!(
        "User {:?} cannot {verb} resource {resource:?} in API group {:?} {scope}",
        user.name, target.group
    );
    let subject = Subject { group: &target.group, kind: &target.resource, name: &target.name };
    Status::forbidden(subject, &why)
}

const MASTERS: &str = "system:masters";

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::query::Query;

    #[expect(clippy::needless_pass_by_value, reason = "reads better in the tables below")]
    fn check(user: &UserInfo, method: Method, path: &str) -> Result<(), Status> {
        authorize(user, &Info::parse(&method, path, &Query::default()))
    }

    #[test]
    fn masters_may_everything_and_strangers_nothing() {
        let path = "/api/v1/namespaces/default/pods";
        check(&UserInfo::admin(), Method::DELETE, path).unwrap();
        let jane = UserInfo::new("jane", ["system:authenticated"]);
        let status = check(&jane, Method::GET, path).unwrap_err();
        assert_eq!(status.code(), 403);
        assert_eq!(
            status.message(),
            "pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in \
             the namespace \"default\""
        );
        check(&jane, Method::GET, "/apis").unwrap();
        assert_eq!(check(&jane, Method::GET, "/metrics").unwrap_err().code(), 403);
    }

    #[test]
    fn components_may_what_their_roles_say() {
        let scheduler = UserInfo::new("system:kube-scheduler", []);
        check(&scheduler, Method::POST, "/api/v1/namespaces/a/pods/b/binding").unwrap();
        check(&scheduler, Method::GET, "/api/v1/nodes").unwrap();
        check(&scheduler, Method::POST, "/api/v1/namespaces/a/pods").unwrap_err();
        check(&scheduler, Method::PATCH, "/api/v1/namespaces/a/persistentvolumeclaims/c").unwrap();
        check(&scheduler, Method::PUT, "/api/v1/persistentvolumes/v").unwrap();
        check(&scheduler, Method::POST, "/api/v1/persistentvolumes").unwrap_err();
        let claim = "/apis/resource.k8s.io/v1/namespaces/a/resourceclaims/c/status";
        check(&scheduler, Method::PUT, claim).unwrap();
        let workloads = "/apis/scheduling.k8s.io/v1alpha1/workloads";
        check(&scheduler, Method::GET, workloads).unwrap();
        let node = UserInfo::new("system:node:n1", ["system:nodes"]);
        check(&node, Method::PATCH, "/api/v1/nodes/n1/status").unwrap();
        check(&node, Method::DELETE, "/apis/apps/v1/namespaces/a/deployments/b").unwrap_err();
        let proxy = UserInfo::new("system:kube-proxy", []);
        check(&proxy, Method::GET, "/apis/discovery.k8s.io/v1/endpointslices").unwrap();
        check(&proxy, Method::GET, "/api/v1/secrets").unwrap_err();
    }
}
