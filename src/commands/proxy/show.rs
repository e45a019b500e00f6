//! The tables in the kernel, printed.

use std::fmt::Write as _;

use anyhow::{Context as _, anyhow};
use pintle_dataplane::inspect::{
    self, BackendRow, ConnectionRow, DropRow, Flows, ServiceRow, Sockets, Step, Tables, Trace,
    TraceRequest, Verdict,
};
use pintle_dataplane::{PinnedMaps, Pins};
use serde::Serialize;

use crate::cli::{InspectArgs, NodeArgs, ProxyOutput, TraceArgs};
use crate::commands::table::table;

pub(super) fn services(args: &InspectArgs) -> anyhow::Result<()> {
    let rows = rows(args, |maps| Ok(inspect::services(&maps.services()?)))?;
    let wide = args.output == ProxyOutput::Wide;
    let mut header =
        vec!["NAMESPACE", "NAME", "KIND", "ADDRESS", "PORT", "BACKENDS", "CONNECTIONS"];
    if wide {
        header.extend(["EXTERNAL", "OTHERWISE", "AFFINITY", "RANGES", "CHOICE"]);
        header.extend(["PACKETS", "BYTES", "ID", "TABLE"]);
    }
    print(args.output, &header, &rows, |row| service_cells(row, wide))
}

pub(super) fn backends(args: &InspectArgs) -> anyhow::Result<()> {
    let rows = rows(args, |maps| Ok(inspect::backends(&maps.tables()?)))?;
    let header = ["NAMESPACE", "NAME", "PORT", "BACKEND", "FOR", "SHARE"];
    print(args.output, &header, &rows, |row: &BackendRow| {
        let whom = match (row.internal, row.external) {
            (true, true) => "all",
            (true, false) => "node,pods",
            _ => "outside",
        };
        vec![
            or_none(&row.namespace),
            or_none(&row.name),
            port(&row.port_name, row.protocol),
            row.backend.to_string(),
            whom.to_owned(),
            format!("{:.1}%", f64::from(row.share_ppm) / 10_000.0),
        ]
    })
}

pub(super) fn connections(args: &InspectArgs) -> anyhow::Result<()> {
    let rows = rows(args, |maps| {
        Ok(inspect::connections(&maps.services()?, &maps.flows()?, &Sockets::new()))
    })?;
    let header = ["NAMESPACE", "NAME", "PROTOCOL", "CLIENT", "ADDRESS", "BACKEND", "MASQUERADED"];
    print(args.output, &header, &rows, |row: &ConnectionRow| {
        let client = match (row.client, row.socket) {
            (Some(client), _) => client.to_string(),
            (None, Some(socket)) => format!("socket {socket}"),
            (None, None) => NONE.to_owned(),
        };
        vec![
            or_none(&row.namespace),
            or_none(&row.name),
            row.protocol.to_owned(),
            client,
            row.service_address.to_string(),
            row.backend.to_string(),
            row.masqueraded_as.map_or_else(|| NONE.to_owned(), |as_| as_.to_string()),
        ]
    })
}

pub(super) fn drops(args: &InspectArgs) -> anyhow::Result<()> {
    let now_ns = now_ns()?;
    let rows = rows(args, |maps| Ok(inspect::drops(&maps.services()?, &maps.drops()?, now_ns)))?;
    let header = ["AGE", "NAMESPACE", "NAME", "PROTOCOL", "SOURCE", "DESTINATION", "REASON"];
    print(args.output, &header, &rows, |row: &DropRow| {
        vec![
            age(row.age_ms),
            or_none(&row.namespace),
            or_none(&row.name),
            row.protocol.to_owned(),
            row.source.map_or_else(|| row.what.to_owned(), |source| source.to_string()),
            row.destination.to_string(),
            row.reason.to_owned(),
        ]
    })
}

