//! What a node on Linux is made of: network namespaces, links, routes and cgroups.
#![forbid(unsafe_code)]
