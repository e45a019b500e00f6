//! A pod's JSON as text, field by field: who needs one field decodes that one.

use serde::Deserialize;
use serde_json::value::RawValue;

/// The five fields that a pod has.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PodText<'a> {
    #[serde(borrow)]
    pub(crate) api_version: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) kind: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) metadata: &'a RawValue,
    #[serde(borrow)]
    pub(crate) spec: &'a RawValue,
    #[serde(borrow)]
    pub(crate) status: Option<&'a RawValue>,
}

/// The three that differ from pod to pod, of a stored form, with what is between them.
pub(crate) struct StoredText<'a> {
    text: &'a str,
    pub(crate) metadata: &'a str,
    pub(crate) spec: &'a RawValue,
    pub(crate) status: &'a str,
}

impl<'a> PodText<'a> {
    /// `None` if it has other fields.
    pub(crate) fn of(json: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }
}

impl<'a> StoredText<'a> {
    /// `None` if the fields are not in the order of the stored form, or not all there.
    pub(crate) fn of(stored: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(stored).ok()?;
        let pod: PodText<'a> = serde_json::from_str(text).ok()?;
        let (metadata, status) = (pod.metadata.get(), pod.status?.get());
        let parts = [pod.api_version?.get(), pod.kind?.get(), metadata, pod.spec.get(), status];
        let is_in_order = parts.is_sorted_by_key(|part| part.as_ptr());
        is_in_order.then_some(Self { text, metadata, spec: pod.spec, status })
    }

    /// The text from the beginning to this part of it.
    pub(crate) fn before(&self, part: &str) -> Option<&'a str> {
        self.text.get(..self.offset(part)?)
    }

    /// The text between two parts of it.
    pub(crate) fn between(&self, first: &str, second: &str) -> Option<&'a str> {
        self.text.get(self.offset(first)? + first.len()..self.offset(second)?)
    }

    /// The text after this part of it.
    pub(crate) fn after(&self, part: &str) -> Option<&'a str> {
        self.text.get(self.offset(part)? + part.len()..)
    }

    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }

    fn offset(&self, part: &str) -> Option<usize> {
        (part.as_ptr() as usize).checked_sub(self.text.as_ptr() as usize)
    }
}
