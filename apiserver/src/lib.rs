//! The Kubernetes REST surface over the store.
#![forbid(unsafe_code)]

pub mod table;
