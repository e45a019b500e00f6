//! The server as a tower service: the whole way of a request less the socket.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use http::{Request, Response};
use kube::runtime::watcher;
use pintle_api::status::Status;
use pintle_client::{
    LocalPod, PodBinding, PodDeletion, PodEviction, PodFeed, PodStatusChange, PodWriter,
};

use super::{ApiServer, feed};
use crate::auth::UserInfo;
use crate::body::Body;
use crate::handlers::PodWrite;

/// Answers every request as one user. Cheap to clone.
#[derive(Clone)]
pub struct InProcess {
    server: ApiServer,
    user: Arc<UserInfo>,
}

impl InProcess {
    pub(super) fn new(server: ApiServer, user: UserInfo) -> Self {
        Self { server, user: Arc::new(user) }
    }

    async fn write(&self, write: PodWrite<'_>) -> kube::Result<()> {
        let written = self.server.write(&self.user, &write).await;
        written.map_err(|refusal| kube::Error::Api(Box::new(as_client(&refusal))))
    }
}

impl PodWriter for InProcess {
    fn bind<'a>(&'a self, binding: PodBinding<'a>) -> BoxFuture<'a, kube::Result<()>> {
        self.write(PodWrite::Bind(binding)).boxed()
    }

    fn change_status<'a>(&'a self, change: PodStatusChange<'a>) -> BoxFuture<'a, kube::Result<()>> {
        self.write(PodWrite::ChangeStatus(change)).boxed()
    }

    fn delete<'a>(&'a self, deletion: PodDeletion<'a>) -> BoxFuture<'a, kube::Result<()>> {
        self.write(PodWrite::Delete(deletion)).boxed()
    }

    fn evict<'a>(&'a self, eviction: PodEviction<'a>) -> BoxFuture<'a, kube::Result<()>> {
        self.write(PodWrite::Evict(eviction)).boxed()
    }
}

impl PodFeed for InProcess {
    fn follow(
        &self,
        field_selector: &str,
    ) -> BoxStream<'static, watcher::Result<watcher::Event<LocalPod>>> {
        feed::follow(&self.server, &self.user, field_selector)
    }
}

/// The refusal as clients read it.
pub(super) fn as_client(refusal: &Status) -> kube::core::Status {
    let read = serde_json::to_value(refusal).and_then(serde_json::from_value);
    read.unwrap_or_else(|_| kube::core::Status::failure(refusal.message(), ""))
}

impl<B> tower::Service<Request<B>> for InProcess
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<tower::BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Self { server, user } = self.clone();
        async move { Ok(server.answer(request, Some(user)).await) }.boxed()
    }
}
