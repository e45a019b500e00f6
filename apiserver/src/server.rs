//! The server: what it holds, how it starts, and the way of a request through it.

mod connection;
mod feed;
mod in_process;

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use pintle_api::status::Status;
use pintle_component::Daemon;
use pintle_store::Store;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use crate::auth::{self, Tokens, UserInfo};
use crate::body::Body;
use crate::handlers::PodWrite;
use crate::metrics::Metrics;
use crate::query::Query;
use crate::registry::Allocators;
use crate::request::Info;
use crate::storage::Storage;
use crate::watch_cache::{self, WatchCache};
use crate::{Config, Error, bootstrap, event_ttl, handlers, protobuf, status};

pub use in_process::InProcess;

/// An API server over a store. Cheap to clone; clones are the same server.
#[derive(Clone)]
pub struct ApiServer {
    core: Arc<Core>,
}

/// What every handler works with.
pub(crate) struct Core {
    pub(crate) storage: Storage,
    pub(crate) cache: Arc<WatchCache>,
    pub(crate) allocators: Allocators,
    pub(crate) config: Config,
    pub(crate) daemon: Daemon,
    pub(crate) metrics: Metrics,
    pub(crate) watches: Arc<Semaphore>,
    pub(crate) tokens: Tokens,
    pub(crate) recurring: handlers::Recurring,
    inflight: Semaphore,
}

impl ApiServer {
    /// Load the watch cache from `store` and make what every cluster has: the namespaces `default`,
    /// `kube-system`, `kube-public` and `kube-node-lease`, the Service `default/kubernetes` and its
    /// endpoint, and the system's PriorityClasses.
    pub async fn new(
        store: Arc<dyn Store>,
        config: Config,
        daemon: &Daemon,
    ) -> Result<Self, Error> {
        let tokens = Tokens::read(config.token_file.as_deref())?;
        let cache = Arc::new(WatchCache::new());
        start_cache(&cache, &store, daemon).await?;
        let core = Arc::new(Core {
            allocators: Allocators::new(&config, &cache)?,
            watches: Arc::new(Semaphore::new(config.watches_max)),
            inflight: Semaphore::new(config.inflight_max),
            storage: Storage::new(store, Arc::clone(&cache)),
            metrics: Metrics::register(daemon, &cache),
            daemon: daemon.clone(),
            recurring: handlers::Recurring::default(),
            tokens,
            cache,
            config,
        });
        let server = Self { core };
        bootstrap::run(&server).await?;
        add_health(&server.core);
        tokio::spawn(event_ttl::run(Arc::clone(&server.core)));
        Ok(server)
    }

    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    /// The handlers under a fixed identity, for `pintle_client::in_process`.
    #[must_use]
    pub fn in_process(&self, user: UserInfo) -> InProcess {
        InProcess::new(self.clone(), user)
    }

    /// Serve HTTP/1.1 and HTTP/2 over TLS until `shutdown`; requests in flight are finished, watches
    /// are ended.
    pub async fn serve(
        &self,
        listener: TcpListener,
        tls: Arc<rustls::ServerConfig>,
        shutdown: CancellationToken,
    ) -> Result<(), Error> {
        connection::serve(self, listener, tls, shutdown).await
    }

    /// Answer one request of `user`; `None` is a client without a certificate, which may still show
    /// a bearer token.
    pub(crate) async fn answer<B>(
        &self,
        request: Request<B>,
        user: Option<Arc<UserInfo>>,
    ) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: Into<tower::BoxError>,
    {
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let info = Info::parse(request.method(), request.uri().path(), &query);
        let timer = self.core.metrics.start(&info);
        let answered = self.core.pass(request, &info, query, user);
        let response = match info.is_long_running() {
            true => answered.await,
            false => self.in_time(answered).await,
        }
        .unwrap_or_else(|error| status::response(&error));
        timer.done(response.status());
        response
    }

    /// Answer `user`'s write of a pod that has not the form of a request.
    pub(crate) async fn write(&self, user: &UserInfo, write: &PodWrite<'_>) -> Result<(), Status> {
        let info = write.info();
        let timer = self.core.metrics.start(&info);
        let written = self.in_time(self.core.pass_write(user, &info, write)).await;
        timer.done(match &written {
            Ok(()) => write.code(),
            Err(refusal) => status::code(refusal),
        });
        written
    }

    async fn in_time<T>(
        &self,
        answered: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        let late = || Status::timeout("request did not complete within its time", 0);
        let limit = self.core.config.request_timeout;
        tokio::time::timeout(limit, answered).await.unwrap_or_else(|_| Err(late()))
    }
}

impl Core {
    async fn pass<B>(
        &self,
        request: Request<B>,
        info: &Info,
        query: Query,
        user: Option<Arc<UserInfo>>,
    ) -> Result<Response<Body>, Status>
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: Into<tower::BoxError>,
    {
        if let Some(reply) = handlers::public(self, info, request.uri().query()) {
            return Ok(reply);
        }
        let user = user
            .or_else(|| self.tokens.user_of(request.headers()).map(Arc::new))
            .ok_or_else(Status::unauthorized)?;
        auth::authorize(&user, info)?;
        let _permit = match info.is_long_running() {
            true => None,
            false => Some(self.inflight.try_acquire().map_err(|_| busy())?),
        };
        let (mut head, body) = request.into_parts();
        // Reads have no body, and a watch has no time limit under which to wait for one.
        let body = match info.verb {
            "get" | "list" | "watch" => Bytes::new(),
            _ => protobuf::as_json(&mut head.headers, read_body(body).await?)?,
        };
        let call = handlers::Call { info, user: &user, query, headers: head.headers, body };
        handlers::dispatch(self, &call).await
    }

    async fn pass_write(
        &self,
        user: &UserInfo,
        info: &Info,
        write: &PodWrite<'_>,
    ) -> Result<(), Status> {
        if let Some(first) = write.first() {
            auth::authorize(user, &first)?;
        }
        auth::authorize(user, info)?;
        let _permit = self.inflight.try_acquire().map_err(|_| busy())?;
        write.perform(self).await
    }
}

async fn read_body<B>(body: B) -> Result<Bytes, Status>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<tower::BoxError>,
{
    match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Status::too_large_body(BODY_BYTES_MAX)),
        Err(error) => Err(Status::bad_request(format!("read the request's body: {error}"))),
    }
}

fn busy() -> Status {
    Status::too_many_requests("too many requests, please try again later.", 1)
}

async fn start_cache(
    cache: &Arc<WatchCache>,
    store: &Arc<dyn Store>,
    daemon: &Daemon,
) -> Result<(), Error> {
    let (loaded, whole) = oneshot::channel();
    let feed = watch_cache::run(
        Arc::clone(cache),
        Arc::clone(store),
        loaded,
        daemon.shutdown.child_token(),
    );
    tokio::spawn(feed);
    let stopped = |_| Err(pintle_store::StoreError::Closed("shutting down".to_owned()));
    whole.await.unwrap_or_else(stopped).map_err(Error::Cache)
}

fn add_health(core: &Core) {
    let shutdown = core.daemon.shutdown.clone();
    core.daemon.health.add_ready("shutdown", move || match shutdown.is_cancelled() {
        true => Err("process is shutting down".to_owned()),
        false => Ok(()),
    });
    let cache = Arc::clone(&core.cache);
    core.daemon.health.add_ready("watch-cache", move || match cache.revision() {
        0 => Err("not loaded yet".to_owned()),
        _ => Ok(()),
    });
}

/// k8s.io/apiserver's `MaxRequestBodyBytes`.
pub(crate) const BODY_BYTES_MAX: usize = 3 << 20;
