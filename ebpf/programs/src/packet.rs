//! A packet's headers: read, and rewritten with their checksums.

use aya_ebpf::bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR};
use aya_ebpf::helpers::bpf_csum_diff;
use aya_ebpf::programs::TcContext;
use pintle_ebpf_common::{Address, FragmentKey, Tuple, protocol};

use crate::maps::FRAGMENTS;

/// A packet of TCP or UDP, over IPv4 or IPv6, but for its addresses and ports.
#[derive(Clone, Copy)]
pub struct Packet {
    protocol: u8,
    /// Where the header of TCP or UDP begins, or would.
    transport: usize,
    v4: bool,
    /// Whether it has that header: a later fragment has not.
    has_transport: bool,
}

/// Read the headers, the addresses and ports to `tuple`; `None` if it is a packet of another kind, or
/// one that is cut short.
#[inline(always)]
pub fn parse(ctx: &TcContext, tuple: &mut Tuple) -> Option<Packet> {
    // SAFETY: the kernel's context.
    let kind = unsafe { core::ptr::addr_of!((*ctx.skb.skb).protocol).read_volatile() };
    match (kind as u16).to_be() {
        ETH_IPV4 => parse_v4(ctx, tuple),
        ETH_IPV6 => parse_v6(ctx, tuple),
        _ => None,
    }
}

#[inline(always)]
fn parse_v4(ctx: &TcContext, tuple: &mut Tuple) -> Option<Packet> {
    let header: [u32; 5] = ctx.load(L3).ok()?;
    let first = header[0].to_ne_bytes();
    let transport = L3 + (first[0] & 15) as usize * 4;
    if first[0] >> 4 != 4 || transport < L3 + 20 {
        return None;
    }
    let [id_high, id_low, fragment_high, fragment_low] = header[1].to_ne_bytes();
    let [_, number, ..] = header[2].to_ne_bytes();
    if number != protocol::TCP && number != protocol::UDP {
        return None;
    }
    let offset = u16::from_be_bytes([fragment_high, fragment_low]);
    let (is_later, is_fragment) = (offset & 0x1fff != 0, offset & 0x3fff != 0);
    let id = FragmentKey {
        source_be: header[3],
        destination_be: header[4],
        id_be: u16::from_ne_bytes([id_high, id_low]),
        protocol: number,
        padding: 0,
    };
    let ports: u32 = if is_later {
        // SAFETY: one aligned word, copied at once.
        *unsafe { FRAGMENTS.get(id) }?
    } else {
        ctx.load(transport).ok()?
    };
    if is_fragment && !is_later {
        // Evicts the least recently used if full; without it the later ones are not translated.
        let _ = FRAGMENTS.insert(id, ports, 0);
    }
    tuple.source = Address::from_v4(header[3]);
    tuple.destination = Address::from_v4(header[4]);
    set_ports(tuple, ports, number);
    Some(Packet { protocol: number, transport, v4: true, has_transport: !is_later })
}

/// Packets with extension headers are not translated.
#[inline(always)]
fn parse_v6(ctx: &TcContext, tuple: &mut Tuple) -> Option<Packet> {
    let header: [u32; 10] = ctx.load(L3).ok()?;
    let [_, _, number, _] = header[1].to_ne_bytes();
    if header[0].to_ne_bytes()[0] >> 4 != 6 || number != protocol::TCP && number != protocol::UDP {
        return None;
    }
    let transport = L3 + 40;
    let ports: u32 = ctx.load(transport).ok()?;
    tuple.source = Address::from_words([header[2], header[3], header[4], header[5]]);
    tuple.destination = Address::from_words([header[6], header[7], header[8], header[9]]);
    set_ports(tuple, ports, number);
    Some(Packet { protocol: number, transport, v4: false, has_transport: true })
}

#[inline(always)]
fn set_ports(tuple: &mut Tuple, ports: u32, protocol: u8) {
    let [a, b, c, d] = ports.to_ne_bytes();
    tuple.source_port_be = u16::from_ne_bytes([a, b]);
    tuple.destination_port_be = u16::from_ne_bytes([c, d]);
    tuple.protocol = protocol;
    tuple.padding = [0; 2];
}

