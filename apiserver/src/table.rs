//! `metav1.Table`: what `kubectl get` prints, made by the server.
//!
//! A client that accepts `application/json;as=Table;g=meta.k8s.io;v=v1` gets rows instead of
//! objects: the handler calls [`render`] with the objects of a get, list or watch event. Columns
//! and cells are those of upstream's `pkg/printers/internalversion`; all columns are sent, and
//! kubectl shows those of priority 0, or all with `-o wide`. Pure: the time is an argument.

use jiff::Timestamp;
use pintle_api::scheme::Kind;
use serde_json::{Value, json};

mod age;
mod cell;
mod device;
mod event;
mod node;
mod pod;
mod service;
#[cfg(test)]
mod tests;
mod volume;
mod workload;

/// What each row carries of its object: the `includeObject` parameter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// Its metadata, as a `PartialObjectMetadata`; the default.
    #[default]
    Metadata,
    /// All of it.
    Object,
}

impl std::str::FromStr for IncludeObject {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "None" => Ok(Self::None),
            "" | "Metadata" => Ok(Self::Metadata),
            "Object" => Ok(Self::Object),
            _ => Err(format!("unrecognized includeObject value: {text:?}")),
        }
    }
}

/// A column's definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// The heading; kubectl prints it in capitals.
    pub name: &'static str,
    /// `string` or `integer`.
    pub kind: &'static str,
    /// `name` for the object's name, else empty.
    pub format: &'static str,
    /// What it means.
    pub description: &'static str,
    /// 0 is always shown, 1 only with `-o wide`.
    pub priority: u8,
}

/// The table of `objects`, all of `kind`, as of `now`. `metadata` is that of the list (or the
/// object's `resourceVersion` for a get or a watch event). Later events of a watch go without
/// column definitions.
pub fn render<'a>(
    kind: Kind,
    objects: impl IntoIterator<Item = &'a Value>,
    metadata: &Value,
    now: Timestamp,
    include: IncludeObject,
    with_columns: bool,
) -> Value {
    let rows: Vec<Value> =
        objects.into_iter().map(|object| row(kind, object, now, include)).collect();
    let columns: Vec<Value> =
        if with_columns { columns(kind).iter().map(definition).collect() } else { Vec::new() };
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": columns,
        "rows": rows,
    })
}

/// The columns of a kind; each row has as many cells.
pub fn columns(kind: Kind) -> &'static [Column] {
    match kind {
        Kind::Pod => pod::COLUMNS,
        Kind::Node => node::COLUMNS,
        Kind::Service => service::COLUMNS,
        Kind::EndpointSlice => service::SLICE_COLUMNS,
        Kind::Deployment => workload::DEPLOYMENT_COLUMNS,
        Kind::ReplicaSet => workload::REPLICA_SET_COLUMNS,
        Kind::Event => event::COLUMNS,
        Kind::Namespace => cell::NAMESPACE_COLUMNS,
        Kind::Lease => cell::LEASE_COLUMNS,
        Kind::ConfigMap => cell::CONFIG_MAP_COLUMNS,
        Kind::Secret => cell::SECRET_COLUMNS,
        Kind::ServiceAccount => cell::SERVICE_ACCOUNT_COLUMNS,
        Kind::PriorityClass => cell::PRIORITY_CLASS_COLUMNS,
        Kind::PersistentVolume => volume::PERSISTENT_VOLUME_COLUMNS,
        Kind::PersistentVolumeClaim => volume::CLAIM_COLUMNS,
        Kind::StorageClass => volume::STORAGE_CLASS_COLUMNS,
        Kind::CsiNode => volume::CSI_NODE_COLUMNS,
        Kind::CsiDriver => volume::CSI_DRIVER_COLUMNS,
        Kind::CsiStorageCapacity => volume::CAPACITY_COLUMNS,
        Kind::VolumeAttachment => volume::ATTACHMENT_COLUMNS,
        Kind::PodDisruptionBudget => cell::POD_DISRUPTION_BUDGET_COLUMNS,
        Kind::ResourceClaim => device::CLAIM_COLUMNS,
        Kind::ResourceSlice => device::SLICE_COLUMNS,
        Kind::ReplicationController => workload::REPLICA_SET_COLUMNS,
        Kind::StatefulSet => workload::STATEFUL_SET_COLUMNS,
        Kind::DaemonSet => workload::DAEMON_SET_COLUMNS,
        Kind::DeviceClass | Kind::ResourceClaimTemplate | Kind::Workload => cell::PLAIN_COLUMNS,
        Kind::TokenReview
        | Kind::SelfSubjectReview
        | Kind::SubjectAccessReview
        | Kind::LocalSubjectAccessReview
        | Kind::SelfSubjectAccessReview
        | Kind::Binding
        | Kind::Eviction
        | Kind::Scale
        | Kind::DeleteOptions => cell::OTHER_COLUMNS,
    }
}

