//! Bodies in Kubernetes' protobuf form, which the kubelet, kube-scheduler and `kubectl create` send of
//! the API's own kinds unless they are told otherwise; read into JSON before anything looks at them.
//!
//! Mirrors `k8s.io/apimachinery/pkg/runtime/serializer/protobuf` with the generated `Unmarshal` of
//! each kind: an envelope names the kind, fields that are not known are skipped. What Go leaves out
//! of the JSON of an object that it read is left out here. Answers stay JSON, which these
//! clients ask for beside protobuf.

mod schema;
#[cfg(test)]
mod tests;
mod wire;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, header};
use jiff::Timestamp;
use pintle_api::status::Status;
use serde_json::{Map, Value, json};

use crate::{negotiate, status};
use schema::{Field, Schema, Shape, Type};
use wire::{Broken, Fields, Part};

/// The media type.
pub(crate) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// The body as it is, or, where it is the protobuf of a kind that is known, as JSON with the headers
/// that say so. Any other is refused by who reads it, if there is such a path at all.
pub(crate) fn as_json(headers: &mut HeaderMap, body: Bytes) -> Result<Bytes, Status> {
    if body.is_empty() || negotiate::media_type(headers) != PROTOBUF {
        return Ok(body);
    }
    let Some(object) = read(&body)? else { return Ok(body) };
    headers.insert(header::CONTENT_TYPE, status::JSON);
    Ok(object.to_string().into())
}

/// The object; `None` of a kind that is not known.
fn read(body: &[u8]) -> Result<Option<Value>, Status> {
    let envelope = body.strip_prefix(MAGIC).ok_or_else(|| {
        Status::bad_request(
            "provided data does not appear to be a protobuf message, expected prefix \"k8s\\0\"",
        )
    })?;
    let broken = |Broken(why)| Status::bad_request(format!("read the protobuf body: {why}"));
    let Envelope { api_version, kind, raw } = Envelope::read(envelope).map_err(broken)?;
    let schema = Schema::get();
    let Some(fields) = schema.of_kind(api_version, kind) else { return Ok(None) };
    let mut object = Map::new();
    object.insert("apiVersion".to_owned(), api_version.into());
    object.insert("kind".to_owned(), kind.into());
    let why = |Broken(why)| Status::bad_request(format!("read the protobuf of a {kind}: {why}"));
    message(schema, fields, raw, &mut object).map_err(why)?;
    Ok(Some(Value::Object(object)))
}

/// `runtime.Unknown`: typeMeta = 1 (apiVersion = 1, kind = 2), raw = 2.
#[derive(Default)]
struct Envelope<'a> {
    api_version: &'a str,
    kind: &'a str,
    raw: &'a [u8],
}

impl<'a> Envelope<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Broken> {
        let mut envelope = Self::default();
        for field in Fields(bytes) {
            match field? {
                (1, part) => {
                    for field in Fields(part.bytes()?) {
                        match field? {
                            (1, part) => envelope.api_version = part.text()?,
                            (2, part) => envelope.kind = part.text()?,
                            _ => {}
                        }
                    }
                }
                (2, part) => envelope.raw = part.bytes()?,
                _ => {}
            }
        }
        Ok(envelope)
    }
}

/// Puts what a message says into the object. How deep this goes is bounded by the schema, in which
/// no message holds itself.
fn message(
    schema: &Schema,
    fields: &[Field],
    bytes: &[u8],
    out: &mut Map<String, Value>,
) -> Result<(), Broken> {
    for part in Fields(bytes) {
        let (number, part) = part?;
        let Some(field) = fields.iter().find(|field| field.number == number) else { continue };
        match (field.name, field.shape, field.kind) {
            (None, _, Type::Message(name)) => {
                message(schema, schema.message(name), part.bytes()?, out)?;
            }
            (Some(name), Shape::One, Type::Message(inner)) => {
                let found = out.entry(name).or_insert_with(|| empty(schema, inner));
                one_message(schema, inner, part.bytes()?, found)?;
            }
            (Some(name), Shape::One, kind) => {
                let value = scalar(kind, part)?;
                if field.keeps_zero || !is_zero(kind, &value) {
                    out.insert(name.to_owned(), value);
                }
            }
            (Some(name), Shape::Many, kind) => {
                let list = out.entry(name).or_insert_with(|| Value::Array(Vec::new()));
                push(schema, kind, part, list)?;
            }
            (Some(name), Shape::Map, kind) => {
                let map = out.entry(name).or_insert_with(|| Value::Object(Map::new()));
                let (key, value) = entry(schema, kind, part.bytes()?)?;
                map.as_object_mut().map(|map| map.insert(key, value));
            }
            (None, ..) => {}
        }
    }
    Ok(())
}

/// What a message without fields is: an object, or of a message that is a list, a list.
fn empty(schema: &Schema, name: &str) -> Value {
    match schema.message(name) {
        [field] if field.name.is_none() && field.shape == Shape::Many => Value::Array(Vec::new()),
        _ => Value::Object(Map::new()),
    }
}

