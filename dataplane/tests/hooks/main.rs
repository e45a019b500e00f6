//! The programs in a real kernel: sockets of a process in a cgroup of the test's own, and backends
//! on the loopback device outside it.
#![expect(clippy::unwrap_used, reason = "a test's surroundings fail by panicking")]

mod affinity;
mod agent;
mod api;
mod backend;
mod cgroup;
mod churn;
mod cluster;
mod daemon;
mod direct_return;
mod express;
mod fixture;
mod flow_end;
mod foreign;
mod forward;
mod grow;
mod ipv6;
mod node_port;
mod packet;
mod pins;
mod pod_links;
mod refuse;
mod rules;
mod tcp;
mod udp;
mod verifier;
