//! How containers are run.

pub mod process;
