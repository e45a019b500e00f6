//! Bindings of pods without the form of a request: what a scheduler uses whose API server is in the
//! same process, where writing and reading HTTP and JSON costs more than the binding itself.

use futures::future::BoxFuture;

/// A pod and the node that it is to be on.
#[derive(Clone, Copy, Debug)]
pub struct PodBinding<'a> {
    /// The pod's namespace.
    pub namespace: &'a str,
    /// The pod's name.
    pub name: &'a str,
    /// The pod's uid, so that another pod of its name is not bound by mistake.
    pub uid: Option<&'a str>,
    /// The node's name.
    pub node: &'a str,
}

/// Who answers as an API server does to a POST of `pods/NAME/binding`.
pub trait Bind: Send + Sync {
    /// Binds the pod. Refusals are those of the API, [`kube::Error::Api`].
    fn bind<'a>(&'a self, binding: PodBinding<'a>) -> BoxFuture<'a, kube::Result<()>>;
}
