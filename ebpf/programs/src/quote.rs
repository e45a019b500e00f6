//! ICMP errors: packets about a packet, which they quote.
//!
//! Of ICMP the kinds that quote a packet on its way (RFC 792), of ICMPv6 all errors (RFC 4443: those
//! whose type is below 128).

use pintle_ebpf_common::{Address, Tuple};

use crate::packet::{
    ETH_IPV4, ETH_IPV6, L3, addresses_difference, is_ours, ports, ports_difference, set_ports,
    store_v4, store_v6,
};
use crate::tunnel::{IPIP, IPV6_IN_IPV6};
use crate::view::{Change, Segment, View, fold};

/// An ICMP error: where the parts of it begin.
#[derive(Clone, Copy)]
pub struct Quote {
    v4: bool,
    icmp: usize,
    /// The quoted packet's IP header.
    header: usize,
    transport: usize,
    /// The third word of the error's own header of IPv4 and of the quoted one.
    third: u32,
    quoted_third: u32,
    /// Where the error comes from and goes.
    source: Address,
    destination: Address,
}

/// Read an ICMP error, the quoted packet's addresses and ports to `tuple`.
#[inline(always)]
pub fn parse(view: &impl View, tuple: &mut Tuple) -> Option<Quote> {
    match view.ethertype() {
        ETH_IPV4 => parse_v4(view, tuple),
        ETH_IPV6 => parse_v6(view, tuple),
        _ => None,
    }
}

#[inline(always)]
fn parse_v4(view: &impl View, tuple: &mut Tuple) -> Option<Quote> {
    let outer: [u32; 5] = view.load(L3)?;
    let [version, ..] = outer[0].to_ne_bytes();
    let [_, number, ..] = outer[2].to_ne_bytes();
    let icmp = L3 + (version & 15) as usize * 4;
    if version >> 4 != 4 || number != ICMP || icmp < L3 + 20 {
        return None;
    }
    let [kind, _] = view.load::<u16>(icmp)?.to_ne_bytes();
    if kind != ICMP_UNREACHABLE && kind != ICMP_TIME_EXCEEDED && kind != ICMP_PARAMETER {
        return None;
    }
    let header = icmp + 8;
    let quoted: [u32; 5] = view.load(header)?;
    let [version, ..] = quoted[0].to_ne_bytes();
    let [_, number, ..] = quoted[2].to_ne_bytes();
    let [_, _, fragment_high, fragment_low] = quoted[1].to_ne_bytes();
    let transport = header + (version & 15) as usize * 4;
    let is_later = u16::from_be_bytes([fragment_high, fragment_low]) & 0x1fff != 0;
    if version >> 4 != 4 || transport < header + 20 || is_later || !is_ours(number) {
        return None;
    }
    tuple.source = Address::from_v4(quoted[3]);
    tuple.destination = Address::from_v4(quoted[4]);
    set_ports(tuple, view.load(transport)?, number);
    Some(Quote {
        v4: true,
        icmp,
        header,
        transport,
        third: outer[2],
        quoted_third: quoted[2],
        source: Address::from_v4(outer[3]),
        destination: Address::from_v4(outer[4]),
    })
}

#[inline(always)]
fn parse_v6(view: &impl View, tuple: &mut Tuple) -> Option<Quote> {
    let outer: [u32; 10] = view.load(L3)?;
    let icmp = L3 + 40;
    let [_, _, number, _] = outer[1].to_ne_bytes();
    if outer[0].to_ne_bytes()[0] >> 4 != 6 || number != ICMP_V6 {
        return None;
    }
    let [kind, _] = view.load::<u16>(icmp)?.to_ne_bytes();
    if kind >= ICMP_V6_INFORMATION {
        return None;
    }
    let header = icmp + 8;
    let quoted: [u32; 10] = view.load(header)?;
    let [_, _, number, _] = quoted[1].to_ne_bytes();
    if quoted[0].to_ne_bytes()[0] >> 4 != 6 || !is_ours(number) {
        return None;
    }
    let transport = header + 40;
    tuple.source = Address::from_words([quoted[2], quoted[3], quoted[4], quoted[5]]);
    tuple.destination = Address::from_words([quoted[6], quoted[7], quoted[8], quoted[9]]);
    set_ports(tuple, view.load(transport)?, number);
    Some(Quote {
        v4: false,
        icmp,
        header,
        transport,
        third: 0,
        quoted_third: 0,
        source: Address::from_words([outer[2], outer[3], outer[4], outer[5]]),
        destination: Address::from_words([outer[6], outer[7], outer[8], outer[9]]),
    })
}

