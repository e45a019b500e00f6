//! Which field of which message has which number, name and type; read from `messages.txt`.

use std::collections::HashMap;
use std::sync::LazyLock;

/// All messages by their names.
pub(super) struct Schema(HashMap<&'static str, Vec<Field>>);

/// A field of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) number: u64,
    /// `None`: the message's fields stand in the object around it; of many, they are the message.
    pub(super) name: Option<&'static str>,
    /// Whether a zero is in the JSON as well.
    pub(super) keeps_zero: bool,
    pub(super) shape: Shape,
    pub(super) kind: Type,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    One,
    Many,
    /// By texts.
    Map,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Text,
    Flag,
    Number,
    Bytes,
    Time,
    MicroTime,
    Quantity,
    IntOrString,
    Raw,
    Message(&'static str),
}

impl Schema {
    pub(super) fn get() -> &'static Self {
        static SCHEMA: LazyLock<Schema> = LazyLock::new(|| Schema::parse(MESSAGES));
        &SCHEMA
    }

    /// The fields of a message that others name.
    pub(super) fn message(&self, name: &str) -> &[Field] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// The fields of a kind, if it is known.
    pub(super) fn of_kind(&self, api_version: &str, kind: &str) -> Option<&[Field]> {
        let name = match api_version.split_once('/') {
            // The options of a delete come in whatever version the resource has.
            _ if kind == "DeleteOptions" => format!("meta.{kind}"),
            None if api_version == "v1" => kind.to_owned(),
            None => return None,
            Some((group, version)) => {
                let group = group.split('.').next().unwrap_or_default();
                let version = if version == "v1" { String::new() } else { format!("/{version}") };
                format!("{group}{version}.{kind}")
            }
        };
        self.0.get(name.as_str()).map(Vec::as_slice)
    }

    #[cfg(test)]
    pub(super) fn messages(&self) -> impl Iterator<Item = (&'static str, &[Field])> {
        self.0.iter().map(|(name, fields)| (*name, fields.as_slice()))
    }

    fn parse(text: &'static str) -> Self {
        let mut messages: HashMap<_, Vec<Field>> = HashMap::new();
        let mut message = "";
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            match line.strip_prefix("  ") {
                None => {
                    message = line;
                    messages.insert(line, Vec::new());
                }
                Some(fields) => {
                    let fields = fields.split(' ').filter_map(field);
                    messages.entry(message).or_default().extend(fields);
                }
            }
        }
        Self(messages)
    }
}

/// `NUMBER:NAME:TYPE`.
fn field(text: &'static str) -> Option<Field> {
    let (number, rest) = text.split_once(':')?;
    let (name, kind) = rest.split_once(':')?;
    let (shape, kind) = match (kind.strip_prefix("[]"), kind.strip_prefix("{}")) {
        (Some(kind), _) => (Shape::Many, kind),
        (_, Some(kind)) => (Shape::Map, kind),
        _ => (Shape::One, kind),
    };
    let kind = match kind {
        "string" => Type::Text,
        "bool" => Type::Flag,
        "int" => Type::Number,
        "bytes" => Type::Bytes,
        "Time" => Type::Time,
        "MicroTime" => Type::MicroTime,
        "Quantity" => Type::Quantity,
        "IntOrString" => Type::IntOrString,
        "RawExtension" | "FieldsV1" => Type::Raw,
        message => Type::Message(message),
    };
    Some(Field {
        number: number.parse().ok()?,
        name: (name != "-").then(|| name.trim_end_matches('!')),
        keeps_zero: name.ends_with('!'),
        shape,
        kind,
    })
}

const MESSAGES: &str = include_str!("messages.txt");
