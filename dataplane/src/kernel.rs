//! The kernel's side as user space holds it: programs, attachments and maps.
//!
//! [`Dataplane`] loads the object that `build.rs` built, attaches its programs to a cgroup and
//! carries out the operations of [`crate::plan`]. Nothing is pinned: dropping it detaches the
//! programs and frees the maps. All unsafe code of the crate is in [`slots`].

mod error;
mod load;
mod preflight;
#[expect(unsafe_code, reason = "maps the backend array into memory")]
mod slots;

pub use error::{ApplyError, LoadError};
pub use load::{Dataplane, Events, ProgramCost};
pub(crate) use preflight::make_cgroup;
