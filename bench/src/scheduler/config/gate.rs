//! The feature gates of Kubernetes 1.35, so that one whose name is mistaken is told of.
//!
//! What a gate guards is here for the objects that ask for it: fields that an API server would drop with
//! the gate off are read. A gate that is set is therefore without effect.

/// Whether there is a gate of this name.
pub(super) fn is_known(name: &str) -> bool {
    GATES.binary_search(&name).is_ok()
}

/// By name.
#[rustfmt::skip]
const GATES: &[&str] = &[
    "APIResponseCompression", "APIServerIdentity", "APIServerTracing", "APIServingWithRoutine",
    "AggregatedDiscoveryRemoveBetaType", "AllAlpha", "AllBeta", "AllowDNSOnlyNodeCSR",
    "AllowInsecureKubeletCertificateSigningRequests",
    "AllowOverwriteTerminationGracePeriodSeconds", "AllowParsingUserUIDFromCertAuth",
    "AllowUnsafeMalformedObjectDeletion", "AnonymousAuthConfigurableEndpoints",
    "AnyVolumeDataSource", "AuthorizeNodeWithSelectors",
    "AuthorizePodWebsocketUpgradeCreatePermission", "AuthorizeWithSelectors", "BtreeWatchCache",
    "CBORServingAndStorage", "CPUManagerPolicyAlphaOptions", "CPUManagerPolicyBetaOptions",
    "CPUManagerPolicyOptions", "CSIMigrationPortworx", "CSIServiceAccountTokenSecrets",
    "CSIVolumeHealth", "ClearingNominatedNodeNameAfterBinding", "ClientsAllowCBOR",
    "ClientsPreferCBOR", "ClusterTrustBundle", "ClusterTrustBundleProjection",
    "ConcurrentWatchObjectDecode", "ConsistentListFromCache", "ConstrainedImpersonation",
    "ContainerCheckpoint", "ContainerRestartRules", "ContainerStopSignals", "ContextualLogging",
    "CoordinatedLeaderElection", "CrossNamespaceVolumeDataSource", "CustomCPUCFSQuotaPeriod",
    "DRAAdminAccess", "DRAConsumableCapacity", "DRADeviceBindingConditions",
    "DRADeviceTaintRules", "DRADeviceTaints", "DRAExtendedResource", "DRAPartitionableDevices",
    "DRAPrioritizedList", "DRAResourceClaimDeviceStatus", "DRASchedulerFilterTimeout",
    "DeclarativeValidation", "DeclarativeValidationTakeover",
    "DeploymentReplicaSetTerminatingReplicas", "DetectCacheInconsistency",
    "DisableAllocatorDualWrite", "DisableCPUQuotaWithExclusiveCPUs",
    "DisableNodeKubeProxyVersion", "DynamicResourceAllocation", "EnvFiles", "EventedPLEG",
    "ExecProbeTimeout", "ExternalServiceAccountTokenSigner", "GangScheduling",
    "GenericWorkload", "GitRepoVolumeDriver", "GracefulNodeShutdown",
    "GracefulNodeShutdownBasedOnPodPriority", "HPAConfigurableTolerance", "HPAScaleToZero",
    "HonorPVReclaimPolicy", "HostnameOverride", "ImageMaximumGCAge", "ImageVolume",
    "InOrderInformers", "InOrderInformersBatchProcess",
    "InPlacePodLevelResourcesVerticalScaling", "InPlacePodVerticalScaling",
    "InPlacePodVerticalScalingAllocatedStatus", "InPlacePodVerticalScalingExclusiveCPUs",
    "InPlacePodVerticalScalingExclusiveMemory", "InTreePluginPortworxUnregister",
    "InformerResourceVersion", "JobBackoffLimitPerIndex", "JobManagedBy",
    "JobPodReplacementPolicy", "JobSuccessPolicy", "KMSv1", "KubeletCgroupDriverFromCRI",
    "KubeletCrashLoopBackOffMax", "KubeletEnsureSecretPulledImages", "KubeletFineGrainedAuthz",
    "KubeletInUserNamespace", "KubeletPSI", "KubeletPodResourcesDynamicResources",
    "KubeletPodResourcesGet", "KubeletPodResourcesListUseActivePods",
    "KubeletRegistrationGetOnExistsOnly", "KubeletSeparateDiskGC",
    "KubeletServiceAccountTokenForCredentialProviders", "KubeletTracing",
    "ListFromCacheSnapshot", "LocalStorageCapacityIsolationFSQuotaMonitoring",
    "LogarithmicScaleDown", "LoggingAlphaOptions", "LoggingBetaOptions", "LoggingStableOptions",
    "MatchLabelKeysInPodAffinity", "MatchLabelKeysInPodTopologySpread",
    "MatchLabelKeysInPodTopologySpreadSelectorMerge", "MaxUnavailableStatefulSet",
    "MemoryManager", "MemoryQoS", "MultiCIDRServiceAllocator", "MutableCSINodeAllocatableCount",
    "MutablePVNodeAffinity", "MutablePodResourcesForSuspendedJobs",
    "MutableSchedulingDirectivesForSuspendedJobs", "MutatingAdmissionPolicy", "MyFeature",
    "NFTablesProxyMode", "NodeDeclaredFeatures", "NodeInclusionPolicyInPodTopologySpread",
    "NodeLogQuery", "NodeSwap", "NominatedNodeNameForExpectation", "OpenAPIEnums",
    "OpportunisticBatching", "OrderedNamespaceDeletion", "PodAndContainerStatsFromCRI",
    "PodCertificateRequest", "PodDeletionCost", "PodLevelResources", "PodLifecycleSleepAction",
    "PodLifecycleSleepActionAllowZero", "PodLogsQuerySplitStreams",
    "PodObservedGenerationTracking", "PodReadyToStartContainersCondition",
    "PodSchedulingReadiness", "PodTopologyLabelsAdmission", "PortForwardWebsockets",
    "PreferSameTrafficDistribution", "PreventStaticPodAPIReferences", "ProcMountType",
    "QOSReserved", "RecoverVolumeExpansionFailure", "RecursiveReadOnlyMounts",
    "ReduceDefaultCrashLoopBackOffDecay", "RelaxedDNSSearchValidation",
    "RelaxedEnvironmentVariableValidation", "RelaxedServiceNameValidation",
    "ReloadKubeletServerCertificateFile", "RemoteRequestHeaderUID",
    "ResilientWatchCacheInitialization", "ResourceHealthStatus",
    "RestartAllContainersOnContainerExits", "RetryGenerateName",
    "RotateKubeletServerCertificate", "RuntimeClassInImageCriApi", "SELinuxChangePolicy",
    "SELinuxMount", "SELinuxMountReadWriteOncePod", "SchedulerAsyncAPICalls",
    "SchedulerAsyncPreemption", "SchedulerPopFromBackoffQ", "SchedulerQueueingHints",
    "SeparateCacheWatchRPC", "SeparateTaintEvictionController",
    "ServiceAccountNodeAudienceRestriction", "ServiceAccountTokenJTI",
    "ServiceAccountTokenNodeBinding", "ServiceAccountTokenNodeBindingValidation",
    "ServiceAccountTokenPodNodeInfo", "ServiceTrafficDistribution", "SidecarContainers",
    "SizeBasedListCostEstimate", "StorageCapacityScoring", "StorageNamespaceIndex",
    "StorageVersionAPI", "StorageVersionHash", "StorageVersionMigrator",
    "StreamingCollectionEncodingToJSON", "StreamingCollectionEncodingToProtobuf",
    "StrictIPCIDRValidation", "StructuredAuthenticationConfiguration",
    "StructuredAuthenticationConfigurationEgressSelector",
    "StructuredAuthenticationConfigurationJWKSMetrics", "StructuredAuthorizationConfiguration",
    "SupplementalGroupsPolicy", "TaintTolerationComparisonOperators",
    "TokenRequestServiceAccountUIDValidation", "TopologyAwareHints",
    "TopologyManagerPolicyAlphaOptions", "TopologyManagerPolicyBetaOptions",
    "TopologyManagerPolicyOptions", "TranslateStreamCloseWebsocketRequests",
    "UnauthenticatedHTTP2DOSMitigation", "UnknownVersionInteroperabilityProxy",
    "UserNamespacesHostNetworkSupport", "UserNamespacesSupport", "VolumeAttributesClass",
    "VolumeLimitScaling", "WatchCacheInitializationPostStartHook",
    "WatchFromStorageWithoutResourceVersion", "WatchList", "WatchListClient", "WinDSR",
    "WinOverlay", "WindowsCPUAndMemoryAffinity", "WindowsGracefulNodeShutdown",
    "WindowsHostNetwork",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_found() {
        assert!(GATES.is_sorted());
        assert!(is_known("DRAPartitionableDevices") && is_known("SchedulerQueueingHints"));
        assert!(!is_known("DRAPartitionableDevice"));
    }
}
