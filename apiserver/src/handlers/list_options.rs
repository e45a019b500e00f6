//! Which options of a list or watch go together.
//!
//! Mirrors `k8s.io/apimachinery`'s `ValidateListOptions`. client-go goes back to plain lists when a
//! watch with `sendInitialEvents` is refused as invalid (422), so the code counts.

use pintle_api::field::{Errors, Path};
use pintle_api::status::{Status, Subject};

use crate::query::Query;

pub(super) fn check(query: &Query, is_watch: bool) -> Result<(), Status> {
    let mut errors = Errors::default();
    let path = Path::new("resourceVersionMatch");
    let matched = query.get("resourceVersionMatch");
    let initial = Path::new("sendInitialEvents");
    match (is_watch, query.get("sendInitialEvents").is_empty()) {
        (false, false) => errors.forbidden(&initial, "sendInitialEvents is forbidden for list"),
        (true, false) if matched != NOT_OLDER_THAN => errors.forbidden(
            &path,
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ),
        (true, true) if !matched.is_empty() => errors.forbidden(
            &path,
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        ),
        _ => {}
    }
    let known: &[&str] = if is_watch { &[NOT_OLDER_THAN] } else { &[EXACT, NOT_OLDER_THAN] };
    if !matched.is_empty() {
        if !known.contains(&matched) {
            errors.not_supported(&path, matched, known);
        }
        if !query.get("continue").is_empty() {
            let why = "resourceVersionMatch is forbidden when continue is provided";
            errors.forbidden(&path, why);
        }
        check_revision(query, is_watch, &path, &mut errors);
    }
    if errors.is_empty() {
        return Ok(());
    }
    let subject = Subject { group: "meta.k8s.io", kind: "ListOptions", name: "" };
    Err(Status::invalid(subject, &errors))
}

fn check_revision(query: &Query, is_watch: bool, path: &Path<'_>, errors: &mut Errors) {
    let why = match (query.get("resourceVersion"), query.get("resourceVersionMatch")) {
        _ if is_watch => return,
        ("", _) => "resourceVersionMatch is forbidden unless resourceVersion is provided",
        ("0", EXACT) => "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
        _ => return,
    };
    errors.forbidden(path, why);
}

/// A list of the very state that `resourceVersion` names.
pub(super) const EXACT: &str = "Exact";
const NOT_OLDER_THAN: &str = "NotOlderThan";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_do_not_go_together_are_invalid() {
        let whole = "resourceVersionMatch=NotOlderThan&sendInitialEvents=true";
        let cases = [
            (true, "", ""),
            (true, "resourceVersion=5", ""),
            (true, whole, ""),
            (true, "sendInitialEvents=true", "requires setting resourceVersionMatch"),
            (true, "sendInitialEvents=false&resourceVersionMatch=Exact", "requires setting"),
            (true, "resourceVersionMatch=NotOlderThan", "forbidden for watch"),
            (true, "resourceVersionMatch=NotOlderThan&sendInitialEvents=1&continue=x", "continue"),
            (false, "resourceVersion=0&resourceVersionMatch=NotOlderThan", ""),
            (false, "resourceVersion=5&resourceVersionMatch=Exact", ""),
            (false, "resourceVersion=0&resourceVersionMatch=Exact", "for resourceVersion \"0\""),
            (false, "resourceVersionMatch=Exact", "unless resourceVersion is provided"),
            (false, "resourceVersion=5&resourceVersionMatch=exact", "Unsupported value: \"exact\""),
            (false, "resourceVersion=5&resourceVersionMatch=Exact&continue=x", "when continue"),
            (false, "sendInitialEvents=true", "sendInitialEvents is forbidden for list"),
        ];
        for (is_watch, query, words) in cases {
            match check(&Query::parse(query), is_watch) {
                Ok(()) => assert_eq!(words, "", "{query}"),
                Err(status) => {
                    assert_eq!(status.code(), 422, "{query}");
                    let text = status.to_string();
                    assert!(!words.is_empty() && text.contains(words), "{query}: {text}");
                    assert!(text.contains("ListOptions.meta.k8s.io \"\" is invalid"), "{text}");
                }
            }
        }
    }
}
