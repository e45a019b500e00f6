//! What is particular to a kind: which fields a write may touch, what is set on creation, when an
//! object is done with, and what is allocated for Services.

mod allocator;
mod pod;
pub(crate) mod strategy;

use pintle_api::scheme::Kind;
use serde_json::Value;

use crate::object;

pub(crate) use allocator::Allocators;

/// Whether nothing holds a deleted object any more: finalizers, grace period, and for a namespace
/// its `spec.finalizers`.
pub(crate) fn is_finished(kind: Kind, object: &Value) -> bool {
    let grace = object["metadata"]["deletionGracePeriodSeconds"].as_u64().unwrap_or(0);
    let held = match kind {
        Kind::Namespace => {
            object["spec"]["finalizers"].as_array().is_some_and(|list| !list.is_empty())
        }
        _ => false,
    };
    object::is_deleting(object) && object::finalizers(object).is_empty() && grace == 0 && !held
}
