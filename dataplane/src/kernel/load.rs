//! Load and attach.

use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;

use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, ProgramArray};
use aya::util::nr_cpus;
use aya::{Ebpf, EbpfLoader};
use pintle_ebpf_common::{
    Address, Counters, Device, Drop, Frontend, FrontendKey, ServiceLabel, Settings, SourceRange,
    TcpPeers, Translation, event, setting,
};

use super::error::LoadError;
use super::filter::MappedFilter;
use super::inventory;
use super::links::Attachments;
use super::namespace::NodeNamespace;
use super::pins::Pins;
use super::preflight;
use super::programs::{self, ForPackets, ProgramCost, Target};
use super::slots::MappedSlots;
use crate::Limits;
use crate::plan::Planner;

/// One loaded and attached dataplane. Several can be in one process, each with maps of its own.
/// Dropping it detaches the programs and frees the maps, unless they are pinned; connections that
/// were made stay.
///
/// # Example
///
/// A benchmark needs no API server: it plans Services of its own.
///
/// ```no_run
/// use pintle_dataplane::plan::{DesiredPort, DesiredService, Planner, Protocol, ServiceName};
/// use pintle_dataplane::{Dataplane, Limits};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let limits = Limits { frontends_max: 10_000, slots_max: 262_144, ..Limits::default() };
/// let mut dataplane = Dataplane::load("/sys/fs/cgroup/bench".as_ref(), limits)?;
/// let mut planner = Planner::new(limits);
/// let port = DesiredPort::new(
///     "10.96.0.10:80".parse()?,
///     Protocol::Tcp,
///     &["127.0.0.1:8080".parse()?, "127.0.0.1:8081".parse()?],
/// );
/// let service = DesiredService { created_ms: 0, ports: vec![port.into()] };
/// let plan = planner.plan(0, [(ServiceName::new("bench", "first"), service)]);
/// assert!(plan.rejected.is_empty());
/// dataplane.apply(&plan.ops)?;
/// # Ok(())
/// # }
/// ```
pub struct Dataplane {
    pub(super) frontends: HashMap<MapData, FrontendKey, Frontend>,
    pub(super) slots: MappedSlots,
    pub(super) filter: MappedFilter,
    pub(super) node_addresses: HashMap<MapData, Address, u32>,
    pub(super) settings: Array<MapData, Settings>,
    pub(super) current: Settings,
    pub(super) source_ranges: LpmTrie<MapData, SourceRange, u32>,
    pub(super) devices: HashMap<MapData, u32, Device>,
    /// The map of [`pintle_ebpf_common::Tracked`] connections.
    pub(super) tracked: MapData,
    /// Where UDP sockets are connected to.
    pub(super) connected: HashMap<MapData, u64, Translation>,
    /// Whose sockets have the programs.
    pub(super) cgroup: PathBuf,
    pub(super) attachments: Attachments,
    pub(super) services: HashMap<MapData, u32, ServiceLabel>,
    pub(super) counters: PerCpuArray<MapData, Counters>,
    pub(super) drops: PerCpuArray<MapData, Drop>,
    events: PerCpuArray<MapData, u64>,
    costs: Vec<ProgramCost>,
    /// The programs that those for packets go on in are there for as long as it, or a pin of it.
    pub(super) jumps: ProgramArray<MapData>,
    pub(super) cpus: usize,
    limits: Limits,
    /// Until the tables are whole for the first time.
    pub(super) taken_over: Option<Pins>,
    /// The programs and, without pins, their attachments.
    pub(super) ebpf: Ebpf,
}

/// What the programs have counted since they were loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// Callers turned away because the Service has no backend.
    pub refused: u64,
    /// Records that were found half written, or passed on to another table, and looked up again.
    pub retried: u64,
    /// Packets from outside dropped because the Service has no backend for them.
    pub dropped_no_backend: u64,
    /// Packets from outside dropped because their source may not.
    pub dropped_source: u64,
    /// Packets from outside dropped because no port was left to masquerade them with.
    pub dropped_no_port: u64,
    /// Packets from outside dropped because they were cut short, or are SCTP's and their port would
    /// have changed.
    pub dropped_unfit: u64,
    /// Drops and refusals that [`Dataplane::drops`] never shows, because there were too many in a
    /// second.
    pub unrecorded: u64,
    /// Packets sent back by the link that they came in by, before the kernel saw them.
    pub turned_back: u64,
    /// Packets to a Service that left the node as they were: see [`crate::PodLinks`].
    pub strayed: u64,
}

