//! Metrics that the kernel's maps hold, read when they are asked for.
//!
//! A scrape costs a system call or two for each published address, which is half a second with a
//! hundred thousand Services, and nothing in between. The maps are found by their pins, so that the
//! thread that updates them is not asked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::inspect::{FrontendKind, ServiceRow, services};
use crate::kernel::{Events, PinnedMaps, Pins};

/// The nodes of one registry. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Scraped(Arc<Mutex<BTreeMap<String, Pins>>>);

/// What the maps of one node say.
struct NodeFigures {
    node: String,
    rows: Vec<ServiceRow>,
    events: Events,
}

impl Scraped {
    pub(super) fn add(&self, node: &str, pins: &Pins) {
        self.0.lock().insert(node.to_owned(), pins.clone());
    }

    pub(super) fn remove(&self, node: &str) {
        self.0.lock().remove(node);
    }

    fn read(&self) -> Vec<NodeFigures> {
        let nodes = self.0.lock().clone();
        let read = nodes.into_iter().filter_map(|(node, pins)| {
            let maps = PinnedMaps::open(&pins).ok()?;
            let read =
                || Ok::<_, crate::PinnedError>((services(&maps.services()?), maps.events()?));
            match read() {
                Ok((rows, events)) => Some(NodeFigures { node, rows, events }),
                Err(error) => {
                    tracing::warn!(node, %error, "the tables cannot be read for the metrics");
                    None
                }
            }
        });
        read.collect()
    }
}

impl Collector for Scraped {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let nodes = self.read();
        if nodes.is_empty() {
            return Ok(());
        }
        encode_services(&mut encoder, &nodes)?;
        encode_without_local(&mut encoder, &nodes)?;
        encode_events(&mut encoder, &nodes)
    }
}

fn encode_services(
    encoder: &mut DescriptorEncoder<'_>,
    nodes: &[NodeFigures],
) -> Result<(), fmt::Error> {
    type Figures<'a> = &'a [(&'a str, fn(&ServiceRow) -> u64)];
    let families: [(&str, &str, Figures<'_>); 3] = [
        (
            "pintle_dataplane_service_connections",
            "Connections and datagram flows to a Service's port",
            &[("", |row| row.connections)],
        ),
        (
            "pintle_dataplane_service_packets",
            "Packets of a Service's port that were translated on the node's links",
            &[("to_backend", |row| row.packets_to), ("from_backend", |row| row.packets_from)],
        ),
        (
            "pintle_dataplane_service_bytes",
            "Bytes of the packets that were translated on the node's links",
            &[("to_backend", |row| row.bytes_to), ("from_backend", |row| row.bytes_from)],
        ),
    ];
    for (name, help, figures) in families {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for NodeFigures { node, rows, .. } in nodes {
            // A port's addresses share its number.
            let mut seen = BTreeSet::new();
            for row in rows.iter().filter(|row| seen.insert(row.id)) {
                for (direction, figure) in figures {
                    let labels = labels(node, row, direction);
                    let labels = &labels[..labels.len() - usize::from(direction.is_empty())];
                    let metric = family.encode_family(&labels)?;
                    ConstCounter::new(figure(row)).encode(metric)?;
                }
            }
        }
    }
    Ok(())
}

fn labels<'a>(
    node: &'a str,
    row: &'a ServiceRow,
    direction: &'a str,
) -> [(&'static str, &'a str); 7] {
    [
        ("node", node),
        ("namespace", &row.namespace),
        ("service", &row.name),
        ("port", &row.port_name),
        ("protocol", row.protocol),
        ("ip_family", if row.address.is_ipv4() { "IPv4" } else { "IPv6" }),
        ("direction", direction),
    ]
}

/// kube-proxy counts Services whose policy leaves no endpoint though there are some.
fn encode_without_local(
    encoder: &mut DescriptorEncoder<'_>,
    nodes: &[NodeFigures],
) -> Result<(), fmt::Error> {
    let mut family = encoder.encode_descriptor(
        "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
        "Services with a Local traffic policy and no endpoint for it",
        None,
        MetricType::Gauge,
    )?;
    for NodeFigures { node, rows, .. } in nodes {
        for (policy, number) in [
            (
                "internal",
                count(rows, |row| {
                    row.kind == FrontendKind::ClusterIP
                        && row.backends == 0
                        && row.otherwise == "drop"
                }),
            ),
            (
                "external",
                count(rows, |row| {
                    row.kind != FrontendKind::ClusterIP
                        && row.external_backends == 0
                        && row.external_otherwise == "drop"
                }),
            ),
        ] {
            let labels = [("node", node.as_str()), ("traffic_policy", policy)];
            ConstGauge::new(number).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn count(rows: &[ServiceRow], has: impl Fn(&ServiceRow) -> bool) -> i64 {
    let names = rows.iter().filter(|row| has(row)).map(|row| (&row.namespace, &row.name));
    names.collect::<BTreeSet<_>>().len() as i64
}

fn encode_events(
    encoder: &mut DescriptorEncoder<'_>,
    nodes: &[NodeFigures],
) -> Result<(), fmt::Error> {
    let mut family = encoder.encode_descriptor(
        "pintle_dataplane_events",
        "What the programs have counted beside connections",
        None,
        MetricType::Counter,
    )?;
    for NodeFigures { node, events, .. } in nodes {
        for (kind, number) in [
            ("refused", events.refused),
            ("retried", events.retried),
            ("dropped_no_backend", events.dropped_no_backend),
            ("dropped_source", events.dropped_source),
            ("dropped_no_port", events.dropped_no_port),
            ("dropped_unfit", events.dropped_unfit),
            ("unrecorded", events.unrecorded),
        ] {
            let labels = [("node", node.as_str()), ("event", kind)];
            ConstCounter::new(number).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}
