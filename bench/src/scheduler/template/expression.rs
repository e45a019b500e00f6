//! What stands between `{{` and `}}`: a value, or a function and its arguments, nested by
//! parentheses.

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::Parameters;

/// The text that the expression stands for.
pub(super) fn evaluate(source: &str, parameters: &Parameters) -> anyhow::Result<String> {
    let tokens = tokens(source)?;
    let mut tokens = tokens.iter().map(String::as_str);
    let value = match call(&mut tokens, parameters, 0)? {
        Value::String(text) => text,
        value => value.to_string(),
    };
    ensure!(tokens.next().is_none(), "{{{{{source}}}}}: too much");
    Ok(value)
}

/// A function with its arguments up to `)` or the end, or one value.
fn call<'a>(
    tokens: &mut impl Iterator<Item = &'a str>,
    parameters: &Parameters,
    depth: usize,
) -> anyhow::Result<Value> {
    ensure!(depth < DEPTH_MAX, "nested too deep");
    let mut values = Vec::new();
    let mut function = None;
    while let Some(token) = tokens.next() {
        match token {
            ")" => break,
            "(" => values.push(call(tokens, parameters, depth + 1)?),
            _ if values.is_empty() && function.is_none() && is_name(token) => {
                function = Some(token);
            }
            _ => values.push(value(token, parameters)?),
        }
    }
    match (function, values.as_slice()) {
        (Some(function), _) => apply(function, &values),
        (None, [value]) => Ok(value.clone()),
        _ => bail!("one value or a function is expected"),
    }
}

fn value(token: &str, parameters: &Parameters) -> anyhow::Result<Value> {
    if let Some(name) = token.strip_prefix('.') {
        return parameters.get(name).cloned().with_context(|| format!("{token} is not given"));
    }
    if let Some(text) = token.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        return Ok(text.into());
    }
    serde_json::from_str(token).with_context(|| format!("{token:?} is not known"))
}

/// scheduler_perf's functions. `div` and `mod` take whole numbers, as Go has them; the others reckon with
/// floating point, and the `Int` ones cut the result off.
fn apply(function: &str, values: &[Value]) -> anyhow::Result<Value> {
    if let "div" | "mod" = function {
        return whole(function, values);
    }
    let numbers: anyhow::Result<Vec<f64>> = values.iter().map(number).collect();
    let numbers = numbers?;
    let two = || match numbers.as_slice() {
        [a, b] => Ok((*a, *b)),
        _ => bail!("{function}: two numbers are expected"),
    };
    let result = match function.strip_suffix("Int").or(function.strip_suffix("Float")) {
        Some("Add") => numbers.iter().sum(),
        Some("Multiply") => numbers.iter().product(),
        Some("Subtract") => two().map(|(a, b)| a - b)?,
        Some("Divide") => {
            let (a, b) = two()?;
            ensure!(b != 0.0, "{function}: division by zero");
            a / b
        }
        _ if function == "Mod" => {
            let (a, b) = two()?;
            ensure!(b.trunc() != 0.0, "{function}: division by zero");
            return Ok((a as i64).checked_rem(b as i64).unwrap_or(0).into());
        }
        _ => bail!("function {function} is not known"),
    };
    Ok(if function.ends_with("Int") { Value::from(result as i64) } else { Value::from(result) })
}

/// `a / b` and `a % b` of whole numbers, rounded towards zero.
fn whole(function: &str, values: &[Value]) -> anyhow::Result<Value> {
    let numbers: Option<Vec<i64>> = values.iter().map(Value::as_i64).collect();
    let Some([a, b]) = numbers.as_deref() else {
        bail!("{function}: two whole numbers are expected")
    };
    ensure!(*b != 0, "{function}: division by zero");
    Ok(if function == "div" { a.wrapping_div(*b) } else { a.wrapping_rem(*b) }.into())
}

fn number(value: &Value) -> anyhow::Result<f64> {
    let parsed = value.as_f64().or_else(|| value.as_str().and_then(|text| text.parse().ok()));
    parsed.with_context(|| format!("{value} is not a number"))
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_ascii_alphabetic())
}

fn tokens(source: &str) -> anyhow::Result<Vec<String>> {
    let mut tokens = Vec::new();
    let mut rest = source.trim_start();
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '(' | ')' => 1,
            '"' => rest[1..].find('"').context("a quote is not closed")? + 2,
            '|' => bail!("{{{{{source}}}}}: pipelines are not known"),
            _ => rest.find([' ', '(', ')', '|']).unwrap_or(rest.len()),
        };
        tokens.push(rest[..end].to_owned());
        rest = rest[end..].trim_start();
    }
    Ok(tokens)
}

/// Far more than any template has.
const DEPTH_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(source: &str) -> Result<String, String> {
        let parameters =
            Parameters::from([("Index".to_owned(), json!(17)), ("Name".to_owned(), json!("foo"))]);
        evaluate(source, &parameters).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn values_and_functions() {
        for (source, expected) in [
            (".Index", "17"),
            (".Name", "foo"),
            ("\"a b\"", "a b"),
            ("DivideInt .Index 8", "2"),
            ("Mod .Index 8", "1"),
            ("div .Index 5", "3"),
            ("mod .Index 5", "2"),
            ("div (mod -7 4) 2", "-1"),
            ("AddInt 1 (MultiplyInt .Index 2) 3", "38"),
            ("DivideFloat 1 \"4\"", "0.25"),
            ("SubtractInt 3 5", "-2"),
        ] {
            assert_eq!(of(source).unwrap(), expected, "{source}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (source, part) in [
            (".Other", ".Other is not given"),
            ("range .Index", "function range is not known"),
            ("DivideInt .Index 0", "division by zero"),
            ("Mod .Index 0", "division by zero"),
            ("div .Index 0", "div: division by zero"),
            ("mod .Index 1.5", "mod: two whole numbers"),
            ("AddInt .Name", "\"foo\" is not a number"),
            (".Index | print", "pipelines are not known"),
            (".Index .Index", "one value or a function"),
            ("(", "one value or a function"),
            ("\"a", "a quote is not closed"),
        ] {
            let error = of(source).unwrap_err();
            assert!(error.contains(part), "{source}: {error}");
        }
    }
}
