//! Which workloads of a file are run.

use std::collections::BTreeSet;

use anyhow::{Context as _, bail};

use super::config::{Case, Workload};
use super::options::Options;

/// A workload of a case.
pub(super) struct Selected<'a> {
    pub(super) case: &'a Case,
    pub(super) workload: &'a Workload,
}

impl Selected<'_> {
    /// `NAME/SIZE`.
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.case.name, self.workload.name)
    }

    fn is_called(&self, wanted: &str) -> bool {
        wanted == self.case.name || wanted == self.name()
    }

    fn has(&self, label: &str) -> bool {
        self.case.labels.iter().chain(&self.workload.labels).any(|own| own == label)
    }
}

/// Those that the options name, in the file's order.
pub(super) fn select<'a>(
    cases: &'a [Case],
    options: &Options,
) -> anyhow::Result<Vec<Selected<'a>>> {
    let mut selected = all(cases);
    for wanted in &options.workload {
        if !selected.iter().any(|one| one.is_called(wanted)) {
            bail!("--workload {wanted:?}: there is none of this name; --list says which there are");
        }
    }
    if !options.workload.is_empty() {
        selected.retain(|one| options.workload.iter().any(|wanted| one.is_called(wanted)));
    }
    match (&options.label, options.workload.is_empty()) {
        (Some(label), _) => selected.retain(|one| one.has(label)),
        // A file without the label is run whole.
        (None, true) if selected.iter().any(|one| one.has(options.mode.label())) => {
            selected.retain(|one| one.has(options.mode.label()));
        }
        _ => {}
    }
    if selected.is_empty() {
        let label = options.label.as_deref().unwrap_or_default();
        bail!("--label {label:?}: no workload that was asked for has it");
    }
    Ok(selected)
}

/// The workload called `NAME/SIZE`.
pub(super) fn find<'a>(cases: &'a [Case], name: &str) -> anyhow::Result<(&'a Case, &'a Workload)> {
    let found = all(cases).into_iter().find(|one| one.name() == name);
    let found = found.with_context(|| format!("{name}: there is no such workload"))?;
    Ok((found.case, found.workload))
}

/// A line for each workload: its name and labels.
pub(super) fn list(cases: &[Case]) -> String {
    let all = all(cases);
    let width = all.iter().map(|one| one.name().len()).max().unwrap_or(0);
    let line = |one: &Selected<'_>| {
        let labels: BTreeSet<&str> =
            one.case.labels.iter().chain(&one.workload.labels).map(String::as_str).collect();
        let labels: Vec<&str> = labels.into_iter().collect();
        format!("{:width$}  {}", one.name(), labels.join(", ")).trim_end().to_owned()
    };
    all.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn all(cases: &[Case]) -> Vec<Selected<'_>> {
    let of_case = |case| move |workload| Selected { case, workload };
    cases.iter().flat_map(|case| case.workloads.iter().map(of_case(case))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::Mode;

    fn cases() -> Vec<Case> {
        let text = "
- {name: A, workloadTemplate: [], workloads: [
    {name: small, labels: [short]}, {name: big/er, labels: [performance]}]}
- {name: B, labels: [performance], workloadTemplate: [], workloads: [{name: only}]}
";
        serde_saphyr::from_str(text).unwrap()
    }

    fn names(workload: &[&str], label: Option<&str>) -> Result<Vec<String>, String> {
        let options = Options {
            workload: workload.iter().map(|name| (*name).to_owned()).collect(),
            label: label.map(str::to_owned),
            ..Options::short(Mode::Engine)
        };
        let cases = cases();
        let selected = select(&cases, &options).map_err(|error| error.to_string())?;
        Ok(selected.iter().map(Selected::name).collect())
    }

    #[test]
    fn workloads_are_named_by_case_or_in_full() {
        assert_eq!(names(&[], None).unwrap(), ["A/big/er", "B/only"]);
        assert_eq!(names(&["A"], None).unwrap(), ["A/small", "A/big/er"]);
        assert_eq!(names(&["B/only", "A/big/er"], None).unwrap(), ["A/big/er", "B/only"]);
        assert_eq!(names(&["A"], Some("short")).unwrap(), ["A/small"]);
    }

    #[test]
    fn what_is_not_there_is_named() {
        assert!(names(&["A", "C/x"], None).unwrap_err().contains("--workload \"C/x\""));
        assert!(names(&["B"], Some("short")).unwrap_err().contains("--label \"short\""));
    }

    #[test]
    fn the_list_names_labels() {
        assert_eq!(list(&cases()), "A/small   short\nA/big/er  performance\nB/only    performance");
    }
}
