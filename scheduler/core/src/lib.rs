//! Scheduling decisions: objects and events in, decisions out.
#![forbid(unsafe_code)]
