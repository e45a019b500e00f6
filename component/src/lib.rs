//! What every daemon has, as Kubernetes' component-base gives it: a configuration file, logs,
//! shutdown on a signal, and the `/healthz`, `/livez`, `/readyz` and `/metrics` endpoints.
#![forbid(unsafe_code)]

mod configuration;
mod daemon;
mod health;
mod log;
mod server;
mod signal;
mod tls;

pub use configuration::{ConfigurationError, read_configuration};
pub use daemon::Daemon;
pub use health::{Health, HealthReply};
pub use log::{LogError, LogFormat, init as init_logging};
pub use server::{Authorize, Refusal, Registry, encode_metrics, serve, serve_tls};
pub use signal::shutdown_on_signal;
pub use tls::{TlsError, from_files as tls_from_files, self_signed as tls_self_signed};