fn one_message(schema: &Schema, name: &str, bytes: &[u8], out: &mut Value) -> Result<(), Broken> {
    let fields = schema.message(name);
    match out {
        Value::Object(map) => message(schema, fields, bytes, map),
        list => {
            for part in Fields(bytes) {
                let (number, part) = part?;
                if let Some(field) = fields.iter().find(|field| field.number == number) {
                    push(schema, field.kind, part, list)?;
                }
            }
            Ok(())
        }
    }
}

/// One value more of a list. Numbers may come packed, several in one.
fn push(schema: &Schema, kind: Type, part: Part<'_>, list: &mut Value) -> Result<(), Broken> {
    let Value::Array(list) = list else { return Ok(()) };
    if let (Type::Number, Part::Bytes(mut packed)) = (kind, part) {
        while !packed.is_empty() {
            list.push(signed(wire::number(&mut packed)?));
        }
        return Ok(());
    }
    list.push(value(schema, kind, part)?);
    Ok(())
}

/// A map's entry: key = 1, value = 2.
fn entry(schema: &Schema, kind: Type, bytes: &[u8]) -> Result<(String, Value), Broken> {
    let mut key = "";
    let mut content = Part::Bytes(&[]);
    for field in Fields(bytes) {
        match field? {
            (1, part) => key = part.text()?,
            (2, part) => content = part,
            _ => {}
        }
    }
    Ok((key.to_owned(), value(schema, kind, content)?))
}

fn value(schema: &Schema, kind: Type, part: Part<'_>) -> Result<Value, Broken> {
    let Type::Message(name) = kind else { return scalar(kind, part) };
    let mut value = empty(schema, name);
    one_message(schema, name, part.bytes()?, &mut value)?;
    Ok(value)
}

/// A value that is no object in JSON.
fn scalar(kind: Type, part: Part<'_>) -> Result<Value, Broken> {
    Ok(match kind {
        Type::Text => part.text()?.into(),
        Type::Flag => (part.number()? != 0).into(),
        Type::Number => signed(part.number()?),
        Type::Bytes => STANDARD.encode(part.bytes()?).into(),
        Type::Time => time(part.bytes()?, "%Y-%m-%dT%H:%M:%SZ", false)?,
        Type::MicroTime => time(part.bytes()?, "%Y-%m-%dT%H:%M:%S.%6fZ", true)?,
        Type::Quantity => only_text(part.bytes()?, "0")?.into(),
        Type::IntOrString => int_or_string(part.bytes()?)?,
        Type::Raw => raw(part.bytes()?)?,
        Type::Message(_) => Value::Null,
    })
}

/// `int32` and `int64` are 64 bits of two's complement on the wire.
fn signed(number: u64) -> Value {
    number.cast_signed().into()
}

/// What Go leaves out of JSON: not so times, quantities and the like, which are structs.
fn is_zero(kind: Type, value: &Value) -> bool {
    match kind {
        Type::Text | Type::Bytes => *value == json!(""),
        Type::Flag => *value == json!(false),
        Type::Number => *value == json!(0),
        _ => false,
    }
}

/// `meta.v1.Time` and `MicroTime`: seconds = 1, nanos = 2; nothing at all is no time.
fn time(bytes: &[u8], format: &str, with_nanos: bool) -> Result<Value, Broken> {
    let (mut seconds, mut nanos) = (0, 0);
    for field in Fields(bytes) {
        match field? {
            (1, part) => seconds = part.number()?.cast_signed(),
            (2, part) if with_nanos => nanos = i32::try_from(part.number()?).unwrap_or(-1),
            _ => {}
        }
    }
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let time = Timestamp::new(seconds, nanos).map_err(|_| Broken("a time is out of range"))?;
    Ok(time.strftime(format).to_string().into())
}

/// A message that is a text: string = 1.
fn only_text<'a>(bytes: &'a [u8], absent: &'a str) -> Result<&'a str, Broken> {
    let mut text = absent;
    for field in Fields(bytes) {
        if let (1, part) = field? {
            text = part.text()?;
        }
    }
    Ok(text)
}

/// `intstr.IntOrString`: type = 1 (0 is a number), intVal = 2, strVal = 3.
fn int_or_string(bytes: &[u8]) -> Result<Value, Broken> {
    let (mut is_text, mut number, mut text) = (false, 0, "");
    for field in Fields(bytes) {
        match field? {
            (1, part) => is_text = part.number()? != 0,
            (2, part) => number = part.number()?,
            (3, part) => text = part.text()?,
            _ => {}
        }
    }
    Ok(if is_text { text.into() } else { signed(number) })
}

/// `runtime.RawExtension` and `meta.v1.FieldsV1`: raw = 1, which is JSON.
fn raw(bytes: &[u8]) -> Result<Value, Broken> {
    let mut raw: &[u8] = b"null";
    for field in Fields(bytes) {
        if let (1, part) = field? {
            raw = part.bytes()?;
        }
    }
    serde_json::from_slice(raw).map_err(|_| Broken("an embedded object is no JSON"))
}

const MAGIC: &[u8] = b"k8s\0";
