//! Why the kernel did not do as asked.

use std::io;
use std::path::PathBuf;

use aya::EbpfError;
use aya::maps::MapError;
use aya::pin::PinError;
use aya::programs::ProgramError;

use super::namespace::NamespaceError;
use super::pins::PinsError;

/// Why the dataplane could not be loaded and attached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The kernel refused to attach a program.
    #[error("attach the program {program} to cgroup {}", cgroup.display())]
    Attach {
        /// The program.
        program: &'static str,
        /// The cgroup.
        cgroup: PathBuf,
        /// What the kernel said.
        #[source]
        source: ProgramError,
    },
    /// The kernel gives no type information.
    #[error(
        "the kernel has no BTF: {} is missing, it must be built with CONFIG_DEBUG_INFO_BTF=y",
        path.display()
    )]
    NoBtf {
        /// Where it should be.
        path: PathBuf,
    },
    /// The process may not load eBPF programs.
    #[error("not permitted to load eBPF programs: run as root, or with the capabilities {missing}")]
    NotPermitted {
        /// What it lacks.
        missing: String,
    },
    /// The path is not in a cgroup v2 hierarchy.
    #[error(
        "{} is not in a cgroup2 file system: mount one (mount -t cgroup2 none DIR) and name it",
        path.display()
    )]
    NotCgroup2 {
        /// The path.
        path: PathBuf,
    },
    /// The eBPF object lacks a part; it was not built from this source.
    #[error("the eBPF object has no {0}")]
    Object(&'static str),
    /// The cgroup could not be opened.
    #[error("open cgroup {}", path.display())]
    OpenCgroup {
        /// The path.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel refused the maps or the object.
    #[error("load the eBPF maps")]
    Maps(#[source] Box<EbpfError>),
    /// A map is not of the expected kind.
    #[error("use the eBPF map {map}")]
    Map {
        /// The map.
        map: &'static str,
        /// Why not.
        #[source]
        source: MapError,
    },
    /// The kernel refused to map the backend array into memory.
    #[error("map the backend slots into memory")]
    MapMemory(#[source] io::Error),
    /// The node's network namespace could not be looked at.
    #[error(transparent)]
    Namespace(NamespaceError),
    /// A link could not be pinned.
    #[error("pin an attachment at {}", path.display())]
    Pin {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: PinError,
    },
    /// Maps that are not pinned cannot be passed on to larger ones.
    #[error("maps that are not pinned keep their sizes")]
    NotPinned,
    /// A larger map could not be put into its place.
    #[error("put a larger map at {}", path.display())]
    Stage {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// An attachment does not run another program.
    #[error("let the attachment {link} run another program")]
    UpdateLink {
        /// Which.
        link: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The directory of the pins could not be made.
    #[error(transparent)]
    Pins(PinsError),
    /// What an earlier process left could not be read.
    #[error("read the maps of an earlier process")]
    Inventory(#[source] MapError),
    /// The verifier refused a program.
    #[error("load the eBPF program {program}")]
    Program {
        /// The program.
        program: &'static str,
        /// What the verifier said.
        #[source]
        source: ProgramError,
    },
}

/// Why operations were not all carried out.
#[derive(Debug, thiserror::Error)]
#[error("update the map {map}, operation {applied} of {total}")]
pub struct ApplyError {
    /// How many operations were carried out. The rest can be tried again, from this one on.
    pub applied: usize,
    /// How many there were.
    pub total: usize,
    /// The map.
    pub map: &'static str,
    /// What the kernel said.
    #[source]
    pub source: MapError,
}
