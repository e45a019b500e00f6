//! A [`Value`] walked with a type: wrong types, unknown fields, nulls and quantities, in place.
//!
//! `k8s_openapi`'s deserializers route unknown fields through `IgnoredAny`, name their structs
//! and wrap quantities in a newtype; a deserializer of our own over `&mut Value` sees all three,
//! knows the path, and speaks upstream's errors.

use std::cell::{Cell, RefCell};
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess,
    Visitor,
};
use serde_json::{Map, Number, Value};

use super::FINDINGS_MAX;
use crate::field::Path;
use crate::quantity::Quantity;

/// Checks `value` against `T`; returns the unknown fields that were removed.
pub(super) fn check<T: DeserializeOwned>(value: &mut Value) -> Result<Vec<String>, String> {
    read::<T>(value).map(|(_, unknown)| unknown)
}

/// Reads `value` as a `T`, with the unknown fields that were removed.
pub(super) fn read<T: DeserializeOwned>(value: &mut Value) -> Result<(T, Vec<String>), String> {
    let state = State::default();
    let typed = T::deserialize(Cursor { value, path: &Path::OBJECT, owner: "", state: &state })
        .map_err(|error| error.message)?;
    Ok((typed, state.unknown.into_inner()))
}

/// The same of a value in which nothing has to be put right but how quantities are written; `None`
/// of any other, which may be changed by then.
pub(super) fn read_plain<T: DeserializeOwned>(value: &mut Value) -> Option<T> {
    let state = State::default();
    let cursor = Cursor { value, path: &Path::OBJECT, owner: "", state: &state };
    let typed = T::deserialize(cursor).ok()?;
    (!state.is_odd.get() && state.unknown.into_inner().is_empty()).then_some(typed)
}

#[derive(Default)]
struct State {
    unknown: RefCell<Vec<String>>,
    /// There was a null, or a number in the place of a quantity.
    is_odd: Cell<bool>,
    /// The value just read went into `IgnoredAny`.
    ignored: Cell<bool>,
}

struct Cursor<'a> {
    value: &'a mut Value,
    path: &'a Path<'a>,
    /// The struct that the field belongs to.
    owner: &'static str,
    state: &'a State,
}

#[derive(Debug)]
struct Error {
    message: String,
    has_path: bool,
}

impl Error {
    fn at(self, path: &Path<'_>) -> Self {
        if self.has_path {
            return self;
        }
        Self { message: format!("{path}: {}", self.message), has_path: true }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl serde::de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { message: message.to_string(), has_path: false }
    }
}

impl Cursor<'_> {
    /// Upstream's words for a value of the wrong type.
    fn wrong_type(&self, expected: &str) -> Error {
        let found = match &*self.value {
            Value::Null => "null".to_owned(),
            Value::Bool(_) => "bool".to_owned(),
            Value::Number(number) if is_numeric(expected) => format!("number {number}"),
            Value::Number(_) => "number".to_owned(),
            Value::String(_) => "string".to_owned(),
            Value::Array(_) => "array".to_owned(),
            Value::Object(_) => "object".to_owned(),
        };
        let (owner, path) = (self.owner, self.path);
        let message = format!(
            "json: cannot unmarshal {found} into Go struct field {owner}.{path} of type {expected}"
        );
        Error { message, has_path: true }
    }

    /// A text or number in canonical form; null is zero.
    fn normalise_quantity(&mut self) -> Result<(), Error> {
        let text = match &*self.value {
            Value::String(text) => text.as_str(),
            Value::Number(number) => {
                self.state.is_odd.set(true);
                &number.to_string()
            }
            Value::Null => "0",
            _ => return Err(self.wrong_type("resource.Quantity")),
        };
        let quantity: Quantity = text.parse().map_err(|error| Error {
            message: format!("{}: Invalid value: {text:?}: {error}", self.path),
            has_path: true,
        })?;
        *self.value = Value::String(quantity.to_string());
        Ok(())
    }
}

fn is_numeric(go_type: &str) -> bool {
    go_type.starts_with("int") || go_type.starts_with("uint") || go_type.starts_with("float")
}

macro_rules! integer {
    ($($method:ident $visit:ident $type:ty, $go:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let number = match &*self.value {
                Value::Null => Some(0),
                Value::Number(number) => integer(number).and_then(|n| <$type>::try_from(n).ok()),
                _ => None,
            };
            visitor.$visit(number.ok_or_else(|| self.wrong_type($go))?)
        }
    )*};
}

