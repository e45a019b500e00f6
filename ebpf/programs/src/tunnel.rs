//! Direct server return: a client's packets go to a backend on another node with the Service's address
//! on them, inside packets to the backend (IPIP, RFC 2003; IPv6 in IPv6, RFC 2473). The backend's node
//! takes them out, and the answers go to the client past the node that it asked.
//!
//! The outer packet is addressed to the backend itself, so it takes the way that the kernel has found for
//! it, and says which backend was chosen. Its port stands in what an outer header has no other use for:
//! the number of a packet that is never cut (IPv4), the flow label (IPv6).
//!
//! Any node takes packets out, whether or not it sends such ones itself.

use aya_ebpf::bindings::{
    BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6, BPF_F_ADJ_ROOM_FIXED_GSO,
    BPF_F_INGRESS, BPF_F_RECOMPUTE_CSUM, bpf_adj_room_mode,
};
use aya_ebpf::helpers::{bpf_redirect, bpf_xdp_adjust_head};
use aya_ebpf::programs::{TcContext, XdpContext};
use core::ptr::addr_of;
use pintle_ebpf_common::{Address, AddressPair, Tuple, hook, protocol, tracked};

use crate::count;
use crate::forward::{self, How, NEXT, Work};
use crate::ip::Header;
use crate::lookup;
use crate::maps::{DEVICES, NODE_ADDRESSES, REFUSED, TRACKED};
use crate::packet::{self, ETH_IPV4, ETH_IPV6, L3, Packet};
use crate::quote;
use crate::refuse;
use crate::route::Hop;
use crate::view::View;

/// The header of a packet that holds another.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Outer {
    pub source: Address,
    pub destination: Address,
    /// The backend's.
    pub port_be: u16,
    v4: bool,
}

impl Outer {
    /// One to a backend from an address of this node.
    #[inline(always)]
    pub fn to(backend: &Tuple, source: Address, v4: bool) -> Self {
        let (destination, port_be) = (backend.destination, backend.destination_port_be);
        Self { source, destination, port_be, v4 }
    }

    /// How long it is.
    #[inline(always)]
    pub fn length(v4: bool) -> usize {
        if v4 { 20 } else { 40 }
    }

    /// As it is to stand before the packet, where there is room for it now.
    #[inline(always)]
    fn header(&self, view: &impl View) -> Option<Header> {
        let [first, second]: [u32; 2] = view.load(L3 + Self::length(self.v4))?;
        let [a, b, c, d] = first.to_ne_bytes();
        let (number, class, length) = if self.v4 {
            (IPIP, b, u16::from_be_bytes([c, d]))
        } else {
            let [e, f, ..] = second.to_ne_bytes();
            (IPV6_IN_IPV6, a << 4 | b >> 4, u16::from_be_bytes([e, f]).wrapping_add(40))
        };
        let Self { source, destination, port_be: mark_be, .. } = *self;
        Some(Header { source, destination, number, length, class, mark_be })
    }

    /// Read one. Its kind and flags have to be as [`pack`] writes them.
    #[inline(always)]
    fn read(ctx: &TcContext) -> Option<Self> {
        match ctx.ethertype() {
            ETH_IPV4 => {
                let words: [u32; 5] = View::load(ctx, L3)?;
                let [version, ..] = words[0].to_ne_bytes();
                let [a, b, fragment, offset] = words[1].to_ne_bytes();
                let [_, number, ..] = words[2].to_ne_bytes();
                if version != 0x45 || number != IPIP || fragment & 0x3f != 0 || offset != 0 {
                    return None;
                }
                let (source, destination) =
                    (Address::from_v4(words[3]), Address::from_v4(words[4]));
                Some(Self { source, destination, port_be: u16::from_ne_bytes([a, b]), v4: true })
            }
            ETH_IPV6 => {
                let words: [u32; 10] = View::load(ctx, L3)?;
                let [.., a, b] = words[0].to_ne_bytes();
                let [_, _, number, _] = words[1].to_ne_bytes();
                if words[0].to_ne_bytes()[0] >> 4 != 6 || number != IPV6_IN_IPV6 {
                    return None;
                }
                let source = Address::from_words([words[2], words[3], words[4], words[5]]);
                let destination = Address::from_words([words[6], words[7], words[8], words[9]]);
                Some(Self { source, destination, port_be: u16::from_ne_bytes([a, b]), v4: false })
            }
            _ => None,
        }
    }
}

/// Send a packet that leaves to its backend as it came: [`Work`] says from what to what it has to be put
/// back.
#[inline(always)]
pub fn pack(ctx: &TcContext) -> i32 {
    let Some(work) = forward::work() else { return NEXT };
    // Read already, and put there.
    let packet = work.packet.again();
    try_pack(ctx, &packet, work)
}

