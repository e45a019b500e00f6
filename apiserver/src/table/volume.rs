//! Volumes and claims, and the kinds of `storage.k8s.io`.

use jiff::Timestamp;
use serde_json::Value;

use super::Column;
use super::cell::{self, AGE, NAME, count_column, list, text, text_column, wide};

const UNSET: &str = "<unset>";
const ATTRIBUTES_CLASS: Column =
    text_column("VolumeAttributesClass", "The class of the volume's attributes.");
const CLASS: Column = text_column("StorageClass", "The class that the volume belongs to.");
const VOLUME_MODE: Column =
    wide(text_column("VolumeMode", "Whether it is a filesystem or a block device."));

pub(super) const PERSISTENT_VOLUME_COLUMNS: &[Column] = &[
    NAME,
    text_column("Capacity", "The size of the volume."),
    text_column("Access Modes", "All ways in which the volume can be mounted."),
    text_column("Reclaim Policy", "What happens to the volume when its claim lets go of it."),
    text_column("Status", "The phase of the volume."),
    text_column("Claim", "The claim that the volume is bound to."),
    CLASS,
    ATTRIBUTES_CLASS,
    text_column("Reason", "Why the volume is in a failed state."),
    AGE,
    VOLUME_MODE,
];

pub(super) fn persistent_volume(volume: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&volume["spec"], &volume["status"]);
    let claim = match text(&spec["claimRef"]["name"]) {
        "" => String::new(),
        name => format!("{}/{name}", text(&spec["claimRef"]["namespace"])),
    };
    vec![
        cell::name(volume),
        text(&spec["capacity"]["storage"]).into(),
        access_modes(&spec["accessModes"]).into(),
        text(&spec["persistentVolumeReclaimPolicy"]).into(),
        phase(volume).into(),
        claim.into(),
        text(&spec["storageClassName"]).into(),
        or_unset(&spec["volumeAttributesClassName"]).into(),
        text(&status["reason"]).into(),
        cell::age(volume, now),
        or_unset(&spec["volumeMode"]).into(),
    ]
}

pub(super) const CLAIM_COLUMNS: &[Column] = &[
    NAME,
    text_column("Status", "The phase of the claim."),
    text_column("Volume", "The volume that the claim is bound to."),
    text_column("Capacity", "The size of that volume."),
    text_column("Access Modes", "The ways in which that volume can be mounted."),
    CLASS,
    ATTRIBUTES_CLASS,
    AGE,
    VOLUME_MODE,
];

pub(super) fn claim(claim: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&claim["spec"], &claim["status"]);
    let volume = text(&spec["volumeName"]);
    let (capacity, modes) = match volume {
        "" => ("", String::new()),
        _ => (text(&status["capacity"]["storage"]), access_modes(&status["accessModes"])),
    };
    vec![
        cell::name(claim),
        phase(claim).into(),
        volume.into(),
        capacity.into(),
        modes.into(),
        text(&spec["storageClassName"]).into(),
        or_unset(&spec["volumeAttributesClassName"]).into(),
        cell::age(claim, now),
        or_unset(&spec["volumeMode"]).into(),
    ]
}

fn phase(object: &Value) -> &str {
    let is_deleting = !object["metadata"]["deletionTimestamp"].is_null();
    if is_deleting { "Terminating" } else { text(&object["status"]["phase"]) }
}

fn or_unset(value: &Value) -> &str {
    value.as_str().unwrap_or(UNSET)
}

/// The short forms in a fixed order, each once.
fn access_modes(modes: &Value) -> String {
    let has = |mode: &str| list(modes).iter().any(|it| it == mode);
    let all = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let short: Vec<&str> =
        all.into_iter().filter(|(mode, _)| has(mode)).map(|(_, short)| short).collect();
    short.join(",")
}

pub(super) const STORAGE_CLASS_COLUMNS: &[Column] = &[
    NAME,
    text_column("Provisioner", "Who makes volumes of this class."),
    text_column("ReclaimPolicy", "What happens to a volume that its claim lets go of."),
    text_column("VolumeBindingMode", "When claims are provisioned and bound."),
    Column {
        kind: "boolean",
        ..text_column("AllowVolumeExpansion", "Whether volumes of this class can grow.")
    },
    AGE,
];

