//! The table of every served resource.
//!
//! Names, scopes, verbs and subresources are those of upstream's registry; the verbs of
//! subresources are those that are served here.

use super::{Kind, Resource, Subresource};

const ALL: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
/// Namespaces go one at a time.
const NO_COLLECTION: &[&str] = &["create", "delete", "get", "list", "patch", "update", "watch"];

const fn status(kind: Kind) -> Subresource {
    Subresource { name: "status", kind, verbs: &["get", "patch", "update"] }
}

const SCALE: Subresource =
    Subresource { name: "scale", kind: Kind::Scale, verbs: &["get", "patch", "update"] };
const BINDING: Subresource =
    Subresource { name: "binding", kind: Kind::Binding, verbs: &["create"] };
const EVICTION: Subresource =
    Subresource { name: "eviction", kind: Kind::Eviction, verbs: &["create"] };
const RESIZE: Subresource =
    Subresource { name: "resize", kind: Kind::Pod, verbs: &["get", "patch", "update"] };

/// What most resources are; the table below says where one differs.
const BASE: Resource = Resource {
    kind: Kind::Pod,
    list_kind: "",
    plural: "",
    singular: "",
    short_names: &[],
    categories: &[],
    namespaced: true,
    subresources: &[],
    verbs: ALL,
};

/// What is answered and not stored.
const REVIEW: Resource = Resource { namespaced: false, verbs: &["create"], ..BASE };

