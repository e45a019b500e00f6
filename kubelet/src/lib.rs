//! The node agent: it registers its node, keeps the node's lease and status, and runs the pods that
//! are bound to it.
//!
//! Decisions are values: [`pod::step`] maps a pod, what was observed of it and the time to actions
//! and a status. A worker for each pod applies them through a [`runtime`]. The `hollow` runtime has no workers;
//! one task answers for the pods of thousands of nodes.
#![forbid(unsafe_code)]

mod agent;
mod config;
mod error;
mod heartbeat;
mod hollow;
mod metrics;
pub mod node;
pub mod pod;
mod run;
pub mod runtime;
mod worker;

pub use config::{Capacity, Config, PODS_MAX, ProcessConfig, Runtime, RuntimeKind};
pub use error::Error;
pub use run::{run, run_hollow};
