//! The alphabets of names, keys and values, with the messages Kubernetes refuses bad ones with.
//!
//! Mirrors `k8s.io/apimachinery/pkg/util/validation`. Each function returns what is wrong with
//! its argument, in upstream's words; an empty list means that it is well formed.

/// The longest DNS label, label value and name part of a qualified name, in bytes.
pub const LABEL_MAX: usize = 63;
/// The longest DNS subdomain, in bytes.
pub const SUBDOMAIN_MAX: usize = 253;
/// The longest port name (RFC 6335), in bytes.
pub const PORT_NAME_MAX: usize = 15;

/// A DNS label of RFC 1123: `my-name`.
pub fn dns1123_label(value: &str) -> Vec<String> {
    let mut errors = too_long(value, LABEL_MAX);
    if !is_dns1123_label(value) {
        if is_dns1123_subdomain(value) {
            errors.push("must not contain dots".into());
        } else {
            errors.push(regex_error(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters \
                 or '-', and must start and end with an alphanumeric character",
                DNS1123_LABEL,
                &["my-name", "123-abc"],
            ));
        }
    }
    errors
}

/// A DNS subdomain of RFC 1123: `example.com`.
pub fn dns1123_subdomain(value: &str) -> Vec<String> {
    let mut errors = too_long(value, SUBDOMAIN_MAX);
    if !is_dns1123_subdomain(value) {
        errors.push(regex_error(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \
             '-' or '.', and must start and end with an alphanumeric character",
            &format!("{DNS1123_LABEL}(\\.{DNS1123_LABEL})*"),
            &["example.com"],
        ));
    }
    errors
}

/// A DNS label of RFC 1035, which starts with a letter.
pub fn dns1035_label(value: &str) -> Vec<String> {
    let mut errors = too_long(value, LABEL_MAX);
    if !(is_dns1123_label(value) && value.starts_with(|c: char| c.is_ascii_lowercase())) {
        errors.push(regex_error(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start \
             with an alphabetic character, and end with an alphanumeric character",
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "abc-123"],
        ));
    }
    errors
}

/// A label's or annotation's key, a resource's name, a finalizer: `example.com/my-name`.
pub fn qualified_name(value: &str) -> Vec<String> {
    let (prefix, name) = match value.split_once('/') {
        None => (None, value),
        Some((_, name)) if name.contains('/') => return vec![too_many_slashes()],
        Some((prefix, name)) => (Some(prefix), name),
    };
    let mut errors = prefix.map_or_else(Vec::new, qualified_name_prefix);
    if name.is_empty() {
        errors.push("name part must be non-empty".into());
    }
    errors.extend(too_long(name, LABEL_MAX).into_iter().map(|e| format!("name part {e}")));
    if !is_qualified_part(name) {
        errors.push(regex_error(
            "name part must consist of alphanumeric characters, '-', '_' or '.', and must start \
             and end with an alphanumeric character",
            QUALIFIED_NAME,
            &["MyName", "my.name", "123-abc"],
        ));
    }
    errors
}

fn too_many_slashes() -> String {
    let name = regex_error(
        "a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must \
         start and end with an alphanumeric character",
        QUALIFIED_NAME,
        &["MyName", "my.name", "123-abc"],
    );
    format!("{name} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')")
}

fn qualified_name_prefix(prefix: &str) -> Vec<String> {
    if prefix.is_empty() {
        return vec!["prefix part must be non-empty".into()];
    }
    dns1123_subdomain(prefix).into_iter().map(|e| format!("prefix part {e}")).collect()
}

/// A label's value: empty, or as the name part of a qualified name.
pub fn label_value(value: &str) -> Vec<String> {
    let mut errors = too_long(value, LABEL_MAX);
    if !(value.is_empty() || is_qualified_part(value)) {
        errors.push(regex_error(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', \
             '_' or '.', and must start and end with an alphanumeric character",
            "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?",
            &["MyValue", "my_value", "12345"],
        ));
    }
    errors
}

/// A port's name: at most 15 of `[-a-z0-9]`, with a letter, hyphens only single and inside.
pub fn port_name(value: &str) -> Vec<String> {
    let mut errors = too_long(value, PORT_NAME_MAX);
    let in_charset = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if value.is_empty() || !value.bytes().all(in_charset) {
        errors
            .push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !value.bytes().any(|b| b.is_ascii_lowercase()) {
        errors.push("must contain at least one letter (a-z)".into());
    }
    if value.contains("--") {
        errors.push("must not contain consecutive hyphens".into());
    }
    if value.starts_with('-') || value.ends_with('-') {
        errors.push("must not begin or end with a hyphen".into());
    }
    errors
}

/// A port's number: 1 to 65535.
pub fn port_number(value: i64) -> Vec<String> {
    in_range(value, 1, 65535)
}

/// An integer within `min..=max`.
pub fn in_range(value: i64, min: i64, max: i64) -> Vec<String> {
    if (min..=max).contains(&value) {
        return Vec::new();
    }
    vec![format!("must be between {min} and {max}, inclusive")]
}

/// An environment variable's name: printable ASCII without `=`.
pub fn env_var_name(value: &str) -> Vec<String> {
    if value.is_empty() {
        return vec!["environment variable name must be non-empty".into()];
    }
    if value.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=') {
        return Vec::new();
    }
    vec![
        "a valid environment variable name must consist only of printable ASCII characters other \
         than '='"
            .into(),
    ]
}

