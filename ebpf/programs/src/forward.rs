//! Packets of clients that are not on the node.
//!
//! Mirrors kube-proxy's DNAT, masquerading and connection tracking, on the links of the node alone:
//! destinations are changed where packets come in, sources where they leave, and the kernel routes
//! them in between. [`Tracked`] draws the entries.

use core::ptr::addr_of;

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::helpers::{bpf_get_prandom_u32, bpf_jiffies64};
use aya_ebpf::programs::TcContext;
use pintle_ebpf_common::{
    Address, Endpoint, FrontendKey, Scope, Settings, SourceRange, Tracked, Tuple, device, event,
    flag, hook, jump, locality, seal, setting, tracked,
};

use crate::count;
use crate::filter::{self, Leaving};
use crate::lookup::{self, Answer, Client};
use crate::maps::{DEVICES, JUMPS, SOURCE_RANGES, TRACKED, WORK};
use crate::packet::{self, Packet};
use crate::quote;
use crate::refuse::Sent;
use crate::tunnel::{self, Outer};
use crate::view::View;

/// What the programs work with beside the packet: more than the stack of a program has room for. Each
/// CPU has its own, and a program for packets is not interrupted by another.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Work {
    /// The packet's addresses and ports.
    pub from: Tuple,
    /// What they become.
    pub to: Tuple,
    /// An entry of the connection's, and where it stands.
    pub entry: Tracked,
    pub key: Tuple,
    /// What else there is to know of the packet.
    pub packet: Packet,
    /// The header of the packet that it came in.
    pub outer: Outer,
    /// The errors that were sent of late.
    pub sent: Sent,
}

/// A packet that comes in.
#[inline(always)]
pub fn ingress(ctx: &TcContext) -> i32 {
    if !filter::may_come_in(ctx) {
        if packet::opens_tcp(ctx) && filter::may_go_out(ctx) {
            give_way(ctx);
        }
        return NEXT;
    }
    let Some(work) = work() else { return NEXT };
    work.from.hook = hook::INGRESS;
    let Some(packet) = packet::parse(ctx, &mut work.from) else { return error(ctx, work) };
    let packet = Packet::forgotten(&mut work.packet, packet);
    let known = find(work);
    // A client may open a new connection from the port of an old one.
    if known && (work.entry.flags & tracked::REPLY != 0 || !packet.is_syn(ctx)) {
        keep_pair(work);
    } else {
        match choose(ctx, &packet, work, known) {
            Choice::Before => keep_pair(work),
            Choice::Backend { service, how } => {
                track(work, service, how, packet.is_syn(ctx), 0);
                count::connection(service);
            }
            Choice::Drop { reason, service } => return drop(ctx, work, reason, service),
            Choice::Reject { service } => {
                drop(ctx, work, event::DROPPED_NO_BACKEND, service);
                return go_on(ctx, jump::REFUSE, DROP);
            }
            Choice::NotService => return NEXT,
        }
    }
    if work.entry.flags & tracked::REPLY == 0 {
        count::packet_to(work.entry.service, ctx.length());
    }
    if packet.rewrite(ctx, &work.from, &work.to).is_some() { NEXT } else { drop_unfit(ctx, work) }
}

/// A packet that goes out.
#[inline(always)]
pub fn egress(ctx: &TcContext) -> i32 {
    match filter::leaving(ctx) {
        Leaving::Other => return NEXT,
        Leaving::Stray => return go_on(ctx, jump::STRAY, NEXT),
        Leaving::Connection => {}
    }
    let Some(work) = work() else { return NEXT };
    work.from.hook = hook::EGRESS;
    let Some(packet) = packet::parse(ctx, &mut work.from) else { return error(ctx, work) };
    let packet = Packet::forgotten(&mut work.packet, packet);
    if !find(work) {
        return NEXT;
    }
    if work.entry.flags & tracked::PENDING != 0 {
        if work.entry.flags & tracked::IF_TURNING_BACK != 0 && !turns_back(ctx) {
            return NEXT;
        }
        if !masquerade(ctx.link(), &packet, work) {
            return drop(ctx, work, event::DROPPED_NO_PORT, work.entry.service);
        }
    } else {
        keep_pair(work);
    }
    if work.entry.flags & (tracked::TUNNEL | tracked::REPLY) == tracked::TUNNEL {
        return go_on(ctx, jump::PACK, DROP);
    }
    if work.entry.flags & tracked::REPLY != 0 {
        count::packet_from(work.entry.service, ctx.length());
        if work.entry.flags & tracked::TUNNELLED != 0 {
            let _ = packet.shorten_segments(ctx, tunnel::overhead(packet.is_v4()));
        }
    }
    if packet.rewrite(ctx, &work.from, &work.to).is_some() { NEXT } else { drop_unfit(ctx, work) }
}