/// Every served resource, by group.
pub static RESOURCES: &[Resource] = &[
    Resource {
        kind: Kind::ConfigMap,
        list_kind: "ConfigMapList",
        plural: "configmaps",
        singular: "configmap",
        short_names: &["cm"],
        ..BASE
    },
    Resource {
        kind: Kind::Event,
        list_kind: "EventList",
        plural: "events",
        singular: "event",
        short_names: &["ev"],
        ..BASE
    },
    Resource {
        kind: Kind::Namespace,
        list_kind: "NamespaceList",
        plural: "namespaces",
        singular: "namespace",
        short_names: &["ns"],
        namespaced: false,
        subresources: &[
            status(Kind::Namespace),
            Subresource { name: "finalize", kind: Kind::Namespace, verbs: &["update"] },
        ],
        verbs: NO_COLLECTION,
        ..BASE
    },
    Resource {
        kind: Kind::Node,
        list_kind: "NodeList",
        plural: "nodes",
        singular: "node",
        short_names: &["no"],
        namespaced: false,
        subresources: &[status(Kind::Node)],
        ..BASE
    },
    Resource {
        kind: Kind::PersistentVolumeClaim,
        list_kind: "PersistentVolumeClaimList",
        plural: "persistentvolumeclaims",
        singular: "persistentvolumeclaim",
        short_names: &["pvc"],
        subresources: &[status(Kind::PersistentVolumeClaim)],
        ..BASE
    },
    Resource {
        kind: Kind::PersistentVolume,
        list_kind: "PersistentVolumeList",
        plural: "persistentvolumes",
        singular: "persistentvolume",
        short_names: &["pv"],
        namespaced: false,
        subresources: &[status(Kind::PersistentVolume)],
        ..BASE
    },
    Resource {
        kind: Kind::Pod,
        list_kind: "PodList",
        plural: "pods",
        singular: "pod",
        short_names: &["po"],
        categories: &["all"],
        subresources: &[status(Kind::Pod), BINDING, EVICTION, RESIZE],
        ..BASE
    },
    Resource {
        kind: Kind::ReplicationController,
        list_kind: "ReplicationControllerList",
        plural: "replicationcontrollers",
        singular: "replicationcontroller",
        short_names: &["rc"],
        categories: &["all"],
        subresources: &[status(Kind::ReplicationController), SCALE],
        ..BASE
    },
    Resource {
        kind: Kind::Secret,
        list_kind: "SecretList",
        plural: "secrets",
        singular: "secret",
        ..BASE
    },
    Resource {
        kind: Kind::ServiceAccount,
        list_kind: "ServiceAccountList",
        plural: "serviceaccounts",
        singular: "serviceaccount",
        short_names: &["sa"],
        ..BASE
    },
    Resource {
        kind: Kind::Service,
        list_kind: "ServiceList",
        plural: "services",
        singular: "service",
        short_names: &["svc"],
        categories: &["all"],
        subresources: &[status(Kind::Service)],
        ..BASE
    },
    Resource {
        kind: Kind::DaemonSet,
        list_kind: "DaemonSetList",
        plural: "daemonsets",
        singular: "daemonset",
        short_names: &["ds"],
        categories: &["all"],
        subresources: &[status(Kind::DaemonSet)],
        ..BASE
    },
    Resource {
        kind: Kind::Deployment,
        list_kind: "DeploymentList",
        plural: "deployments",
        singular: "deployment",
        short_names: &["deploy"],
        categories: &["all"],
        subresources: &[status(Kind::Deployment), SCALE],
        ..BASE
    },
    Resource {
        kind: Kind::ReplicaSet,
        list_kind: "ReplicaSetList",
        plural: "replicasets",
        singular: "replicaset",
        short_names: &["rs"],
        categories: &["all"],
        subresources: &[status(Kind::ReplicaSet), SCALE],
        ..BASE
    },
    Resource {
        kind: Kind::StatefulSet,
        list_kind: "StatefulSetList",
        plural: "statefulsets",
        singular: "statefulset",
        short_names: &["sts"],
        categories: &["all"],
        subresources: &[status(Kind::StatefulSet), SCALE],
        ..BASE
    },
    Resource {
        kind: Kind::SelfSubjectReview,
        list_kind: "SelfSubjectReviewList",
        plural: "selfsubjectreviews",
        singular: "selfsubjectreview",
        ..REVIEW
    },
    Resource {
        kind: Kind::TokenReview,
        list_kind: "TokenReviewList",
        plural: "tokenreviews",
        singular: "tokenreview",
        ..REVIEW
    },
    Resource {
        kind: Kind::LocalSubjectAccessReview,
        list_kind: "LocalSubjectAccessReviewList",
        plural: "localsubjectaccessreviews",
        singular: "localsubjectaccessreview",
        namespaced: true,
        ..REVIEW
    },
    Resource {
        kind: Kind::SelfSubjectAccessReview,
        list_kind: "SelfSubjectAccessReviewList",
        plural: "selfsubjectaccessreviews",
        singular: "selfsubjectaccessreview",
        ..REVIEW
    },
    Resource {
        kind: Kind::SubjectAccessReview,
        list_kind: "SubjectAccessReviewList",
        plural: "subjectaccessreviews",
        singular: "subjectaccessreview",
        ..REVIEW
    },
    Resource {
        kind: Kind::Lease,
        list_kind: "LeaseList",
        plural: "leases",
        singular: "lease",
        ..BASE
    },
    Resource {
        kind: Kind::EndpointSlice,
        list_kind: "EndpointSliceList",
        plural: "endpointslices",
        singular: "endpointslice",
        ..BASE
    },
    Resource {
        kind: Kind::PodDisruptionBudget,
        list_kind: "PodDisruptionBudgetList",
        plural: "poddisruptionbudgets",
        singular: "poddisruptionbudget",
        short_names: &["pdb"],
        subresources: &[status(Kind::PodDisruptionBudget)],
        ..BASE
    },
    Resource {
        kind: Kind::DeviceClass,
        list_kind: "DeviceClassList",
        plural: "deviceclasses",
        singular: "deviceclass",
        namespaced: false,
        ..BASE
    },
    Resource {
        kind: Kind::ResourceClaim,
        list_kind: "ResourceClaimList",
        plural: "resourceclaims",
        singular: "resourceclaim",
        subresources: &[status(Kind::ResourceClaim)],
        ..BASE
    },
    Resource {
        kind: Kind::ResourceClaimTemplate,
        list_kind: "ResourceClaimTemplateList",
        plural: "resourceclaimtemplates",
        singular: "resourceclaimtemplate",
        ..BASE
    },
    Resource {
        kind: Kind::ResourceSlice,
        list_kind: "ResourceSliceList",
        plural: "resourceslices",
        singular: "resourceslice",
        namespaced: false,
        ..BASE
    },
    Resource {
        kind: Kind::DeviceTaintRule,
        list_kind: "DeviceTaintRuleList",
        plural: "devicetaintrules",
        singular: "devicetaintrule",
        namespaced: false,
        subresources: &[status(Kind::DeviceTaintRule)],
        ..BASE
    },
    Resource {
        kind: Kind::PriorityClass,
        list_kind: "PriorityClassList",
        plural: "priorityclasses",
        singular: "priorityclass",
        short_names: &["pc"],
        namespaced: false,
        ..BASE
    },
    Resource {
        kind: Kind::Workload,
        list_kind: "WorkloadList",
        plural: "workloads",
        singular: "workload",
        ..BASE
    },
    Resource {
        kind: Kind::CsiDriver,
        list_kind: "CSIDriverList",
        plural: "csidrivers",
        singular: "csidriver",
        namespaced: false,
        ..BASE
    },
    Resource {
        kind: Kind::CsiNode,
        list_kind: "CSINodeList",
        plural: "csinodes",
        singular: "csinode",
        namespaced: false,
        ..BASE
    },
    Resource {
        kind: Kind::CsiStorageCapacity,
        list_kind: "CSIStorageCapacityList",
        plural: "csistoragecapacities",
        singular: "csistoragecapacity",
        ..BASE
    },
    Resource {
        kind: Kind::StorageClass,
        list_kind: "StorageClassList",
        plural: "storageclasses",
        singular: "storageclass",
        short_names: &["sc"],
        namespaced: false,
        ..BASE
    },
    Resource {
        kind: Kind::VolumeAttachment,
        list_kind: "VolumeAttachmentList",
        plural: "volumeattachments",
        singular: "volumeattachment",
        namespaced: false,
        subresources: &[status(Kind::VolumeAttachment)],
        ..BASE
    },
];
