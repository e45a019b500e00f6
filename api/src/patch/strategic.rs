//! Strategic merge patch: merge patch, but lists of named things merge by name.
//!
//! Mirrors `k8s.io/apimachinery/pkg/util/strategicpatch` with its directives `$patch`,
//! `$retainKeys`, `$setElementOrder/...` and `$deleteFromPrimitiveList/...`.

use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::{Map, Value};

use super::PatchError;
use super::order::normalise;
use super::schema::{Field, PLAIN, Struct};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ELEMENT_ORDER: &str = "$setElementOrder/";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList/";

/// Merges `patch` into `object`, whose fields `schema` describes.
pub(super) fn merge(
    object: &mut Value,
    patch: &Value,
    schema: &'static Struct,
) -> Result<(), PatchError> {
    let patch = patch.as_object().ok_or_else(|| wrong("a patch must be a JSON object"))?;
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let Value::Object(map) = object else { return Ok(()) };
    merge_map(map, patch, schema)
}

fn wrong(text: impl Into<String>) -> PatchError {
    PatchError::Strategic(text.into())
}

fn merge_map(
    map: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    schema: &'static Struct,
) -> Result<(), PatchError> {
    match directive(patch)? {
        Some(Directive::Delete) => {
            map.clear();
            return Ok(());
        }
        Some(Directive::Replace) => map.clear(),
        Some(Directive::Merge) | None => {}
    }
    retain_keys(map, patch)?;
    for (key, value) in patch {
        if let Some(field) = key.strip_prefix(DELETE_FROM_LIST) {
            delete_from_list(map, field, value)?;
        }
    }
    for (key, value) in patch {
        if !key.starts_with('$') {
            let order = patch.get(&format!("{SET_ELEMENT_ORDER}{key}"));
            merge_field(map, key, value, order, field(schema, key))?;
        }
    }
    // An order may also be asked for a list that the patch does not touch.
    for (key, order) in patch {
        if let Some(name) = key.strip_prefix(SET_ELEMENT_ORDER)
            && !patch.contains_key(name)
            && let Some(Value::Array(items)) = map.get_mut(name)
        {
            merge_list(items, &[], Some(list(order, key)?), field(schema, name))?;
        }
    }
    Ok(())
}

fn field(schema: &Struct, name: &str) -> Option<Field> {
    schema.iter().find(|(field, _)| *field == name).map(|(_, field)| *field)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Directive {
    Merge,
    Replace,
    Delete,
}

fn directive(patch: &Map<String, Value>) -> Result<Option<Directive>, PatchError> {
    match patch.get(PATCH).map(|value| value.as_str()) {
        None => Ok(None),
        Some(Some("merge")) => Ok(Some(Directive::Merge)),
        Some(Some("replace")) => Ok(Some(Directive::Replace)),
        Some(Some("delete")) => Ok(Some(Directive::Delete)),
        Some(_) => Err(wrong(format!("unknown patch type found: {}", patch[PATCH]))),
    }
}

fn retain_keys(map: &mut Map<String, Value>, patch: &Map<String, Value>) -> Result<(), PatchError> {
    let Some(retained) = patch.get(RETAIN_KEYS) else { return Ok(()) };
    let retained: FxHashSet<&str> =
        list(retained, RETAIN_KEYS)?.iter().filter_map(Value::as_str).collect();
    let is_field = |key: &&String| !key.starts_with('$');
    if let Some(key) = patch.keys().filter(is_field).find(|key| !retained.contains(key.as_str())) {
        return Err(wrong(format!(
            "field {key:?} is in the patch but not in its {RETAIN_KEYS} list"
        )));
    }
    map.retain(|key, _| retained.contains(key.as_str()));
    Ok(())
}

fn delete_from_list(
    map: &mut Map<String, Value>,
    field: &str,
    items: &Value,
) -> Result<(), PatchError> {
    let gone: FxHashSet<String> =
        list(items, DELETE_FROM_LIST)?.iter().map(Value::to_string).collect();
    if let Some(Value::Array(present)) = map.get_mut(field) {
        present.retain(|item| !gone.contains(&item.to_string()));
    }
    Ok(())
}

fn list<'a>(value: &'a Value, name: &str) -> Result<&'a [Value], PatchError> {
    value.as_array().map(Vec::as_slice).ok_or_else(|| wrong(format!("{name} must be a list")))
}