/// A packet that leaves for what may be a Service's address. Where it came in by a link without programs
/// for packets, user space is to hear of it and to put them there.
pub fn stray(ctx: &TcContext) -> i32 {
    let Some(work) = work() else { return NEXT };
    work.from.hook = hook::EGRESS;
    if came_in_by(ctx) == 0 || packet::parse(ctx, &mut work.from).is_none() {
        return NEXT;
    }
    let Tuple { destination, destination_port_be, protocol, .. } = work.from;
    if lookup::is_published(FrontendKey::new(destination, destination_port_be, protocol)) {
        count::event(event::STRAYED);
    }
    NEXT
}

/// A client opens a connection to a backend itself, by the ports that one by a Service had: forget what
/// became of that one's packets, or the answers would be given the Service's address. One that was in
/// use a moment ago may not be over, and keeps its entries.
#[inline(always)]
fn give_way(ctx: &TcContext) {
    let Some(work) = work() else { return };
    work.from.hook = hook::EGRESS;
    if packet::parse(ctx, &mut work.from).is_none() {
        return;
    }
    work.key = Tuple { hook: hook::EGRESS, ..work.from.reversed() };
    // SAFETY: read at once.
    let used = unsafe { TRACKED.get(&work.key) }.map(|entry| entry.paired_ticks);
    if used.is_some_and(|used| ticks().wrapping_sub(used) >= OVER_TICKS) {
        let _ = TRACKED.remove(&work.key);
        let _ = TRACKED.remove(&work.from);
    }
}

/// Go on in another program. If it is not there yet, this becomes of the packet.
#[inline(always)]
fn go_on(ctx: &TcContext, program: u32, otherwise: i32) -> i32 {
    // SAFETY: nothing here is to be done after it.
    unsafe { JUMPS.tail_call(ctx, program) };
    otherwise
}

/// This CPU's own.
#[inline(always)]
pub fn work() -> Option<&'static mut Work> {
    // SAFETY: this CPU's own, see `Work`.
    unsafe { WORK.get_ptr_mut(0)?.as_mut() }
}

/// Find the connection of the packet.
#[inline(always)]
pub fn find(work: &mut Work) -> bool {
    // SAFETY: copied at once; an entry that is evicted meanwhile would have to be given to another
    // connection of this very moment to be misread, and then one packet is lost.
    let look = || unsafe { TRACKED.get(&work.from) };
    let Some(entry) = lookup::surely(look) else { return false };
    work.entry = *entry;
    work.to = entry.to;
    true
}

/// A packet that may be an error about one that was translated: it goes the way of that one's answers,
/// and is to quote what whoever sent it knows.
#[inline(always)]
fn error(ctx: &TcContext, work: &mut Work) -> i32 {
    let Some(quote) = quote::parse(ctx, &mut work.from) else {
        return if work.from.hook == hook::INGRESS { go_on(ctx, jump::UNPACK, NEXT) } else { NEXT };
    };
    let seen_at = work.from.hook;
    work.key = Tuple { hook: seen_at, ..work.from.reversed() };
    // SAFETY: as in `find`.
    let Some(entry) = (unsafe { TRACKED.get(&work.key) }) else { return NEXT };
    // Of what goes to another node inside another packet its sender knows the Service as it is.
    let is_packed = seen_at == hook::EGRESS
        && entry.flags & (tracked::TUNNEL | tracked::REPLY) == tracked::TUNNEL;
    if entry.flags & tracked::PENDING != 0 || is_packed {
        return NEXT;
    }
    work.entry = *entry;
    work.to = entry.to.reversed();
    let quoted = quote.rewrite(ctx, &work.from, &work.to).is_some();
    let whole = quoted
        && (!quote.is_for(work.key.destination)
            || quote.redirect(ctx, work.entry.to.destination).is_some());
    if whole { NEXT } else { drop_unfit(ctx, work) }
}

