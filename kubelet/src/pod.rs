//! What to do about a pod, and what to say of it: pure functions of the pod, what was observed of it
//! and the time. Mirrors pkg/kubelet/kuberuntime (what to start and stop) and pkg/kubelet/status.

mod backoff;
mod env;
mod observed;
mod probe;
mod qos;
mod status;
mod step;

#[cfg(test)]
mod tests;

pub use backoff::Backoff;
pub use env::{Downward, EnvError, EnvSources, environment, expand, referenced};
pub use observed::{ContainerObserved, Exit, PodObserved, Sandbox, State, Stop, Terminated};
pub use probe::{ProbeCounter, Verdict};
pub use qos::qos_class;
pub use status::pod_status;
pub use step::{Action, Intent, Step, StopReason, finished, grace_period_s, step};
