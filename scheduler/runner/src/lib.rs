//! The scheduler daemon: informers to core to binder.
//!
//! Watches pods, nodes and what else decisions read, hands every change to
//! `pintle_scheduler_core::Scheduler`, writes the bindings it decides on and what must come before
//! them, evicts the victims of preemption, and says why the others wait: the FailedScheduling event
//! and the pod's PodScheduled condition. Decisions are the core's alone.
#![forbid(unsafe_code)]

mod binding;
mod condition;
mod config;
pub mod configuration;
mod cycle;
mod daemon;
mod eviction;
mod extender;
mod metrics;
mod objects;
mod prebind;
mod sample;
mod seen;
mod shared;
mod statistics;
mod writes;

pub use config::{Config, InProcessFeed, InProcessWriter};
pub use daemon::{Error, run};
pub use extender::{ExtenderSetupError, HttpExtender};