/// A packet that was cut short where that was not to be seen before, or whose ports cannot be changed.
#[inline(always)]
pub fn drop_unfit(ctx: &TcContext, work: &Work) -> i32 {
    drop(ctx, work, event::DROPPED_UNFIT, work.entry.service)
}

/// A packet whose sender may not.
#[inline(always)]
pub fn drop_source(ctx: &TcContext, work: &Work, service: u32) -> i32 {
    drop(ctx, work, event::DROPPED_SOURCE, service)
}

#[inline(always)]
fn drop(ctx: &TcContext, work: &Work, reason: u32, service: u32) -> i32 {
    count::drop(reason, &work.from, service, ctx.link(), ctx.length());
    DROP
}

/// What is to become of the first packet of a connection, or of one whose connection is forgotten.
pub enum Choice {
    /// It goes to the backend that [`Work::to`] names.
    Backend {
        service: u32,
        how: How,
    },
    /// It is one that is known, sent again.
    Before,
    Drop {
        reason: u32,
        service: u32,
    },
    /// Nobody answers, which the client is to be told.
    Reject {
        service: u32,
    },
    NotService,
}

/// As whose a connection's packets go to the backend, and how.
#[derive(Clone, Copy)]
pub enum How {
    /// The client's.
    Plain,
    /// This node's.
    Masquerade,
    /// The client's, to another node, which answers in this one's place.
    Tunnel,
}

/// Choose a backend for a packet. `known`: its connection has one already, which it keeps if it may.
#[inline(always)]
pub fn choose(view: &impl View, packet: &Packet, work: &mut Work, known: bool) -> Choice {
    let Some(settings) = lookup::settings() else { return Choice::NotService };
    let source = work.from.source;
    let is_local = is_local(view, settings, source);
    let scope = if is_local { Scope::Internal } else { Scope::External };
    let client = Outside { source, port_be: work.from.source_port_be, scope };
    let Tuple { destination, destination_port_be, protocol, .. } = work.from;
    let key = FrontendKey::new(destination, destination_port_be, protocol);
    let (backend, locality, service, flags) = match lookup::resolve(&client, key) {
        Answer::Backend { endpoint, locality, service, flags, ranges } => {
            if ranges != 0 && !is_in(ranges, source) {
                return Choice::Drop { reason: event::DROPPED_SOURCE, service };
            }
            (endpoint, locality, service, flags)
        }
        // Nobody listens at the node's own address, so the kernel itself rejects the packet.
        Answer::NoBackend { drop: false, flags, .. } if flags & flag::NODE_PORT != 0 => {
            return Choice::NotService;
        }
        Answer::NoBackend { drop, service, .. } => {
            let reason = event::DROPPED_NO_BACKEND;
            return if drop {
                Choice::Drop { reason, service }
            } else {
                Choice::Reject { service }
            };
        }
        Answer::NotService => return Choice::NotService,
    };
    if packet.keeps_ports() && backend.port_be != destination_port_be {
        return Choice::Drop { reason: event::DROPPED_UNFIT, service };
    }
    if known {
        // A packet that opens a connection and is sent again: to the same backend as before.
        let before = Endpoint::new(work.to.destination, work.to.destination_port_be);
        if lookup::is_backend(&client, key, before) {
            return Choice::Before;
        }
    }
    work.to =
        Tuple { destination: backend.address, destination_port_be: backend.port_be, ..work.from };
    let has = |bit| flags & bit != 0;
    let how = if source == backend.address
        || has(flag::CLUSTER_IP) && !is_local && masquerades_cluster_ips(settings, locality)
    {
        How::Masquerade
    } else if !has(flag::MASQUERADE) {
        How::Plain
    } else if settings.flags & setting::DIRECT_RETURN == 0 || is_local || packet.keeps_ports() {
        How::Masquerade
    } else {
        match locality {
            locality::THIS_NODE => How::Plain,
            locality::OTHER_NODE if tunnel::may(source, backend.address) => How::Tunnel,
            _ => How::Masquerade,
        }
    };
    Choice::Backend { service, how }
}

