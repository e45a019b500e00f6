//! Which taints keep a pod off a node: shared by the plugins that ask.

use k8s_openapi::api::core::v1::{Node, Taint};
use pintle_api::taint;

use crate::pod::PodInfo;

/// The taints of a node.
pub(super) fn of(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
}

/// Whether there is a NoSchedule or NoExecute taint that the pod does not tolerate.
pub(super) fn keep_off(taints: &[Taint], pod: &PodInfo) -> bool {
    taint::find_untolerated(taints, pod.tolerations(), taint::forbids_scheduling).is_some()
}
