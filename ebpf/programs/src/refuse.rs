//! Telling a client at once that its packet goes no further: an ICMP error in the packet's place, sent
//! back (RFC 792, RFC 4443), or the end of the connection that it opens (RFC 9293, 3.5.2).
//!
//! **The checksum of the latter**, likewise: as the window that an end of a connection has no use for is
//! that which makes the right checksum the sum of the pseudo-header, p: where the pseudo-header and the
//! segment with it add up to -p, making the checksum of it gives p again.
//!
//! **The quoted checksum.** Where the packet's checksum was left to a device, one may yet put it in on the
//! way back, beneath the error's own checksum, and a program is not told whether it was. So the quoted
//! checksum is replaced by the one number that making it leaves as it is: where the rest of the segment
//! adds up to s, the number p = -s / 2, since the checksum over s and p is -(s + p) = p.

use aya_ebpf::bindings::{BPF_F_RECOMPUTE_CSUM, bpf_adj_room_mode};
use aya_ebpf::helpers::{
    bpf_ktime_get_boot_ns, bpf_redirect, bpf_redirect_neigh, bpf_skb_change_tail,
};
use aya_ebpf::programs::TcContext;
use core::ptr::{self, addr_of};
use pintle_ebpf_common::{QUOTED, Tuple, hook, protocol};

use crate::forward::{self, DROP, Work};
use crate::ip::Header;
use crate::packet::{L3, Packet};
use crate::quote::{ICMP, ICMP_V6};
use crate::view::{View, fold, mended};

/// How many answers this CPU has sent of late.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Sent {
    /// When the second began.
    second_ns: u64,
    in_second: u64,
}

/// Nobody answers for the Service. TCP hears it as from a port that is closed: an error, as kube-proxy's
/// rules send it, may come while the socket is still busy with sending, and is then not heard.
#[inline(always)]
pub fn nobody(ctx: &TcContext) -> i32 {
    let Some(work) = forward::work() else { return DROP };
    let packet = &work.packet.again();
    let kind = if packet.is_v4() { [3, 3] } else { [1, 4] };
    let made = if work.from.protocol == protocol::TCP {
        end(ctx, packet, work)
    } else {
        make(ctx, packet, work, kind, 0)
    };
    made.and_then(|()| turn_round(ctx)).unwrap_or(DROP)
}

/// Make the end of a connection of the packet that opens it.
#[inline(always)]
fn end(ctx: &TcContext, packet: &Packet, work: &mut Work) -> Option<()> {
    let v4 = packet.is_v4();
    let header = if v4 { 20 } else { 40 };
    if !packet.is_plain_at(L3 + header) || !may_send(&mut work.sent) {
        return None;
    }
    let [ports, number, answered, kind]: [u32; 4] = View::load(ctx, L3 + header)?;
    let [_, flags, ..] = kind.to_ne_bytes();
    let [a, b, c, d] = ports.to_ne_bytes();
    let ports = u32::from_ne_bytes([c, d, a, b]);
    // Nobody opens a connection with data.
    let next = (number.to_be().wrapping_add(1)).to_be();
    let (number, answer, flags) =
        if flags & ACK != 0 { (answered, 0, RST) } else { (0, next, RST | ACK) };
    let mut segment = [ports, number, answer, u32::from_ne_bytes([5 << 4, flags, 0, 0]), 0];
    let (from, to) = (work.from.destination, work.from.source);
    let length = SEGMENT as u16;
    let mut pseudo = length.to_be() as u64 + (protocol::TCP as u16).to_be() as u64;
    // What an IPv4 address has beside its four bytes adds up to nothing.
    pseudo += from.words().iter().fold(0, |sum, word| sum + *word as u64);
    pseudo += to.words().iter().fold(0, |sum, word| sum + *word as u64);
    let pseudo = !mended(0xffff, fold(pseudo));
    let sum = segment.iter().fold(2 * pseudo as u64, |sum, word| sum + *word as u64);
    let [a, b] = mended(0xffff, fold(sum)).to_ne_bytes();
    segment[3] = u32::from_ne_bytes([5 << 4, flags, a, b]);
    let [a, b] = pseudo.to_ne_bytes();
    segment[4] = u32::from_ne_bytes([a, b, 0, 0]);
    // SAFETY: the helper takes this program type's context.
    if unsafe { bpf_skb_change_tail(ctx.skb.skb, (L3 + header + SEGMENT) as u32, 0) } != 0 {
        return None;
    }
    ctx.store(L3 + header, &segment, BPF_F_RECOMPUTE_CSUM as u64).ok()?;
    let header = self::header(&work.from, protocol::TCP, SEGMENT);
    if v4 {
        ctx.store(L3, &header.v4(), BPF_F_RECOMPUTE_CSUM as u64).ok()
    } else {
        ctx.store(L3, &header.v6(), BPF_F_RECOMPUTE_CSUM as u64).ok()
    }
}

/// The IP header of what is sent to whom a packet is from.
#[inline(always)]
fn header(tuple: &Tuple, number: u8, length: usize) -> Header {
    let (source, destination, length) = (tuple.destination, tuple.source, length as u16);
    Header { source, destination, number, length, class: 0, mark_be: 0 }
}

/// A packet that leaves is too long for its way, which is so wide.
#[inline(always)]
pub fn too_big(ctx: &TcContext, packet: &Packet, work: &mut Work, mtu: u32) -> i32 {
    let kind = if packet.is_v4() { [3, 4] } else { [2, 0] };
    if make(ctx, packet, work, kind, mtu).is_none() {
        return DROP;
    }
    // SAFETY: the kernel's context. Volatile, since the verifier takes loads of single fields alone.
    let link = unsafe { addr_of!((*ctx.skb.skb).ingress_ifindex).read_volatile() };
    // SAFETY: the helper takes integers, and no parameters.
    unsafe { bpf_redirect_neigh(link, ptr::null_mut(), 0, 0) as i32 }
}

