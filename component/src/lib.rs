//! What every daemon has, as Kubernetes' component-base gives it: logs, shutdown on a signal, and
//! the `/healthz`, `/livez`, `/readyz` and `/metrics` endpoints.
#![forbid(unsafe_code)]

mod daemon;
mod health;
mod log;
mod server;
mod signal;

pub use daemon::Daemon;
pub use health::{Health, HealthReply};
pub use log::{LogError, LogFormat, init as init_logging};
pub use server::{Registry, encode_metrics, serve};
pub use signal::shutdown_on_signal;
