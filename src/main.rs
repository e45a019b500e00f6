//! The `pintle` binary.
#![forbid(unsafe_code)]
fn main() {}