pub(super) fn trace(args: &TraceArgs) -> anyhow::Result<()> {
    let request = TraceRequest {
        source: args.source,
        destination: args.destination,
        protocol: args.protocol,
        place: args.from.map(Into::into),
        now_ns: now_ns()?,
    };
    if args.source.is_ipv4() != args.destination.is_ipv4() {
        return Err(crate::exit::UsageError(
            "trace: the client and what it asks for are of different families".to_owned(),
        )
        .into());
    }
    for (name, maps) in nodes(&args.node)? {
        let (tables, flows): (Tables, Flows) = (maps.tables()?, maps.flows()?);
        let trace = inspect::trace(&tables, &flows, request);
        if args.output == ProxyOutput::Json {
            println!("{}", serde_json::to_string_pretty(&trace)?);
        } else {
            print!("{}", trace_text(&name, &trace));
        }
    }
    Ok(())
}

fn trace_text(node: &str, trace: &Trace) -> String {
    let header = ["STEP", "TABLE", "KEY", "FOUND"];
    let rows = trace.steps.iter().enumerate().map(|(at, Step { table, key, found })| {
        vec![(at + 1).to_string(), (*table).to_owned(), key.clone(), found.clone()]
    });
    let mut text = table(&header, rows);
    let verdict = match &trace.verdict {
        Verdict::Backend { backends, masquerade } => {
            let backends: Vec<String> = backends.iter().map(ToString::to_string).collect();
            let masqueraded = if *masquerade { ", masqueraded" } else { "" };
            format!("to {}{masqueraded}", backends.join(" or "))
        }
        Verdict::Drop => "dropped".to_owned(),
        Verdict::NotService => "left as it is".to_owned(),
        Verdict::Reject => "rejected".to_owned(),
    };
    let _ = write!(text, "\nNode:      {node}\nVerdict:   {verdict}\nRule:      {}\n", trace.rule);
    text
}

/// A row that knows whose it is.
trait OfService {
    fn service(&self) -> (&str, &str);
}

macro_rules! of_service {
    ($($row:ty)*) => {$(
        impl OfService for $row {
            fn service(&self) -> (&str, &str) {
                (&self.namespace, &self.name)
            }
        }
    )*};
}
of_service!(ServiceRow BackendRow ConnectionRow DropRow);

/// The rows of all nodes that were asked for, each with its node.
fn rows<R: OfService>(
    args: &InspectArgs,
    read: impl Fn(&PinnedMaps) -> Result<Vec<R>, pintle_dataplane::PinnedError>,
) -> anyhow::Result<Vec<(String, R)>> {
    let mut all = Vec::new();
    for (node, maps) in nodes(&args.node)? {
        let wanted = read(&maps)?.into_iter().filter(|row| {
            let (namespace, name) = row.service();
            args.namespace.as_deref().is_none_or(|wanted| wanted == namespace)
                && args.service.as_deref().is_none_or(|wanted| wanted == name)
        });
        all.extend(wanted.map(|row| (node.clone(), row)));
    }
    Ok(all)
}

/// The nodes with tables on this machine.
fn nodes(args: &NodeArgs) -> anyhow::Result<Vec<(String, PinnedMaps)>> {
    let listed = Pins::try_list().context("look for tables")?;
    let mut nodes = Vec::new();
    for pins in listed {
        let (_, node) = pins.names();
        if args.node.as_ref().is_none_or(|wanted| *wanted == node) && pins.exist() {
            nodes.push((node, PinnedMaps::open(&pins)?));
        }
    }
    match (&args.node, nodes.is_empty()) {
        (_, false) => Ok(nodes),
        (Some(node), true) => Err(anyhow!("no tables of node {node} on this machine")),
        (None, true) => Err(anyhow!("no tables on this machine: the proxy has not run here")),
    }
}

