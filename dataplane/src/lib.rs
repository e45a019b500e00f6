//! The eBPF Service dataplane: plan, kernel, daemon.
#![deny(unsafe_code)]