fn cells(kind: Kind, object: &Value, now: Timestamp) -> Vec<Value> {
    match kind {
        Kind::Pod => pod::cells(object, now),
        Kind::Node => node::cells(object, now),
        Kind::Service => service::cells(object, now),
        Kind::EndpointSlice => service::slice_cells(object, now),
        Kind::Deployment => workload::deployment_cells(object, now),
        Kind::ReplicaSet => workload::replica_set_cells(object, now),
        Kind::Event => event::cells(object, now),
        Kind::Namespace => cell::namespace(object, now),
        Kind::Lease => cell::lease(object, now),
        Kind::ConfigMap => cell::config_map(object, now),
        Kind::Secret => cell::secret(object, now),
        Kind::ServiceAccount => cell::service_account(object, now),
        Kind::PriorityClass => cell::priority_class(object, now),
        Kind::PersistentVolume => volume::persistent_volume(object, now),
        Kind::PersistentVolumeClaim => volume::claim(object, now),
        Kind::StorageClass => volume::storage_class(object, now),
        Kind::CsiNode => volume::csi_node(object, now),
        Kind::CsiDriver => volume::csi_driver(object, now),
        Kind::CsiStorageCapacity => volume::capacity(object, now),
        Kind::VolumeAttachment => volume::attachment(object, now),
        Kind::PodDisruptionBudget => cell::pod_disruption_budget(object, now),
        Kind::ResourceClaim => device::claim(object, now),
        Kind::ResourceSlice => device::slice(object, now),
        Kind::ReplicationController => workload::replica_set_cells(object, now),
        Kind::StatefulSet => workload::stateful_set_cells(object, now),
        Kind::DaemonSet => workload::daemon_set_cells(object, now),
        Kind::DeviceClass | Kind::ResourceClaimTemplate | Kind::Workload => {
            vec![cell::name(object), cell::age(object, now)]
        }
        Kind::TokenReview
        | Kind::SelfSubjectReview
        | Kind::SubjectAccessReview
        | Kind::LocalSubjectAccessReview
        | Kind::SelfSubjectAccessReview
        | Kind::Binding
        | Kind::Eviction
        | Kind::Scale
        | Kind::DeleteOptions => {
            vec![cell::name(object), cell::created(object)]
        }
    }
}

fn row(kind: Kind, object: &Value, now: Timestamp, include: IncludeObject) -> Value {
    let mut row = json!({ "cells": cells(kind, object, now) });
    if kind == Kind::Pod
        && let Some(condition) = pod::completed(object)
    {
        row["conditions"] = json!([condition]);
    }
    match include {
        IncludeObject::None => {}
        IncludeObject::Metadata => {
            row["object"] = json!({
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": object["metadata"],
            });
        }
        IncludeObject::Object => row["object"] = object.clone(),
    }
    row
}

fn definition(column: &Column) -> Value {
    json!({
        "name": column.name,
        "type": column.kind,
        "format": column.format,
        "description": column.description,
        "priority": column.priority,
    })
}
