//! Tables of what happened.

use std::collections::BTreeSet;

use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use k8s_openapi::api::core::v1::Pod;

use crate::client_pod::Tally;

/// Each pod's node, address and state.
pub(crate) fn pods(pods: &[Pod]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header(["POD", "NODE", "ADDRESS", "STATE"]);
    for pod in pods {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        let status = pod.status.as_ref();
        let address = status.and_then(|status| status.pod_ip.as_deref());
        let phase = status.and_then(|status| status.phase.as_deref()).unwrap_or("Unknown");
        let state = if pod.metadata.deletion_timestamp.is_some() { "Terminating" } else { phase };
        let name = pod.metadata.name.as_deref();
        table.add_row([name, node, address, Some(state)].map(|cell| cell.unwrap_or("-")));
    }
    table
}

/// How many connections each backend answered in both runs, and how many failed.
pub(crate) fn connections(address: &str, victim: &str, calm: &Tally, rolling: &Tally) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header([
        format!("ANSWERED BY (of connections to {address})"),
        "CALM".to_owned(),
        "WHILE ONE IS REPLACED".to_owned(),
    ]);
    let names: BTreeSet<&String> = calm.answered.keys().chain(rolling.answered.keys()).collect();
    for name in names {
        let count = |tally: &Tally| tally.answered.get(name).copied().unwrap_or(0).to_string();
        let label = if name == victim { format!("{name} (deleted)") } else { name.clone() };
        table.add_row([label, count(calm), count(rolling)]);
    }
    let failed = |tally: &Tally| tally.failed.values().sum::<u32>().to_string();
    table.add_row(["connections failed".to_owned(), failed(calm), failed(rolling)]);
    let took = |tally: &Tally| format!("{:.2} s", f64::from(tally.elapsed_ms) / 1e3);
    table.add_row(["time taken".to_owned(), took(calm), took(rolling)]);
    table
}
