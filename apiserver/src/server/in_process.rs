//! The server as a tower service: the whole way of a request less the socket.

use std::convert::Infallible;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Request, Response};

use super::ApiServer;
use crate::auth::UserInfo;
use crate::body::Body;

/// Answers every request as one user. Cheap to clone.
#[derive(Clone)]
pub struct InProcess {
    server: ApiServer,
    user: UserInfo,
}

impl InProcess {
    pub(super) fn new(server: ApiServer, user: UserInfo) -> Self {
        Self { server, user }
    }
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
