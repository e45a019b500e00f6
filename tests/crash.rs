//! What survives a killed process.

mod server;