impl Dataplane {
    /// Load the programs with maps of the given sizes, and attach them to the cgroup v2 directory
    /// `cgroup`. From then on every process in it and below it uses the published Services, of
    /// which there are none yet.
    pub fn load(cgroup: &Path, limits: Limits) -> Result<Self, LoadError> {
        preflight::check(cgroup)?;
        let target = Target::open(cgroup)?;
        let mut ebpf = open(limits, None)?;
        let costs = programs::load(&mut ebpf)?;
        target.attach(&mut ebpf)?;
        Self::of(ebpf, costs, limits, cgroup, None)
    }

    /// Like [`Dataplane::load`], but take over what an earlier process left pinned, and leave it
    /// pinned. The planner knows what is published; maps that were there keep their sizes.
    pub fn load_pinned(
        cgroup: &Path,
        limits: Limits,
        pins: &Pins,
    ) -> Result<(Self, Planner), LoadError> {
        preflight::check(cgroup)?;
        let target = Target::open(cgroup)?;
        let directory = pins.make().map_err(LoadError::Pins)?;
        let mut ebpf = open(limits, Some(&|map: &str| directory.join(map)))?;
        let costs = programs::load(&mut ebpf)?;
        target.attach_pinned(&mut ebpf, &directory)?;
        let limits = pinned_limits(&ebpf, limits)?;
        let mut dataplane = Self::of(ebpf, costs, limits, cgroup, Some(directory))?;
        dataplane.taken_over = Some(pins.clone());
        let found = inventory::read(&mut dataplane).map_err(LoadError::Inventory)?;
        Ok((dataplane, Planner::restore(limits, found)))
    }

    /// The sizes of the maps.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The tables say all there is to say. From now on the pins of another version of this program,
    /// which may have been at work until now, are not needed any more.
    pub fn became_whole(&mut self) {
        if let Some(pins) = self.taken_over.take()
            && let Err(error) = pins.remove_other_layouts()
        {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            tracing::warn!(%error, source, "an old version's programs go on beside the new");
        }
    }

    /// Tell the programs which network namespace is the node's own: there node ports answer at the
    /// loopback address, and sockets may not be bound to them.
    pub fn set_node_namespace(&mut self, namespace: &NodeNamespace) -> Result<(), LoadError> {
        self.current.node_namespace = namespace.cookie().map_err(LoadError::Namespace)?;
        let settings = self.current;
        let set = self.settings.set(0, settings, 0);
        set.map_err(|source| LoadError::Map { map: "SETTINGS", source })
    }

    /// Leave the sockets of other network namespaces than the node's own alone, or no longer: a pod's
    /// packets are translated on its link then. For pods that have something of their own in their
    /// sockets' way.
    pub fn set_node_sockets_only(&mut self, only: bool) -> Result<(), LoadError> {
        self.current.flags &= !setting::NODE_SOCKETS_ONLY;
        self.current.flags |= if only { setting::NODE_SOCKETS_ONLY } else { 0 };
        let set = self.settings.set(0, self.current, 0);
        set.map_err(|source| LoadError::Map { map: "SETTINGS", source })
    }

    /// Whether clients from outside are answered by the node that their backend is on. Connections that
    /// are known stay as they are.
    pub fn set_direct_return(&mut self, direct: bool) -> Result<(), LoadError> {
        self.current.flags &= !setting::DIRECT_RETURN;
        self.current.flags |= if direct { setting::DIRECT_RETURN } else { 0 };
        let set = self.settings.set(0, self.current, 0);
        set.map_err(|source| LoadError::Map { map: "SETTINGS", source })
    }

    /// What went through the Service port of this number (see
    /// [`crate::plan::Planner::published`]).
    pub fn counters(&self, service: u32) -> Result<Counters, MapError> {
        Ok(self.counters.get(&service, 0)?.iter().copied().sum())
    }