#[inline(always)]
fn ports(tuple: &Tuple) -> u32 {
    let [a, b] = tuple.source_port_be.to_ne_bytes();
    let [c, d] = tuple.destination_port_be.to_ne_bytes();
    u32::from_ne_bytes([a, b, c, d])
}

impl Packet {
    /// Whether it is one of IPv4.
    #[inline(always)]
    pub fn is_v4(&self) -> bool {
        self.v4
    }

    /// Whether it opens a TCP connection.
    #[inline(always)]
    pub fn is_syn(&self, ctx: &TcContext) -> bool {
        if self.protocol != protocol::TCP || !self.has_transport {
            return false;
        }
        let flags: u8 = ctx.load(self.transport + TCP_FLAGS).unwrap_or(0);
        flags & (TCP_SYN | TCP_ACK) == TCP_SYN
    }

    /// Put other addresses and ports in, and set the checksums right. `None` if the packet turns out
    /// to be cut short; it may be half rewritten then.
    #[inline(always)]
    pub fn rewrite(&self, ctx: &TcContext, from: &Tuple, to: &Tuple) -> Option<()> {
        if self.v4 {
            self.rewrite_v4(ctx, from, to)
        } else {
            self.rewrite_v6(ctx, from, to)
        }
    }

    #[inline(always)]
    fn rewrite_v4(&self, ctx: &TcContext, from: &Tuple, to: &Tuple) -> Option<()> {
        let [_, _, _, old_source] = from.source.words();
        let [_, _, _, old_destination] = from.destination.words();
        let [_, _, _, source] = to.source.words();
        let [_, _, _, destination] = to.destination.words();
        let (mut old, mut new) = ([old_source, old_destination], [source, destination]);
        // SAFETY: two arrays of eight bytes.
        let difference =
            unsafe { bpf_csum_diff(old.as_mut_ptr(), 8, new.as_mut_ptr(), 8, 0) } as u64;
        if self.has_transport {
            self.rewrite_ports(ctx, from, to, difference)?;
        }
        ctx.l3_csum_replace(L3 + 10, 0, difference, 0).ok()?;
        ctx.store(L3 + 12, &new, 0).ok()
    }

    /// A tuple begins with the addresses as they stand in this header, one after the other.
    #[inline(always)]
    fn rewrite_v6(&self, ctx: &TcContext, from: &Tuple, to: &Tuple) -> Option<()> {
        let (old, new): (*const Tuple, *const Tuple) = (from, to);
        // SAFETY: the first 32 bytes of a tuple each, which the helper reads.
        let difference = unsafe {
            bpf_csum_diff(old.cast_mut().cast(), 32, new.cast_mut().cast(), 32, 0)
        } as u64;
        self.rewrite_ports(ctx, from, to, difference)?;
        // SAFETY: as above.
        let addresses = unsafe { &*new.cast::<[u32; 8]>() };
        ctx.store(L3 + 8, addresses, 0).ok()
    }

    #[inline(always)]
    fn rewrite_ports(
        &self,
        ctx: &TcContext,
        from: &Tuple,
        to: &Tuple,
        addresses: u64,
    ) -> Option<()> {
        let (old, new) = (ports(from), ports(to));
        // A UDP packet without a checksum stays without.
        let (checksum, mark) = if self.protocol == protocol::TCP {
            (self.transport + 16, 0)
        } else {
            (self.transport + 6, BPF_F_MARK_MANGLED_0 as u64)
        };
        let pseudo = BPF_F_PSEUDO_HDR as u64 | mark;
        ctx.l4_csum_replace(checksum, 0, addresses, pseudo).ok()?;
        ctx.l4_csum_replace(checksum, old as u64, new as u64, mark | 4).ok()?;
        ctx.store(self.transport, &new, 0).ok()
    }
}

/// An ICMP error over IPv4 about a packet, which it quotes: where the parts of it begin.
#[derive(Clone, Copy)]
pub struct Quote {
    icmp: usize,
    header: usize,
    transport: usize,
    destination_be: u32,
}