/// A key of a ConfigMap's or Secret's data; it becomes a file's name.
pub fn config_map_key(value: &str) -> Vec<String> {
    let mut errors = too_long(value, SUBDOMAIN_MAX);
    if value.is_empty() || !value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
    {
        errors.push(regex_error(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    match value {
        "." => errors.push("must not be '.'".into()),
        ".." => errors.push("must not be '..'".into()),
        _ if value.starts_with("..") => errors.push("must not start with '..'".into()),
        _ => {}
    }
    errors
}

/// A percentage such as `25%`.
pub fn percent(value: &str) -> Vec<String> {
    let digits = value.strip_suffix('%').unwrap_or_default();
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        return Vec::new();
    }
    vec![regex_error(
        "a valid percent string must be a numeric string followed by an ending '%'",
        "[0-9]+%",
        &["1%", "93%"],
    )]
}

/// The message that a text is longer than `max` bytes.
pub fn max_len_error(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

fn too_long(value: &str, max: usize) -> Vec<String> {
    if value.len() > max { vec![max_len_error(max)] } else { Vec::new() }
}

fn is_dns1123_label(value: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !value.is_empty()
        && value.bytes().all(inner)
        && !value.starts_with('-')
        && !value.ends_with('-')
}

fn is_dns1123_subdomain(value: &str) -> bool {
    value.split('.').all(is_dns1123_label)
}

fn is_qualified_part(value: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let edge = |c: char| c.is_ascii_alphanumeric();
    value.bytes().all(inner) && value.starts_with(edge) && value.ends_with(edge)
}

fn regex_error(message: &str, pattern: &str, examples: &[&str]) -> String {
    let examples: Vec<String> = examples.iter().map(|e| format!("'{e}'")).collect();
    format!(
        "{message} (e.g. {}, regex used for validation is '{pattern}')",
        examples.join(",  or ")
    )
}

const DNS1123_LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const QUALIFIED_NAME: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_formed_texts_have_no_errors() {
        let long = "a".repeat(63);
        for text in ["a", "my-name", "123-abc", "a--b", long.as_str()] {
            assert_eq!(dns1123_label(text), Vec::<String>::new(), "{text}");
            assert_eq!(label_value(text), Vec::<String>::new(), "{text}");
        }
        assert!(dns1123_subdomain("a.b-c.1").is_empty());
        assert!(dns1035_label("abc-1").is_empty());
        assert!(qualified_name("example.com/My_Name.x").is_empty());
        assert!(qualified_name("x").is_empty());
        assert!(label_value("").is_empty());
        assert!(port_name("http-2").is_empty());
        assert!(config_map_key(".dockerconfig_json").is_empty());
        assert!(env_var_name("1 odd:NAME").is_empty());
        assert!(percent("25%").is_empty());
    }

    #[test]
    fn messages_are_upstreams() {
        assert_eq!(
            dns1123_label("Nginx"),
            ["a lowercase RFC 1123 label must consist of lower case alphanumeric characters or \
              '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or \
              '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"]
        );
        assert_eq!(dns1123_label("a.b"), ["must not contain dots"]);
        assert_eq!(dns1123_label(&"a".repeat(64)), ["must be no more than 63 bytes"]);
        assert_eq!(
            label_value("a b"),
            ["a valid label must be an empty string or consist of alphanumeric characters, '-', \
              '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  \
              or 'my_value',  or '12345', regex used for validation is \
              '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"]
        );
        assert_eq!(qualified_name("/x"), ["prefix part must be non-empty"]);
        assert_eq!(qualified_name("x/").len(), 2);
        assert_eq!(qualified_name("a/b/c").len(), 1);
        assert_eq!(port_name("a--b-").len(), 2);
        assert_eq!(port_name("80"), ["must contain at least one letter (a-z)"]);
        assert_eq!(port_number(0), ["must be between 1 and 65535, inclusive"]);
        assert_eq!(config_map_key("..x"), ["must not start with '..'"]);
        assert_eq!(dns1035_label("1a").len(), 1);
        assert_eq!(percent("%").len(), 1);
        assert_eq!(env_var_name("a=b").len(), 1);
    }
}