/// An error of a backend that a packet which holds another does not reach: whether it is of IPv4, where
/// the packet begins that is held, and the backend.
#[inline(always)]
pub fn tunnelled(view: &impl View) -> Option<(bool, usize, Address)> {
    match view.ethertype() {
        ETH_IPV4 => {
            let outer: [u32; 5] = view.load(L3)?;
            let [version, ..] = outer[0].to_ne_bytes();
            let [_, number, ..] = outer[2].to_ne_bytes();
            let [kind, code] = view.load::<u16>(L3 + 20)?.to_ne_bytes();
            let header = L3 + 28;
            let quoted: [u32; 5] = view.load(header)?;
            let [inner_version, ..] = quoted[0].to_ne_bytes();
            let [_, inner_number, ..] = quoted[2].to_ne_bytes();
            let is_it = version == 0x45
                && number == ICMP
                && kind == ICMP_UNREACHABLE
                && code != ICMP_TOO_BIG
                && inner_version == 0x45
                && inner_number == IPIP;
            if is_it { Some((true, header + 20, Address::from_v4(quoted[4]))) } else { None }
        }
        ETH_IPV6 => {
            let outer: [u32; 2] = view.load(L3)?;
            let [_, _, number, _] = outer[1].to_ne_bytes();
            let [kind, code] = view.load::<u16>(L3 + 40)?.to_ne_bytes();
            let header = L3 + 48;
            let quoted: [u32; 10] = view.load(header)?;
            let [_, _, inner_number, _] = quoted[1].to_ne_bytes();
            let is_it = outer[0].to_ne_bytes()[0] >> 4 == 6
                && number == ICMP_V6
                && (kind == ICMP_V6_UNREACHABLE || [kind, code] == ICMP_V6_UNKNOWN_HEADER)
                && inner_number == IPV6_IN_IPV6;
            let to = Address::from_words([quoted[6], quoted[7], quoted[8], quoted[9]]);
            if is_it { Some((false, header + 40, to)) } else { None }
        }
        _ => None,
    }
}

impl Quote {
    /// Whether the error is for this address.
    #[inline(always)]
    pub fn is_for(&self, address: Address) -> bool {
        self.destination == address
    }

    /// Quote the packet as it was before it was translated. The checksums of the quoted packet's TCP or
    /// UDP are left: they are rarely quoted whole, and nobody looks.
    #[inline(always)]
    pub fn rewrite(&self, view: &impl View, from: &Tuple, to: &Tuple) -> Option<()> {
        let addresses = addresses_difference(self.v4, from, to);
        let ports_change = ports_difference(from, to);
        let mut body = ports_change;
        if self.v4 {
            // A header's sum is always the same, so the error's checksum hears of the ports alone.
            store_v4(view, self.header, self.quoted_third, addresses, to)?;
        } else {
            body = fold(addresses as u64 + ports_change as u64);
            store_v6(view, self.header, to)?;
        }
        let change =
            Change { addresses: 0, body, v6: !self.v4, may_be_absent: false, segment: NONE };
        view.mend(self.icmp + 2, change)?;
        view.store(self.transport, &ports(to))
    }

    /// Send the error to another address.
    #[inline(always)]
    pub fn redirect(&self, view: &impl View, to: Address) -> Option<()> {
        let from = Tuple { source: self.source, destination: self.destination, ..EMPTY };
        let to = Tuple { destination: to, ..from };
        let addresses = addresses_difference(self.v4, &from, &to);
        if self.v4 {
            return store_v4(view, L3, self.third, addresses, &to);
        }
        let change = Change { addresses, body: 0, v6: true, may_be_absent: false, segment: NONE };
        view.mend(self.icmp + 2, change)?;
        store_v6(view, L3, &to)
    }
}

const EMPTY: Tuple = Tuple {
    source: Address::ANY_V6,
    destination: Address::ANY_V6,
    source_port_be: 0,
    destination_port_be: 0,
    protocol: 0,
    hook: 0,
    padding: [0; 2],
};

/// Of no matter where the kernel knows of the checksum, and elsewhere no errors are looked at.
const NONE: Segment = Segment { offset: 0, length: 0, pseudo: 0, is_made: false };

pub const ICMP: u8 = 1;
const ICMP_UNREACHABLE: u8 = 3;
const ICMP_TIME_EXCEEDED: u8 = 11;
const ICMP_PARAMETER: u8 = 12;
pub const ICMP_V6: u8 = 58;
const ICMP_TOO_BIG: u8 = 4;
const ICMP_V6_UNREACHABLE: u8 = 1;
const ICMP_V6_UNKNOWN_HEADER: [u8; 2] = [4, 1];
/// From this type on they are no errors.
const ICMP_V6_INFORMATION: u8 = 128;
