//! The kinds this API serves: names, scope, subresources and verbs.
//!
//! Mirrors what upstream's registry announces through discovery. One static table; nothing is
//! registered at run time.

mod table;

pub use table::RESOURCES;

/// A kind of object that the API reads. The last ones exist only as bodies of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `v1` Namespace.
    Namespace,
    /// `v1` Node.
    Node,
    /// `v1` Pod.
    Pod,
    /// `v1` Service.
    Service,
    /// `v1` Event.
    Event,
    /// `v1` ConfigMap.
    ConfigMap,
    /// `v1` Secret.
    Secret,
    /// `v1` ServiceAccount.
    ServiceAccount,
    /// `apps/v1` Deployment.
    Deployment,
    /// `apps/v1` ReplicaSet.
    ReplicaSet,
    /// `discovery.k8s.io/v1` EndpointSlice.
    EndpointSlice,
    /// `coordination.k8s.io/v1` Lease.
    Lease,
    /// `scheduling.k8s.io/v1` PriorityClass.
    PriorityClass,
    /// `v1` PersistentVolume.
    PersistentVolume,
    /// `v1` PersistentVolumeClaim.
    PersistentVolumeClaim,
    /// `v1` ReplicationController.
    ReplicationController,
    /// `apps/v1` StatefulSet.
    StatefulSet,
    /// `apps/v1` DaemonSet.
    DaemonSet,
    /// `storage.k8s.io/v1` StorageClass.
    StorageClass,
    /// `storage.k8s.io/v1` CSINode.
    CsiNode,
    /// `storage.k8s.io/v1` CSIDriver.
    CsiDriver,
    /// `storage.k8s.io/v1` CSIStorageCapacity.
    CsiStorageCapacity,
    /// `storage.k8s.io/v1` VolumeAttachment.
    VolumeAttachment,
    /// `policy/v1` PodDisruptionBudget.
    PodDisruptionBudget,
    /// `resource.k8s.io/v1` DeviceClass.
    DeviceClass,
    /// `resource.k8s.io/v1alpha3` DeviceTaintRule.
    DeviceTaintRule,
    /// `resource.k8s.io/v1` ResourceClaim.
    ResourceClaim,
    /// `resource.k8s.io/v1` ResourceClaimTemplate.
    ResourceClaimTemplate,
    /// `resource.k8s.io/v1` ResourceSlice.
    ResourceSlice,
    /// `scheduling.k8s.io/v1alpha1` Workload.
    Workload,
    /// `authentication.k8s.io/v1` TokenReview; answered, never kept, as all reviews.
    TokenReview,
    /// `authentication.k8s.io/v1` SelfSubjectReview.
    SelfSubjectReview,
    /// `authorization.k8s.io/v1` SubjectAccessReview.
    SubjectAccessReview,
    /// `authorization.k8s.io/v1` LocalSubjectAccessReview.
    LocalSubjectAccessReview,
    /// `authorization.k8s.io/v1` SelfSubjectAccessReview.
    SelfSubjectAccessReview,
    /// `v1` Binding, the body of `pods/binding`.
    Binding,
    /// `policy/v1` Eviction, the body of `pods/eviction`.
    Eviction,
    /// `autoscaling/v1` Scale, the body of `scale` subresources.
    Scale,
    /// `v1` DeleteOptions, the body of deletes.
    DeleteOptions,
}

impl Kind {
    /// Group, version and kind as they stand in an object.
    pub const fn gvk(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Namespace => ("", "v1", "Namespace"),
            Self::Node => ("", "v1", "Node"),
            Self::Pod => ("", "v1", "Pod"),
            Self::Service => ("", "v1", "Service"),
            Self::Event => ("", "v1", "Event"),
            Self::ConfigMap => ("", "v1", "ConfigMap"),
            Self::Secret => ("", "v1", "Secret"),
            Self::ServiceAccount => ("", "v1", "ServiceAccount"),
            Self::Deployment => ("apps", "v1", "Deployment"),
            Self::ReplicaSet => ("apps", "v1", "ReplicaSet"),
            Self::EndpointSlice => ("discovery.k8s.io", "v1", "EndpointSlice"),
            Self::Lease => ("coordination.k8s.io", "v1", "Lease"),
            Self::PriorityClass => ("scheduling.k8s.io", "v1", "PriorityClass"),
            Self::PersistentVolume => ("", "v1", "PersistentVolume"),
            Self::PersistentVolumeClaim => ("", "v1", "PersistentVolumeClaim"),
            Self::ReplicationController => ("", "v1", "ReplicationController"),
            Self::StatefulSet => ("apps", "v1", "StatefulSet"),
            Self::DaemonSet => ("apps", "v1", "DaemonSet"),
            Self::StorageClass => ("storage.k8s.io", "v1", "StorageClass"),
            Self::CsiNode => ("storage.k8s.io", "v1", "CSINode"),
            Self::CsiDriver => ("storage.k8s.io", "v1", "CSIDriver"),
            Self::CsiStorageCapacity => ("storage.k8s.io", "v1", "CSIStorageCapacity"),
            Self::VolumeAttachment => ("storage.k8s.io", "v1", "VolumeAttachment"),
            Self::PodDisruptionBudget => ("policy", "v1", "PodDisruptionBudget"),
            Self::DeviceClass => ("resource.k8s.io", "v1", "DeviceClass"),
            Self::DeviceTaintRule => ("resource.k8s.io", "v1alpha3", "DeviceTaintRule"),
            Self::ResourceClaim => ("resource.k8s.io", "v1", "ResourceClaim"),
            Self::ResourceClaimTemplate => ("resource.k8s.io", "v1", "ResourceClaimTemplate"),
            Self::ResourceSlice => ("resource.k8s.io", "v1", "ResourceSlice"),
            Self::Workload => ("scheduling.k8s.io", "v1alpha1", "Workload"),
            Self::TokenReview => ("authentication.k8s.io", "v1", "TokenReview"),
            Self::SelfSubjectReview => ("authentication.k8s.io", "v1", "SelfSubjectReview"),
            Self::SubjectAccessReview => ("authorization.k8s.io", "v1", "SubjectAccessReview"),
            Self::LocalSubjectAccessReview => {
                ("authorization.k8s.io", "v1", "LocalSubjectAccessReview")
            }
            Self::SelfSubjectAccessReview => {
                ("authorization.k8s.io", "v1", "SelfSubjectAccessReview")
            }
            Self::Binding => ("", "v1", "Binding"),
            Self::Eviction => ("policy", "v1", "Eviction"),
            Self::Scale => ("autoscaling", "v1", "Scale"),
            Self::DeleteOptions => ("", "v1", "DeleteOptions"),
        }
    }

    /// `v1`, or `group/v1`.
    pub fn api_version(self) -> String {
        api_version(self.gvk().0, self.gvk().1)
    }

    /// The kind's name.
    pub const fn name(self) -> &'static str {
        self.gvk().2
    }
}

