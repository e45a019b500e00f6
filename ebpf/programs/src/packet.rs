//! A packet's headers: read, and rewritten with their checksums.

use core::ptr;

use pintle_ebpf_common::{Address, FragmentKey, Tuple, protocol};

use crate::maps::FRAGMENTS;
use crate::view::{Change, Segment, View, difference, fold, mended};

/// A packet of TCP, UDP or SCTP, over IPv4 or IPv6, but for its addresses and ports.
#[derive(Clone, Copy)]
pub struct Packet {
    protocol: u8,
    /// Where the header of TCP, UDP or SCTP begins, or would.
    transport: usize,
    v4: bool,
    /// Whether it has that header: a later fragment has not.
    has_transport: bool,
    /// Whether it is no fragment at all.
    whole: bool,
    /// Bytes from there on, as the IP header says.
    length: u16,
    /// Whether to make a checksum that was left to a device, if there is no device to be.
    pub makes_sum: bool,
    /// IPv4's third word: time to live, protocol, checksum.
    third: u32,
}

/// Read the headers, the addresses and ports to `tuple`; `None` if it is a packet of another kind, or
/// one that is cut short.
#[inline(always)]
pub fn parse(view: &impl View, tuple: &mut Tuple) -> Option<Packet> {
    match view.ethertype() {
        ETH_IPV4 => parse_v4(view, L3, tuple),
        ETH_IPV6 => parse_v6(view, L3, tuple),
        _ => None,
    }
}

/// The same of a packet whose IP header begins elsewhere, of one that is inside another.
#[inline(always)]
pub fn parse_at(view: &impl View, v4: bool, start: usize, tuple: &mut Tuple) -> Option<Packet> {
    if v4 { parse_v4(view, start, tuple) } else { parse_v6(view, start, tuple) }
}

#[inline(always)]
fn parse_v4(view: &impl View, start: usize, tuple: &mut Tuple) -> Option<Packet> {
    let header: [u32; 5] = view.load(start)?;
    let [first, _, length_high, length_low] = header[0].to_ne_bytes();
    let transport = start + (first & 15) as usize * 4;
    if first >> 4 != 4 || transport < start + 20 {
        return None;
    }
    let [id_high, id_low, fragment_high, fragment_low] = header[1].to_ne_bytes();
    let [_, number, ..] = header[2].to_ne_bytes();
    if !is_ours(number) {
        return None;
    }
    tuple.source = Address::from_v4(header[3]);
    tuple.destination = Address::from_v4(header[4]);
    let offset = u16::from_be_bytes([fragment_high, fragment_low]);
    let piece = Piece {
        id_be: u16::from_ne_bytes([id_high, id_low]) as u32,
        is_fragment: offset & 0x3fff != 0,
        is_later: offset & 0x1fff != 0,
    };
    piece.ports(view, tuple, number, transport)?;
    let length = u16::from_be_bytes([length_high, length_low]);
    let length = length.wrapping_sub((transport - start) as u16);
    Some(piece.packet(true, number, transport, length, header[2]))
}

/// Packets with extension headers are not translated, but for fragments.
#[inline(always)]
fn parse_v6(view: &impl View, start: usize, tuple: &mut Tuple) -> Option<Packet> {
    let header: [u32; 10] = view.load(start)?;
    let [_, _, mut number, _] = header[1].to_ne_bytes();
    if header[0].to_ne_bytes()[0] >> 4 != 6 {
        return None;
    }
    let mut transport = start + 40;
    let mut piece = Piece { id_be: 0, is_fragment: false, is_later: false };
    if number == FRAGMENT {
        let fragment: [u32; 2] = view.load(transport)?;
        let [next, _, offset_high, offset_low] = fragment[0].to_ne_bytes();
        let offset = u16::from_be_bytes([offset_high, offset_low]);
        let (is_later, id_be) = (offset & 0xfff8 != 0, fragment[1]);
        // A packet in one piece may have the header too (RFC 6946).
        piece = Piece { id_be, is_fragment: offset & 0xfff9 != 0, is_later };
        (number, transport) = (next, start + 48);
    }
    if !is_ours(number) {
        return None;
    }
    tuple.source = Address::from_words([header[2], header[3], header[4], header[5]]);
    tuple.destination = Address::from_words([header[6], header[7], header[8], header[9]]);
    piece.ports(view, tuple, number, transport)?;
    let [length_high, length_low, ..] = header[1].to_ne_bytes();
    let length = u16::from_be_bytes([length_high, length_low]);
    let length = length.wrapping_sub((transport - start - 40) as u16);
    Some(piece.packet(false, number, transport, length, 0))
}

