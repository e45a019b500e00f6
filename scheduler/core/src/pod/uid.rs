//! What tells pods apart.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

/// What tells pods apart over their whole life: `metadata.uid`, or `namespace/name` where a pod was
/// never given one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodUid(Form);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    /// A UUID as API servers write it, in place: compared and hashed without a look elsewhere.
    Uuid(u64, u64),
    Text(Arc<str>),
}

impl PodUid {
    /// The pod's identity.
    pub fn of(pod: &Pod) -> Self {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        match pod.metadata.uid.as_deref().filter(|uid| !uid.is_empty()) {
            Some(uid) => Self::new(uid),
            None => {
                let (namespace, name) = (&pod.metadata.namespace, &pod.metadata.name);
                Self::new(&format!("{}/{}", text(namespace), text(name)))
            }
        }
    }

    fn new(text: &str) -> Self {
        Self(uuid(text).unwrap_or_else(|| Form::Text(Arc::from(text))))
    }
}

/// Only the one way in which API servers write it: the text must come out as it went in.
fn uuid(text: &str) -> Option<Form> {
    let bytes = text.as_bytes();
    if bytes.len() != 36 {
        return None;
    }
    let mut value = 0_u128;
    for (at, &byte) in bytes.iter().enumerate() {
        let digit = match byte {
            b'-' if HYPHENS.contains(&at) => continue,
            _ if HYPHENS.contains(&at) => return None,
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        value = value << 4 | u128::from(digit);
    }
    let low = u64::try_from(value & u128::from(u64::MAX)).ok()?;
    Some(Form::Uuid(u64::try_from(value >> 64).ok()?, low))
}

/// Where a UUID has them.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];

impl Hash for Form {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Uuid(high, low) => {
                state.write_u64(*high);
                state.write_u64(*low);
            }
            Self::Text(text) => text.hash(state),
        }
    }
}

impl fmt::Display for PodUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::Uuid(high, low) => {
                let (a, b, c) = (high >> 32, high >> 16 & 0xffff, high & 0xffff);
                let (d, e) = (low >> 48, low & 0xffff_ffff_ffff);
                write!(f, "{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}")
            }
            Form::Text(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_written_as_it_was_read(
            text in "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-fA-F-]{36}",
            other in "[0-9a-f]{8}-0000-4000-8000-[0-9a-f]{12}",
        ) {
            prop_assert_eq!(PodUid::new(&text).to_string(), text.clone());
            prop_assert_eq!(PodUid::new(&text) == PodUid::new(&other), text == other);
        }
    }

    #[test]
    fn only_the_one_way_of_writing_is_kept_in_place() {
        let is_in_place = |text: &str| matches!(PodUid::new(text).0, Form::Uuid(..));
        assert!(is_in_place("01234567-89ab-cdef-0123-456789abcdef"));
        for text in [
            "01234567-89AB-cdef-0123-456789abcdef",
            "0123456789ab-cdef-0123-456789abcdef-",
            "01234567-89ab-cdef-0123-456789abcde",
            "default/p",
            "",
        ] {
            assert!(!is_in_place(text), "{text}");
            assert_eq!(PodUid::new(text).to_string(), text);
        }
    }
}
