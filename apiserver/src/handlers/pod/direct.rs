//! Writes of pods that have not the form of a request, for a scheduler in this process. What is
//! plain is cut into the stored form; the rest goes the way of the requests that say the same.

use http::StatusCode;
use pintle_api::decode::FieldValidation;
use pintle_api::patch::{Format, Patch};
use pintle_api::scheme::{self, Kind};
use pintle_api::status::Status;
use pintle_client::{PodBinding, PodDeletion, PodEviction, PodStatusChange};

use super::{Wanted, check_node, splice};
use crate::handlers::options::DeleteOptions;
use crate::handlers::write::{Part, Write};
use crate::handlers::{delete, patch, update};
use crate::request::Info;
use crate::server::Core;
use crate::storage;

/// A write of a pod.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PodWrite<'a> {
    Bind(PodBinding<'a>),
    ChangeStatus(PodStatusChange<'a>),
    Delete(PodDeletion<'a>),
    Evict(PodEviction<'a>),
}

impl PodWrite<'_> {
    /// The request that says the same; of two the last.
    pub(crate) fn info(&self) -> Info {
        match *self {
            Self::Bind(PodBinding { namespace, name, .. }) => {
                Info::of_pod("create", "binding", namespace, name)
            }
            Self::ChangeStatus(PodStatusChange { namespace, name, .. }) => {
                Info::of_pod("patch", "status", namespace, name)
            }
            Self::Delete(PodDeletion { namespace, name, .. })
            | Self::Evict(PodEviction { deletion: PodDeletion { namespace, name, .. }, .. }) => {
                Info::of_pod("delete", "", namespace, name)
            }
        }
    }

    /// The request that comes before that, if there are two.
    pub(crate) fn first(&self) -> Option<Info> {
        match *self {
            Self::Evict(PodEviction { deletion: PodDeletion { namespace, name, .. }, .. }) => {
                Some(Info::of_pod("patch", "status", namespace, name))
            }
            _ => None,
        }
    }

    /// How that is answered.
    pub(crate) fn code(&self) -> StatusCode {
        match self {
            Self::Bind(_) => StatusCode::CREATED,
            Self::ChangeStatus(_) | Self::Delete(_) | Self::Evict(_) => StatusCode::OK,
        }
    }

    /// Write, for a user who may. Bindings are the most by far, and are not to be as large as the rest.
    pub(crate) async fn perform(&self, core: &Core) -> Result<(), Status> {
        match self {
            Self::Bind(binding) => bind(core, binding).await,
            Self::ChangeStatus(change) => Box::pin(change_status(core, change)).await,
            Self::Delete(deletion) => Box::pin(remove(core, deletion)).await,
            Self::Evict(eviction) => Box::pin(evict(core, eviction)).await,
        }
    }
}

/// Put a pod on a node, once.
async fn bind(core: &Core, binding: &PodBinding<'_>) -> Result<(), Status> {
    let PodBinding { namespace, name, uid, node } = *binding;
    check_node(name, "Node", node)?;
    let wanted = Wanted { uid: uid.unwrap_or_default(), node, ..Wanted::default() };
    super::write(core, namespace, name, &wanted, false).await
}

async fn change_status(core: &Core, change: &PodStatusChange<'_>) -> Result<(), Status> {
    let PodStatusChange { namespace, name, .. } = *change;
    let resource = scheme::of(Kind::Pod).ok_or_else(Status::no_such_path)?;
    let key = storage::key(resource, namespace, name);
    if let Some(known) = core.cache.get_by_key(resource, &key)
        && let Some((bytes, facts)) = splice::changed(&known, change)
        && core.storage.put_bytes(key, facts, bytes, known.revision).await?.is_some()
    {
        return Ok(());
    }
    let patch = Patch::parse(Format::Strategic, change.patch().to_string().as_bytes())?;
    let info = PodWrite::ChangeStatus(*change).info();
    let target = info.target.as_ref().ok_or_else(Status::no_such_path)?;
    let write = Write { resource, target, part: Part::Status, dry_run: false };
    let change = |current| {
        let (mut object, _) = patch::apply(FieldValidation::Warn, &patch, Kind::Pod, current)?;
        update::check_address(resource, target, &mut object)?;
        Ok(object)
    };
    Box::pin(write.apply(core, change)).await.map(drop)
}

async fn remove(core: &Core, deletion: &PodDeletion<'_>) -> Result<(), Status> {
    let PodDeletion { namespace, name, uid } = *deletion;
    let resource = scheme::of(Kind::Pod).ok_or_else(Status::no_such_path)?;
    let key = storage::key(resource, namespace, name);
    if let Some(known) = core.cache.get_by_key(resource, &key)
        && splice::goes_at_once(&known, uid)
        && core.storage.remove(key, known.revision).await?.is_some()
    {
        return Ok(());
    }
    let options = DeleteOptions { uid: uid.map(str::to_owned), ..DeleteOptions::default() };
    let deleted = delete::delete_object(core, resource, namespace, name, &options);
    Box::pin(deleted).await.map(drop)
}

/// What is told and the removal are one write where the pod goes at once.
async fn evict(core: &Core, eviction: &PodEviction<'_>) -> Result<(), Status> {
    let PodDeletion { namespace, name, uid } = eviction.deletion;
    let change = eviction.change();
    let resource = scheme::of(Kind::Pod).ok_or_else(Status::no_such_path)?;
    let key = storage::key(resource, namespace, name);
    if let Some(known) = core.cache.get_by_key(resource, &key)
        && splice::goes_at_once(&known, uid)
        && let Some((bytes, facts)) = splice::changed(&known, &change)
        && core.storage.put_and_remove(key, facts, bytes, known.revision).await?
    {
        return Ok(());
    }
    change_status(core, &change).await?;
    remove(core, &eviction.deletion).await
}
