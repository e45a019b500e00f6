//! The object model: Kubernetes types, arithmetic, selectors, defaulting and validation.
//!
//! Everything here is pure: values in, values out, no I/O, clocks or randomness. The shapes of the
//! objects themselves are `k8s_openapi`'s; this crate has what those types lack.
#![forbid(unsafe_code)]

pub mod boolean;
pub mod decode;
pub mod defaults;
pub mod duration;
pub mod field;
pub mod fields;
pub mod label_keys;
pub mod labels;
pub mod node_affinity;
pub mod patch;
pub mod quantity;
pub mod resources;
pub mod scheme;
pub mod status;
pub mod syntax;
pub mod taint;
pub mod validation;
pub mod version;
