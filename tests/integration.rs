//! Tests of the whole binary, in one integration binary.
//!
//! `e2e` drives a running `pintle` as its users do, `crash` kills it. Tests that need root are
//! `#[ignore = "needs root"]`; docs/TESTING.md says what goes where.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod crash;
mod e2e;
mod scheduler;
mod server;
