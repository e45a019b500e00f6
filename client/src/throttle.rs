//! A limit on the rate of requests, as client-go's `QPS` and `Burst`: a token bucket, in the order
//! in which requests come. A watch counts once.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Request;
use kube::client::Body;
use tokio::time::{Instant, Sleep};
use tower::{Layer, Service};

/// Requests a second on average, and at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateLimit {
    /// A second; more than zero.
    pub qps: f64,
    /// At once; at least one.
    pub burst: u32,
}

/// When the next request may go: a token bucket in the form of one moment in time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    interval: Duration,
    tolerance: Duration,
    /// When the bucket will be full again, after the origin.
    full_at: Duration,
}

impl Bucket {
    pub(crate) fn new(limit: RateLimit) -> Self {
        let interval = Duration::try_from_secs_f64(1.0 / limit.qps).unwrap_or(INTERVAL_MAX);
        let interval = interval.min(INTERVAL_MAX);
        let tolerance = interval.saturating_mul(limit.burst.saturating_sub(1));
        Self { interval, tolerance, full_at: Duration::ZERO }
    }

    /// Takes a token; returns when it is there.
    pub(crate) fn take(&mut self, now: Duration) -> Duration {
        let start = self.full_at.max(now);
        self.full_at = start.saturating_add(self.interval);
        start.saturating_sub(self.tolerance).max(now)
    }
}

/// So slow that nobody would notice a slower one.
const INTERVAL_MAX: Duration = Duration::from_secs(3600);

impl<S> Layer<S> for RateLimit {
    type Service = Throttled<S>;

    fn layer(&self, inner: S) -> Throttled<S> {
        let (bucket, origin) = (Bucket::new(*self), Instant::now());
        Throttled { inner, bucket, origin, token: Token::None }
    }
}

/// A service whose requests wait for their token.
pub struct Throttled<S> {
    inner: S,
    bucket: Bucket,
    origin: Instant,
    token: Token,
}

enum Token {
    None,
    Coming(Pin<Box<Sleep>>),
    Here,
}

impl<S: Service<Request<Body>>> Service<Request<Body>> for Throttled<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        loop {
            match &mut self.token {
                Token::Here => return self.inner.poll_ready(context),
                Token::Coming(sleep) => {
                    std::task::ready!(sleep.as_mut().poll(context));
                    self.token = Token::Here;
                }
                Token::None => {
                    let now = self.origin.elapsed();
                    let at = self.bucket.take(now);
                    // A sleep of no time lasts a millisecond, and requests wait one after another.
                    self.token = match at <= now {
                        true => Token::Here,
                        false => {
                            Token::Coming(Box::pin(tokio::time::sleep_until(self.origin + at)))
                        }
                    };
                }
            }
        }
    }

    fn call(&mut self, request: Request<Body>) -> S::Future {
        self.token = Token::None;
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_may_go_at_once_waits_for_no_timer() {
        let inner =
            tower::service_fn(async |_: Request<Body>| Ok::<_, std::convert::Infallible>(()));
        let mut limited = RateLimit { qps: 1.0, burst: 2 }.layer(inner);
        let mut context = Context::from_waker(std::task::Waker::noop());
        for _ in 0..2 {
            assert!(limited.poll_ready(&mut context).is_ready());
            limited.call(Request::new(Body::empty())).await.unwrap();
        }
        assert!(limited.poll_ready(&mut context).is_pending());
    }

    #[test]
    fn a_burst_and_then_a_rate() {
        let mut bucket = Bucket::new(RateLimit { qps: 2.0, burst: 3 });
        let now = Duration::from_secs(9);
        let waits: Vec<u128> = (0..5).map(|_| (bucket.take(now) - now).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 500, 1000]);
        assert_eq!(bucket.take(Duration::from_secs(20)), Duration::from_secs(20));
    }

    proptest! {
        /// In no stretch of time more than the rate allows beside the burst.
        #[test]
        fn the_limit_is_kept(
            qps in 1..200_u32,
            burst in 1..20_u32,
            gaps in proptest::collection::vec(0..200_u64, 1..200),
        ) {
            let mut bucket = Bucket::new(RateLimit { qps: f64::from(qps), burst });
            let mut now = Duration::ZERO;
            let mut sent = Vec::new();
            for gap in gaps {
                now += Duration::from_millis(gap);
                now = bucket.take(now).max(now);
                sent.push(now);
            }
            for (i, from) in sent.iter().enumerate() {
                for (j, to) in sent.iter().enumerate().skip(i) {
                    let allowed = f64::from(burst) + (*to - *from).as_secs_f64() * f64::from(qps);
                    prop_assert!((j - i + 1) as f64 <= allowed + 1e-3);
                }
            }
        }
    }
}