/// Send a packet to the neighbour that it comes from.
#[inline(always)]
pub fn turn_round(ctx: &TcContext) -> Option<i32> {
    let [a, b, c, d, e, f]: [u16; 6] = View::load(ctx, 0)?;
    View::store(ctx, 0, &[d, e, f, a, b, c])?;
    // SAFETY: the helper takes integers.
    Some(unsafe { bpf_redirect(ctx.link(), 0) } as i32)
}

/// Make an error of a packet that has the addresses and ports [`Work::from`] or, where it leaves,
/// [`Work::to`]. Not about fragments, packets with options, and SCTP's.
#[inline(always)]
fn make(ctx: &TcContext, packet: &Packet, work: &mut Work, kind: [u8; 2], rest: u32) -> Option<()> {
    let header = if packet.is_v4() { 20 } else { 40 };
    if !packet.is_plain_at(L3 + header) || packet.keeps_ports() || !may_send(&mut work.sent) {
        return None;
    }
    // SAFETY: the helper takes this program type's context.
    if unsafe { bpf_skb_change_tail(ctx.skb.skb, (L3 + header + SEGMENT) as u32, 0) } != 0 {
        return None;
    }
    let tcp = work.from.protocol == protocol::TCP;
    let sum_at = L3 + header + if tcp { 16 } else { 6 };
    let segment: [u32; SEGMENT / 4] = View::load(ctx, L3 + header)?;
    let old: u16 = View::load(ctx, sum_at)?;
    let sum = segment.iter().fold(!old as u64 & 0xffff, |sum, word| sum + *word as u64);
    // The sum of all but the checksum, as a number of 16 bits; then the half of what is wanting.
    let wanting = mended(0xffff, fold(sum));
    let fixed = wanting.rotate_right(1);
    let fixed = if fixed == 0 { 0xffff } else { fixed };
    ctx.store(sum_at, &fixed, BPF_F_RECOMPUTE_CSUM as u64).ok()?;
    // What the segment adds up to: all but the checksum, which is what it was wanting, and the checksum.
    let segment = !wanting as u64 & 0xffff;
    let segment = segment + fixed as u64;
    let tuple = if work.from.hook == hook::INGRESS { work.from } else { work.to };
    let error = Error { kind, rest, segment };
    if packet.is_v4() { error.v4(ctx, &tuple) } else { error.v6(ctx, &tuple) }
}

/// An ICMP error about a packet that was cut to what is quoted of it.
struct Error {
    /// Its type and code.
    kind: [u8; 2],
    /// The second word of its header.
    rest: u32,
    /// What the quoted packet adds up to behind its IP header.
    segment: u64,
}

impl Error {
    #[inline(always)]
    fn v4(&self, ctx: &TcContext, to_sender_of: &Tuple) -> Option<()> {
        // Of a right header the sum is nothing.
        let [first, rest] = self.words(self.segment);
        let header = header(to_sender_of, ICMP, 8 + 20 + SEGMENT);
        let [p, q, r, s, t] = header.v4();
        ctx.adjust_room(28, MAC, 0).ok()?;
        ctx.store(L3, &[p, q, r, s, t, first, rest], BPF_F_RECOMPUTE_CSUM as u64).ok()
    }

    #[inline(always)]
    fn v6(&self, ctx: &TcContext, to_sender_of: &Tuple) -> Option<()> {
        let quoted: [u32; 10] = View::load(ctx, L3)?;
        let header = header(to_sender_of, ICMP_V6, 8 + 40 + SEGMENT);
        let [p, q, e, f, g, h, i, j, k, l] = header.v6();
        let mut sum = self.segment + header.length.to_be() as u64 + (ICMP_V6 as u16).to_be() as u64;
        sum += quoted.iter().fold(0, |sum, word| sum + *word as u64);
        sum += [e, f, g, h, i, j, k, l].iter().fold(0, |sum, word| sum + *word as u64);
        let [first, rest] = self.words(sum);
        ctx.adjust_room(48, MAC, 0).ok()?;
        let words = [p, q, e, f, g, h, i, j, k, l, first, rest];
        ctx.store(L3, &words, BPF_F_RECOMPUTE_CSUM as u64).ok()
    }

    /// Its header, where all else adds up to `sum`.
    #[inline(always)]
    fn words(&self, sum: u64) -> [u32; 2] {
        let [kind, code] = self.kind;
        let (first, rest) = (u32::from_ne_bytes([kind, code, 0, 0]), self.rest.to_be());
        let [a, b] = mended(0xffff, fold(sum + first as u64 + rest as u64)).to_ne_bytes();
        [u32::from_ne_bytes([kind, code, a, b]), rest]
    }
}

/// An answer to each packet would make of this node a mirror for floods.
#[inline(always)]
fn may_send(sent: &mut Sent) -> bool {
    // SAFETY: the helper takes no arguments.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    if now.wrapping_sub(sent.second_ns) >= SECOND_NS {
        sent.second_ns = now;
        sent.in_second = 0;
    }
    sent.in_second += 1;
    sent.in_second <= PER_SECOND_MAX
}

/// Of what is behind the IP header an error quotes so much; a datagram that is shorter is filled up with
/// zeros.
const SEGMENT: usize = QUOTED;
const MAC: u32 = bpf_adj_room_mode::BPF_ADJ_ROOM_MAC;
const ACK: u8 = 0x10;
const RST: u8 = 0x04;
const SECOND_NS: u64 = 1_000_000_000;
/// Answers that a CPU sends in a second: as many as the kernel does of its own (`icmp_msgs_per_sec`).
const PER_SECOND_MAX: u64 = 1000;
