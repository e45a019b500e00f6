//! The binding of a pod to a node: by an extender that binds, or as DefaultBinder writes it.

use std::sync::Arc;

use pintle_client::PodBinding;
use pintle_scheduler_core::PodInfo;
use pintle_scheduler_core::framework::{Extender as _, ExtenderError};

use crate::HttpExtender;
use crate::writes::Writes;

/// Who binds pods.
#[derive(Clone)]
pub(crate) struct Binder {
    /// It binds the pods it is interested in.
    pub(crate) extender: Option<Arc<HttpExtender>>,
    /// They bind the others.
    pub(crate) writes: Writes,
}

/// Why a pod is not bound.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    /// The API server refused, or could not be reached.
    #[error("running Bind plugin \"DefaultBinder\": {0}")]
    Default(kube::Error),
    /// The extender refused, or could not be reached.
    #[error("{0}")]
    Extender(ExtenderError),
}

impl BindError {
    /// Whether there is no such pod any more.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, Self::Default(kube::Error::Api(status)) if status.is_not_found())
    }
}

impl Binder {
    /// Binds the pod. One that the extender fails to bind, if that may be ignored, is bound here.
    pub(crate) async fn bind(&self, pod: &PodInfo, node: &str) -> Result<(), BindError> {
        if let Some(extender) = self.extender.as_ref().filter(|it| it.is_interested(pod)) {
            match extender.bind(pod, node).await {
                Err(error) if extender.is_ignorable() => {
                    let extender = extender.name();
                    tracing::warn!(extender, %error, "bind without an extender that failed");
                }
                bound => return bound.map_err(BindError::Extender),
            }
        }
        // With the uid, so that a pod created again under the same name is not bound by mistake.
        let uid = pod.object_uid();
        let (namespace, name) = (pod.namespace(), pod.name());
        let binding = PodBinding { namespace, name, uid: uid.as_deref(), node };
        self.writes.bind(binding).await.map_err(BindError::Default)
    }
}
