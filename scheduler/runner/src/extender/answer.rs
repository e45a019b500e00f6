//! Answers of extenders: read as Go reads them (names of fields in any case, absent is zero) and
//! believed only as far as the nodes and pods they name exist.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pintle_scheduler_core::PodInfo;
use pintle_scheduler_core::framework::{
    ExtenderError, ExtenderFilter, PreemptionCandidate, Reason,
};
use serde_json::Value;

/// `ExtenderFilterResult`. Nodes that are neither named as feasible nor as failed are filtered out.
pub(super) fn filtered(
    answer: &Value,
    extender: &str,
    by_name: bool,
    asked: &BTreeSet<&str>,
) -> Result<ExtenderFilter, ExtenderError> {
    object(answer, "ExtenderFilterResult")?;
    said_no_error(answer)?;
    let names = field(answer, "NodeNames");
    let feasible = if by_name && !names.is_null() {
        texts(names, "NodeNames")?
    } else {
        let items = list(field(field(answer, "Nodes"), "items"), "Nodes.items")?;
        let name = |node: &Value| text(field(field(node, "metadata"), "name"), "name of a node");
        items.iter().map(name).collect::<Result<_, _>>()?
    };
    if let Some(unknown) = feasible.iter().find(|name| !asked.contains(&***name)) {
        return Err(ExtenderError(format!(
            "extender {extender:?} claims a filtered node {unknown:?} which is not found in the \
             input node list"
        )));
    }
    let failed = |name: &str| -> Result<BTreeMap<Box<str>, Reason>, ExtenderError> {
        let failed = entries(field(answer, name), name)?;
        let reason = |(node, reason): (&String, &Value)| {
            Ok((node.clone().into_boxed_str(), text(reason, name)?.into_string().into()))
        };
        failed.into_iter().filter(|(node, _)| asked.contains(node.as_str())).map(reason).collect()
    };
    Ok(ExtenderFilter {
        feasible,
        failed: failed("FailedNodes")?,
        failed_and_unresolvable: failed("FailedAndUnresolvableNodes")?,
    })
}

/// `HostPriorityList`: scores by node. Of nodes that were not asked about nothing comes.
pub(super) fn prioritized(answer: &Value) -> Result<BTreeMap<Box<str>, i64>, ExtenderError> {
    let score = |entry: &Value| {
        object(entry, "HostPriority")?;
        let score = field(entry, "Score");
        let score = if score.is_null() { Some(0) } else { score.as_i64() };
        let host = text(field(entry, "Host"), "Host")?;
        Ok((host, score.ok_or_else(|| garbage("Score", field(entry, "Score")))?))
    };
    list(answer, "HostPriorityList")?.iter().map(score).collect()
}

/// `ExtenderPreemptionResult`: the candidates that remain, with the victims that it names.
pub(super) fn preempted(
    answer: &Value,
    extender: &str,
    candidates: &[PreemptionCandidate],
) -> Result<Vec<PreemptionCandidate>, ExtenderError> {
    object(answer, "ExtenderPreemptionResult")?;
    let victims = entries(field(answer, "NodeNameToMetaVictims"), "NodeNameToMetaVictims")?;
    let mut remaining = Vec::with_capacity(victims.len());
    for (name, victims) in victims {
        let known = candidates.iter().find(|it| **it.node.name() == **name);
        let candidate = known.ok_or_else(|| {
            ExtenderError(format!(
                "extender {extender:?} claims to preempt on node {name:?} which is not found in \
                 the input candidates"
            ))
        })?;
        let pods = list(field(victims, "Pods"), "Pods")?;
        let find = |pod: &Value| find_victim(pod, extender, candidate);
        let violations = field(victims, "NumPDBViolations").as_u64().unwrap_or(0);
        remaining.push(PreemptionCandidate {
            node: Arc::clone(&candidate.node),
            victims: pods.iter().map(find).collect::<Result<_, _>>()?,
            pdb_violations: usize::try_from(violations).unwrap_or(usize::MAX),
        });
    }
    Ok(remaining)
}

fn find_victim(
    pod: &Value,
    extender: &str,
    candidate: &PreemptionCandidate,
) -> Result<Arc<PodInfo>, ExtenderError> {
    let uid = text(field(pod, "UID"), "UID")?;
    // Preemption works on copies of nodes from which the victims were taken.
    let pods = candidate.node.pods().iter().chain(&candidate.victims);
    let mut pods = pods.filter(|info| info.object_uid().as_deref() == Some(&*uid));
    pods.next().cloned().ok_or_else(|| {
        let node = candidate.node.name();
        ExtenderError(format!(
            "extender: {extender} claims to preempt pod (UID: {uid}) on node: {node}, but the pod \
             is not found on that node"
        ))
    })
}

/// `ExtenderBindingResult`.
pub(super) fn bound(answer: &Value) -> Result<(), ExtenderError> {
    object(answer, "ExtenderBindingResult")?;
    said_no_error(answer)
}

fn said_no_error(answer: &Value) -> Result<(), ExtenderError> {
    match &*text(field(answer, "Error"), "Error")? {
        "" => Ok(()),
        error => Err(ExtenderError(error.to_owned())),
    }
}

fn garbage(what: &str, found: &Value) -> ExtenderError {
    let mut found = found.to_string();
    if found.len() > SHOWN_BYTES_MAX {
        found.truncate(found.floor_char_boundary(SHOWN_BYTES_MAX));
        found.push_str("...");
    }
    ExtenderError(format!("the answer of the extender is no good: {what} is {found}"))
}

/// The field by its name in any case; null if there is none.
fn field<'a>(value: &'a Value, name: &str) -> &'a Value {
    let fields = value.as_object();
    let exact = fields.and_then(|fields| fields.get(name));
    exact
        .or_else(|| {
            let mut fields = fields?.iter();
            fields.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
        })
        .unwrap_or(&Value::Null)
}

fn object(value: &Value, what: &str) -> Result<(), ExtenderError> {
    if value.is_object() { Ok(()) } else { Err(garbage(what, value)) }
}

fn entries<'a>(
    value: &'a Value,
    what: &str,
) -> Result<Vec<(&'a String, &'a Value)>, ExtenderError> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Object(fields) => Ok(fields.iter().collect()),
        other => Err(garbage(what, other)),
    }
}

fn list<'a>(value: &'a Value, what: &str) -> Result<&'a [Value], ExtenderError> {
    match value {
        Value::Null => Ok(&[]),
        Value::Array(items) => Ok(items),
        other => Err(garbage(what, other)),
    }
}

fn texts(value: &Value, what: &str) -> Result<Vec<Box<str>>, ExtenderError> {
    list(value, what)?.iter().map(|item| text(item, what)).collect()
}

fn text(value: &Value, what: &str) -> Result<Box<str>, ExtenderError> {
    match value {
        Value::Null => Ok("".into()),
        Value::String(text) => Ok(text.as_str().into()),
        other => Err(garbage(what, other)),
    }
}

/// Enough to know it by.
const SHOWN_BYTES_MAX: usize = 120;
