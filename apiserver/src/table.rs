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
    layout(kind).0
}

/// A kind's columns, and the cells of an object's row.
type Layout = (&'static [Column], fn(&Value, Timestamp) -> Vec<Value>);

fn layout(kind: Kind) -> Layout {
    match kind {
        Kind::Pod => (pod::COLUMNS, pod::cells),
        Kind::Node => (node::COLUMNS, node::cells),
        Kind::Service => (service::COLUMNS, service::cells),
        Kind::EndpointSlice => (service::SLICE_COLUMNS, service::slice_cells),
        Kind::Deployment => (workload::DEPLOYMENT_COLUMNS, workload::deployment_cells),
        Kind::ReplicaSet => (workload::REPLICA_SET_COLUMNS, workload::replica_set_cells),
        Kind::Event => (event::COLUMNS, event::cells),
        Kind::Namespace => (cell::NAMESPACE_COLUMNS, cell::namespace),
        Kind::Lease => (cell::LEASE_COLUMNS, cell::lease),
        Kind::ConfigMap => (cell::CONFIG_MAP_COLUMNS, cell::config_map),
        Kind::Secret => (cell::SECRET_COLUMNS, cell::secret),
        Kind::ServiceAccount => (cell::SERVICE_ACCOUNT_COLUMNS, cell::service_account),
        Kind::PriorityClass => (cell::PRIORITY_CLASS_COLUMNS, cell::priority_class),
        Kind::PersistentVolume => (volume::PERSISTENT_VOLUME_COLUMNS, volume::persistent_volume),
        Kind::PersistentVolumeClaim => (volume::CLAIM_COLUMNS, volume::claim),
        Kind::StorageClass => (volume::STORAGE_CLASS_COLUMNS, volume::storage_class),
        Kind::CsiNode => (volume::CSI_NODE_COLUMNS, volume::csi_node),
        Kind::CsiDriver => (volume::CSI_DRIVER_COLUMNS, volume::csi_driver),
        Kind::CsiStorageCapacity => (volume::CAPACITY_COLUMNS, volume::capacity),
        Kind::VolumeAttachment => (volume::ATTACHMENT_COLUMNS, volume::attachment),
        Kind::PodDisruptionBudget => {
            (cell::POD_DISRUPTION_BUDGET_COLUMNS, cell::pod_disruption_budget)
        }
        Kind::ResourceClaim => (device::CLAIM_COLUMNS, device::claim),
        Kind::ResourceSlice => (device::SLICE_COLUMNS, device::slice),
        Kind::ReplicationController => (workload::REPLICA_SET_COLUMNS, workload::replica_set_cells),
        Kind::StatefulSet => (workload::STATEFUL_SET_COLUMNS, workload::stateful_set_cells),
        Kind::DaemonSet => (workload::DAEMON_SET_COLUMNS, workload::daemon_set_cells),
        Kind::DeviceClass
        | Kind::DeviceTaintRule
        | Kind::ResourceClaimTemplate
        | Kind::Workload => (cell::PLAIN_COLUMNS, cell::plain),
        Kind::TokenReview
        | Kind::SelfSubjectReview
        | Kind::SubjectAccessReview
        | Kind::LocalSubjectAccessReview
        | Kind::SelfSubjectAccessReview
        | Kind::Binding
        | Kind::Eviction
        | Kind::Scale
        | Kind::DeleteOptions => (cell::OTHER_COLUMNS, cell::other),
    }
}

fn row(kind: Kind, object: &Value, now: Timestamp, include: IncludeObject) -> Value {
    let mut row = json!({ "cells": layout(kind).1(object, now) });
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
