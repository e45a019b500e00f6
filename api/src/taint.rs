//! Taints and tolerations, as `ToleratesTaint` of `k8s.io/component-helpers` has them.
//!
//! The operators `Gt` and `Lt` (feature gate TaintTolerationComparisonOperators, alpha) are not
//! evaluated: such a toleration tolerates nothing.

use k8s_openapi::api::core::v1::{Taint, Toleration};

/// Effect that keeps new pods off a node.
pub const NO_SCHEDULE: &str = "NoSchedule";
/// Effect that makes a node a worse choice.
pub const PREFER_NO_SCHEDULE: &str = "PreferNoSchedule";
/// Effect that keeps new pods off a node and evicts those on it.
pub const NO_EXECUTE: &str = "NoExecute";

/// Whether `toleration` tolerates `taint`: effect and key match (empty matches all), and the
/// operator is `Exists`, or `Equal` (the default) with the same value.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    if !(effect.is_empty() || effect == taint.effect) || !(key.is_empty() || key == taint.key) {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => {
            toleration.value.as_deref().unwrap_or_default()
                == taint.value.as_deref().unwrap_or_default()
        }
        "Exists" => true,
        _ => false,
    }
}

/// Whether any of the tolerations tolerates `taint`.
pub fn is_tolerated(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| tolerates(toleration, taint))
}

/// The first taint for which `counts` holds and that no toleration tolerates.
pub fn find_untolerated<'a>(
    taints: &'a [Taint],
    tolerations: &[Toleration],
    counts: impl Fn(&Taint) -> bool,
) -> Option<&'a Taint> {
    taints.iter().find(|taint| counts(taint) && !is_tolerated(tolerations, taint))
}

/// Whether the taint keeps pods that do not tolerate it from being scheduled.
pub fn forbids_scheduling(taint: &Taint) -> bool {
    taint.effect == NO_SCHEDULE || taint.effect == NO_EXECUTE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taint(key: &str, value: &str, effect: &str) -> Taint {
        let value = (!value.is_empty()).then(|| value.to_owned());
        Taint { key: key.into(), value, effect: effect.into(), time_added: None }
    }

    /// `key|operator|value|effect`, each may be empty.
    fn toleration(text: &str) -> Toleration {
        let mut parts = text.split('|').map(|p| (!p.is_empty()).then(|| p.to_owned()));
        let mut next = || parts.next().flatten();
        Toleration {
            key: next(),
            operator: next(),
            value: next(),
            effect: next(),
            toleration_seconds: None,
        }
    }

    #[test]
    fn tolerating_is_upstreams() {
        let zone = taint("zone", "a", NO_SCHEDULE);
        for (text, expected) in [
            ("zone|Equal|a|NoSchedule", true),
            ("zone||a|", true),
            ("zone|Equal|b|NoSchedule", false),
            ("zone|Exists||", true),
            ("zone|Exists|b|", true),
            ("|Exists||", true),
            ("|Exists||NoExecute", false),
            ("other|Exists||", false),
            ("zone|Equal||", false),
            ("zone|Gt|0|", false),
        ] {
            assert_eq!(tolerates(&toleration(text), &zone), expected, "{text}");
        }
        assert!(tolerates(&toleration("k||| "), &taint("k", "", " ")));
    }

    #[test]
    fn the_first_untolerated_taint_that_counts_is_found() {
        let taints = [
            taint("soft", "", PREFER_NO_SCHEDULE),
            taint("gpu", "", NO_SCHEDULE),
            taint("drain", "", NO_EXECUTE),
        ];
        let found = |tolerations: &[Toleration]| {
            find_untolerated(&taints, tolerations, forbids_scheduling).map(|t| t.key.as_str())
        };
        assert_eq!(found(&[]), Some("gpu"));
        assert_eq!(found(&[toleration("gpu|Exists||")]), Some("drain"));
        assert_eq!(found(&[toleration("|Exists||")]), None);
    }
}
