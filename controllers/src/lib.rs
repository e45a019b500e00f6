//! The reconcilers of kube-controller-manager.
#![forbid(unsafe_code)]
