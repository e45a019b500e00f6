//! Which lists a strategic merge patch merges, and by which key.
//!
//! These are the `patchStrategy` and `patchMergeKey` tags of upstream's Go structs. What is not
//! listed merges as a map, or is replaced as a list: tolerations, taints, endpoints, ...

use crate::scheme::Kind;

/// A struct: the fields whose merging is not the default, or that lead to such fields.
pub(super) type Struct = [(&'static str, Field)];

#[derive(Clone, Copy)]
pub(super) enum Field {
    /// A struct with fields of its own.
    Of(&'static Struct),
    /// A list of structs merged by a key.
    ByKey(&'static str, &'static Struct),
    /// A list of scalars merged as a set.
    Set,
}

use Field::{ByKey, Of, Set};

/// A struct about which nothing special is known.
pub(super) const PLAIN: &Struct = &[];

pub(super) const fn of(kind: Kind) -> &'static Struct {
    match kind {
        Kind::Pod => {
            &[("metadata", Of(OBJECT_META)), ("spec", Of(POD_SPEC)), ("status", Of(POD_STATUS))]
        }
        Kind::Service => &[
            ("metadata", Of(OBJECT_META)),
            ("spec", Of(&[("ports", ByKey("port", PLAIN))])),
            ("status", Of(CONDITIONS)),
        ],
        Kind::Node => &[
            ("metadata", Of(OBJECT_META)),
            ("spec", Of(&[("podCIDRs", Set)])),
            (
                "status",
                Of(&[("addresses", ByKey("type", PLAIN)), ("conditions", ByKey("type", PLAIN))]),
            ),
        ],
        Kind::DaemonSet
        | Kind::Deployment
        | Kind::ReplicaSet
        | Kind::ReplicationController
        | Kind::StatefulSet => &[
            ("metadata", Of(OBJECT_META)),
            ("spec", Of(&[("template", Of(POD_TEMPLATE))])),
            ("status", Of(CONDITIONS)),
        ],
        Kind::ServiceAccount => &[("metadata", Of(OBJECT_META)), ("secrets", ByKey("name", PLAIN))],
        Kind::Namespace | Kind::PersistentVolumeClaim | Kind::PodDisruptionBudget => {
            &[("metadata", Of(OBJECT_META)), ("status", Of(CONDITIONS))]
        }
        Kind::CsiNode => {
            &[("metadata", Of(OBJECT_META)), ("spec", Of(&[("drivers", ByKey("name", PLAIN))]))]
        }
        Kind::ResourceClaim => &[
            ("metadata", Of(OBJECT_META)),
            ("status", Of(&[("reservedFor", ByKey("uid", PLAIN))])),
        ],
        _ => &[("metadata", Of(OBJECT_META))],
    }
}

const OBJECT_META: &Struct = &[("ownerReferences", ByKey("uid", PLAIN)), ("finalizers", Set)];

const CONDITIONS: &Struct = &[("conditions", ByKey("type", PLAIN))];

const POD_TEMPLATE: &Struct = &[("metadata", Of(OBJECT_META)), ("spec", Of(POD_SPEC))];

const POD_SPEC: &Struct = &[
    ("volumes", ByKey("name", PLAIN)),
    ("initContainers", ByKey("name", CONTAINER)),
    ("containers", ByKey("name", CONTAINER)),
    ("ephemeralContainers", ByKey("name", CONTAINER)),
    ("imagePullSecrets", ByKey("name", PLAIN)),
    ("hostAliases", ByKey("ip", PLAIN)),
    ("topologySpreadConstraints", ByKey("topologyKey", PLAIN)),
    ("schedulingGates", ByKey("name", PLAIN)),
    ("resourceClaims", ByKey("name", PLAIN)),
];

const CONTAINER: &Struct = &[
    ("ports", ByKey("containerPort", PLAIN)),
    ("env", ByKey("name", PLAIN)),
    ("volumeMounts", ByKey("mountPath", PLAIN)),
    ("volumeDevices", ByKey("devicePath", PLAIN)),
];

const POD_STATUS: &Struct = &[
    ("conditions", ByKey("type", PLAIN)),
    ("podIPs", ByKey("ip", PLAIN)),
    ("hostIPs", ByKey("ip", PLAIN)),
    ("resourceClaimStatuses", ByKey("name", PLAIN)),
];
