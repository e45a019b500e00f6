//! The binary as its users meet it.

mod agreement;
mod bad_input;
mod demo;
mod disk_full;
mod extenders;
mod kubectl;
mod manifests;
mod parts;
mod proxy;
mod schedulers;
mod simulate;
