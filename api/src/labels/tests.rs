use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;
use proptest::prelude::*;

use super::*;

fn labels(text: &str) -> BTreeMap<String, String> {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').expect("key=value");
        (key.to_owned(), value.to_owned())
    };
    text.split(',').filter(|p| !p.is_empty()).map(pair).collect()
}

#[test]
fn query_strings_match_as_upstream() {
    for (selector, set, expected) in [
        ("", "", true),
        ("", "x=y", true),
        ("x=y", "x=y", true),
        ("x==y,z=w", "x=y,z=w", true),
        ("x!=y,z!=w", "x=z,z=a", true),
        ("x!=y", "", true),
        ("x=", "x=", true),
        ("x=", "", false),
        ("x=y", "x=z", false),
        ("x in (a,b)", "x=b", true),
        ("x in (a,b)", "", false),
        ("x in (a,)", "x=", true),
        ("x notin ( a , b )", "x=c", true),
        ("x notin (a)", "", true),
        ("x", "x=1", true),
        ("!x", "x=1", false),
        ("!x", "y=1", true),
        ("x>7,x<9", "x=8", true),
        ("x>7", "x=7", false),
        ("x>7", "x=abc", false),
        ("in in (in)", "in=in", true),
        ("example.com/role=web", "example.com/role=web", true),
    ] {
        let parsed = parse(selector).unwrap_or_else(|e| panic!("{selector}: {e}"));
        assert_eq!(parsed.matches(&labels(set)), expected, "{selector} on {set}");
    }
}

#[test]
fn bad_query_strings_name_what_was_found() {
    for (selector, error) in [
        (",", "found ',', expected: !, identifier, or ','"),
        ("x=a,", "found '', expected: identifier after ','"),
        ("x=a||y=b", "unable to parse requirement: values[0][x]: Invalid value: \"a||y\""),
        ("x in a", "unable to parse requirement: found 'a', expected: '('"),
        ("x in (a", "unable to parse requirement: found '', expected: ',', or ')'"),
        ("!x=a", "found '=', expected: ',' or 'end of string'"),
        ("x>a", "unable to parse requirement: values[0]: Invalid value: \"a\": for 'Gt', 'Lt'"),
        ("a/b/c=d", "unable to parse requirement: key: Invalid value: \"a/b/c\""),
        ("x y", "unable to parse requirement: found 'y', expected: in, notin, =, ==, !=, gt, lt"),
    ] {
        let got = parse(selector).expect_err(selector).to_string();
        assert!(got.starts_with(error), "{selector}: {got}");
    }
}

#[test]
fn no_selector_matches_nothing_and_an_empty_one_everything() {
    let none = Selector::try_from(None).unwrap();
    assert!(!none.matches(&labels("a=b")));
    let empty = Selector::try_from(&LabelSelector::default()).unwrap();
    assert!(empty.matches(&labels("a=b")) && empty.is_everything());
}

#[test]
fn expressions_are_read_and_checked() {
    let with = |operator: &str, values: &[&str]| LabelSelector {
        match_labels: Some(labels("app=web")),
        match_expressions: Some(vec![LabelSelectorRequirement {
            key: "tier".into(),
            operator: operator.into(),
            values: Some(values.iter().map(|&v| v.to_owned()).collect()),
        }]),
    };
    let selector = Selector::try_from(&with("NotIn", &["db"])).unwrap();
    assert!(selector.matches(&labels("app=web")));
    assert!(selector.matches(&serde_json::json!({"app": "web", "tier": "x"})));
    assert!(!selector.matches(&labels("app=web,tier=db")));
    assert_eq!(selector.to_string(), "app=web,tier notin (db)");
    let error = Selector::try_from(&with("Near", &[])).unwrap_err().to_string();
    assert_eq!(error, "\"Near\" is not a valid label selector operator");
    let error = Selector::try_from(&with("In", &[])).unwrap_err().to_string();
    assert_eq!(
        error,
        "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty"
    );
}

proptest! {
    #[test]
    fn printed_selectors_read_back(
        first in "!?[a-c]|[a-c](=|==|!=)[x-z]?|[a-c] (in|notin) \\([x-z](,[x-z])?\\)|[a-c]>[0-9]",
        rest in "(,[d-f]=[x-z]){0,3}",
    ) {
        let text = first + &rest;
        let selector = parse(&text).unwrap();
        prop_assert_eq!(parse(&selector.to_string()).unwrap(), selector);
    }

    #[test]
    fn no_text_panics(text in "[a-c =!(),<>/]{0,40}") {
        let _ = parse(&text);
    }
}
