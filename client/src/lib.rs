//! A thin face over `kube`: how pintle's components reach an API server.
//!
//! Every component takes a [`kube::Client`]. Against a remote server it comes from a kubeconfig or
//! the pod's service account ([`connect`]); in `pintle standalone` it calls the API server's
//! handlers in process, without a socket ([`in_process`]). Informers are `kube::runtime`'s watcher
//! and reflector.
#![forbid(unsafe_code)]

mod connect;
mod transport;

pub use connect::{ConnectError, connect};
pub use transport::in_process;
