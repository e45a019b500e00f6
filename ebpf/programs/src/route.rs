//! The way of a packet that the kernel has not seen yet: back by the link that it came in by, or not
//! known here.

use core::mem::zeroed;

use aya_ebpf::bindings::bpf_fib_lookup;
use aya_ebpf::helpers::{bpf_fib_lookup as fib_lookup, bpf_jiffies64};
use aya_ebpf::programs::XdpContext;
use pintle_ebpf_common::{Address, Tuple, device, seal};

use crate::maps::{DEVICES, ROUTES};
use crate::view::View;

/// The first twelve bytes of a packet: the next station's hardware address and the link's own.
pub type Hop = [u16; 6];

/// What the kernel's tables said of late of packets between two addresses.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Route {
    source: Address,
    destination: Address,
    /// When, in the kernel's ticks.
    at: u64,
    /// The link that they came in by, and leave by. 0: there is no entry.
    link: u32,
    /// How long a packet may be, from its IP header on.
    pub mtu: u32,
    pub hop: Hop,
    padding: [u16; 2],
    /// Bits of [`device`], of the link.
    pub flags: u32,
    padding_after: u32,
}
const _: () = assert!(size_of::<Route>() == 72);

/// The way of packets between the tuple's addresses, if they leave by the link that they came in by
/// and the link can send them back so.
#[inline(always)]
pub fn back(ctx: &XdpContext, v4: bool, tuple: &Tuple) -> Option<&'static Route> {
    let (source, destination) = (tuple.source, tuple.destination);
    let number = seal([source.high_be ^ source.low_be, destination.high_be ^ destination.low_be]);
    let entry = number as u32 % ROUTES_MAX;
    // SAFETY: this CPU's own, and programs of this kind do not interrupt each other.
    let route = unsafe { ROUTES.get_ptr_mut(entry)?.as_mut() }?;
    // SAFETY: the helper takes no arguments.
    let now = unsafe { bpf_jiffies64() };
    let link = ctx.link();
    let known = route.link == link
        && now.wrapping_sub(route.at) < CURRENT
        && route.source == source
        && route.destination == destination;
    if !known {
        look_up(ctx, v4, tuple, link, route)?;
        (route.source, route.destination, route.at) = (source, destination, now);
        route.link = link;
    }
    Some(route)
}

/// Ask the kernel.
#[inline(always)]
fn look_up(ctx: &XdpContext, v4: bool, tuple: &Tuple, link: u32, route: &mut Route) -> Option<()> {
    route.link = 0;
    // SAFETY: copied at once; written when the node's links change.
    let device = unsafe { DEVICES.get(link) }?;
    if device.flags & device::TURNS_BACK == 0 {
        return None;
    }
    // SAFETY: a struct of integers.
    let mut params: bpf_fib_lookup = unsafe { zeroed() };
    params.family = if v4 { AF_INET } else { AF_INET6 };
    params.l4_protocol = tuple.protocol;
    params.sport = tuple.source_port_be;
    params.dport = tuple.destination_port_be;
    params.ifindex = link;
    if v4 {
        params.__bindgen_anon_3.ipv4_src = tuple.source.words()[3];
        params.__bindgen_anon_4.ipv4_dst = tuple.destination.words()[3];
    } else {
        params.__bindgen_anon_3.ipv6_src = tuple.source.words();
        params.__bindgen_anon_4.ipv6_dst = tuple.destination.words();
    }
    // The shortest there is, so that the kernel says how long one may be.
    params.__bindgen_anon_1.tot_len = 1;
    let size = size_of::<bpf_fib_lookup>() as i32;
    // SAFETY: the parameters are as long as said.
    let found = unsafe { fib_lookup(ctx.ctx.cast(), &mut params, size, 0) };
    // Else there is no way, or the kernel has to find the next station's address first.
    if found != FOUND || params.ifindex != link {
        return None;
    }
    route.flags = device.flags;
    // SAFETY: the kernel has written it.
    route.mtu = unsafe { params.__bindgen_anon_1.mtu_result } as u32;
    let pair = |mac: [u8; 6], at: usize| u16::from_ne_bytes([mac[at], mac[at + 1]]);
    let (to, from) = (params.dmac, params.smac);
    route.hop =
        [pair(to, 0), pair(to, 2), pair(to, 4), pair(from, 0), pair(from, 2), pair(from, 4)];
    Some(())
}

/// Entries of a CPU's cache.
pub const ROUTES_MAX: u32 = 256;

/// How long an entry holds, in the kernel's ticks: 0.1 to 1 s, by how many there are in a second.
pub const CURRENT: u64 = 100;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// `BPF_FIB_LKUP_RET_SUCCESS`.
const FOUND: i64 = 0;