/// Which part of its packet a packet is.
#[derive(Clone, Copy)]
struct Piece {
    id_be: u32,
    is_fragment: bool,
    is_later: bool,
}

impl Piece {
    #[inline(always)]
    fn packet(&self, v4: bool, protocol: u8, transport: usize, length: u16, third: u32) -> Packet {
        let (has_transport, whole) = (!self.is_later, !self.is_fragment);
        let makes_sum = false;
        Packet { protocol, transport, v4, has_transport, whole, length, makes_sum, third }
    }

    /// Find the ports: a first fragment has them, the others are found by it.
    #[inline(always)]
    fn ports(
        &self,
        view: &impl View,
        tuple: &mut Tuple,
        number: u8,
        transport: usize,
    ) -> Option<()> {
        if !self.is_fragment {
            set_ports(tuple, view.load(transport)?, number);
            return Some(());
        }
        let id = FragmentKey {
            source: tuple.source,
            destination: tuple.destination,
            id_be: self.id_be,
            protocol: number as u32,
        };
        let ports: u32 = if self.is_later {
            // SAFETY: one aligned word, copied at once.
            *unsafe { FRAGMENTS.get(&id) }?
        } else {
            view.load(transport)?
        };
        if !self.is_later {
            // Evicts the least recently used if full; without it the later ones are not translated.
            let _ = FRAGMENTS.insert(&id, &ports, 0);
        }
        set_ports(tuple, ports, number);
        Some(())
    }
}

#[inline(always)]
pub fn is_ours(number: u8) -> bool {
    number == protocol::TCP || number == protocol::UDP || number == protocol::SCTP
}

#[inline(always)]
pub fn set_ports(tuple: &mut Tuple, ports: u32, protocol: u8) {
    let [a, b, c, d] = ports.to_ne_bytes();
    tuple.source_port_be = u16::from_ne_bytes([a, b]);
    tuple.destination_port_be = u16::from_ne_bytes([c, d]);
    tuple.protocol = protocol;
    tuple.padding = [0; 2];
}

/// The ports as they stand in a packet.
#[inline(always)]
pub fn ports(tuple: &Tuple) -> u32 {
    let [a, b] = tuple.source_port_be.to_ne_bytes();
    let [c, d] = tuple.destination_port_be.to_ne_bytes();
    u32::from_ne_bytes([a, b, c, d])
}

/// How the sum of the addresses changes.
#[inline(always)]
pub fn addresses_difference(v4: bool, from: &Tuple, to: &Tuple) -> u32 {
    let word = |sum, old: u64, new: u64| {
        let sum = difference(sum, old as u32, new as u32);
        difference(sum, (old >> 32) as u32, (new >> 32) as u32)
    };
    // What an IPv4 address has beside its four bytes is always the same.
    let mut sum = word(0, from.source.low_be, to.source.low_be);
    sum = word(sum, from.destination.low_be, to.destination.low_be);
    if !v4 {
        sum = word(sum, from.source.high_be, to.source.high_be);
        sum = word(sum, from.destination.high_be, to.destination.high_be);
    }
    fold(sum)
}

/// How the sum of the ports changes.
#[inline(always)]
pub fn ports_difference(from: &Tuple, to: &Tuple) -> u32 {
    let (old, new) = (ports(from), ports(to));
    if old == new { 0 } else { fold(difference(0, old, new)) }
}

/// Put other addresses into a header of IPv4, whose third word (time to live, protocol, checksum) is
/// to be this but for the checksum.
#[inline(always)]
pub fn store_v4(
    view: &impl View,
    header: usize,
    third: u32,
    change: u32,
    to: &Tuple,
) -> Option<()> {
    let [ttl, number, a, b] = third.to_ne_bytes();
    let [a, b] = mended(u16::from_ne_bytes([a, b]), change).to_ne_bytes();
    let third = u32::from_ne_bytes([ttl, number, a, b]);
    let [.., source] = to.source.words();
    let [.., destination] = to.destination.words();
    view.store(header + 8, &[third, source, destination])
}

/// Put other addresses into a header of IPv6. A tuple begins with them as they stand there.
#[inline(always)]
pub fn store_v6(view: &impl View, header: usize, to: &Tuple) -> Option<()> {
    let [a, b, c, d] = to.source.words();
    let [e, f, g, h] = to.destination.words();
    view.store(header + 8, &[a, b, c, d, e, f, g, h])
}

