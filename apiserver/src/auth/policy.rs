//! What the parts of the control plane may do, as a static table.
//!
//! Taken from the bootstrap roles of kube-apiserver (`system:kube-scheduler` with
//! `system:volume-scheduler`, `system:controller:*` together for the controller manager,
//! `system:node`, `system:node-proxier`, `system:discovery`), cut to the resources that are served here.

use super::UserInfo;
use crate::request::Target;

struct Role {
    user: &'static str,
    group: &'static str,
    rules: &'static [Rule],
}

struct Rule {
    verbs: &'static [&'static str],
    /// `resource` or `resource/subresource`; `*` is all of both.
    resources: &'static [&'static str],
}

/// Whether one of the user's roles has the verb on the resource.
pub(super) fn allows(user: &UserInfo, verb: &str, target: &Target) -> bool {
    let resource = match target.subresource.as_str() {
        "" => target.resource.clone(),
        subresource => format!("{}/{subresource}", target.resource),
    };
    let has = |list: &[&str], wanted: &str| list.iter().any(|own| *own == "*" || *own == wanted);
    // `system:basic-user`
    if verb == "create" && SELF_REVIEWS.contains(&resource.as_str()) {
        return true;
    }
    ROLES
        .iter()
        .filter(|role| role.user == user.name || user.is_in(role.group))
        .flat_map(|role| role.rules)
        .any(|rule| has(rule.verbs, verb) && has(rule.resources, &resource))
}

/// `system:discovery` and `system:public-info-viewer`.
pub(super) fn may_read_path(path: &str) -> bool {
    let is = |root: &str| path == root || path.starts_with(&format!("{root}/"));
    ["/api", "/apis", "/openapi", "/version"].into_iter().any(is)
}

const SELF_REVIEWS: &[&str] = &["selfsubjectaccessreviews", "selfsubjectreviews"];
const READ: &[&str] = &["get", "list", "watch"];
const NOBODY: &str = "\0";

static ROLES: &[Role] = &[
    Role {
        user: "system:kube-scheduler",
        group: NOBODY,
        rules: &[
            Rule {
                verbs: READ,
                resources: &["namespaces", "nodes", "pods", "priorityclasses", "services"],
            },
            Rule {
                verbs: READ,
                resources: &[
                    "poddisruptionbudgets",
                    "replicasets",
                    "replicationcontrollers",
                    "statefulsets",
                    "workloads",
                ],
            },
            Rule {
                verbs: READ,
                resources: &[
                    "csidrivers",
                    "csinodes",
                    "csistoragecapacities",
                    "persistentvolumeclaims",
                    "persistentvolumes",
                    "storageclasses",
                    "volumeattachments",
                ],
            },
            Rule {
                verbs: &["patch", "update"],
                resources: &["persistentvolumeclaims", "persistentvolumes"],
            },
            Rule {
                verbs: READ,
                resources: &[
                    "deviceclasses",
                    "devicetaintrules",
                    "resourceclaims",
                    "resourceslices",
                ],
            },
            Rule {
                verbs: &["create", "delete", "patch", "update"],
                resources: &["resourceclaims"],
            },
            Rule { verbs: &["patch", "update"], resources: &["resourceclaims/status"] },
            Rule { verbs: &["create"], resources: &["bindings", "pods/binding"] },
            Rule { verbs: &["delete"], resources: &["pods"] },
            Rule { verbs: &["patch", "update"], resources: &["pods/status"] },
            EVENTS,
            LEASES,
            REVIEWS,
        ],
    },
    Role {
        user: "system:kube-controller-manager",
        group: NOBODY,
        rules: &[
            Rule { verbs: READ, resources: &["*"] },
            Rule { verbs: &["delete", "deletecollection", "patch", "update"], resources: &["*"] },
            Rule {
                verbs: &["create"],
                resources: &[
                    "endpointslices",
                    "pods",
                    "pods/eviction",
                    "replicasets",
                    "resourceclaims",
                ],
            },
            Rule { verbs: &["create"], resources: &["configmaps", "serviceaccounts"] },
            EVENTS,
            LEASES,
            REVIEWS,
        ],
    },
    Role {
        user: "system:kube-proxy",
        group: NOBODY,
        rules: &[Rule { verbs: READ, resources: &["endpointslices", "nodes", "services"] }, EVENTS],
    },
    Role {
        user: NOBODY,
        group: "system:nodes",
        rules: &[
            Rule {
                verbs: READ,
                resources: &[
                    "configmaps",
                    "csidrivers",
                    "csinodes",
                    "endpointslices",
                    "nodes",
                    "persistentvolumeclaims",
                    "persistentvolumes",
                    "pods",
                    "resourceclaims",
                    "resourceslices",
                    "secrets",
                    "services",
                    "volumeattachments",
                ],
            },
            Rule { verbs: &["create", "patch", "update"], resources: &["nodes", "nodes/status"] },
            Rule { verbs: &["create", "delete", "patch", "update"], resources: &["csinodes"] },
            Rule { verbs: &["create", "delete"], resources: &["pods"] },
            Rule { verbs: &["patch", "update"], resources: &["pods/status"] },
            Rule { verbs: &["create"], resources: &["pods/eviction"] },
            EVENTS,
            LEASES,
            REVIEWS,
        ],
    },
];

const EVENTS: Rule = Rule { verbs: &["create", "patch", "update"], resources: &["events"] };
const LEASES: Rule = Rule {
    verbs: &["create", "delete", "get", "list", "patch", "update", "watch"],
    resources: &["leases"],
};
/// For those who ask whether a client may read their metrics.
const REVIEWS: Rule =
    Rule { verbs: &["create"], resources: &["subjectaccessreviews", "tokenreviews"] };
