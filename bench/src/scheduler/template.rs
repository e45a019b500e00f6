//! Objects made from template files: YAML, with `{{.Index}}` for the object's number.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use pintle_api::{defaults, scheme};
use serde_json::Value;

/// A template of one object.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    text: String,
    /// The object if no part of it depends on its number.
    object: Option<Value>,
    file: String,
}

impl Template {
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let file = path.display().to_string();
        let text = fs::read_to_string(path).with_context(|| format!("read {file}"))?;
        Self::new(text, file)
    }

    pub(crate) fn new(text: String, file: String) -> anyhow::Result<Self> {
        let mut template = Self { text, object: None, file };
        if !template.text.contains("{{") {
            template.object = Some(template.parse(&template.text)?);
        }
        Ok(template)
    }

    /// The object's kind.
    pub(crate) fn kind(&self) -> anyhow::Result<String> {
        let object = self.object(0)?;
        let kind = object.get("kind").and_then(Value::as_str);
        Ok(kind.with_context(|| format!("{}: kind is missing", self.file))?.to_owned())
    }

    /// The object numbered `index`, with the server's defaults. `generateName` becomes a name.
    pub(crate) fn object(&self, index: usize) -> anyhow::Result<Value> {
        let mut object = match &self.object {
            Some(object) => object.clone(),
            None => self.parse(&self.substitute(index)?)?,
        };
        let metadata = &mut object["metadata"];
        if let Some(prefix) = metadata.get("generateName").and_then(Value::as_str) {
            let name = format!("{prefix}{index:05}");
            metadata["name"] = Value::from(name);
        }
        Ok(object)
    }

    fn substitute(&self, index: usize) -> anyhow::Result<String> {
        let index = index.to_string();
        let text = self.text.replace("{{.Index}}", &index).replace("{{ .Index }}", &index);
        ensure!(!text.contains("{{"), "{}: only {{{{.Index}}}} is known", self.file);
        Ok(text)
    }

    fn parse(&self, text: &str) -> anyhow::Result<Value> {
        let parsed: Result<Value, _> = serde_saphyr::from_str(text);
        let mut object = parsed.with_context(|| format!("parse {}", self.file))?;
        let field = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
        if let Some(resource) = scheme::by_kind(field("apiVersion"), field("kind")) {
            defaults::apply(resource.kind, &mut object);
        }
        Ok(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_filled_in_and_defaults_set() {
        let text =
            "{apiVersion: v1, kind: Pod, metadata: {generateName: p-, labels: {n: 'x{{.Index}}'}},
            spec: {containers: [{name: c, resources: {limits: {cpu: 1}}}]}}";
        let template = Template::new(text.to_owned(), "t".to_owned()).unwrap();
        let object = template.object(7).unwrap();
        assert_eq!(object["metadata"]["name"], "p-00007");
        assert_eq!(object["metadata"]["labels"]["n"], "x7");
        assert!(!object["spec"]["containers"][0]["resources"]["requests"]["cpu"].is_null());
        let other = Template::new("{{.Other}}".to_owned(), "t".to_owned()).unwrap();
        assert_eq!(other.object(0).unwrap_err().to_string(), "t: only {{.Index}} is known");
    }
}
