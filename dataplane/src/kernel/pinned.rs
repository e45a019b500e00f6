//! Looking into pinned maps without being the process that keeps them, whether or not there is one.
//!
//! Each read opens the maps anew, so that it is of those that are pinned now. Reading changes
//! nothing; what changes meanwhile is seen before or after, and a record that was half written is
//! known by its seal.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::iter::Sum;
use std::path::PathBuf;

use aya::Pod;
use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{Array, HashMap as BpfHashMap, Map, MapData, MapError, PerCpuArray};
use pintle_ebpf_common::{
    Address, Affinity, AffinityKey, Device, Drop, Endpoint, Flow, Frontend, FrontendKey,
    ServiceLabel, Settings, Slot, SlotRun, SourceRange, TcpPeers, Tracked, Translation, Tuple,
    event,
};

use super::load::Events;
use super::pins::Pins;
use crate::inspect::{Flows, SourceRangeEntry, Tables};

/// The pinned maps of one node.
#[derive(Clone, Debug)]
pub struct PinnedMaps {
    directory: PathBuf,
}

/// The maps could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PinnedError {
    /// There are none.
    #[error("no tables are pinned in {}", .0.display())]
    None(PathBuf),
    /// This process may not, or there are none.
    #[error("look into {}", path.display())]
    Directory {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// One of them could not be read.
    #[error("read the map {}", path.display())]
    Map {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: MapError,
    },
}

impl PinnedMaps {
    /// The maps in `pins`.
    pub fn open(pins: &Pins) -> Result<Self, PinnedError> {
        let directory = pins.layout();
        match File::open(directory.join("FRONTENDS")).map_err(|error| error.kind()) {
            Err(io::ErrorKind::NotFound) => Err(PinnedError::None(directory)),
            Err(io::ErrorKind::PermissionDenied) => Err(PinnedError::Directory {
                path: directory,
                source: io::ErrorKind::PermissionDenied.into(),
            }),
            // The file itself cannot be opened as a file, which is fine.
            _ => Ok(Self { directory }),
        }
    }

    /// What is published.
    pub fn tables(&self) -> Result<Tables, PinnedError> {
        let frontends: BTreeMap<_, _> = self.hash::<FrontendKey, Frontend, _>("FRONTENDS")?;
        let services: BTreeMap<_, _> = self.hash::<u32, ServiceLabel, _>("SERVICES")?;
        Ok(Tables {
            slots: self.slots(&frontends)?,
            counters: self.per_cpu_sums("COUNTERS", services.keys().copied())?,
            node_addresses: self.hash::<Address, u32, _>("NODE_ADDRESSES")?,
            settings: self.settings()?,
            source_ranges: self.source_ranges()?,
            devices: self.hash::<u32, Device, _>("DEVICES")?,
            frontends,
            services,
        })
    }

    /// The published addresses, whose they are, and what went through each port.
    pub fn services(&self) -> Result<Tables, PinnedError> {
        let services: BTreeMap<_, _> = self.hash::<u32, ServiceLabel, _>("SERVICES")?;
        Ok(Tables {
            counters: self.per_cpu_sums("COUNTERS", services.keys().copied())?,
            frontends: self.hash::<FrontendKey, Frontend, _>("FRONTENDS")?,
            services,
            ..Tables::default()
        })
    }

    /// The connections that are known of.
    pub fn flows(&self) -> Result<Flows, PinnedError> {
        Ok(Flows {
            tracked: self.hash::<Tuple, Tracked, HashMap<_, _>>("TRACKED")?,
            tcp: self.tcp_peers()?,
            connected: self.hash::<u64, Translation, _>("UDP_CONNECTED")?,
            datagrams: self.hash::<Flow, Endpoint, HashMap<_, _>>("FLOWS")?,
            affinity: self.hash::<AffinityKey, Affinity, HashMap<_, _>>("AFFINITY")?,
        })
    }

    fn tcp_peers(&self) -> Result<BTreeMap<u64, Translation>, PinnedError> {
        let map: Array<MapData, TcpPeers> = self.map("TCP_PEERS", Map::Array)?;
        let mut sockets = BTreeMap::new();
        for place in map.iter() {
            sockets.extend(place.map_err(self.failed("TCP_PEERS"))?.entries());
        }
        Ok(sockets)
    }

    /// What the programs have counted.
    pub fn events(&self) -> Result<Events, PinnedError> {
        let sums: BTreeMap<u32, u64> = self.per_cpu_sums("EVENTS", 0..event::COUNT)?;
        let count = |kind| sums.get(&kind).copied().unwrap_or(0);
        Ok(Events {
            refused: count(event::REFUSED),
            retried: count(event::RETRIED),
            dropped_no_backend: count(event::DROPPED_NO_BACKEND),
            dropped_source: count(event::DROPPED_SOURCE),
            dropped_no_port: count(event::DROPPED_NO_PORT),
            dropped_unfit: count(event::DROPPED_UNFIT),
            unrecorded: count(event::UNRECORDED),
            turned_back: count(event::TURNED_BACK),
            strayed: count(event::STRAYED),
        })
    }