    /// How many connections and datagram flows went through the Service port of this number.
    pub fn connections(&self, service: u32) -> Result<u64, MapError> {
        Ok(self.counters(service)?.connections)
    }

    /// The latest drops and refusals, the oldest first: [`Drop::RING`] a CPU at most. Reading takes
    /// nothing away.
    pub fn drops(&self) -> Result<Vec<Drop>, MapError> {
        let mut found = Vec::new();
        for entry in 0..Drop::RING {
            let of_cpus = self.drops.get(&entry, 0)?;
            found.extend(of_cpus.iter().filter(|drop| drop.is_whole()).copied());
        }
        found.sort_unstable_by_key(|drop| drop.at_ns);
        Ok(found)
    }

    /// What the programs have counted.
    pub fn events(&self) -> Result<Events, MapError> {
        let count = |kind| self.count(kind);
        Ok(Events {
            refused: count(event::REFUSED)?,
            retried: count(event::RETRIED)?,
            dropped_no_backend: count(event::DROPPED_NO_BACKEND)?,
            dropped_source: count(event::DROPPED_SOURCE)?,
            dropped_no_port: count(event::DROPPED_NO_PORT)?,
            dropped_unfit: count(event::DROPPED_UNFIT)?,
            unrecorded: count(event::UNRECORDED)?,
            turned_back: count(event::TURNED_BACK)?,
            strayed: count(event::STRAYED)?,
        })
    }

    pub(super) fn count(&self, kind: u32) -> Result<u64, MapError> {
        Ok(self.events.get(&kind, 0)?.iter().sum())
    }

    /// The programs and what they cost.
    #[must_use]
    pub fn programs(&self) -> &[ProgramCost] {
        &self.costs
    }

    /// The number of frontends in the kernel, counted one by one.
    pub fn frontends(&self) -> Result<usize, MapError> {
        self.frontends.keys().try_fold(0, |count, key| key.map(|_| count + 1))
    }

    pub(super) fn of(
        mut ebpf: Ebpf,
        costs: Vec<ProgramCost>,
        limits: Limits,
        cgroup: &Path,
        pins: Option<PathBuf>,
    ) -> Result<Self, LoadError> {
        let programs = ForPackets::of(&mut ebpf)?;
        let Some(Map::Array(slots)) = ebpf.take_map("SLOTS") else {
            return Err(LoadError::Object("map SLOTS"));
        };
        let Some(Map::Array(filter)) = ebpf.take_map("FILTER") else {
            return Err(LoadError::Object("map FILTER"));
        };
        let Some(Map::LruHashMap(tracked)) = ebpf.take_map("TRACKED") else {
            return Err(LoadError::Object("map TRACKED"));
        };
        let mut jumps = take(&mut ebpf, "JUMPS")?;
        programs::set_jumps(&mut ebpf, &mut jumps)?;
        let tcp_peers: Array<MapData, TcpPeers> = take(&mut ebpf, "TCP_PEERS")?;
        let mut settings: Array<MapData, Settings> = take(&mut ebpf, "SETTINGS")?;
        let failed = |source| LoadError::Map { map: "SETTINGS", source };
        let found = settings.get(&0, 0).map_err(failed)?;
        let current = Settings { tcp_places: tcp_places(tcp_peers.len()), ..found };
        if current != found {
            settings.set(0, current, 0).map_err(failed)?;
        }
        Ok(Self {
            frontends: take(&mut ebpf, "FRONTENDS")?,
            slots: MappedSlots::new(slots, limits.slots_max).map_err(LoadError::MapMemory)?,
            filter: MappedFilter::new(filter).map_err(LoadError::MapMemory)?,
            node_addresses: take(&mut ebpf, "NODE_ADDRESSES")?,
            current,
            settings,
            source_ranges: take(&mut ebpf, "SOURCE_RANGES")?,
            devices: take(&mut ebpf, "DEVICES")?,
            tracked,
            connected: take(&mut ebpf, "UDP_CONNECTED")?,
            cgroup: cgroup.to_owned(),
            attachments: Attachments::new(programs, pins),
            services: take(&mut ebpf, "SERVICES")?,
            counters: take(&mut ebpf, "COUNTERS")?,
            drops: take(&mut ebpf, "DROPS")?,
            events: take(&mut ebpf, "EVENTS")?,
            costs,
            jumps,
            cpus: nr_cpus().map_or(1, |cpus| cpus),
            limits,
            taken_over: None,
            ebpf,
        })
    }
}

