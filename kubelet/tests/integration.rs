//! The kubelet on real namespaces, cgroups and processes. Each test makes a cluster network of its
//! own name, and takes it down even when it fails.
#![forbid(unsafe_code)]

#[cfg(test)]
#[path = "integration/machine.rs"]
mod machine;
#[cfg(test)]
#[path = "integration/node.rs"]
mod node;
#[cfg(test)]
#[path = "integration/process.rs"]
mod process;
