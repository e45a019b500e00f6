//! Objects made from template files: YAML with the part of Go's text/template that scheduler_perf's
//! templates use: `{{.Index}}`, `{{.Count}}`, parameters, and its own functions for numbers, such as
//! `{{DivideInt .Index 8}}`. Pipelines, conditions and loops are refused.

mod expression;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};
use pintle_api::{defaults, scheme, version};
use serde_json::Value;

/// Values that a template may name.
pub(crate) type Parameters = BTreeMap<String, Value>;

/// A template of one object.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    /// The text cut at its expressions: text, expression, text, ...
    parts: Vec<Part>,
    parameters: Parameters,
    /// The object if no part of it depends on its number.
    object: Option<Value>,
    file: String,
}

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Expression(String),
}

impl Template {
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        Self::read_with(path, Parameters::new())
    }

    /// With parameters of the operation's own.
    pub(crate) fn read_with(path: &Path, parameters: Parameters) -> anyhow::Result<Self> {
        let file = path.display().to_string();
        let text = fs::read_to_string(path).with_context(|| format!("read {file}"))?;
        Self::with(&text, file, parameters)
    }

    pub(crate) fn new(text: &str, file: String) -> anyhow::Result<Self> {
        Self::with(text, file, Parameters::new())
    }

    fn with(text: &str, file: String, parameters: Parameters) -> anyhow::Result<Self> {
        let parts = cut(text).with_context(|| file.clone())?;
        let mut template = Self { parts, parameters, object: None, file };
        if let [Part::Text(text)] = template.parts.as_slice() {
            template.object = Some(template.parse(text)?);
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
        self.object_named(index, index)
    }

    /// The same, its name made of another number: the operation's `index` begins at 0 in each.
    pub(crate) fn object_named(&self, index: usize, name_suffix: usize) -> anyhow::Result<Value> {
        let mut object = match &self.object {
            Some(object) => object.clone(),
            None => self.parse(&self.substitute(index).with_context(|| self.file.clone())?)?,
        };
        let metadata = &mut object["metadata"];
        if let Some(prefix) = metadata.get("generateName").and_then(Value::as_str) {
            let name = format!("{prefix}{name_suffix:05}");
            metadata["name"] = Value::from(name);
        }
        Ok(object)
    }

    fn substitute(&self, index: usize) -> anyhow::Result<String> {
        let mut parameters = self.parameters.clone();
        parameters.insert("Index".to_owned(), index.into());
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(plain) => text += plain,
                Part::Expression(source) => text += &expression::evaluate(source, &parameters)?,
            }
        }
        Ok(text)
    }

    fn parse(&self, text: &str) -> anyhow::Result<Value> {
        let parsed: Result<Value, _> = serde_saphyr::from_str(text);
        let mut object = parsed.with_context(|| format!("parse {}", self.file))?;
        version::to_served(&mut object);
        let field = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
        if let Some(resource) = scheme::by_kind(field("apiVersion"), field("kind")) {
            defaults::apply(resource.kind, &mut object);
        }
        Ok(object)
    }
}

/// `{{-` and `-}}` also take the white space beside them away.
fn cut(text: &str) -> anyhow::Result<Vec<Part>> {
    let (mut parts, mut rest) = (Vec::new(), text);
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((inside, after)) = after.split_once("}}") else { bail!("a {{{{ is not closed") };
        let (before, inside) = match inside.strip_prefix("- ") {
            Some(inside) => (before.trim_end(), inside),
            None => (before, inside),
        };
        let (inside, after) = match inside.strip_suffix(" -") {
            Some(inside) => (inside, after.trim_start()),
            None => (inside, after),
        };
        parts.push(Part::Text(before.to_owned()));
        parts.push(Part::Expression(inside.trim().to_owned()));
        rest = after;
    }
    parts.push(Part::Text(rest.to_owned()));
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_and_names_are_filled_in_and_defaults_set() {
        let text =
            "{apiVersion: v1, kind: Pod, metadata: {generateName: p-, labels: {n: 'x{{.Index}}'}},
            spec: {containers: [{name: c, resources: {limits: {cpu: 1}}}]}}";
        let template = Template::new(text, "t".to_owned()).unwrap();
        let object = template.object(7).unwrap();
        assert_eq!(object["metadata"]["name"], "p-00007");
        assert_eq!(object["metadata"]["labels"]["n"], "x7");
        assert!(!object["spec"]["containers"][0]["resources"]["requests"]["cpu"].is_null());
        let other = Template::new("{{.Other}}", "t".to_owned()).unwrap();
        assert_eq!(format!("{:#}", other.object(0).unwrap_err()), "t: .Other is not given");
    }

    #[test]
    fn parameters_and_functions_are_known() {
        let parameters = BTreeMap::from([("Size".to_owned(), json!(8))]);
        let text = "a: gang-{{ DivideInt .Index .Size }}\nb: x {{- .Size -}} y";
        let template = Template::with(text, "t".to_owned(), parameters).unwrap();
        assert_eq!(
            template.object(17).unwrap(),
            json!({"metadata": null, "a": "gang-2", "b": "x8y"})
        );
    }
}
