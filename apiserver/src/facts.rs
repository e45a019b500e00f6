//! What selectors see of an object: namespace, name, labels and the fields of its kind. Kept beside
//! an object's bytes, so that lists and watches need not read the object.

use pintle_api::fields;
use pintle_api::labels::LabelSet;
use pintle_api::scheme::Kind;
use serde_json::Value;

use crate::object;

/// Texts one after the other: namespace, name, the kind's fields in their order, then each label's
/// key and value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    fields: &'static [&'static str],
    text: Box<str>,
    ends: Box<[u32]>,
}

impl Facts {
    pub(crate) fn of(kind: Kind, object: &Value) -> Self {
        let mut packed = Packed::default();
        packed.push(object::namespace(object));
        packed.push(object::name(object));
        let fields = fields::fields_of(kind);
        for field in fields {
            packed.push(&fields::value_of(object, field));
        }
        let labels = object.get("metadata").and_then(|metadata| metadata.get("labels"));
        for (key, value) in labels.and_then(Value::as_object).into_iter().flatten() {
            packed.push(key);
            packed.push(value.as_str().unwrap_or_default());
        }
        Self { fields, text: packed.text.into(), ends: packed.ends.into() }
    }

    /// The same but for some fields.
    pub(crate) fn with(&self, changed: &[(&str, &str)]) -> Self {
        let mut packed = Packed::default();
        for index in 0..self.ends.len() {
            let field = index.checked_sub(OWN).and_then(|index| self.fields.get(index));
            let new = changed.iter().find(|(name, _)| field == Some(name));
            packed.push(new.map_or_else(|| self.at(index), |(_, value)| value));
        }
        Self { fields: self.fields, text: packed.text.into(), ends: packed.ends.into() }
    }

    /// The same of another namespace and name.
    pub(crate) fn named(&self, namespace: &str, name: &str) -> Self {
        let mut packed = Packed::default();
        packed.push(namespace);
        packed.push(name);
        (OWN..self.ends.len()).for_each(|index| packed.push(self.at(index)));
        Self { fields: self.fields, text: packed.text.into(), ends: packed.ends.into() }
    }

    pub(crate) fn namespace(&self) -> &str {
        self.at(0)
    }

    pub(crate) fn name(&self) -> &str {
        self.at(1)
    }

    /// A field that a selector may name.
    pub(crate) fn field(&self, name: &str) -> &str {
        match name {
            "metadata.namespace" => self.namespace(),
            "metadata.name" => self.name(),
            _ => {
                let index = self.fields.iter().position(|field| *field == name);
                index.map_or("", |index| self.at(OWN + index))
            }
        }
    }

    fn at(&self, index: usize) -> &str {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start as usize..self.ends[index] as usize]
    }
}

impl LabelSet for Facts {
    fn label(&self, key: &str) -> Option<&str> {
        let first = OWN + self.fields.len();
        let index = (first..self.ends.len()).step_by(2).find(|index| self.at(*index) == key)?;
        Some(self.at(index + 1))
    }
}

#[derive(Default)]
struct Packed {
    text: String,
    ends: Vec<u32>,
}

impl Packed {
    fn push(&mut self, text: &str) {
        self.text.push_str(text);
        // An object is at most 3 MiB.
        self.ends.push(u32::try_from(self.text.len()).unwrap_or(u32::MAX));
    }
}

/// Namespace and name come first.
const OWN: usize = 2;

#[cfg(test)]
mod tests {
    use pintle_api::labels;
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_see_what_they_see_of_the_object() {
        let pod = json!({
            "metadata": {"name": "a", "namespace": "ns", "labels": {"app": "x", "e": "", "z": "é"}},
            "spec": {"nodeName": "n1", "hostNetwork": true},
            "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "::1"}]},
        });
        let facts = Facts::of(Kind::Pod, &pod);
        assert_eq!((facts.namespace(), facts.name()), ("ns", "a"));
        for field in fields::fields_of(Kind::Pod) {
            assert_eq!(facts.field(field), fields::value_of(&pod, field), "{field}");
        }
        assert_eq!(facts.field("spec.nodeName"), "n1");
        for text in ["app=x", "app!=x", "e=", "z=a", "z", "!z", "other", "app in (x,y),z"] {
            let selector = labels::parse(text).unwrap();
            let expected = selector.matches(&pod["metadata"]["labels"]);
            assert_eq!(selector.matches(&facts), expected, "{text}");
        }
    }

    #[test]
    fn an_object_without_anything_has_empty_facts() {
        let facts = Facts::of(Kind::ConfigMap, &json!({}));
        assert_eq!((facts.namespace(), facts.name(), facts.label("a")), ("", "", None));
        assert_eq!(facts.field("metadata.name"), "");
    }
}