#[inline(always)]
fn try_pack(ctx: &TcContext, packet: &Packet, work: &mut Work) -> i32 {
    let v4 = packet.is_v4();
    let length = Outer::length(v4) as u32;
    // SAFETY: copied at once; written when the node's links change.
    let Some(device) = (unsafe { DEVICES.get(ctx.link()) }) else { return NEXT };
    let source = if v4 { device.v4 } else { device.v6 };
    if packet.rewrite(ctx, &work.from, &work.to).is_none() {
        return forward::drop_unfit(ctx, work);
    }
    if device.mtu != 0 && packet.longest(segment_length(ctx), ctx.length()) + length > device.mtu {
        return refuse::too_big(ctx, packet, work, device.mtu - length);
    }
    let room = if v4 { BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 } else { BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 };
    // Pieces of a long packet of UDP are its datagrams. Those of TCP may be cut anew, to be shorter.
    let fixed = if work.from.protocol == protocol::TCP { 0 } else { BPF_F_ADJ_ROOM_FIXED_GSO };
    let made = ctx.adjust_room(length as i32, MAC, (room | fixed) as u64).is_ok();
    let outer = Outer::to(&work.from, source, v4);
    if made && write(ctx, &outer).is_some() { NEXT } else { forward::drop_unfit(ctx, work) }
}

#[inline(always)]
fn write(ctx: &TcContext, outer: &Outer) -> Option<()> {
    let header = outer.header(ctx)?;
    if outer.v4 {
        ctx.store(L3, &header.v4(), BPF_F_RECOMPUTE_CSUM as u64).ok()
    } else {
        ctx.store(L3, &header.v6(), BPF_F_RECOMPUTE_CSUM as u64).ok()
    }
}

/// Put a packet into another before the kernel has seen it, and address it to the next station. `None` if
/// there is no room before it, of which every driver keeps some.
#[inline(always)]
pub fn pack_early(ctx: &XdpContext, outer: &Outer, hop: &Hop) -> Option<()> {
    let length = Outer::length(outer.v4) as i32;
    // SAFETY: the helper takes this program type's context, and packets are looked for anew after it.
    if unsafe { bpf_xdp_adjust_head(ctx.ctx, -length) } != 0 {
        return None;
    }
    let kind = if outer.v4 { ETH_IPV4 } else { ETH_IPV6 };
    View::store(ctx, 0, hop)?;
    View::store(ctx, L3 - 2, &kind.to_be())?;
    let header = outer.header(ctx)?;
    if outer.v4 { View::store(ctx, L3, &header.v4()) } else { View::store(ctx, L3, &header.v6()) }
}

/// A packet that comes in and is none of a Service's by its own addresses: if it holds one, take that
/// out and send it to its backend.
#[inline(always)]
pub fn unpack(ctx: &TcContext) -> i32 {
    let Some(work) = forward::work() else { return NEXT };
    work.from.hook = hook::INGRESS;
    if let Some(verdict) = try_unpack(ctx, work) {
        return verdict;
    }
    refused(ctx, work);
    NEXT
}

#[inline(always)]
fn try_unpack(ctx: &TcContext, work: &mut Work) -> Option<i32> {
    work.outer = Outer::read(ctx)?;
    let outer = work.outer;
    let length = Outer::length(outer.v4);
    let packet = packet::parse_at(ctx, outer.v4, L3 + length, &mut work.from)?;
    let packet = Packet::forgotten(&mut work.packet, packet);
    let known = forward::find(work) && work.entry.flags & tracked::REPLY == 0;
    if known && work.entry.flags & tracked::TUNNEL != 0 {
        return take_back(ctx, work);
    }
    if is_pods(ctx, outer.source) {
        return None;
    }
    if is_own(ctx, work.from.source) {
        return send_back(ctx, work);
    }
    let known = known && work.entry.to.destination == outer.destination;
    let mut service = work.entry.service;
    if !known {
        let (number, ranges) = lookup::exposed(work.from)?;
        if ranges != 0 && !forward::is_in(ranges, work.from.source) {
            return Some(forward::drop_source(ctx, work, number));
        }
        service = number;
        let (destination, destination_port_be) = (outer.destination, outer.port_be);
        work.to = Tuple { destination, destination_port_be, ..work.from };
    }
    let opens = packet.is_syn(ctx);
    take_out(ctx, length)?;
    let packet = Packet::forgotten(&mut work.packet, packet.moved(length));
    if known {
        forward::keep_pair(work);
    } else {
        forward::track(work, service, How::Plain, opens, tracked::TUNNELLED);
        count::connection(service);
    }
    count::packet_to(service, ctx.length());
    let whole = packet.rewrite(ctx, &work.from, &work.to).is_some();
    Some(if whole { NEXT } else { forward::drop_unfit(ctx, work) })
}

