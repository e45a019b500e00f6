//! Explanations as tables for people, JSON lines and YAML documents.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use pintle_scheduler_core::explain::{Explanation, NodeExplanation};

use crate::cli::OutputFormat;
use crate::commands::table::table;

/// How much to show.
#[derive(Clone, Copy)]
pub(super) struct Shown {
    /// Every node of every pod, not only the outcome.
    pub(super) explain: bool,
    /// At most so many feasible nodes, and refusals counted.
    pub(super) top: Option<usize>,
}

pub(super) fn render(
    explanations: &[Explanation],
    format: OutputFormat,
    shown: Shown,
) -> anyhow::Result<String> {
    let mut text = String::new();
    match format {
        OutputFormat::Json => {
            for explanation in explanations {
                text += &serde_json::to_string(&shortened(explanation, shown.top))?;
                text += "\n";
            }
        }
        OutputFormat::Yaml => {
            for explanation in explanations {
                text += "---\n";
                let value = serde_json::to_value(shortened(explanation, shown.top))?;
                text += &serde_saphyr::to_string(&value)?;
            }
        }
        OutputFormat::Table | OutputFormat::Wide if explanations.is_empty() => {
            text += "No pending pods.\n";
        }
        OutputFormat::Table | OutputFormat::Wide if shown.explain => {
            for (at, explanation) in explanations.iter().enumerate() {
                text += if at > 0 { "\n" } else { "" };
                one_pod(&mut text, explanation, shown.top);
            }
        }
        OutputFormat::Table | OutputFormat::Wide => {
            text += &outcomes(explanations, format == OutputFormat::Wide);
        }
    }
    Ok(text)
}

fn shortened(explanation: &Explanation, top: Option<usize>) -> Explanation {
    let mut short = explanation.clone();
    if let Some(top) = top {
        let mut feasible = 0;
        short.nodes.retain(|node| {
            let counts = matches!(node, NodeExplanation::Feasible { .. });
            feasible += usize::from(counts);
            counts && feasible <= top
        });
    }
    short
}

/// One row a pod.
fn outcomes(explanations: &[Explanation], wide: bool) -> String {
    let mut header = vec!["NAMESPACE", "POD", "NODE"];
    if wide {
        header.extend(["FEASIBLE", "TOTAL", "BEST", "NOMINATED", "VICTIMS"]);
    }
    header.push("MESSAGE");
    let rows = explanations.iter().map(|explanation| {
        let (namespace, name) = explanation.pod.split_once('/').unwrap_or_default();
        let mut row = vec![namespace.to_owned(), name.to_owned(), or_none(&explanation.node)];
        if wide {
            row.push(explanation.feasible.len().to_string());
            row.push(total(explanation));
            row.push(listed(&explanation.best));
            row.push(or_none(&explanation.nominated));
            row.push(listed(&explanation.victims));
        }
        row.push(explanation.message.clone());
        row
    });
    table(&header, rows)
}

fn total(explanation: &Explanation) -> String {
    match explanation.nodes.first() {
        Some(NodeExplanation::Feasible { total, .. }) => total.to_string(),
        _ => NONE.to_owned(),
    }
}

/// One pod and every node.
fn one_pod(text: &mut String, explanation: &Explanation, top: Option<usize>) {
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "{name:<11}{value}");
        }
    };
    line("Pod:", &explanation.pod);
    line("Node:", &or_none(&explanation.node));
    line("Message:", &explanation.message);
    line("Nominated:", explanation.nominated.as_deref().unwrap_or_default());
    line("Victims:", &explanation.victims.join(", "));
    line("Best:", &explanation.best.join(", "));
    let short = shortened(explanation, top);
    let shown = if top.is_some() { &short.nodes } else { &explanation.nodes };
    scores(text, shown);
    let left = explanation.feasible.len().saturating_sub(top.unwrap_or(usize::MAX));
    if left > 0 {
        let _ = writeln!(text, "... and {left} more feasible nodes");
    }
    refusals(text, &explanation.nodes, top.is_some());
}

/// The feasible nodes, a column for each plugin that scored.
fn scores(text: &mut String, nodes: &[NodeExplanation]) {
    let feasible = nodes.iter().filter_map(|node| match node {
        NodeExplanation::Feasible { name, total, scores } => Some((name, total, scores)),
        NodeExplanation::Rejected { .. } => None,
    });
    let feasible: Vec<_> = feasible.collect();
    let Some((_, _, first)) = feasible.first() else { return };
    let plugins = first.iter().map(|score| format!("{} x{}", score.plugin, score.weight));
    let header: Vec<String> =
        ["NODE", "TOTAL"].map(str::to_owned).into_iter().chain(plugins).collect();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let rows = feasible.iter().map(|(name, total, scores)| {
        let cells = scores.iter().map(|score| match (score.raw, score.normalized) {
            (raw, normalized) if raw == normalized => normalized.to_string(),
            (raw, normalized) => format!("{normalized} (raw {raw})"),
        });
        [name.to_string(), total.to_string()].into_iter().chain(cells).collect()
    });
    text.push('\n');
    text.push_str(&table(&header, rows));
}

/// The other nodes, by name or counted.
fn refusals(text: &mut String, nodes: &[NodeExplanation], counted: bool) {
    let refused = nodes.iter().filter_map(|node| match node {
        NodeExplanation::Rejected { name, rejected_by, code, reason } => {
            Some((name, [rejected_by.clone(), (*code).to_owned(), reason.clone()]))
        }
        NodeExplanation::Feasible { .. } => None,
    });
    let refused: Vec<_> = refused.collect();
    if refused.is_empty() {
        return;
    }
    text.push('\n');
    if !counted {
        let rows = refused
            .into_iter()
            .map(|(name, why)| std::iter::once(name.clone()).chain(why).collect());
        text.push_str(&table(&["NODE", "REJECTED BY", "CODE", "REASON"], rows));
        return;
    }
    let mut counts: BTreeMap<[String; 3], usize> = BTreeMap::new();
    refused.into_iter().for_each(|(_, why)| *counts.entry(why).or_default() += 1);
    let rows = counts
        .into_iter()
        .map(|(why, count)| std::iter::once(count.to_string()).chain(why).collect());
    text.push_str(&table(&["NODES", "REJECTED BY", "CODE", "REASON"], rows));
}

/// Columns as kubectl prints them.
fn or_none(value: &Option<String>) -> String {
    value.clone().unwrap_or_else(|| NONE.to_owned())
}

fn listed(names: &[String]) -> String {
    match names {
        [] => NONE.to_owned(),
        [first, second, third, _, ..] => {
            format!("{first},{second},{third} + {} more", names.len() - 3)
        }
        few => few.join(","),
    }
}

/// As kubectl has it.
const NONE: &str = "<none>";