/// Whether a packet of which nothing else has been read opens a TCP connection. One with options or
/// extension headers is not seen.
#[inline(always)]
pub fn opens_tcp(view: &impl View) -> bool {
    let (number_at, transport) = match view.ethertype() {
        ETH_IPV4 => (L3 + 8, L3 + 20),
        ETH_IPV6 => (L3 + 5, L3 + 40),
        _ => return false,
    };
    let [_, number] = view.load::<u16>(number_at).unwrap_or(0).to_ne_bytes();
    number == protocol::TCP && is_syn_at(view, transport)
}

#[inline(always)]
fn is_syn_at(view: &impl View, transport: usize) -> bool {
    let word = view.load::<u16>(transport + TCP_FLAGS - 1).unwrap_or(0);
    // SAFETY: a place of the program's own. Volatile, or the compiler would look at a word that was not
    // read before it looks whether it was, which the verifier does not let it.
    let [_, flags] = unsafe { ptr::from_ref(&word).read_volatile() }.to_ne_bytes();
    flags & (TCP_SYN | TCP_ACK) == TCP_SYN
}

impl Packet {
    /// The same, of which the kernel's verifier knows nothing any more: it follows what comes after once
    /// and not for each kind of packet.
    #[inline(always)]
    pub fn forgotten(at: &mut Self, packet: Self) -> Self {
        // SAFETY: a place of the program's own. Volatile, or the compiler would remember for it.
        let packet = unsafe {
            ptr::from_mut(at).write_volatile(packet);
            ptr::from_mut(at).read_volatile()
        };
        // At most 14 + 40 + 60; said anew.
        Self { transport: packet.transport & 127, ..packet }
    }

    /// One that was put there, as [`Packet::forgotten`] gives it.
    #[inline(always)]
    pub fn again(&self) -> Self {
        // SAFETY: a place of the program's own. Volatile, or the compiler would read parts of it anew.
        let packet = unsafe { ptr::from_ref(self).read_volatile() };
        Self { transport: packet.transport & 127, ..packet }
    }

    /// The same, from whose beginning so many bytes were taken.
    #[inline(always)]
    pub fn moved(self, length: usize) -> Self {
        Self { transport: self.transport - length, ..self }
    }

    /// Whether it is one of IPv4.
    #[inline(always)]
    pub fn is_v4(&self) -> bool {
        self.v4
    }

    /// Whether it is no fragment.
    #[inline(always)]
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// Whether it is no fragment, and has its ports right behind an IP header without options, here.
    #[inline(always)]
    pub fn is_plain_at(&self, transport: usize) -> bool {
        self.whole && self.transport == transport
    }

    /// How long the longest piece is that is sent of it, of so many bytes of payload if that is not 0, from
    /// its IP header on. Pieces of TCP are made to fit.
    #[inline(always)]
    pub fn longest(&self, payload: u32, length: u32) -> u32 {
        if payload == 0 {
            length - L3 as u32
        } else if self.protocol == protocol::UDP {
            (self.transport - L3) as u32 + 8 + payload
        } else {
            0
        }
    }

    /// Of a packet that answers one which opens a TCP connection: have its receiver send segments that are
    /// shorter by so many bytes. Where the option does not come first, errors will have to say so.
    #[inline(always)]
    pub fn shorten_segments(&self, view: &impl View, by: u16) -> Option<()> {
        if self.protocol != protocol::TCP || !self.has_transport {
            return None;
        }
        let [words, flags] = view.load::<u16>(self.transport + TCP_FLAGS - 1)?.to_ne_bytes();
        if flags & (TCP_SYN | TCP_ACK) != TCP_SYN | TCP_ACK || words >> 4 < 6 {
            return None;
        }
        let option: u32 = view.load(self.transport + 20)?;
        let [kind, length, high, low] = option.to_ne_bytes();
        let size = u16::from_be_bytes([high, low]);
        if [kind, length] != TCP_SEGMENT_SIZE || size <= by {
            return None;
        }
        let [high, low] = (size - by).to_be_bytes();
        let new = u32::from_ne_bytes([kind, length, high, low]);
        let body = fold(difference(0, option, new));
        let segment = Segment { offset: 0, length: 0, pseudo: 0, is_made: false };
        let change = Change { addresses: 0, body, v6: !self.v4, may_be_absent: false, segment };
        view.mend(self.transport + 16, change)?;
        view.store(self.transport + 20, &new)
    }

    /// Whether its ports stand under a checksum that cannot be mended: SCTP's is one of the whole
    /// packet.
    #[inline(always)]
    pub fn keeps_ports(&self) -> bool {
        self.protocol == protocol::SCTP
    }

