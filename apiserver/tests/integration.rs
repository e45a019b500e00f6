//! The server over a real socket and the embedded store; each test has a cluster of its own.
//! New tests of what a client sees on the wire go into one of the modules below.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

#[path = "integration/cluster.rs"]
mod cluster;
#[path = "integration/direct.rs"]
mod direct;
#[path = "integration/objects.rs"]
mod objects;
#[path = "integration/one_pass.rs"]
mod one_pass;
#[path = "integration/protobuf.rs"]
mod protobuf;
#[path = "integration/recurring.rs"]
mod recurring;
#[path = "integration/refusals.rs"]
mod refusals;
#[path = "integration/reviews.rs"]
mod reviews;
#[path = "integration/volumes.rs"]
mod volumes;
#[path = "integration/watches.rs"]
mod watches;