pub(super) fn storage_class(class: &Value, now: Timestamp) -> Vec<Value> {
    let annotations = &class["metadata"]["annotations"];
    let is_default = ["storageclass.kubernetes.io/is-default-class", BETA_DEFAULT]
        .into_iter()
        .any(|key| annotations[key] == "true");
    let name = text(&class["metadata"]["name"]);
    let name = if is_default { format!("{name} (default)") } else { name.to_owned() };
    vec![
        name.into(),
        text(&class["provisioner"]).into(),
        class["reclaimPolicy"].as_str().unwrap_or("Delete").into(),
        class["volumeBindingMode"].as_str().unwrap_or("Immediate").into(),
        class["allowVolumeExpansion"].as_bool().unwrap_or(false).into(),
        cell::age(class, now),
    ]
}

const BETA_DEFAULT: &str = "storageclass.beta.kubernetes.io/is-default-class";

pub(super) const CSI_NODE_COLUMNS: &[Column] =
    &[NAME, count_column("Drivers", "How many CSI drivers are on the node."), AGE];

pub(super) fn csi_node(node: &Value, now: Timestamp) -> Vec<Value> {
    let drivers = list(&node["spec"]["drivers"]).len() as i64;
    vec![cell::name(node), drivers.into(), cell::age(node, now)]
}

const fn boolean(name: &'static str, description: &'static str) -> Column {
    Column { kind: "boolean", ..text_column(name, description) }
}

pub(super) const CSI_DRIVER_COLUMNS: &[Column] = &[
    NAME,
    boolean("AttachRequired", "Whether volumes must be attached before they are mounted."),
    boolean("PodInfoOnMount", "Whether the driver is told of the pod it mounts for."),
    boolean("StorageCapacity", "Whether the driver publishes its capacity."),
    text_column("TokenRequests", "The audiences of the tokens that the driver is given."),
    boolean("RequiresRepublish", "Whether volumes are published again and again."),
    text_column("Modes", "The kinds of volumes that the driver serves."),
    AGE,
];

pub(super) fn csi_driver(driver: &Value, now: Timestamp) -> Vec<Value> {
    let spec = &driver["spec"];
    let tokens = match spec["tokenRequests"].as_array() {
        None => UNSET.to_owned(),
        Some(all) => all.iter().map(|token| text(&token["audience"])).collect::<Vec<_>>().join(","),
    };
    let modes: Vec<&str> = list(&spec["volumeLifecycleModes"]).iter().map(text).collect();
    vec![
        cell::name(driver),
        spec["attachRequired"].as_bool().unwrap_or(true).into(),
        spec["podInfoOnMount"].as_bool().unwrap_or(false).into(),
        spec["storageCapacity"].as_bool().unwrap_or(false).into(),
        tokens.into(),
        spec["requiresRepublish"].as_bool().unwrap_or(false).into(),
        modes.join(",").into(),
        cell::age(driver, now),
    ]
}

pub(super) const CAPACITY_COLUMNS: &[Column] = &[
    NAME,
    text_column("StorageClassName", "The class that the capacity is for."),
    text_column("Capacity", "The size of the largest volume that can be made."),
];

pub(super) fn capacity(capacity: &Value, _: Timestamp) -> Vec<Value> {
    vec![
        cell::name(capacity),
        text(&capacity["storageClassName"]).into(),
        or_unset(&capacity["capacity"]).into(),
    ]
}

pub(super) const ATTACHMENT_COLUMNS: &[Column] = &[
    NAME,
    text_column("Attacher", "The CSI driver that attaches the volume."),
    text_column("PV", "The volume."),
    text_column("Node", "The node it is attached to."),
    boolean("Attached", "Whether it is attached."),
    AGE,
];

pub(super) fn attachment(attachment: &Value, now: Timestamp) -> Vec<Value> {
    let spec = &attachment["spec"];
    vec![
        cell::name(attachment),
        text(&spec["attacher"]).into(),
        text(&spec["source"]["persistentVolumeName"]).into(),
        text(&spec["nodeName"]).into(),
        attachment["status"]["attached"].as_bool().unwrap_or(false).into(),
        cell::age(attachment, now),
    ]
}
