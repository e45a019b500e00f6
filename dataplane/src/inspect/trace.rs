//! The way of one connection through the tables, step by step, and the rule that decides.
//!
//! Says what the programs in the kernel would do with the first packet of the connection, or with the
//! call that opens it, by the same tables and in the same order: `ebpf/programs`' `lookup`, `socket`
//! and `forward`. Where they draw a random number it names all that may be drawn.

use std::net::{IpAddr, SocketAddr};

use pintle_ebpf_common::{
    Address, AffinityKey, Endpoint, Frontend, FrontendKey, Scope, Slot, SlotRun, SourceRange,
    Tuple, device, flag, hook, locality, node_address, protocol, seal, setting, tracked,
};
use serde::Serialize;

use super::service::{FrontendKind, names};
use super::{Flows, Tables, protocol_name};
use crate::plan::{Protocol, address, endpoint, frontend_key, ip_addr, socket_addr};

/// The connection that is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceRequest {
    /// The client.
    pub source: SocketAddr,
    /// What it asks for.
    pub destination: SocketAddr,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// Where the client is; else it is told by its address.
    pub place: Option<Place>,
    /// The kernel's clock since boot, for the age of clients' affinity.
    pub now_ns: u64,
}

/// Where a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Place {
    /// A process in the node's own network namespace: its system calls are translated.
    Node,
    /// A process in a pod of the node: likewise.
    Pod,
    /// Elsewhere: its packets are translated where they come in.
    Outside,
}

/// One look into a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// The map, or what decides without one.
    pub table: &'static str,
    /// What is looked up.
    pub key: String,
    /// What is found.
    pub found: String,
}

/// What becomes of the connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "verdict")]
pub enum Verdict {
    /// It goes to this backend, or to one of these with equal chances.
    #[serde(rename_all = "camelCase")]
    Backend {
        /// Which.
        backends: Vec<SocketAddr>,
        /// Whether the backend is told the node's address in place of the client's.
        masquerade: bool,
    },
    /// Nobody hears of it: the packet is dropped, or the call fails as unreachable.
    Drop,
    /// It is no Service's; it goes where it is addressed to.
    NotService,
    /// The client is told at once that nobody answers.
    Reject,
}

/// The way of one connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Trace {
    /// Where the client was taken to be.
    pub place: Place,
    /// The looks, in order.
    pub steps: Vec<Step>,
    /// What comes of it.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// The rule that decides.
    pub rule: String,
}

/// Follow a connection.
#[must_use]
pub fn trace(tables: &Tables, flows: &Flows, request: TraceRequest) -> Trace {
    let mut walk = Walk { tables, flows, request, place: Place::Outside, steps: Vec::new() };
    walk.place = request.place.unwrap_or_else(|| walk.guess_place());
    let (verdict, rule) = walk.decide();
    Trace { place: walk.place, steps: walk.steps, verdict, rule }
}

struct Walk<'a> {
    tables: &'a Tables,
    flows: &'a Flows,
    request: TraceRequest,
    place: Place,
    steps: Vec<Step>,
}

