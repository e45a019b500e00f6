//! The plan against a plain model of what kube-proxy's rules say, and single rules by name.

pub(crate) mod memory;
mod model;
pub(crate) mod object;
mod properties;
mod rules;
