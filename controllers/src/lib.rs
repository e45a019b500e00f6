//! The reconcilers of kube-controller-manager: Deployments, ReplicaSets, EndpointSlices, node
//! lifecycle, namespace deletion, garbage collection, default service accounts and ResourceClaims.
//!
//! Every controller is one module with a pure half (objects and the time in, actions out) and a
//! thin loop that feeds it from shared informers through a work queue and applies what it says.
//! See `docs/controllers.md`.
//!
//! Leader election is not here: one replica runs. The seam is [`run`], which starts nothing before
//! it is called and stops everything when its daemon's `shutdown` is cancelled; a lease holder calls
//! it on winning and cancels on losing.
#![forbid(unsafe_code)]

mod config;
mod deployment;
mod endpoint_slice;
mod error;
mod expectations;
mod garbage_collector;
mod metrics;
mod namespace;
mod node_ipam;
mod node_lifecycle;
mod owner;
mod patch;
mod pod;
mod pod_gc;
mod replica_set;
mod resource_claim;
mod run;
mod service_account;
mod stub;
mod taint_eviction;
mod work_queue;
mod worker;
mod written;

pub use config::{Config, ConfigError};
pub use error::Error;
pub use run::run;
