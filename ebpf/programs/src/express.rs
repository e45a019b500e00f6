//! Packets before the kernel sees them (XDP): those that are to leave by the link that they came in by
//! are translated in both steps at once and sent back, or put into a packet to another node. All else is
//! the kernel's, and then [`crate::forward`]'s: errors, fragments, SCTP, packets that are too long or at
//! their last hop, those whose way the kernel does not know yet, those that are to be dropped, and those
//! that hold another, which is for a backend of this node.

use aya_ebpf::helpers::{bpf_jiffies64, bpf_redirect};
use aya_ebpf::programs::XdpContext;
use pintle_ebpf_common::{Tracked, Tuple, device, event, hook, seal, tracked};

use crate::count;
use crate::filter;
use crate::forward::{self, Choice, How, PAIR_TICKS, Work};
use crate::maps::{DEVICES, TRACKED, WAYS};
use crate::packet::{self, Packet};
use crate::route::{self, CURRENT, Hop, Route};
use crate::tunnel::{self, Outer};
use crate::view::View;

/// What becomes of the packets of a direction, all in one place and of this CPU alone: known from its
/// connection's entries and from the kernel's table of routes a short time ago.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Way {
    /// The packets as they come in.
    from: Tuple,
    /// As they leave; of [`tracked::TUNNEL`] from and to where the packets that they are in go, with the
    /// backend's port.
    to: Tuple,
    /// Until when it holds, in the kernel's ticks.
    until: u64,
    /// The link that they came in by, and leave by. 0: there is no entry.
    link: u32,
    /// How long a packet may be, from its IP header on.
    mtu: u32,
    /// [`pintle_ebpf_common::Frontend::service`].
    service: u32,
    /// Bits of [`tracked`].
    flags: u32,
    hop: Hop,
    padding: [u16; 2],
    /// Bits of [`device`], of the link.
    link_flags: u32,
    padding_after: u32,
}
const _: () = assert!(size_of::<Way>() == 128);

/// A packet that comes in by a link whose driver asks a program before it makes a packet for the
/// kernel of it.
#[inline(always)]
pub fn express(ctx: &XdpContext) -> u32 {
    turn_back(ctx).unwrap_or(XDP_PASS)
}

#[inline(always)]
fn turn_back(ctx: &XdpContext) -> Option<u32> {
    if !filter::may_come_in(ctx) {
        return None;
    }
    let work = forward::work()?;
    work.from.hook = hook::INGRESS;
    let packet = packet::parse(ctx, &mut work.from)?;
    let mut packet = Packet::forgotten(&mut work.packet, packet);
    if !packet.is_whole() || packet.keeps_ports() {
        return None;
    }
    let opens = packet.is_syn(ctx);
    let way = way_of(&work.from)?;
    // SAFETY: the helper takes no arguments.
    let now = unsafe { bpf_jiffies64() };
    let (link, length) = (ctx.link(), ctx.length());
    let is_known = !opens
        && way.link == link
        && way.from == work.from
        && (way.until.wrapping_sub(now) as i64) > 0;
    if !is_known {
        find(ctx, &packet, work, way, opens, now)?;
    }
    let is_packed = way.flags & tracked::TUNNEL != 0;
    let outer = if is_packed { Outer::length(packet.is_v4()) as u32 } else { 0 };
    if length - ETHERNET + outer > way.mtu {
        return None;
    }
    packet.makes_sum = way.link_flags & device::MAKES_SUMS != 0;
    packet.hop(ctx)?;
    // Fails before it has changed anything, since the packet is no shorter than was read of it.
    packet.rewrite(ctx, &way.from, if is_packed { &way.from } else { &way.to })?;
    packet.write_hop(ctx)?;
    if is_packed {
        let outer = Outer::to(&way.to, way.to.source, packet.is_v4());
        if tunnel::pack_early(ctx, &outer, &way.hop).is_none() {
            // It is not as it came any more.
            count::event(event::DROPPED_UNFIT);
            return Some(XDP_DROP);
        }
    } else {
        View::store(ctx, 0, &way.hop)?;
    }
    count::event(event::TURNED_BACK);
    if way.flags & tracked::REPLY == 0 {
        count::packet_to(way.service, length);
    } else {
        count::packet_from(way.service, length);
    }
    // Not `XDP_TX`, which a veth pair leaves lying in its ring if the other end has GRO alone.
    // SAFETY: the helper takes integers, and this program type may call it.
    Some(unsafe { bpf_redirect(link, 0) } as u32)
}

