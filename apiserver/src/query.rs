//! The query string: percent-decoding, and the parameters of each verb.

use pintle_api::scheme::Resource;
use pintle_api::status::Status;
use pintle_api::{fields, labels};

use crate::facts::Facts;

/// Decoded pairs in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode(key, true), decode(value, true))
                })
                .collect(),
        )
    }

    /// The first value of a parameter; empty where it is absent.
    pub(crate) fn get(&self, key: &str) -> &str {
        self.0.iter().find(|(name, _)| name == key).map_or("", |(_, value)| value.as_str())
    }

    /// A boolean as `runtime.Convert_Slice_string_To_bool` reads it: present and not false.
    pub(crate) fn flag(&self, key: &str) -> bool {
        let value = self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value);
        value.is_some_and(|value| !matches!(value.to_ascii_lowercase().as_str(), "false" | "0"))
    }

    pub(crate) fn number(&self, key: &str) -> Result<Option<u64>, Status> {
        match self.get(key) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| {
                Status::bad_request(format!("{key}: Invalid value: {text:?}: must be a number"))
            }),
        }
    }

    /// Whether nothing is to be stored.
    pub(crate) fn dry_run(&self) -> Result<bool, Status> {
        match self.get("dryRun") {
            "" => Ok(false),
            "All" => Ok(true),
            other => Err(Status::bad_request(format!(
                "dryRun: Unsupported value: {other:?}: supported values: \"All\""
            ))),
        }
    }
}

/// Which objects a list, watch or deletecollection is about.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    labels: labels::Selector,
    fields: fields::Selector,
    /// The name in the path of a `watch` on one object.
    name: Option<String>,
}

impl Filter {
    pub(crate) fn parse(resource: &Resource, query: &Query) -> Result<Self, Status> {
        let labels = labels::parse(query.get("labelSelector")).map_err(|error| {
            Status::bad_request(format!("unable to parse requirement: {error}"))
        })?;
        let fields = fields::parse(resource.kind, query.get("fieldSelector"))?;
        Ok(Self { labels, fields, name: None })
    }

    pub(crate) fn named(mut self, name: &str) -> Self {
        self.name = (!name.is_empty()).then(|| name.to_owned());
        self
    }

    pub(crate) fn is_everything(&self) -> bool {
        self.name.is_none() && self.labels.is_everything() && self.fields.is_everything()
    }

    pub(crate) fn matches(&self, facts: &Facts) -> bool {
        self.name.as_ref().is_none_or(|name| facts.name() == name)
            && self.fields.matches_values(|field| facts.field(field))
            && self.labels.matches(facts)
    }
}

/// Percent-decoding; `+` is a space in queries, and itself in paths.
pub(crate) fn decode(text: &str, plus: bool) -> String {
    let bytes = text.as_bytes();
    if !bytes.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return text.to_owned();
    }
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        let hex = bytes.get(at..at + 2).and_then(|hex| std::str::from_utf8(hex).ok());
        match (byte, hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                decoded.push(byte);
                at += 2;
            }
            (b'+', _) if plus => decoded.push(b' '),
            _ => decoded.push(byte),
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded() {
        let query = Query::parse("labelSelector=a%3Db%2Cc+in+%28d%29&watch&x=%zz&watch2=false");
        assert_eq!(query.get("labelSelector"), "a=b,c in (d)");
        assert!(query.flag("watch"));
        assert!(!query.flag("watch2"));
        assert!(!query.flag("absent"));
        assert_eq!(query.get("x"), "%zz");
        assert!(Query::parse("limit=x").number("limit").is_err());
        assert!(Query::parse("dryRun=Some").dry_run().is_err());
    }
}