/// Note a new connection, from and to where [`Work`] says; `flags`: bits that its entries have beside others.
#[inline(always)]
pub fn track(work: &mut Work, service: u32, how: How, opens: bool, flags: u32) {
    let flags = if matches!(how, How::Tunnel) { tracked::TUNNEL } else { flags };
    filter::note_pair(work.to.source, work.to.destination);
    work.entry = Tracked { to: work.to, paired_ticks: ticks(), flags, service };
    note_pair(work, flags, 0);
    work.entry.to = work.to;
    work.entry.flags = flags;
    let _ = TRACKED.insert(&work.from, &work.entry, 0);
    if matches!(how, How::Tunnel) {
        return note_sibling(work);
    }
    // What is to become of it where it leaves. Where the backend answers by the link that the client's
    // packets come in by, it may answer the client itself, past this node.
    let condition = if matches!(how, How::Masquerade) { 0 } else { tracked::IF_TURNING_BACK };
    work.key = Tuple { hook: hook::EGRESS, ..work.to };
    work.entry.to = work.key;
    work.entry.flags = tracked::PENDING | condition;
    // Of a connection that goes on though its other entries were evicted the port stays. One that opens
    // has nothing to do with an earlier one between the same two, which need not have been masqueraded
    // alike.
    let how = if opens { 0 } else { BPF_NOEXIST as u64 };
    let _ = TRACKED.insert(&work.key, &work.entry, how);
    work.entry.flags = flags;
}

/// Give a connection the address of the link that it leaves by, and a port that is free: neither one
/// of the node ports nor one that the kernel gives to the node's own connections. `work` is about the
/// packets as they are routed to the backend.
#[inline(always)]
pub fn masquerade(link: u32, packet: &Packet, work: &mut Work) -> bool {
    // SAFETY: copied at once; written when the node's addresses change.
    let Some(device) = (unsafe { DEVICES.get(link) }) else { return false };
    work.to.source = if packet.is_v4() { device.v4 } else { device.v6 };
    // SAFETY: the helper takes no arguments.
    let mut number = unsafe { bpf_get_prandom_u32() };
    work.entry.paired_ticks = ticks();
    for _ in 0..PORT_TRIES {
        if !packet.keeps_ports() {
            let port = PORT_FIRST + ((number as u64 * PORTS as u64) >> 32) as u16;
            work.to.source_port_be = port.to_be();
        }
        if note_pair(work, 0, BPF_NOEXIST as u64) {
            work.entry.to = work.to;
            work.entry.flags = 0;
            let _ = TRACKED.insert(&work.from, &work.entry, 0);
            return true;
        }
        number = number.wrapping_mul(0x9e37_79b1).wrapping_add(1);
    }
    false
}

/// Note what becomes of the answers.
#[inline(always)]
fn note_pair(work: &mut Work, flags: u32, how: u64) -> bool {
    work.key = work.to.reversed();
    work.entry.to = work.from.reversed();
    work.entry.flags = flags | tracked::REPLY;
    TRACKED.insert(&work.key, &work.entry, how).is_ok()
}

/// Of a connection whose packets go to another node inside others: note what becomes of them at the other
/// hook.
#[inline(always)]
fn note_sibling(work: &mut Work) {
    let hook = work.from.hook ^ 1;
    work.key = Tuple { hook, ..work.to };
    work.entry.to = Tuple { hook, ..work.from };
    let _ = TRACKED.insert(&work.key, &work.entry, 0);
    work.entry.to = work.to;
}