/// A served resource.
#[derive(Debug, PartialEq, Eq)]
pub struct Resource {
    /// The kind of its objects.
    pub kind: Kind,
    /// The kind of its lists.
    pub list_kind: &'static str,
    /// The name in URLs.
    pub plural: &'static str,
    /// The singular name that kubectl also takes.
    pub singular: &'static str,
    /// What kubectl also takes, such as `po`.
    pub short_names: &'static [&'static str],
    /// Groups of resources it belongs to, such as `all`.
    pub categories: &'static [&'static str],
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// What is served below its objects.
    pub subresources: &'static [Subresource],
    /// What is served on the resource itself.
    pub verbs: &'static [&'static str],
}

/// What is served below an object, such as `pods/status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subresource {
    /// The name in URLs.
    pub name: &'static str,
    /// The kind of its body.
    pub kind: Kind,
    /// What it serves.
    pub verbs: &'static [&'static str],
}

impl Resource {
    /// The API group; empty for core.
    pub const fn group(&self) -> &'static str {
        self.kind.gvk().0
    }

    /// The version within the group.
    pub const fn version(&self) -> &'static str {
        self.kind.gvk().1
    }

    /// `v1`, or `group/v1`.
    pub fn api_version(&self) -> String {
        self.kind.api_version()
    }

    /// The subresource of this name.
    pub fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources.iter().find(|subresource| subresource.name == name)
    }

    /// Whether objects are stored; reviews are only answered.
    pub fn is_stored(&self) -> bool {
        self.verbs.contains(&"get")
    }

    /// Whether objects have a status that only `/status` writes.
    pub fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }
}

/// The resource at `/apis/{group}/{version}/.../{plural}` (or `/api/v1`, group empty).
pub fn by_plural(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    let is_it = |r: &&Resource| r.plural == plural && r.group() == group && r.version() == version;
    RESOURCES.iter().find(is_it)
}

/// The resource of objects with this `apiVersion` and `kind`.
pub fn by_kind(api_version: &str, kind: &str) -> Option<&'static Resource> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    RESOURCES.iter().find(|resource| resource.kind.gvk() == (group, version, kind))
}

/// The resource of a kind; none for kinds that are only bodies of requests.
pub fn of(kind: Kind) -> Option<&'static Resource> {
    RESOURCES.iter().find(|resource| resource.kind == kind)
}

/// The groups served, core (empty) first, each with its version.
pub fn groups() -> Vec<(&'static str, &'static str)> {
    let mut groups: Vec<_> = RESOURCES.iter().map(|r| (r.group(), r.version())).collect();
    groups.dedup();
    groups
}

/// `version`, or `group/version`.
pub fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_found_by_url_and_by_object() {
        let deployments = by_plural("apps", "v1", "deployments").unwrap();
        assert_eq!(deployments.kind, Kind::Deployment);
        assert_eq!(deployments.api_version(), "apps/v1");
        assert_eq!(by_kind("apps/v1", "Deployment"), Some(deployments));
        assert_eq!(by_kind("v1", "Deployment"), None);
        assert_eq!(by_plural("", "v1", "deployments"), None);
        assert_eq!(of(Kind::Binding), None);
        assert_eq!(deployments.subresource("scale").unwrap().kind, Kind::Scale);
    }

    #[test]
    fn names_are_unique_and_groups_contiguous() {
        let mut names: Vec<_> = RESOURCES.iter().flat_map(|r| r.short_names).collect();
        names.extend(RESOURCES.iter().flat_map(|r| [&r.plural, &r.singular]));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        let mut groups = groups();
        assert_eq!(groups[0], ("", "v1"));
        let count = groups.len();
        groups.sort_unstable();
        groups.dedup();
        assert_eq!(groups.len(), count);
    }

    #[test]
    fn list_kinds_follow_the_kind() {
        for resource in RESOURCES {
            assert_eq!(resource.list_kind, format!("{}List", resource.kind.name()));
        }
    }
}
