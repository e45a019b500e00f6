//! A thin face over `kube`: how pintle's components reach an API server.
//!
//! Every component takes a [`kube::Client`]. Against a remote server it comes from a kubeconfig or
//! the pod's service account ([`connect`]); in `pintle standalone` it calls the API server's
//! handlers in process, without a socket ([`in_process`]). [`Informer`] is `kube::runtime`'s watcher
//! with an indexed cache and handlers that see old and new; [`EventRecorder`] writes Events;
//! [`LeaderElector`] lets one of several processes work.
#![forbid(unsafe_code)]

mod connect;
mod delegated_access;
mod event_recorder;
mod informer;
mod leader_election;
mod pod_feed;
mod pod_writer;
mod throttle;
mod transport;

pub use connect::{ConnectError, ConnectOptions, connect, connect_with};
pub use delegated_access::delegated_access;
pub use event_recorder::{EventRecord, EventRecorder, EventType, reference_to};
pub use informer::{Cache, Change, Indexer, Informer, ObjectKey};
pub use leader_election::{LeaderElectionConfig, LeaderElector, LeadershipLost};
pub use pod_feed::{LocalPod, PodFeed};
pub use pod_writer::{PodBinding, PodDeletion, PodEviction, PodStatusChange, PodWriter};
pub use throttle::RateLimit;
pub use transport::in_process;
