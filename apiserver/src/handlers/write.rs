//! The one way in which an existing object is replaced: read, change, check, compare and put.
//!
//! Used by update, patch, scale and the subresources of status; they differ in the change and in the
//! [`Part`] of the object that they may touch. A binding goes its own, shorter way.

use bytes::Bytes;
use pintle_api::scheme::{Kind, Resource};
use pintle_api::status::{Status, Subject};
use pintle_api::{defaults, validation};
use serde_json::Value;

use crate::object;
use crate::registry::{self, strategy};
use crate::request::Target;
use crate::server::Core;
use crate::storage::{self, Current, Stored};

/// The part of an object that a write is about; the rest stays as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// A namespace's `spec.finalizers`.
    Finalize,
    /// Everything but the status.
    Main,
    /// What a pod's containers ask for.
    Resize,
    /// The status.
    Status,
}

/// A write.
#[derive(Clone, Copy)]
pub(super) struct Write<'a> {
    pub(super) resource: &'static Resource,
    pub(super) target: &'a Target,
    pub(super) part: Part,
    pub(super) dry_run: bool,
}

impl Write<'_> {
    /// Replace the object by what `change` makes of it, at the resourceVersion that the result
    /// names; if it names none, or the one that was read, try again when the object was changed
    /// meanwhile. Returns the object as it is now.
    pub(super) async fn apply<F>(self, core: &Core, mut change: F) -> Result<Stored, Status>
    where
        F: FnMut(Value) -> Result<Value, Status>,
    {
        let target = self.target;
        for _ in 0..TRIES_MAX {
            let old = core.storage.get(self.resource, &target.namespace, &target.name).await?;
            let mut new = change(old.full())?;
            self.check_identity(&new, &old)?;
            self.prepare(&mut new, &old.object)?;
            let encoded = object::encode(&new);
            if encoded == old.bytes {
                return Ok(Stored::unwritten(self.resource.kind, &old.object, old.revision));
            }
            match self.store(core, new, encoded, &old).await? {
                Some(done) => return Ok(done),
                None => tokio::task::yield_now().await,
            }
        }
        Err(Status::modified(storage::subject(self.resource, &target.name)))
    }

    pub(super) fn check_identity(&self, new: &Value, old: &Current) -> Result<(), Status> {
        let subject = storage::subject(self.resource, &self.target.name);
        let revision = object::meta(new, "resourceVersion");
        if !revision.is_empty() {
            let invalid = |_| {
                let mut errors = pintle_api::field::Errors::new();
                let path = pintle_api::field::Path::new("metadata");
                errors.invalid(&path.child("resourceVersion"), revision, "must be a number");
                Status::invalid(kind_subject(self.resource, &self.target.name), &errors)
            };
            let wanted: u64 = revision.parse().map_err(invalid)?;
            if wanted != 0 && wanted != old.revision {
                return Err(Status::modified(subject));
            }
        }
        let (uid, was) = (object::meta(new, "uid"), object::meta(&old.object, "uid"));
        if !uid.is_empty() && uid != was {
            let why = format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {was}"
            );
            return Err(Status::conflict(subject, &why));
        }
        Ok(())
    }

    fn prepare(&self, new: &mut Value, old: &Value) -> Result<(), Status> {
        let kind = self.resource.kind;
        keep_system_fields(new, old);
        match self.part {
            Part::Main => strategy::main_update(self.resource, new, old),
            Part::Resize => strategy::resize_update(new, old),
            Part::Status => strategy::status_update(kind, new, old),
            Part::Finalize => strategy::finalize_update(new, old),
        }
        defaults::apply(kind, new);
        strategy::bump_generation(kind, new, old);
        let errors = match self.part {
            Part::Main => validation::update(kind, new, old),
            Part::Resize => validation::resize(new, old),
            Part::Status => validation::update_status(kind, new, old),
            Part::Finalize => return Ok(()),
        };
        if errors.is_empty() {
            return Ok(());
        }
        Err(Status::invalid(kind_subject(self.resource, &self.target.name), &errors))
    }

    /// `None`: the object was changed meanwhile.
    async fn store(
        &self,
        core: &Core,
        mut new: Value,
        mut encoded: Bytes,
        old: &Current,
    ) -> Result<Option<Stored>, Status> {
        let key = storage::key(self.resource, &self.target.namespace, &self.target.name);
        let kind = self.resource.kind;
        let claim = match kind {
            Kind::Service => Some(core.allocators.claim(&mut new, Some(&old.object))?),
            _ => None,
        };
        if self.dry_run {
            return Ok(Some(Stored::unwritten(kind, &new, old.revision)));
        }
        if claim.is_some() {
            encoded = object::encode(&new);
        }
        let ends = registry::is_finished(kind, &new);
        let written = if ends {
            let removed = core.storage.remove(key, old.revision).await?;
            removed.map(|revision| Stored::unwritten(kind, &new, revision))
        } else {
            core.storage.put_encoded(kind, key, &new, encoded, old.revision).await?
        };
        let Some(written) = written else { return Ok(None) };
        if let Some(claim) = claim {
            claim.keep();
        }
        if ends {
            core.allocators.release(kind, &new);
        }
        Ok(Some(written))
    }
}

/// What only the server sets.
pub(super) fn keep_system_fields(new: &mut Value, old: &Value) {
    let metadata = object::metadata(new);
    for field in [
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "generateName",
        "generation",
        "namespace",
        "uid",
    ] {
        match old["metadata"].get(field) {
            Some(value) => _ = metadata.insert(field.to_owned(), value.clone()),
            None => _ = metadata.remove(field),
        }
    }
    for field in ["managedFields", "selfLink"] {
        metadata.shift_remove(field);
    }
}

/// What [`Status::invalid`] is about: the kind, not the resource.
pub(super) fn kind_subject<'a>(resource: &Resource, name: &'a str) -> Subject<'a> {
    let (group, _, kind) = resource.kind.gvk();
    Subject { group, kind, name }
}

/// A write that loses this often against others is told so.
pub(super) const TRIES_MAX: usize = 32;