fn print<R: Serialize>(
    output: ProxyOutput,
    header: &[&str],
    rows: &[(String, R)],
    cells: impl Fn(&R) -> Vec<String>,
) -> anyhow::Result<()> {
    if output == ProxyOutput::Json {
        #[derive(Serialize)]
        struct OfNode<'a, R> {
            node: &'a str,
            #[serde(flatten)]
            row: &'a R,
        }
        let rows: Vec<_> = rows.iter().map(|(node, row)| OfNode { node, row }).collect();
        println!("{}", serde_json::to_string_pretty(&rows)?);
        return Ok(());
    }
    if rows.is_empty() {
        eprintln!("No resources found.");
        return Ok(());
    }
    let several = rows.iter().any(|(node, _)| *node != rows[0].0);
    let header: Vec<&str> = several.then_some("NODE").iter().chain(header).copied().collect();
    let lines = rows.iter().map(|(node, row)| {
        let mut line = if several { vec![node.clone()] } else { Vec::new() };
        line.extend(cells(row));
        line
    });
    print!("{}", table(&header, lines));
    Ok(())
}

fn service_cells(row: &ServiceRow, wide: bool) -> Vec<String> {
    let address = match row.kind {
        inspect::FrontendKind::NodePort if row.address.is_ipv4() => "<node>".to_owned(),
        inspect::FrontendKind::NodePort => "<node, IPv6>".to_owned(),
        _ => row.address.to_string(),
    };
    let number = format!("{}/{}", row.port, row.protocol);
    let named =
        if row.port_name.is_empty() { number } else { format!("{}:{number}", row.port_name) };
    let mut cells = vec![
        or_none(&row.namespace),
        or_none(&row.name),
        row.kind.name().to_owned(),
        address,
        named,
        row.backends.to_string(),
        row.connections.to_string(),
    ];
    if wide {
        let affinity = match row.affinity_seconds {
            0 => NONE.to_owned(),
            seconds => format!("{seconds}s"),
        };
        cells.extend([
            row.external_backends.to_string(),
            format!("{}/{}", row.otherwise, row.external_otherwise),
            affinity,
            if row.checks_source { "checked" } else { NONE }.to_owned(),
            if row.consistent { "consistent" } else { "random" }.to_owned(),
            (row.packets_to + row.packets_from).to_string(),
            (row.bytes_to + row.bytes_from).to_string(),
            row.id.to_string(),
            row.table.to_string(),
        ]);
    }
    cells
}

fn port(name: &str, protocol: &str) -> String {
    if name.is_empty() { protocol.to_owned() } else { format!("{name}/{protocol}") }
}

fn or_none(text: &str) -> String {
    if text.is_empty() { NONE.to_owned() } else { text.to_owned() }
}

/// As kubectl shows ages: the two largest units.
fn age(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m{}s", seconds / 60, seconds % 60),
        _ => format!("{}h{}m", seconds / 3600, seconds % 3600 / 60),
    }
}

/// The kernel's clock since boot, to the hundredth of a second.
fn now_ns() -> anyhow::Result<u64> {
    let uptime = std::fs::read_to_string("/proc/uptime").context("read /proc/uptime")?;
    let seconds: f64 = uptime.split(' ').next().unwrap_or_default().parse()?;
    Ok((seconds * 1e9) as u64)
}

const NONE: &str = "<none>";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_read_as_kubectls() {
        assert_eq!(age(999), "0s");
        assert_eq!(age(119_000), "119s");
        assert_eq!(age(125_000), "2m5s");
        assert_eq!(age(7_260_000), "2h1m");
    }

    #[test]
    fn a_trace_ends_with_what_decides() {
        let trace = Trace {
            place: inspect::Place::Pod,
            steps: vec![Step {
                table: "FRONTENDS",
                key: "10.96.0.10:80/TCP".to_owned(),
                found: "ClusterIP of shop/web".to_owned(),
            }],
            verdict: Verdict::Backend {
                backends: vec!["10.244.1.5:80".parse().unwrap(), "10.244.1.6:80".parse().unwrap()],
                masquerade: true,
            },
            rule: "each draws one".to_owned(),
        };
        let text = trace_text("node-0", &trace);
        let expected = "\
STEP   TABLE       KEY                 FOUND
1      FRONTENDS   10.96.0.10:80/TCP   ClusterIP of shop/web

Node:      node-0
Verdict:   to 10.244.1.5:80 or 10.244.1.6:80, masqueraded
Rule:      each draws one
";
        assert_eq!(text, expected);
    }
}
