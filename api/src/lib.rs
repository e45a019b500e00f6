//! The object model: Kubernetes types, arithmetic, selectors, defaulting and validation.
#![forbid(unsafe_code)]
