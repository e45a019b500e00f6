//! The benchmark harness behind `pintle bench`.
//!
//! Every bench yields [`Outcome`]s in one shape; [`run`] prints them as a table or as JSON and, for
//! `all`, keeps them by date and host. A bench claims nothing: it prints what it measured and the
//! machine it ran on. Nothing here is asserted in a test.
#![forbid(unsafe_code)]

mod agreement;
mod args;
mod child;
mod dataplane;
mod host;
mod interrupt;
mod outcome;
mod pods;
mod run;
mod scheduler;
mod startup;
mod stats;
mod store;

pub use args::Args;
pub use outcome::{Outcome, Report};
pub use run::run;
