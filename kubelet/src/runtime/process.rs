//! The `process` runtime: each container's command is a process of this machine.

pub mod shim;