#[inline(always)]
fn take_out(ctx: &TcContext, length: usize) -> Option<()> {
    ctx.adjust_room(-(length as i32), MAC, BPF_F_ADJ_ROOM_FIXED_GSO as u64).ok()
}

/// Whether an address is one of the cluster's pods', who are not to say who a Service's client is. The
/// first two of 256 are no pods': a node's own on the links between pods.
#[inline(always)]
fn is_pods(ctx: &TcContext, source: Address) -> bool {
    let [.., last] = source.words();
    let [.., last] = last.to_ne_bytes();
    match lookup::settings() {
        Some(settings) if last > 1 => forward::is_local(ctx, settings, source),
        _ => false,
    }
}

/// Whether an address is the node's own: the kernel takes no packet in that claims to be from itself.
#[inline(always)]
fn is_own(ctx: &TcContext, source: Address) -> bool {
    // SAFETY: copied at once.
    let of_link = unsafe { DEVICES.get(ctx.link()) }
        .is_some_and(|device| device.v4 == source || device.v6 == source);
    // SAFETY: one aligned word.
    of_link || unsafe { NODE_ADDRESSES.get(source) }.is_some()
}

/// Send a packet to the node that it comes from, with what it holds.
#[inline(always)]
fn send_back(ctx: &TcContext, work: &Work) -> Option<i32> {
    let Outer { source, destination, v4, .. } = work.outer;
    if v4 {
        let ([.., from], [.., to]) = (destination.words(), source.words());
        View::store(ctx, L3 + 12, &[from, to])?;
    } else {
        let ([a, b, c, d], [e, f, g, h]) = (destination.words(), source.words());
        View::store(ctx, L3 + 8, &[a, b, c, d, e, f, g, h])?;
    }
    refuse::turn_round(ctx)
}

/// A packet that was sent to a backend's node comes back: what it holds is taken in anew, and this
/// client's connections to the backend are masqueraded from now on.
#[inline(always)]
fn take_back(ctx: &TcContext, work: &mut Work) -> Option<i32> {
    if work.entry.to.destination != work.outer.source {
        return None;
    }
    forget(work);
    take_out(ctx, Outer::length(work.outer.v4))?;
    // SAFETY: the helper takes integers.
    Some(unsafe { bpf_redirect(ctx.link(), BPF_F_INGRESS as u64) } as i32)
}

/// An error that comes in, of a backend whose node does not take packets out: likewise, but the packet
/// is lost.
#[inline(always)]
fn refused(ctx: &TcContext, work: &mut Work) {
    let _ = try_refused(ctx, work);
}

#[inline(always)]
fn try_refused(ctx: &TcContext, work: &mut Work) -> Option<()> {
    let (v4, inner, to) = quote::tunnelled(ctx)?;
    packet::parse_at(ctx, v4, inner, &mut work.from)?;
    work.from.hook = hook::INGRESS;
    if !forward::find(work) {
        return None;
    }
    if work.entry.flags & (tracked::TUNNEL | tracked::REPLY) == tracked::TUNNEL
        && work.entry.to.destination == to
    {
        forget(work);
    }
    Some(())
}

/// Forget the connection that [`Work`] is about, and do not send the like of it so again for a while.
#[inline(always)]
fn forget(work: &mut Work) {
    let pair = AddressPair { one: work.from.source, other: work.entry.to.destination };
    let _ = REFUSED.insert(&pair, &forward::ticks(), 0);
    work.key = Tuple { hook: hook::EGRESS, ..work.entry.to };
    let _ = TRACKED.remove(&work.key);
    let _ = TRACKED.remove(&work.from);
}

/// Whether a client's packets may be sent to a backend on another node so.
#[inline(always)]
pub fn may(client: Address, backend: Address) -> bool {
    let pair = AddressPair { one: client, other: backend };
    // SAFETY: one aligned word, copied at once.
    let at = unsafe { REFUSED.get(&pair) }.copied();
    at.is_none_or(|at| forward::ticks().wrapping_sub(at) >= REFUSED_TICKS)
}

/// Bytes of each of the pieces that a packet is to be cut to; 0: it is not.
#[inline(always)]
fn segment_length(ctx: &TcContext) -> u32 {
    // SAFETY: the kernel's context. Volatile, since the verifier takes loads of single fields alone.
    unsafe { addr_of!((*ctx.skb.skb).gso_size).read_volatile() }
}

/// How much shorter a segment has to be to fit into a packet that is packed.
#[inline(always)]
pub fn overhead(v4: bool) -> u16 {
    Outer::length(v4) as u16
}

const MAC: u32 = bpf_adj_room_mode::BPF_ADJ_ROOM_MAC;
pub const IPIP: u8 = 4;
pub const IPV6_IN_IPV6: u8 = 41;
/// For how long, in the kernel's ticks (1 to 10 minutes, by how many there are in a second).
const REFUSED_TICKS: u64 = 60_000;
