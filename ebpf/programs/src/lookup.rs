//! From a Service's address to one of its backends.

use core::ptr;

use aya_ebpf::helpers::{bpf_get_prandom_u32, bpf_ktime_get_boot_ns};
use pintle_ebpf_common::{
    Address, Affinity, AffinityKey, Drop, Endpoint, Frontend, FrontendKey, Scope, Settings, Slot,
    SlotRun, Tuple, event, flag, locality, node_address, protocol, seal, setting,
};

use crate::count;
use crate::filter;
use crate::maps::{AFFINITY, FRONTENDS, NODE_ADDRESSES, SETTINGS, SLOTS};

/// Who asks for a Service.
pub trait Client {
    /// Where the client is.
    fn scope(&self) -> Scope;
    /// What session affinity remembers the client by.
    fn affinity(&self) -> Address;
    /// A number that is the same for all packets of a flow.
    fn flow(&self, key: FrontendKey) -> u64;
    /// Whether a connection has such a number too.
    const HAS_FLOWS: bool;
    /// Whether it is in the node's own network namespace.
    fn is_node(&self, settings: &Settings) -> bool;
}

/// What the tables say about an address.
pub enum Answer {
    /// It is a Service's, and this backend is to serve it.
    Backend { endpoint: Endpoint, locality: u16, service: u32, flags: u32, ranges: u32 },
    /// It is a Service's that has no backend for this client, who is to be turned away as
    /// [`Frontend::drops`] says.
    NoBackend { drop: bool, flags: u32, service: u32 },
    /// It is no Service's.
    NotService,
}

/// Choose a backend for `key`: the old tables' answer or the new ones', never a mixture. With session
/// affinity it is the client's backend of before, while it is among those to choose from.
///
/// A record that is not whole, or a slot that has passed to another table, is seen by its seal; the
/// frontend's record has changed by then, so looking it up again finds the new one.
#[inline(always)]
pub fn resolve(client: &impl Client, key: FrontendKey) -> Answer {
    let mut chosen = None;
    for _ in 0..TRIES {
        let Some((key, frontend)) = find(client, key) else { return Answer::NotService };
        if frontend.is_sealed_for(key) {
            let run = frontend.run(client.scope());
            if run.count == 0 {
                let drop = frontend.drops(client.scope());
                let Frontend { flags, service, .. } = frontend;
                return Answer::NoBackend { drop, flags, service };
            }
            if let Some(endpoint) = choose(client, key, &frontend, run) {
                chosen = Some((frontend, run, endpoint));
                break;
            }
        }
        count::event(event::RETRIED);
    }
    let Some((frontend, run, fresh)) = chosen else {
        return Answer::NoBackend { drop: false, flags: 0, service: Drop::NO_SERVICE };
    };
    let Frontend { service, flags, ranges, affinity_seconds, .. } = frontend;
    let endpoint =
        if affinity_seconds == 0 { fresh } else { come_back(client, &frontend, run, fresh) };
    let locality = endpoint.locality;
    let endpoint = endpoint.at(locality::UNKNOWN);
    Answer::Backend { endpoint, locality, service, flags, ranges }
}

/// Of packets that another node has chosen a backend of this one for: the number of the Service, and its
/// source ranges. A node port is asked for by the other node's address.
#[inline(always)]
pub fn exposed(tuple: Tuple) -> Option<(u32, u32)> {
    let key = FrontendKey::new(tuple.destination, tuple.destination_port_be, tuple.protocol);
    let (key, found) = match frontend(key) {
        Some(found) => (key, found),
        None => (key.node_port(), frontend(key.node_port())?),
    };
    let is_exposed = found.is_sealed_for(key) && found.flags & flag::CLUSTER_IP == 0;
    if is_exposed { Some((found.service, found.ranges)) } else { None }
}

/// Whether this is an address of a Service.
#[inline(always)]
pub fn is_published(key: FrontendKey) -> bool {
    frontend(key).is_some()
}

/// Whether a backend is one of those that `key` may be answered by now.
#[inline(always)]
pub fn is_backend(client: &impl Client, key: FrontendKey, backend: Endpoint) -> bool {
    match find(client, key) {
        Some((key, frontend)) if frontend.is_sealed_for(key) => {
            contains(frontend.table, frontend.run(client.scope()), backend)
        }
        _ => false,
    }
}

/// The record for `key`, or where its address is the node's own, for the node port of its number.
#[inline(always)]
fn find(client: &impl Client, key: FrontendKey) -> Option<(FrontendKey, Frontend)> {
    if key.address == Address::ANY_V4 || key.address == Address::ANY_V6 {
        // A socket's way to say loopback. In the table it stands for all of the node's addresses.
        return None;
    }
    if let Some(frontend) = frontend(key) {
        return Some((key, frontend));
    }
    let settings = settings()?;
    if settings.flags & setting::NODE_PORTS == 0 {
        return None;
    }
    let address = canonical_loopback(key.address);
    // SAFETY: the value is one aligned word, copied at once.
    let flags = *unsafe { NODE_ADDRESSES.get(address) }?;
    if flags & node_address::LOOPBACK != 0 && !client.is_node(settings) {
        return None;
    }
    let key = key.node_port();
    Some((key, frontend(key)?))
}

#[inline(always)]
fn frontend(key: FrontendKey) -> Option<Frontend> {
    // SAFETY: the reference may be to memory that is handed to another element meanwhile; it is
    // read once, as plain integers, and used only if its seal is whole and of this key.
    let look = || unsafe { FRONTENDS.get(key) };
    // Most misses are of what is no Service's, and its mark says so.
    let again = || if filter::may_be_published(key.address) { surely(look) } else { None };
    let record = look().or_else(again)?;
    // SAFETY: the kernel keeps a value's memory readable while the program runs.
    Some(unsafe { ptr::read_volatile(record) })
}