impl Walk<'_> {
    #[expect(clippy::needless_pass_by_value, reason = "what is printed is made on the spot")]
    fn step(&mut self, table: &'static str, key: impl ToString, found: impl ToString) {
        self.steps.push(Step { table, key: key.to_string(), found: found.to_string() });
    }

    /// The node has its own addresses, pods those of the ranges.
    fn guess_place(&mut self) -> Place {
        let ip = self.request.source.ip();
        let source = address(ip);
        let of_node =
            |device: &pintle_ebpf_common::Device| [device.v4, device.v6].contains(&source);
        let place = if ip.is_loopback()
            || self.tables.node_addresses.contains_key(&source)
            || self.tables.devices.values().any(of_node)
        {
            Place::Node
        } else if self.tables.is_in(SourceRange::LOCAL, source) {
            Place::Pod
        } else {
            Place::Outside
        };
        let found = match place {
            Place::Node => "an address of the node: its system calls are translated",
            Place::Pod => "an address of the cluster's pods: its system calls are translated",
            Place::Outside => "an address from elsewhere: its packets are translated",
        };
        self.step("CLIENT", ip, found);
        place
    }

    fn decide(&mut self) -> (Verdict, String) {
        if self.place == Place::Outside
            && let Some(known) = self.known_connection()
        {
            return known;
        }
        let Some((key, frontend)) = self.find() else {
            let rule = format!("{} is no Service's address", self.named(self.key()));
            return (Verdict::NotService, rule);
        };
        let scope = self.scope();
        let run = frontend.run(scope);
        if run.count == 0 {
            return self.nobody(key, &frontend, scope);
        }
        let source = address(self.request.source.ip());
        if self.place == Place::Outside && frontend.ranges != 0 {
            let inside = self.tables.is_in(frontend.ranges, source);
            let found = if inside { "in the ranges" } else { "in none of the ranges" };
            let key = format!("{} {}", frontend.ranges, self.request.source.ip());
            self.step("SOURCE_RANGES", key, found);
            if !inside {
                let rule = "loadBalancerSourceRanges leave the client out".to_owned();
                return (Verdict::Drop, rule);
            }
        }
        self.choose(key, &frontend, run, scope)
    }

    /// Packets of a connection that is known go where they went before.
    fn known_connection(&mut self) -> Option<(Verdict, String)> {
        let TraceRequest { source, destination, protocol, .. } = self.request;
        let (from, to) = (endpoint(source), endpoint(destination));
        let tuple = Tuple {
            source: from.address,
            destination: to.address,
            source_port_be: from.port_be,
            destination_port_be: to.port_be,
            protocol: protocol.number(),
            hook: hook::INGRESS,
            padding: [0; 2],
        };
        let key = format!("{source} -> {destination}");
        let Some(entry) = self.flows.tracked.get(&tuple) else {
            self.step("TRACKED", key, "no connection of before");
            return None;
        };
        let backend = Endpoint::new(entry.to.destination, entry.to.destination_port_be);
        let leaving = Tuple { hook: hook::EGRESS, ..entry.to };
        let leaving = self.flows.tracked.get(&leaving);
        let masquerade = leaving
            .is_some_and(|it| it.flags & tracked::PENDING == 0 && it.to.source != tuple.source);
        let backend = socket_addr(backend);
        self.step("TRACKED", key, format!("a connection to {backend}"));
        let rule = "the connection is known, and stays with its backend".to_owned();
        Some((Verdict::Backend { backends: vec![backend], masquerade }, rule))
    }

    fn key(&self) -> FrontendKey {
        frontend_key(self.request.destination, self.request.protocol)
    }

    fn named(&self, key: FrontendKey) -> String {
        let addr = socket_addr(Endpoint::new(key.address, key.port_be));
        format!("{addr}/{}", protocol_name(key.protocol))
    }

    fn find(&mut self) -> Option<(FrontendKey, Frontend)> {
        let key = self.key();
        if self.request.destination.ip().is_unspecified() {
            self.step("FRONTENDS", self.named(key), "the unspecified address is not looked up");
            return None;
        }
        if let Some(found) = self.look(key) {
            return Some(found);
        }
        if self.tables.settings.flags & setting::NODE_PORTS == 0 {
            self.step("SETTINGS", "node ports", "there are none");
            return None;
        }
        let canonical = match self.request.destination.ip() {
            IpAddr::V4(ip) if ip.is_loopback() => IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
            ip => ip,
        };
        let Some(flags) = self.tables.node_addresses.get(&address(canonical)).copied() else {
            self.step("NODE_ADDRESSES", canonical, "no address of the node for node ports");
            return None;
        };
        if flags & node_address::LOOPBACK != 0 && self.place != Place::Node {
            let found = "the node's loopback, which is for the node itself";
            self.step("NODE_ADDRESSES", canonical, found);
            return None;
        }
        self.step("NODE_ADDRESSES", canonical, "an address of the node, where node ports answer");
        self.look(key.node_port())
    }

    fn look(&mut self, key: FrontendKey) -> Option<(FrontendKey, Frontend)> {
        let name = self.named(key);
        let Some(frontend) = self.tables.frontends.get(&key).copied() else {
            self.step("FRONTENDS", name, "nothing");
            return None;
        };
        let [namespace, service, port] = names(self.tables.services.get(&frontend.service));
        let port = if port.is_empty() { port } else { format!(":{port}") };
        let kind = FrontendKind::of(key, &frontend).name();
        let whole = if frontend.is_sealed_for(key) { "" } else { ", just being replaced" };
        let found = format!("{kind} of {namespace}/{service}{port}{whole}");
        self.step("FRONTENDS", name, found);
        Some((key, frontend))
    }

    /// A client whose packets come in has the internal scope if it is one of the cluster's pods.
    fn scope(&mut self) -> Scope {
        if self.place != Place::Outside {
            return Scope::Internal;
        }
        if self.tables.settings.flags & setting::DETECTS_LOCAL == 0 {
            self.step(
                "SETTINGS",
                "detectLocalMode",
                "pods cannot be told: a client from elsewhere",
            );
            return Scope::External;
        }
        let source = self.request.source.ip();
        let all_local =
            self.tables.devices.values().any(|device| device.flags & device::LOCAL != 0);
        if self.tables.is_in(SourceRange::LOCAL, address(source)) {
            self.step("SOURCE_RANGES", source, "an address of the cluster's pods");
            Scope::Internal
        } else {
            let but = if all_local { " (unless it comes in by the pods' link)" } else { "" };
            self.step("SOURCE_RANGES", source, format!("not of the cluster's pods{but}"));
            Scope::External
        }
    }

    fn nobody(&mut self, key: FrontendKey, frontend: &Frontend, scope: Scope) -> (Verdict, String) {
        let which = scope_name(scope);
        if frontend.drops(scope) {
            self.step("FRONTENDS", self.named(key), format!("no backend, {which}: drop"));
            let rule = "the traffic policy is Local, and no endpoint is on this node".to_owned();
            return (Verdict::Drop, rule);
        }
        self.step("FRONTENDS", self.named(key), format!("no backend, {which}: reject"));
        let rule = "the Service has no endpoint".to_owned();
        (Verdict::Reject, rule)
    }

    fn choose(
        &mut self,
        key: FrontendKey,
        frontend: &Frontend,
        run: SlotRun,
        scope: Scope,
    ) -> (Verdict, String) {
        let backends = self.tables.backends(frontend.table, run);
        let slots = format!("{}..{}", run.base, run.base.saturating_add(run.count));
        let whole = format!("{} backends, {}", backends.len(), scope_name(scope));
        self.step("SLOTS", slots, whole);
        let masquerade = self.masquerades(frontend, scope, &backends);
        let (place, source) = (self.place, address(self.request.source.ip()));
        let backend = |chosen: &[Endpoint]| {
            let mut addrs: Vec<SocketAddr> = chosen.iter().copied().map(socket_addr).collect();
            addrs.sort_unstable();
            // A backend that is its own client would otherwise answer itself past the node.
            let hairpin =
                place == Place::Outside && chosen.len() == 1 && chosen[0].address == source;
            Verdict::Backend { backends: addrs, masquerade: masquerade || hairpin }
        };
        if frontend.affinity_seconds != 0 {
            let (found, rule) = self.affinity(frontend, &backends);
            let numbered = self.numbered(key, frontend, scope, &backends);
            return match found.or(numbered.map(|(chosen, _)| chosen)) {
                Some(endpoint) => (backend(&[endpoint]), rule),
                None => (backend(&backends), rule),
            };
        }
        if let Some((chosen, rule)) = self.numbered(key, frontend, scope, &backends) {
            return (backend(&[chosen]), rule.to_owned());
        }
        let rule = match (key.protocol, backends.len()) {
            (_, 1) => "the only endpoint".to_owned(),
            (protocol::UDP, _) => "each socket keeps one, drawn by its number".to_owned(),
            _ => "each connection draws one, with equal chances".to_owned(),
        };
        (backend(&backends), rule)
    }

    /// The backend that a flow's number falls on, where flows have one.
    fn numbered(
        &mut self,
        key: FrontendKey,
        frontend: &Frontend,
        scope: Scope,
        backends: &[Endpoint],
    ) -> Option<(Endpoint, &'static str)> {
        let ring = frontend.ring(scope);
        if self.place != Place::Outside || ring.count == 0 && key.protocol != protocol::UDP {
            return None;
        }
        let Endpoint { address, port_be, .. } = endpoint(self.request.source);
        let number = if ring.count != 0 && frontend.affinity_seconds != 0 {
            seal([address.high_be, address.low_be]) as u32
        } else {
            let high = address.high_be ^ key.address.high_be;
            let flow = seal([high, address.low_be, u64::from(port_be)]);
            seal([flow, key.address.low_be, key.port_word()]) as u32
        };
        let spread = |count: u32| ((u64::from(number) * u64::from(count)) >> 32) as u32;
        if ring.count == 0 {
            let chosen = backends.get(spread(u32::try_from(backends.len()).ok()?) as usize)?;
            return Some((
                *chosen,
                "a UDP flow keeps the backend that its addresses and ports name",
            ));
        }
        let place = spread(ring.count);
        let slot = self.tables.slots.get(&(ring.base + place / Slot::PLACES))?;
        let at = slot.place(frontend.table, place % Slot::PLACES)?;
        let chosen = *backends.get(usize::from(at))?;
        self.step("SLOTS", format!("place {place} of {}", ring.count), socket_addr(chosen));
        Some((chosen, "consistent hashing: the place that the flow's number falls on"))
    }

    /// Where the client was sent before, if it is known and still counts.
    fn affinity(
        &mut self,
        frontend: &Frontend,
        backends: &[Endpoint],
    ) -> (Option<Endpoint>, String) {
        let seconds = frontend.affinity_seconds;
        if self.place != Place::Outside {
            let found = "by the client's network namespace, whose number its address does not tell";
            self.step("AFFINITY", self.request.source.ip(), found);
            let rule = format!("session affinity: one for the namespace, for {seconds} s");
            return (None, rule);
        }
        let client: Address = address(self.request.source.ip());
        let key = AffinityKey { client, service: frontend.service, padding: 0 };
        let known = self.flows.affinity.get(&key).copied();
        let current = known.filter(|known| {
            known.is_current(self.request.now_ns, seconds) && backends.contains(&known.backend)
        });
        let found = match (known, current) {
            (_, Some(known)) => format!("was sent to {}", socket_addr(known.backend)),
            (Some(known), None) => {
                format!("was sent to {}, which counts no more", socket_addr(known.backend))
            }
            (None, None) => "not known yet".to_owned(),
        };
        let key = format!("{} {}", ip_addr(client), frontend.service);
        self.step("AFFINITY", key, found);
        let rule = match current {
            Some(_) => format!("session affinity: within {seconds} s of the client's latest"),
            None => format!("session affinity: draws one, and keeps it for {seconds} s"),
        };
        (current.map(|known| known.backend), rule)
    }

    fn masquerades(&mut self, frontend: &Frontend, scope: Scope, backends: &[Endpoint]) -> bool {
        if self.place != Place::Outside {
            return false;
        }
        let has = |bit| frontend.flags & bit != 0;
        let is_set = |bit| self.tables.settings.flags & bit != 0;
        // To a pod of this node the client's address is kept.
        let is_elsewhere = backends.iter().any(|one| one.locality != locality::THIS_NODE);
        let is_asked =
            is_set(setting::MASQUERADE_ALL) || is_set(setting::DETECTS_LOCAL) && is_elsewhere;
        let foreign = has(flag::CLUSTER_IP) && scope == Scope::External && is_asked;
        let is_direct = self.tables.settings.flags & setting::DIRECT_RETURN != 0
            && scope == Scope::External
            && self.request.protocol != Protocol::Sctp
            && backends.iter().all(|backend| backend.locality != locality::UNKNOWN);
        let (masquerade, why) = if has(flag::MASQUERADE) && is_direct {
            (
                false,
                "loadBalancerMode DSR: the client's address is kept, and the backend's node answers",
            )
        } else if has(flag::MASQUERADE) {
            (true, "traffic from outside under the policy Cluster: masqueraded")
        } else if foreign {
            (true, "a cluster IP, asked for from outside: masqueraded")
        } else {
            (false, "the client's address is kept, unless the packets turn back on their link")
        };
        self.step("SOURCE", self.request.source.ip(), why);
        masquerade
    }
}

fn scope_name(scope: Scope) -> &'static str {
    match scope {
        Scope::Internal => "for clients on the node and the cluster's pods",
        Scope::External => "for clients from elsewhere",
    }
}
