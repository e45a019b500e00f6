//! The name half of the `ServiceAccount` admission plugin: a pod without an account runs as
//! `default`. Tokens are not mounted, and the account need not exist.

use serde_json::{Value, json};

/// Fill in the account's name, in the deprecated field too, as clients still read it.
pub(crate) fn admit(pod: &mut Value) {
    let spec = &mut pod["spec"];
    let named = ["serviceAccountName", "serviceAccount"]
        .iter()
        .find_map(|key| spec[*key].as_str().filter(|name| !name.is_empty()))
        .unwrap_or("default")
        .to_owned();
    spec["serviceAccountName"] = json!(named);
    spec["serviceAccount"] = json!(named);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_field_names_the_account() {
        for (spec, name) in [
            (json!({}), "default"),
            (json!({"serviceAccountName": "a"}), "a"),
            (json!({"serviceAccount": "b"}), "b"),
        ] {
            let mut pod = json!({ "spec": spec });
            admit(&mut pod);
            assert_eq!(pod["spec"]["serviceAccountName"], name);
            assert_eq!(pod["spec"]["serviceAccount"], name);
        }
    }
}
