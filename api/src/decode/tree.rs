//! Bytes to a [`Value`], with duplicate keys reported by path and depth bounded.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::map::Entry;
use serde_json::{Map, Number, Value};

use super::{DEPTH_MAX, DEPTH_YAML_MAX, DecodeError, Document, FINDINGS_MAX, Syntax};
use crate::field::Path;

pub(super) fn parse(bytes: &[u8], syntax: Syntax) -> Result<Document, DecodeError> {
    let duplicates = RefCell::new(Vec::new());
    let tree = Tree { path: &Path::OBJECT, depth: 0, duplicates: &duplicates };
    let value = match syntax {
        Syntax::Json => json(bytes, tree),
        Syntax::Yaml => yaml(bytes, tree),
    }
    .map_err(DecodeError::Syntax)?;
    Ok(Document { value, duplicates: duplicates.into_inner() })
}

fn json(bytes: &[u8], tree: Tree<'_>) -> Result<Value, String> {
    let text = |error: serde_json::Error| format!("json parse error: {error}");
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = tree.deserialize(&mut deserializer).map_err(text)?;
    deserializer.end().map_err(text)?;
    Ok(value)
}

fn yaml(bytes: &[u8], tree: Tree<'_>) -> Result<Value, String> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: DEPTH_YAML_MAX },
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins,
        with_snippet: false,
    };
    serde_saphyr::with_deserializer_from_slice_with_options(bytes, options, |deserializer| {
        tree.deserialize(deserializer)
    })
    .map_err(|error| format!("yaml parse error: {error}"))
}

#[derive(Clone, Copy)]
struct Tree<'a> {
    path: &'a Path<'a>,
    depth: usize,
    duplicates: &'a RefCell<Vec<String>>,
}

impl<'a> Tree<'a> {
    fn below<'b>(&self, path: &'b Path<'b>) -> Tree<'b>
    where
        'a: 'b,
    {
        Tree { path, depth: self.depth + 1, duplicates: self.duplicates }
    }

    fn check_depth<E: serde::de::Error>(&self) -> Result<(), E> {
        if self.depth < DEPTH_MAX {
            return Ok(());
        }
        Err(E::custom(format_args!("nested deeper than {DEPTH_MAX} levels at {}", self.path)))
    }
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value);
        number.map(Value::Number).ok_or_else(|| E::custom("a number must be finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        self.check_depth()?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self.below(&self.path.index(items.len())))? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        self.check_depth()?;
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = map.next_value_seed(self.below(&self.path.child(&key)))?;
            match object.entry(key) {
                Entry::Vacant(entry) => _ = entry.insert(value),
                Entry::Occupied(mut entry) => {
                    let mut duplicates = self.duplicates.borrow_mut();
                    if duplicates.len() < FINDINGS_MAX {
                        let path = self.path.child(entry.key());
                        duplicates.push(format!("duplicate field \"{path}\""));
                    }
                    entry.insert(value);
                }
            }
        }
        if object.len() > OBJECT_KEYS_MAX {
            return Err(A::Error::custom(format_args!("too many keys in {}", self.path)));
        }
        Ok(Value::Object(object))
    }
}

/// More keys than fit into the largest body (3 MiB) at 8 bytes each cannot come from one.
const OBJECT_KEYS_MAX: usize = 400_000;