/// Make the maps, or open those that are pinned already where `pin` says.
///
/// The loader reads the kernel's types, though these programs refer to none of them: 22 MiB for a moment. On
/// a thread of its own, since with the thread an allocator gives up what it keeps for it.
pub(super) fn open(
    limits: Limits,
    pin: Option<&(dyn Fn(&str) -> PathBuf + Sync)>,
) -> Result<Ebpf, LoadError> {
    let opened = thread::scope(|scope| scope.spawn(|| open_here(limits, pin)).join());
    opened.unwrap_or_else(|panic| resume_unwind(panic))
}

fn open_here(
    limits: Limits,
    pin: Option<&(dyn Fn(&str) -> PathBuf + Sync)>,
) -> Result<Ebpf, LoadError> {
    let mut loader = EbpfLoader::new();
    for (map, entries) in sizes(limits) {
        loader.map_max_entries(map, entries);
    }
    if let Some(pin) = pin {
        for map in MAPS {
            loader.map_pin_path(map, pin(map));
        }
    }
    loader.load(OBJECT).map_err(|error| LoadError::Maps(Box::new(error)))
}

fn sizes(limits: Limits) -> [(&'static str, u32); 10] {
    [
        ("TRACKED", limits.connections_max.saturating_mul(2)),
        ("FRONTENDS", limits.frontends_max),
        ("SLOTS", limits.slots_max),
        ("SOURCE_RANGES", limits.source_ranges_max),
        ("AFFINITY", limits.affinity_max),
        ("TCP_PEERS", tcp_places(limits.tcp_peers_max.div_ceil(TcpPeers::WAYS as u32))),
        ("FLOWS", limits.flows_max),
        ("UDP_CONNECTED", limits.flows_max),
        // One more than there are addresses: see the planner's numbers.
        ("SERVICES", limits.frontends_max.saturating_add(1)),
        ("COUNTERS", limits.frontends_max.saturating_add(1)),
    ]
}

/// As many places for TCP sockets, or fewer: a power of two.
fn tcp_places(places: u32) -> u32 {
    1 << places.max(1).ilog2()
}

/// The sizes that the maps have, be it from an earlier process.
fn pinned_limits(ebpf: &Ebpf, wanted: Limits) -> Result<Limits, LoadError> {
    let size = |name: &'static str| {
        let map = ebpf.map(name).ok_or(LoadError::Object(name))?;
        let (Map::Array(data) | Map::HashMap(data) | Map::LpmTrie(data)) = map else {
            return Err(LoadError::Object(name));
        };
        let info = data.info().map_err(|source| LoadError::Map { map: name, source })?;
        Ok(info.max_entries())
    };
    let limits = Limits {
        frontends_max: size("FRONTENDS")?,
        slots_max: size("SLOTS")?,
        source_ranges_max: size("SOURCE_RANGES")?,
        ..wanted
    };
    if limits != wanted {
        tracing::info!(?limits, ?wanted, "the maps keep the sizes they were pinned with");
    }
    Ok(limits)
}

fn take<T: TryFrom<Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    map: &'static str,
) -> Result<T, LoadError> {
    let taken = ebpf.take_map(map).ok_or(LoadError::Object(map))?;
    T::try_from(taken).map_err(|source| LoadError::Map { map, source })
}

const MAPS: [&str; 22] = [
    "DEVICES",
    "FILTER",
    "FRAGMENTS",
    "JUMPS",
    "TRACKED",
    "WORK",
    "FRONTENDS",
    "SLOTS",
    "NODE_ADDRESSES",
    "REFUSED",
    "SETTINGS",
    "SOURCE_RANGES",
    "AFFINITY",
    "TCP_PEERS",
    "UDP_CONNECTED",
    "UDP_PEERS",
    "FLOWS",
    "SERVICES",
    "COUNTERS",
    "DROPS",
    "DROP_CURSOR",
    "EVENTS",
];

/// What `build.rs` made of `ebpf/programs`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/pintle-ebpf"));
