//! Scheduling decisions: objects and events in, decisions out.
//!
//! Pure: time and randomness are passed in, and applying a decision is the caller's. In reading
//! order: [`PodInfo`] and [`cache`] (what is known), [`framework`] and [`plugins`] (what is wanted),
//! [`reference`] (what a decision is), [`engine`] (how it is made), [`Diagnosis`] (what is said when
//! there is none) and [`preemption`] (what is done about it), [`queue`] (who is next), [`Scheduler`]
//! (all of it together), [`explain`] (all of it told to people, over clusters that are read from
//! files).
#![forbid(unsafe_code)]

pub mod cache;
pub mod counters;
mod diagnosis;
pub mod engine;
pub mod explain;
mod extension;
pub mod fit;
pub mod framework;
pub mod plugins;
mod pod;
pub mod preemption;
pub mod queue;
pub mod reference;
mod scheduler;
#[cfg(test)]
mod testing;
mod time;

pub use diagnosis::{Diagnosis, RefusalKind, Refusals, Refused};
pub use pod::{
    AffinityTerm, AffinityTerms, Alike, HostPort, PodInfo, PodUid, Template, Templates,
    WeightedTerm,
};
pub use scheduler::{ATTEMPTS_OF_ONE, Attempt, BatchCounts, Outcome, Scheduler, Statistics};
pub use time::Time;
