//! Load, attach, apply.

use std::fs::File;
use std::path::Path;

use aya::maps::{HashMap, Map, MapData, MapError, PerCpuArray, PerCpuValues};
use aya::programs::{CgroupAttachMode, CgroupSockAddr};
use aya::util::nr_cpus;
use aya::{Ebpf, EbpfLoader};
use pintle_ebpf_common::{Frontend, FrontendKey, event};

use super::error::{ApplyError, LoadError};
use super::preflight;
use super::slots::MappedSlots;
use crate::Limits;
use crate::plan::MapOp;

/// One loaded and attached dataplane. Several can be in one process, each with maps of its own.
/// Dropping it detaches the programs and frees the maps; connections that were made stay.
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
/// let service = DesiredService { created_ms: 0, ports: vec![port] };
/// let plan = planner.plan(0, [(ServiceName::new("bench", "first"), service)]);
/// assert!(plan.rejected.is_empty());
/// dataplane.apply(&plan.ops)?;
/// # Ok(())
/// # }
/// ```
pub struct Dataplane {
    frontends: HashMap<MapData, FrontendKey, Frontend>,
    slots: MappedSlots,
    connections: PerCpuArray<MapData, u64>,
    events: PerCpuArray<MapData, u64>,
    costs: Vec<ProgramCost>,
    cpus: usize,
    /// Holds the programs and their attachments.
    _ebpf: Ebpf,
}

/// What one program costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramCost {
    /// Its name, as `bpftool prog` shows it.
    pub name: &'static str,
    /// The instructions that the verifier had to follow, over all paths; unknown before kernel 5.16.
    pub verified_instructions: Option<u32>,
    /// The machine code's length; unknown where the kernel interprets.
    pub machine_code_bytes: u32,
}

/// What the programs have counted since they were loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// Callers turned away because the Service has no backend.
    pub refused: u64,
    /// Records that were found half written, or passed on to another table, and looked up again.
    pub retried: u64,
}

impl Dataplane {
    /// Load the programs with maps of the given sizes, and attach them to the cgroup v2 directory
    /// `cgroup`. From then on every process in it and below it uses the published Services, of
    /// which there are none yet.
    pub fn load(cgroup: &Path, limits: Limits) -> Result<Self, LoadError> {
        preflight::check(cgroup)?;
        let directory = File::open(cgroup)
            .map_err(|source| LoadError::OpenCgroup { path: cgroup.to_owned(), source })?;
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("FRONTENDS", limits.frontends_max)
            .map_max_entries("SLOTS", limits.slots_max)
            .map_max_entries("TCP_PEERS", limits.tcp_peers_max)
            .map_max_entries("FLOWS", limits.flows_max)
            .map_max_entries("CONNECTIONS", limits.frontends_max)
            .load(OBJECT)
            .map_err(|error| LoadError::Maps(Box::new(error)))?;
        let frontends = take(&mut ebpf, "FRONTENDS")?;
        let connections = take(&mut ebpf, "CONNECTIONS")?;
        let events = take(&mut ebpf, "EVENTS")?;
        let Some(Map::Array(slots)) = ebpf.take_map("SLOTS") else {
            return Err(LoadError::Object("map SLOTS"));
        };
        let slots = MappedSlots::new(slots, limits.slots_max).map_err(LoadError::MapMemory)?;
        // All are loaded before the first is attached: a refusal leaves nothing behind.
        for program in PROGRAMS {
            let loaded = self::program(&mut ebpf, program)?.load();
            loaded.map_err(|source| LoadError::Program { program, source })?;
        }
        let mut costs = Vec::with_capacity(PROGRAMS.len());
        for name in PROGRAMS {
            let program = self::program(&mut ebpf, name)?;
            // Without a mode the kernel lets other programs on the same hook be.
            program.attach(&directory, CgroupAttachMode::Single).map_err(|source| {
                LoadError::Attach { program: name, cgroup: cgroup.to_owned(), source }
            })?;
            let info = program.info();
            let info = info.map_err(|source| LoadError::Program { program: name, source })?;
            costs.push(ProgramCost {
                name,
                verified_instructions: info.verified_instruction_count(),
                machine_code_bytes: info.size_jitted(),
            });
        }
        let cpus = nr_cpus().map_or(1, |cpus| cpus);
        Ok(Self { frontends, slots, connections, events, costs, cpus, _ebpf: ebpf })
    }

    /// Carry out operations in their order. On an error those before the failed one are done, and
    /// those from it on can be tried again.
    pub fn apply(&mut self, ops: &[MapOp]) -> Result<(), ApplyError> {
        for (applied, op) in ops.iter().enumerate() {
            self.apply_one(op).map_err(|(map, source)| ApplyError {
                applied,
                total: ops.len(),
                map,
                source,
            })?;
        }
        Ok(())
    }

    /// How many connections and datagram flows went through the Service port whose counter this is
    /// (see [`crate::plan::Planner::published`]).
    pub fn connections(&self, counter: u32) -> Result<u64, MapError> {
        Ok(self.connections.get(&counter, 0)?.iter().sum())
    }

    /// What the programs have counted.
    pub fn events(&self) -> Result<Events, MapError> {
        let count = |kind| Ok::<_, MapError>(self.events.get(&kind, 0)?.iter().sum());
        Ok(Events { refused: count(event::REFUSED)?, retried: count(event::RETRIED)? })
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

    fn apply_one(&mut self, op: &MapOp) -> Result<(), (&'static str, MapError)> {
        match op {
            MapOp::ResetCounter { counter } => PerCpuValues::try_from(vec![0; self.cpus])
                .map_err(MapError::from)
                .and_then(|zeros| self.connections.set(*counter, zeros, 0))
                .map_err(|error| ("CONNECTIONS", error)),
            MapOp::WriteSlots { base, table, backends } => {
                self.slots.write(*base, *table, backends);
                Ok(())
            }
            MapOp::PutFrontend { key, frontend } => {
                self.frontends.insert(key, frontend, 0).map_err(|error| ("FRONTENDS", error))
            }
            MapOp::RemoveFrontend { key } => match self.frontends.remove(key) {
                // Removed by an earlier try of the same operations.
                Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
                Err(error) => Err(("FRONTENDS", error)),
            },
        }
    }
}

fn take<T: TryFrom<Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    map: &'static str,
) -> Result<T, LoadError> {
    let taken = ebpf.take_map(map).ok_or(LoadError::Object(map))?;
    T::try_from(taken).map_err(|source| LoadError::Map { map, source })
}

fn program<'a>(
    ebpf: &'a mut Ebpf,
    program: &'static str,
) -> Result<&'a mut CgroupSockAddr, LoadError> {
    let found = ebpf.program_mut(program).ok_or(LoadError::Object(program))?;
    found.try_into().map_err(|source| LoadError::Program { program, source })
}

const PROGRAMS: [&str; 4] =
    ["pintle_recvmsg4", "pintle_peer4", "pintle_sendmsg4", "pintle_connect4"];

/// What `build.rs` made of `ebpf/programs`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/pintle-ebpf"));