    /// The latest drops and refusals, the oldest first; see [`crate::Dataplane::drops`].
    pub fn drops(&self) -> Result<Vec<Drop>, PinnedError> {
        let map: PerCpuArray<MapData, Drop> = self.map("DROPS", Map::PerCpuArray)?;
        let mut found = Vec::new();
        for entry in 0..map.len() {
            let of_cpus = map.get(&entry, 0).map_err(self.failed("DROPS"))?;
            found.extend(of_cpus.iter().filter(|drop| drop.is_whole()).copied());
        }
        found.sort_unstable_by_key(|drop| drop.at_ns);
        Ok(found)
    }

    fn slots(
        &self,
        frontends: &BTreeMap<FrontendKey, Frontend>,
    ) -> Result<BTreeMap<u32, Slot>, PinnedError> {
        let map: Array<MapData, Slot> = self.map("SLOTS", Map::Array)?;
        let in_slots = |ring: SlotRun| SlotRun { count: ring.count.div_ceil(Slot::PLACES), ..ring };
        let runs = frontends.values().flat_map(|frontend| {
            let rings = [frontend.internal_ring, frontend.external_ring].map(in_slots);
            [frontend.internal, frontend.external].into_iter().chain(rings)
        });
        let mut slots = BTreeMap::new();
        for SlotRun { base, count } in runs {
            // A record that is not whole may name any.
            for number in base..base.saturating_add(count).min(map.len()) {
                if let std::collections::btree_map::Entry::Vacant(place) = slots.entry(number) {
                    place.insert(map.get(&number, 0).map_err(self.failed("SLOTS"))?);
                }
            }
        }
        Ok(slots)
    }

    fn settings(&self) -> Result<Settings, PinnedError> {
        let map: Array<MapData, Settings> = self.map("SETTINGS", Map::Array)?;
        map.get(&0, 0).map_err(self.failed("SETTINGS"))
    }

    fn source_ranges(&self) -> Result<Vec<SourceRangeEntry>, PinnedError> {
        let map: LpmTrie<MapData, SourceRange, u32> = self.map("SOURCE_RANGES", Map::LpmTrie)?;
        let entries = map.iter().map(|entry| {
            let (key, _) = entry.map_err(self.failed("SOURCE_RANGES"))?;
            let SourceRange { ranges_be, address_be } = key.data();
            Ok(SourceRangeEntry {
                ranges: u32::from_be(ranges_be),
                address: Address::from_words(address_be),
                bits: key.prefix_len().saturating_sub(SourceRange::BITS),
            })
        });
        entries.collect()
    }

    fn per_cpu_sums<T: Pod + Sum>(
        &self,
        name: &'static str,
        keys: impl Iterator<Item = u32>,
    ) -> Result<BTreeMap<u32, T>, PinnedError> {
        let map: PerCpuArray<MapData, T> = self.map(name, Map::PerCpuArray)?;
        let mut sums = BTreeMap::new();
        for key in keys.filter(|key| *key < map.len()) {
            let values = map.get(&key, 0).map_err(self.failed(name))?;
            sums.insert(key, values.iter().copied().sum());
        }
        Ok(sums)
    }

    /// A whole hash map. An element that comes or goes meanwhile may make the kernel begin anew; the
    /// same key twice is one, and there is an end to it.
    fn hash<K: Pod, V: Pod, C: Extend<(K, V)> + Default>(
        &self,
        name: &'static str,
    ) -> Result<C, PinnedError> {
        let map: BpfHashMap<MapData, K, V> = self.map(name, |data| match data.info() {
            Ok(info) if matches!(info.map_type(), Ok(aya::maps::MapType::LruHash)) => {
                Map::LruHashMap(data)
            }
            _ => Map::HashMap(data),
        })?;
        let mut all = C::default();
        for entry in map.iter().take(ENTRIES_MAX) {
            match entry {
                Ok(entry) => all.extend([entry]),
                // It went away between its key and its value.
                Err(MapError::KeyNotFound | MapError::ElementNotFound) => {}
                Err(error) => return Err(self.failed(name)(error)),
            }
        }
        Ok(all)
    }

    fn map<T: TryFrom<Map, Error = MapError>>(
        &self,
        name: &'static str,
        kind: impl FnOnce(MapData) -> Map,
    ) -> Result<T, PinnedError> {
        let data = MapData::from_pin(self.directory.join(name)).map_err(self.failed(name))?;
        T::try_from(kind(data)).map_err(self.failed(name))
    }

    fn failed(&self, name: &'static str) -> impl FnOnce(MapError) -> PinnedError + Copy {
        move |source| PinnedError::Map { path: PathBuf::from(name), source }
    }
}

/// Far more than any map has room for.
const ENTRIES_MAX: usize = 16 << 20;
