//! The in-process transport: a [`kube::Client`] whose requests are answered by a tower service in
//! the same process.

use http::{Request, Response};
use kube::client::Body;
use tower::{BoxError, Service};

/// A client whose every request goes to `service`, typically the API server's own handlers under a
/// fixed identity.
pub fn in_process<S, B>(service: S) -> kube::Client
where
    S: Service<Request<Body>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    kube::Client::new(service, "default")
}