/// From time to time, make sure that the other direction's entry is there.
#[inline(always)]
pub fn keep_pair(work: &mut Work) {
    if !is_stale(work.entry.paired_ticks) {
        return;
    }
    let flags = work.entry.flags;
    work.entry.paired_ticks = ticks();
    let is_packed = flags & (tracked::TUNNEL | tracked::REPLY) == tracked::TUNNEL;
    if is_packed {
        note_sibling(work);
    }
    if !is_packed || work.from.hook == hook::INGRESS {
        work.key = work.to.reversed();
        work.entry.to = work.from.reversed();
        work.entry.flags = flags ^ tracked::REPLY;
        let _ = TRACKED.insert(&work.key, &work.entry, 0);
    }
    work.entry.to = work.to;
    work.entry.flags = flags;
    let _ = TRACKED.insert(&work.from, &work.entry, 0);
}

/// The kernel's ticks: far cheaper to ask for than the time.
#[inline(always)]
pub fn ticks() -> u64 {
    // SAFETY: the helper takes no arguments.
    unsafe { bpf_jiffies64() }
}

/// Whether it is time to look for an entry's pair.
#[inline(always)]
fn is_stale(paired_ticks: u64) -> bool {
    ticks().wrapping_sub(paired_ticks) >= PAIR_TICKS
}

#[inline(always)]
pub fn is_local(view: &impl View, settings: &Settings, source: Address) -> bool {
    if settings.flags & setting::DETECTS_LOCAL == 0 {
        return false;
    }
    // SAFETY: copied at once.
    let device = unsafe { DEVICES.get(view.link()) }.copied();
    device.is_some_and(|device| device.flags & device::LOCAL != 0)
        || is_in(SourceRange::LOCAL, source)
}

/// Whether packets to a cluster IP of a client that is not the cluster's own are masqueraded, so that the
/// answers come back by this node. Those of a backend on this node do in any case.
#[inline(always)]
fn masquerades_cluster_ips(settings: &Settings, locality: u16) -> bool {
    settings.flags & setting::MASQUERADE_ALL != 0
        || settings.flags & setting::DETECTS_LOCAL != 0 && locality != locality::THIS_NODE
}

#[inline(always)]
pub fn is_in(ranges: u32, source: Address) -> bool {
    let range = SourceRange { ranges_be: ranges.to_be(), address_be: source.words() };
    SOURCE_RANGES.get(&Key::new(SourceRange::BITS + 128, range)).is_some()
}

/// Whether a packet that leaves has come in by the same link.
#[inline(always)]
fn turns_back(ctx: &TcContext) -> bool {
    came_in_by(ctx) == ctx.link()
}

/// The link that a packet came in by; 0 if it is the node's own.
#[inline(always)]
fn came_in_by(ctx: &TcContext) -> u32 {
    // SAFETY: the kernel's context.
    unsafe { addr_of!((*ctx.skb.skb).ingress_ifindex).read_volatile() }
}

/// A client that is known by its packets.
struct Outside {
    source: Address,
    port_be: u16,
    scope: Scope,
}

impl Client for Outside {
    #[inline(always)]
    fn scope(&self) -> Scope {
        self.scope
    }

    #[inline(always)]
    fn affinity(&self) -> Address {
        self.source
    }

    const HAS_FLOWS: bool = true;

    /// The same on every node, whichever of them the client's packets come by.
    #[inline(always)]
    fn flow(&self, key: FrontendKey) -> u64 {
        let high = self.source.high_be ^ key.address.high_be;
        seal([high, self.source.low_be, self.port_be as u64])
    }

    #[inline(always)]
    fn is_node(&self, _settings: &Settings) -> bool {
        false
    }
}

/// Below those that the kernel gives out (`ip_local_port_range` begins at 32768) and below the usual
/// node ports, which begin at 30000.
const PORT_FIRST: u16 = 1024;
const PORTS: u32 = 28_976;
const PORT_TRIES: u32 = 16;

/// How long an entry may have been without its pair, in the kernel's ticks (0.25 to 2.5 s, by how many
/// there are in a second): far less than the least recently used take to be evicted.
pub const PAIR_TICKS: u64 = 250;
/// An entry that was not renewed for so long is of a connection that is over, or is idle.
const OVER_TICKS: u64 = 2 * PAIR_TICKS;

/// Let the next program on the link have the packet, or the kernel.
pub const NEXT: i32 = -1;
pub const DROP: i32 = 2;