    /// Whether it opens a TCP connection.
    #[inline(always)]
    pub fn is_syn(&self, view: &impl View) -> bool {
        self.protocol == protocol::TCP && self.has_transport && is_syn_at(view, self.transport)
    }

    /// Count a hop, if it is not the last that the packet may make. To be written by
    /// [`Packet::rewrite`] and, of IPv6, by [`Packet::write_hop`].
    #[inline(always)]
    pub fn hop(&mut self, view: &impl View) -> Option<()> {
        if !self.v4 {
            let [_, limit] = view.load::<u16>(L3 + 6)?.to_ne_bytes();
            return if limit > 1 { Some(()) } else { None };
        }
        let [ttl, number, a, b] = self.third.to_ne_bytes();
        if ttl <= 1 {
            return None;
        }
        let new = u32::from_ne_bytes([ttl - 1, number, a, b]);
        let change = fold(difference(0, self.third, new));
        let [a, b] = mended(u16::from_ne_bytes([a, b]), change).to_ne_bytes();
        self.third = u32::from_ne_bytes([ttl - 1, number, a, b]);
        Some(())
    }

    /// See [`Packet::hop`].
    #[inline(always)]
    pub fn write_hop(&self, view: &impl View) -> Option<()> {
        if self.v4 {
            return Some(());
        }
        let [number, limit] = view.load::<u16>(L3 + 6)?.to_ne_bytes();
        view.store(L3 + 6, &u16::from_ne_bytes([number, limit.wrapping_sub(1)]))
    }

    /// Put other addresses and ports in, and set the checksums right. `None` if the packet turns out
    /// to be cut short; it may be half rewritten then. So it is where its ports would change and it
    /// keeps them.
    #[inline(always)]
    pub fn rewrite(&self, view: &impl View, from: &Tuple, to: &Tuple) -> Option<()> {
        let addresses = addresses_difference(self.v4, from, to);
        let body = ports_difference(from, to);
        if self.has_transport {
            self.rewrite_transport(view, from, to, addresses, body)?;
        }
        if !self.v4 && (!self.has_transport || self.keeps_ports()) {
            view.resum(addresses);
        }
        if self.v4 { store_v4(view, L3, self.third, addresses, to) } else { store_v6(view, L3, to) }
    }

    #[inline(always)]
    fn rewrite_transport(
        &self,
        view: &impl View,
        from: &Tuple,
        to: &Tuple,
        addresses: u32,
        body: u32,
    ) -> Option<()> {
        if self.keeps_ports() {
            return if body == 0 { Some(()) } else { None };
        }
        let may_be_absent = self.protocol == protocol::UDP;
        let checksum = self.transport + if may_be_absent { 6 } else { 16 };
        let segment = self.segment(from);
        view.mend(checksum, Change { addresses, body, v6: !self.v4, may_be_absent, segment })?;
        if body == 0 {
            return Some(());
        }
        view.store(self.transport, &ports(to))
    }

    #[inline(always)]
    fn segment(&self, from: &Tuple) -> Segment {
        let (source, destination) = (from.source, from.destination);
        let halves = |word: u64| (word & 0xffff_ffff) + (word >> 32);
        let mut sum = self.length.to_be() as u64 + (self.protocol as u16).to_be() as u64;
        if self.v4 {
            // What an address has beside its four bytes adds up to nothing: 0xffff.
            sum += halves(source.low_be) + halves(destination.low_be);
        } else {
            sum += halves(source.high_be) + halves(source.low_be);
            sum += halves(destination.high_be) + halves(destination.low_be);
        }
        let sum = fold(sum);
        let sum = (sum & 0xffff) + (sum >> 16);
        let pseudo = ((sum & 0xffff) + (sum >> 16)) as u16;
        let (offset, length) = (self.transport, self.length as u32);
        Segment { offset, length, pseudo, is_made: self.makes_sum }
    }
}

/// Behind an Ethernet header.
pub const L3: usize = 14;
pub const ETH_IPV4: u16 = 0x0800;
pub const ETH_IPV6: u16 = 0x86dd;
/// IPv6's extension header of fragments.
const FRAGMENT: u8 = 44;
const TCP_FLAGS: usize = 13;
/// The option that says how long a segment may be (RFC 9293): its kind and length.
const TCP_SEGMENT_SIZE: [u8; 2] = [2, 4];
const TCP_SYN: u8 = 0x02;
const TCP_ACK: u8 = 0x10;