fn integer(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

impl<'de> Deserializer<'de> for Cursor<'_> {
    type Error = Error;

    integer! {
        deserialize_i8 visit_i8 i8, "int8";
        deserialize_i16 visit_i16 i16, "int16";
        deserialize_i32 visit_i32 i32, "int32";
        deserialize_i64 visit_i64 i64, "int64";
        deserialize_u8 visit_u8 u8, "uint8";
        deserialize_u16 visit_u16 u16, "uint16";
        deserialize_u32 visit_u32 u32, "uint32";
        deserialize_u64 visit_u64 u64, "uint64";
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(value), _) => visitor.visit_i64(value),
                (None, Some(value)) => visitor.visit_u64(value),
                (None, None) => visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => visitor.visit_str(text),
            Value::Array(_) => self.deserialize_seq(visitor),
            Value::Object(_) => self.deserialize_map(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Null => visitor.visit_bool(false),
            Value::Bool(value) => visitor.visit_bool(*value),
            _ => Err(self.wrong_type("bool")),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &*self.value {
            Value::Null => visitor.visit_f64(0.0),
            Value::Number(number) => visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN)),
            _ => Err(self.wrong_type("float64")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.value.is_null() {
            *self.value = Value::String(String::new());
        }
        match &*self.value {
            Value::String(text) => visitor.visit_str(text),
            _ => Err(self.wrong_type("string")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.value.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        if name == "Quantity" {
            self.normalise_quantity()?;
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let items = match self.value {
            Value::Null => [].iter_mut(),
            Value::Array(items) => items.iter_mut(),
            _ => return Err(self.wrong_type("array")),
        };
        let (path, owner, state) = (self.path, self.owner, self.state);
        visitor.visit_seq(Items { items, index: 0, path, owner, state })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let owner = self.owner;
        match self.value {
            Value::Null => visitor.visit_map(Fields::empty(self.path, owner, self.state)),
            Value::Object(map) => visitor.visit_map(Fields::new(map, self.path, owner, self.state)),
            _ => Err(self.wrong_type("map")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let map = match self.value {
            value @ Value::Null => {
                // Only in a list or map does it stay; there upstream has an empty struct.
                *value = Value::Object(Map::new());
                return visitor.visit_map(Fields::empty(self.path, name, self.state));
            }
            Value::Object(map) => map,
            _ => return Err(self.wrong_type(name)),
        };
        let mut fields = Fields::new(map, self.path, name, self.state);
        let typed = visitor.visit_map(&mut fields)?;
        let Fields { drop, .. } = fields;
        for key in drop {
            map.shift_remove(&key);
        }
        Ok(typed)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.state.ignored.set(true);
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        i128 u128 f32 char bytes byte_buf unit unit_struct tuple tuple_struct enum identifier
    }
}

struct Items<'a> {
    items: std::slice::IterMut<'a, Value>,
    index: usize,
    path: &'a Path<'a>,
    owner: &'static str,
    state: &'a State,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        let Some(value) = self.items.next() else { return Ok(None) };
        let path = self.path.index(self.index);
        self.index += 1;
        if value.is_null() {
            self.state.is_odd.set(true);
        }
        let cursor = Cursor { value, path: &path, owner: self.owner, state: self.state };
        seed.deserialize(cursor).map(Some).map_err(|error| error.at(&path))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Fields<'a> {
    entries: Option<serde_json::map::IterMut<'a>>,
    next: Option<(&'a str, &'a mut Value)>,
    path: &'a Path<'a>,
    owner: &'static str,
    state: &'a State,
    /// Keys a struct loses: unknown ones and nulls.
    drop: Vec<String>,
}

impl<'a> Fields<'a> {
    fn new(
        map: &'a mut Map<String, Value>,
        path: &'a Path<'a>,
        owner: &'static str,
        state: &'a State,
    ) -> Self {
        Self { entries: Some(map.iter_mut()), ..Self::empty(path, owner, state) }
    }

    fn empty(path: &'a Path<'a>, owner: &'static str, state: &'a State) -> Self {
        Self { entries: None, next: None, path, owner, state, drop: Vec::new() }
    }
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        let Some((key, value)) = self.entries.as_mut().and_then(Iterator::next) else {
            return Ok(None);
        };
        self.next = Some((key, value));
        let key: StrDeserializer<'_, Error> = key.as_str().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let (key, value) = self.next.take().expect("serde asks for a value after its key");
        let path = self.path.child(key);
        let is_null = value.is_null();
        if is_null {
            self.state.is_odd.set(true);
        }
        let cursor = Cursor { value, path: &path, owner: self.owner, state: self.state };
        let typed = seed.deserialize(cursor).map_err(|error| error.at(&path))?;
        let is_unknown = self.state.ignored.replace(false);
        if is_unknown {
            let mut unknown = self.state.unknown.borrow_mut();
            if unknown.len() < FINDINGS_MAX {
                unknown.push(format!("unknown field \"{path}\""));
            }
        }
        if is_unknown || is_null {
            self.drop.push(key.to_owned());
        }
        Ok(typed)
    }
}