/// The place of a connection's way; another one's may stand there.
#[inline(always)]
fn way_of(from: &Tuple) -> Option<&'static mut Way> {
    let ports = packet::ports(from) as u64 | (from.protocol as u64) << 32;
    let (source, destination) = (from.source, from.destination);
    let number = seal([
        source.high_be ^ source.low_be.rotate_left(29),
        destination.high_be ^ destination.low_be.rotate_left(17),
        ports,
    ]);
    // SAFETY: this CPU's own, and programs of this kind do not interrupt each other.
    unsafe { WAYS.get_ptr_mut(number as u32 % WAYS_MAX)?.as_mut() }
}

/// Find what becomes of a connection's packets, or begin it, and put it in its place.
#[inline(always)]
fn find(
    ctx: &XdpContext,
    packet: &Packet,
    work: &mut Work,
    way: &mut Way,
    opens: bool,
    now: u64,
) -> Option<()> {
    way.link = 0;
    way.from = work.from;
    let (route, age) = if forward::find(work) {
        if opens && work.entry.flags & tracked::REPLY == 0 {
            // Sent again, or the port of an older connection.
            return None;
        }
        if work.entry.flags & tracked::TUNNELLED != 0 {
            return None;
        }
        known(ctx, packet, work, now)?
    } else {
        (begin(ctx, packet, work, opens)?, 0)
    };
    let Tracked { service, flags, .. } = work.entry;
    (way.to, way.service, way.flags) = (work.to, service, flags);
    // By then the entries are to be looked after. Those of packets that go into others are looked for each
    // time: once such a packet was sent back, to whichever CPU, the next ones are to go another way.
    let left = if flags & tracked::TUNNEL == 0 { PAIR_TICKS.saturating_sub(age) } else { 0 };
    way.until = now.wrapping_add(if left < CURRENT { left } else { CURRENT });
    (way.mtu, way.hop, way.link_flags) = (route.mtu, route.hop, route.flags);
    way.link = ctx.link();
    Some(())
}

/// Where the packets of a known connection go, and for how many ticks nobody has looked after its
/// entries.
#[inline(always)]
fn known(
    ctx: &XdpContext,
    packet: &Packet,
    work: &mut Work,
    now: u64,
) -> Option<(&'static Route, u64)> {
    // Where it is to be routed to, then what it is to leave as.
    work.key = Tuple { hook: hook::EGRESS, ..work.to };
    // SAFETY: as in `forward::find`.
    let entry = unsafe { TRACKED.get(&work.key) }?;
    let age = now.wrapping_sub(work.entry.paired_ticks);
    let other_age = now.wrapping_sub(entry.paired_ticks);
    let age = if other_age > age { other_age } else { age };
    if entry.flags & tracked::PENDING != 0 || age >= PAIR_TICKS {
        return None;
    }
    if work.entry.flags & tracked::TUNNEL != 0 {
        pack(ctx, packet, work)?;
    } else {
        work.to = entry.to;
    }
    Some((route::back(ctx, packet.is_v4(), &work.key)?, age))
}

/// The packets of a connection go to the backend's node inside others, from the link's address.
#[inline(always)]
fn pack(ctx: &XdpContext, packet: &Packet, work: &mut Work) -> Option<()> {
    // SAFETY: copied at once; written when the node's links change.
    let device = unsafe { DEVICES.get(ctx.link()) }?;
    work.to.source = if packet.is_v4() { device.v4 } else { device.v6 };
    Some(())
}

/// Begin a connection to a backend that is by the link that the packet came in by. One to another backend
/// is noted as well: were it the kernel's turn to choose again, backends of this node would be chosen
/// less often than others.
#[inline(always)]
fn begin(
    ctx: &XdpContext,
    packet: &Packet,
    work: &mut Work,
    opens: bool,
) -> Option<&'static Route> {
    let Choice::Backend { service, how } = forward::choose(ctx, packet, work, false) else {
        return None;
    };
    let route = route::back(ctx, packet.is_v4(), &work.to);
    let is_packed = matches!(how, How::Tunnel);
    let how = if is_packed || route.is_none() { how } else { How::Masquerade };
    forward::track(work, service, how, opens, 0);
    count::connection(service);
    let route = route?;
    if is_packed {
        work.entry.flags = tracked::TUNNEL;
        pack(ctx, packet, work)?;
        return Some(route);
    }
    work.from = Tuple { hook: hook::EGRESS, ..work.to };
    // Pending, but where the connection's other entries were evicted.
    if !forward::find(work) {
        return None;
    }
    // Where no port is left it is the kernel's turn to say so.
    if work.entry.flags & tracked::PENDING != 0 && !forward::masquerade(ctx.link(), packet, work) {
        return None;
    }
    work.entry.flags = 0;
    Some(route)
}

/// Ways of a CPU: 128 KiB.
pub const WAYS_MAX: u32 = 1024;

const ETHERNET: u32 = 14;
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
