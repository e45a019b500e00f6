//! The Kubernetes REST surface over the store: what kube-apiserver is to etcd.
//!
//! A request passes authentication, authorization, admission and a kind's strategy before it
//! reaches the store; lists and watches are answered by a cache that one store watch feeds. See
//! `docs/apiserver.md` for the terms, the invariants and the life of a request.
#![forbid(unsafe_code)]

mod admission;
mod auth;
mod body;
mod bootstrap;
mod config;
mod discovery;
mod error;
mod event_ttl;
mod facts;
mod handlers;
mod metrics;
mod negotiate;
mod object;
mod openapi;
pub mod pki;
mod protobuf;
mod query;
mod registry;
mod request;
mod server;
mod status;
mod storage;
pub mod table;
mod watch_cache;

pub use auth::UserInfo;
pub use body::Body;
pub use config::{Config, Ipv4Cidr, PortRange};
pub use error::Error;
pub use server::{ApiServer, InProcess};
