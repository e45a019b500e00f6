//! The scheduler daemon: informers to core to binder.
#![forbid(unsafe_code)]

mod config;
mod daemon;

pub use config::Config;
pub use daemon::{Error, run};