/// Look into a hash map once more if nothing was found.
///
/// To replace an element the kernel puts the new one before all others of its bucket and takes the old one
/// out. A look that was past the former's place and has not come to the latter's finds neither, though the
/// key was there all the time. The next finds the new one.
#[inline(always)]
pub fn surely<T>(look: impl Fn() -> Option<T>) -> Option<T> {
    look().or_else(look)
}

/// All of 127.0.0.0/8 is the node itself.
#[inline(always)]
fn canonical_loopback(address: Address) -> Address {
    match address.v4() {
        Some(v4) if v4.to_ne_bytes()[0] == 127 => {
            Address::from_v4(u32::from_ne_bytes([127, 0, 0, 1]))
        }
        _ => address,
    }
}

/// The programs' settings; they are always there.
#[inline(always)]
pub fn settings() -> Option<&'static Settings> {
    SETTINGS.get(0)
}

/// Every backend with an equal chance, as kube-proxy's rules: a new one for each TCP connection, the
/// same one for all datagrams of a socket (where kube-proxy has its connection tracking). With a ring
/// the place that a flow's number falls on: every node's tables say the same of it, and that a backend
/// came or went changes it for few. With session affinity the number is the client's. (A socket's TCP
/// connection has no number before it is made, and takes any place.)
#[inline(always)]
fn choose(
    client: &impl Client,
    key: FrontendKey,
    frontend: &Frontend,
    run: SlotRun,
) -> Option<Endpoint> {
    let ring = frontend.ring(client.scope());
    let is_datagram = key.protocol == protocol::UDP;
    let number = if ring.count != 0 && frontend.affinity_seconds != 0 {
        let address = client.affinity();
        seal([address.high_be, address.low_be]) as u32
    } else if is_datagram || ring.count != 0 && has_flows(client) {
        seal([client.flow(key), key.address.low_be, key.port_word()]) as u32
    } else {
        // SAFETY: the helper takes no arguments.
        unsafe { bpf_get_prandom_u32() }
    };
    let offset = if ring.count != 0 {
        let place = spread(number, ring.count);
        let slot = raw_slot(ring.base.wrapping_add(place / Slot::PLACES))?;
        slot.place(frontend.table, place % Slot::PLACES)? as u32
    } else {
        spread(number, run.count)
    };
    slot(run.base.wrapping_add(offset), frontend.table)
}

#[inline(always)]
fn has_flows<C: Client>(_: &C) -> bool {
    C::HAS_FLOWS
}

/// The high half of the product is uniform over 0..count, to within count / 2^32.
#[inline(always)]
fn spread(number: u32, count: u32) -> u32 {
    ((number as u64 * count as u64) >> 32) as u32
}

/// The backend of the client's latest connection if it still counts, else `fresh`; noted either way.
#[inline(always)]
fn come_back(client: &impl Client, frontend: &Frontend, run: SlotRun, fresh: Endpoint) -> Endpoint {
    let id = AffinityKey { client: client.affinity(), service: frontend.service, padding: 0 };
    // SAFETY: the helper takes no arguments.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    // SAFETY: copied at once. Should its memory be given to another client meanwhile, the mixture is
    // no backend of this run, or is one.
    let known = surely(|| unsafe { AFFINITY.get(id) }).copied();
    let backend = match known {
        Some(known)
            if known.is_current(now, frontend.affinity_seconds)
                && contains(frontend.table, run, known.backend) =>
        {
            known.backend
        }
        _ => fresh,
    };
    // Evicts the least recently used if full; fails only on a lost race, and then the client's
    // other connection has just been noted.
    let _ = AFFINITY.insert(id, Affinity { backend, used_ns: now }, 0);
    backend
}

/// Whether a backend stands in a run, which is ordered. Not, if the run is another table's by now.
#[inline(always)]
fn contains(table: u64, run: SlotRun, backend: Endpoint) -> bool {
    let (mut low, mut high) = (0, run.count);
    for _ in 0..HALVINGS {
        if low >= high {
            return false;
        }
        let middle = low + (high - low) / 2;
        let Some(found) = slot(run.base.wrapping_add(middle), table) else { return false };
        if found.is_same(&backend) {
            return true;
        }
        if is_below(found, backend) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    false
}

/// `Endpoint`'s order, word by word.
#[inline(always)]
fn is_below(one: Endpoint, other: Endpoint) -> bool {
    if one.address.high_be != other.address.high_be {
        return one.address.high_be < other.address.high_be;
    }
    if one.address.low_be != other.address.low_be {
        return one.address.low_be < other.address.low_be;
    }
    one.port_be < other.port_be
}

#[inline(always)]
fn slot(number: u32, table: u64) -> Option<Endpoint> {
    raw_slot(number)?.open(table)
}

#[inline(always)]
fn raw_slot(number: u32) -> Option<Slot> {
    let slot = SLOTS.get_ptr(number)?;
    // SAFETY: the array's memory lives as long as the map; user space may write it meanwhile, which
    // the seal shows.
    Some(unsafe { ptr::read_volatile(slot) })
}

/// One look finds a whole record unless user space has just replaced it; the second then finds the
/// new one. Two more are for a task that is put to sleep in between.
const TRIES: u32 = 4;

/// Enough for a run of a million backends.
const HALVINGS: u32 = 20;
