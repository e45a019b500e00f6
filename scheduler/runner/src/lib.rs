//! The scheduler daemon: informers to core to binder.
#![forbid(unsafe_code)]