/// Read an ICMP error, the quoted packet's addresses and ports to `tuple`.
#[inline(always)]
pub fn parse_error(ctx: &TcContext, tuple: &mut Tuple) -> Option<Quote> {
    let outer: [u32; 5] = ctx.load(L3).ok()?;
    let [version, ..] = outer[0].to_ne_bytes();
    let [_, number, ..] = outer[2].to_ne_bytes();
    let icmp = L3 + (version & 15) as usize * 4;
    if version >> 4 != 4 || number != ICMP || icmp < L3 + 20 {
        return None;
    }
    let kind: u8 = ctx.load(icmp).ok()?;
    if kind != ICMP_UNREACHABLE && kind != ICMP_TIME_EXCEEDED && kind != ICMP_PARAMETER {
        return None;
    }
    let header = icmp + 8;
    let quoted: [u32; 5] = ctx.load(header).ok()?;
    let [version, ..] = quoted[0].to_ne_bytes();
    let [_, number, ..] = quoted[2].to_ne_bytes();
    let [_, _, fragment_high, fragment_low] = quoted[1].to_ne_bytes();
    let transport = header + (version & 15) as usize * 4;
    let is_later = u16::from_be_bytes([fragment_high, fragment_low]) & 0x1fff != 0;
    if version >> 4 != 4
        || transport < header + 20
        || is_later
        || number != protocol::TCP && number != protocol::UDP
    {
        return None;
    }
    tuple.source = Address::from_v4(quoted[3]);
    tuple.destination = Address::from_v4(quoted[4]);
    set_ports(tuple, ctx.load(transport).ok()?, number);
    Some(Quote { icmp, header, transport, destination_be: outer[4] })
}

impl Quote {
    /// Whether the error is for this address.
    #[inline(always)]
    pub fn is_for(&self, address: Address) -> bool {
        address.v4() == Some(self.destination_be)
    }

    /// Quote the packet as it was before it was translated. The checksums of the quoted packet's TCP or
    /// UDP are left: they are rarely quoted whole, and nobody looks.
    #[inline(always)]
    pub fn rewrite(&self, ctx: &TcContext, from: &Tuple, to: &Tuple) -> Option<()> {
        let [_, _, _, old_source] = from.source.words();
        let [_, _, _, old_destination] = from.destination.words();
        let [_, _, _, source] = to.source.words();
        let [_, _, _, destination] = to.destination.words();
        let (mut old, mut new) = ([old_source, old_destination], [source, destination]);
        // SAFETY: two arrays of eight bytes.
        let difference =
            unsafe { bpf_csum_diff(old.as_mut_ptr(), 8, new.as_mut_ptr(), 8, 0) } as u64;
        // A header's sum is always the same, so the error's checksum hears of the ports alone.
        ctx.l3_csum_replace(self.header + 10, 0, difference, 0).ok()?;
        ctx.store(self.header + 12, &new, 0).ok()?;
        let (old, new) = (ports(from), ports(to));
        ctx.l4_csum_replace(self.icmp + 2, old as u64, new as u64, 4).ok()?;
        ctx.store(self.transport, &new, 0).ok()
    }

    /// Send the error to another address.
    #[inline(always)]
    pub fn redirect(&self, ctx: &TcContext, to: Address) -> Option<()> {
        let new = to.v4()?;
        ctx.l3_csum_replace(L3 + 10, self.destination_be as u64, new as u64, 4).ok()?;
        ctx.store(L3 + 16, &new, 0).ok()
    }
}

/// Behind an Ethernet header.
const L3: usize = 14;
const ETH_IPV4: u16 = 0x0800;
const ETH_IPV6: u16 = 0x86dd;
const ICMP: u8 = 1;
const ICMP_UNREACHABLE: u8 = 3;
const ICMP_TIME_EXCEEDED: u8 = 11;
const ICMP_PARAMETER: u8 = 12;
const TCP_FLAGS: usize = 13;
const TCP_SYN: u8 = 0x02;
const TCP_ACK: u8 = 0x10;