fn merge_field(
    map: &mut Map<String, Value>,
    key: &str,
    patch: &Value,
    order: Option<&Value>,
    field: Option<Field>,
) -> Result<(), PatchError> {
    match patch {
        Value::Null => {
            map.shift_remove(key);
        }
        Value::Object(patch) => {
            let schema = if let Some(Field::Of(schema)) = field { schema } else { PLAIN };
            if !map.get(key).is_some_and(Value::is_object) {
                if directive(patch)? == Some(Directive::Delete) {
                    map.shift_remove(key);
                    return Ok(());
                }
                map.insert(key.to_owned(), Value::Object(Map::new()));
            }
            if let Some(Value::Object(inner)) = map.get_mut(key) {
                merge_map(inner, patch, schema)?;
            }
        }
        Value::Array(patch) => {
            if !map.get(key).is_some_and(Value::is_array) {
                map.insert(key.to_owned(), Value::Array(Vec::new()));
            }
            let order = order.map(|order| list(order, SET_ELEMENT_ORDER)).transpose()?;
            if let Some(Value::Array(items)) = map.get_mut(key) {
                merge_list(items, patch, order, field)?;
            }
        }
        scalar => {
            map.insert(key.to_owned(), scalar.clone());
        }
    }
    Ok(())
}

fn merge_list(
    items: &mut Vec<Value>,
    patch: &[Value],
    order: Option<&[Value]>,
    field: Option<Field>,
) -> Result<(), PatchError> {
    match field {
        Some(Field::ByKey(key, schema)) => merge_by_key(items, patch, order, key, schema),
        Some(Field::Set) => {
            merge_set(items, patch, order);
            Ok(())
        }
        Some(Field::Of(_)) | None => {
            // Not a list that merges. Only an order without a list keeps what is there.
            if order.is_none() || !patch.is_empty() {
                *items = patch.to_vec();
            }
            Ok(())
        }
    }
}

fn merge_set(items: &mut Vec<Value>, patch: &[Value], order: Option<&[Value]>) {
    let text = |values: &[Value]| values.iter().map(Value::to_string).collect::<Vec<_>>();
    let before = text(items);
    let wanted = text(order.unwrap_or(patch));
    let mut seen = FxHashSet::default();
    let all = std::mem::take(items).into_iter().chain(patch.iter().cloned());
    let merged =
        all.map(|item| (item.to_string(), item)).filter(|(key, _)| seen.insert(key.clone()));
    *items = normalise(merged.collect(), &wanted, &before);
}

fn merge_by_key(
    items: &mut Vec<Value>,
    patch: &[Value],
    order: Option<&[Value]>,
    key: &str,
    schema: &'static Struct,
) -> Result<(), PatchError> {
    let patch = Items::read(patch, key)?;
    if patch.replace {
        *items = fresh(&patch.items, schema)?;
        return Ok(());
    }
    let before = items.iter().map(|item| key_of(item, key)).collect::<Result<Vec<_>, _>>()?;
    let mut merged: Vec<(String, Value)> =
        before.iter().cloned().zip(std::mem::take(items)).collect();
    merged.retain(|(key, _)| !patch.deleted.contains(key));
    let mut positions: FxHashMap<String, usize> = FxHashMap::default();
    for (i, (key, _)) in merged.iter().enumerate() {
        positions.entry(key.clone()).or_insert(i);
    }
    for (key, item) in &patch.items {
        if let Some(&at) = positions.get(key) {
            merge(&mut merged[at].1, item, schema)?;
        } else {
            let mut added = Value::Object(Map::new());
            merge(&mut added, item, schema)?;
            positions.insert(key.clone(), merged.len());
            merged.push((key.clone(), added));
        }
    }
    let wanted = match order {
        Some(order) => order.iter().map(|item| key_of(item, key)).collect::<Result<Vec<_>, _>>()?,
        None => patch.items.iter().map(|(key, _)| key.clone()).collect(),
    };
    *items = normalise(merged, &wanted, &before);
    Ok(())
}

/// A patch's list, its directives taken apart.
struct Items<'a> {
    /// The list replaces the present one.
    replace: bool,
    deleted: FxHashSet<String>,
    items: Vec<(String, &'a Value)>,
}

impl<'a> Items<'a> {
    fn read(patch: &'a [Value], key: &str) -> Result<Self, PatchError> {
        let mut read = Self { replace: false, deleted: FxHashSet::default(), items: Vec::new() };
        for item in patch {
            let map = item.as_object().ok_or_else(|| wrong("a list item must be an object"))?;
            match directive(map)? {
                // The item that says so is not itself part of the new list.
                Some(Directive::Replace) => read.replace = true,
                Some(Directive::Delete) => {
                    read.deleted.insert(key_of(item, key)?);
                }
                Some(Directive::Merge) => {
                    return Err(wrong("merging lists cannot yet be specified in the patch"));
                }
                None => read.items.push((key_of(item, key)?, item)),
            }
        }
        Ok(read)
    }
}

/// The items as they are when nothing was there before: directives and nulls are gone.
fn fresh(items: &[(String, &Value)], schema: &'static Struct) -> Result<Vec<Value>, PatchError> {
    let built = items.iter().map(|(_, item)| {
        let mut added = Value::Object(Map::new());
        merge(&mut added, item, schema).map(|()| added)
    });
    built.collect()
}

fn key_of(item: &Value, key: &str) -> Result<String, PatchError> {
    item.get(key)
        .map(Value::to_string)
        .ok_or_else(|| wrong(format!("map: {item} does not contain declared merge key: {key}")))
}
