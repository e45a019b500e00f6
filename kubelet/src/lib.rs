//! The node agent: pod workers, status, lease and runtimes.
#![forbid(unsafe_code)]
