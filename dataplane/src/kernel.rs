//! The kernel's side as user space holds it: programs, attachments and maps.
//!
//! [`Dataplane`] loads the object that `build.rs` built, attaches its programs to a cgroup and
//! carries out the operations of [`crate::plan`]. Without pins, dropping it detaches the programs and
//! frees the maps; with them everything stays, and the next process takes it over ([`pins`]). All
//! unsafe code of the crate is in [`filter`], [`slots`] and [`syscall`].

mod dry_run;
mod error;
#[expect(unsafe_code, reason = "marks the filter in mapped memory")]
mod filter;
mod flows;
mod grow;
mod inventory;
mod links;
mod load;
#[expect(unsafe_code, reason = "maps arrays into memory")]
mod mapping;
mod namespace;
mod netlink;
mod pinned;
mod pins;
mod pod_links;
mod preflight;
mod programs;
mod route;
#[expect(unsafe_code, reason = "writes the backend array in mapped memory")]
mod slots;
mod sock_diag;
#[expect(unsafe_code, reason = "makes the system calls that aya has no function for")]
mod syscall;
mod update;
mod xdp;

pub use dry_run::{DryRun, DryRunError, PacketHook};
pub use error::{ApplyError, LoadError};
pub use links::LinkError;
pub use load::{Dataplane, Events};
pub use namespace::{Link, LinkRole, NamespaceError, NodeNamespace};
pub use pinned::{PinnedError, PinnedMaps};
pub use pins::{Pins, PinsError};
pub use pod_links::PodLinks;
pub(crate) use preflight::make_cgroup;
pub use programs::ProgramCost;
pub use xdp::Express;
