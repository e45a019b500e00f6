//! The eBPF Service dataplane: does in the kernel's socket calls what kube-proxy does in its packet
//! filter.
//!
//! * `plan` is pure: Services and EndpointSlices in, an ordered list of map operations out.
//! * `kernel` loads the programs, attaches them to a cgroup and carries the operations out. The only
//!   unsafe code of the crate is there.
//! * [`inspect`] says what is in the tables, for people.
//! * [`configuration`] reads kube-proxy's configuration file.
//! * [`run`] is the daemon: it watches the API and keeps the two in step.
//!
//! See `docs/dataplane.md` for the hooks, the maps and the order of an update.
#![deny(unsafe_code)]

mod config;
pub mod configuration;
mod daemon;
pub mod inspect;
mod kernel;
pub mod plan;

pub use config::{Config, Limits};
pub use daemon::{Error, Serving, run};
pub use kernel::{
    ApplyError, Dataplane, DryRun, DryRunError, Events, Express, Link, LinkError, LinkRole,
    LoadError, NamespaceError, NodeNamespace, PacketHook, PinnedError, PinnedMaps, Pins, PinsError,
    PodLinks, ProgramCost,
};
