//! The decisions one by one, and whole electors on a paused clock against an API server that is
//! slow, loses answers and is cut off, with wall clocks that disagree.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use kube::client::Body;
use parking_lot::Mutex;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::*;

fn at(seconds: u64) -> Now {
    let wall = Timestamp::from_second(i64::try_from(seconds).unwrap()).unwrap();
    Now { monotonic: Duration::from_secs(seconds), wall }
}

fn held_by(holder: &str, renewed: u64) -> Record {
    Record {
        holder: holder.to_owned(),
        duration_seconds: 15,
        acquired: Some(at(1).wall),
        renewed: Some(at(renewed).wall),
        transitions: 4,
    }
}

fn election(identity: &str) -> Election {
    Election::new(identity, Duration::from_secs(15))
}

#[test]
fn nobodys_lease_is_created() {
    let Judgement::Create(record) = election("a").judge(None, at(7)) else { panic!() };
    let spec = serde_json::to_value(record.to_spec()).unwrap();
    assert_eq!(
        spec,
        json!({"holderIdentity": "a", "leaseDurationSeconds": 15, "leaseTransitions": 0,
            "acquireTime": "1970-01-01T00:00:07.000000Z",
            "renewTime": "1970-01-01T00:00:07.000000Z"})
    );
}

#[test]
fn another_leader_is_waited_for_as_long_as_he_renews() {
    let mut us = election("a");
    // His clock may say anything.
    assert_eq!(us.judge(Some(held_by("b", 9_000)), at(100)), Judgement::Wait);
    assert_eq!(us.judge(Some(held_by("b", 9_000)), at(114)), Judgement::Wait);
    assert_eq!(us.judge(Some(held_by("b", 9_002)), at(114)), Judgement::Wait);
    assert_eq!(us.judge(Some(held_by("b", 9_002)), at(128)), Judgement::Wait);
    let Judgement::Update(record) = us.judge(Some(held_by("b", 9_002)), at(129)) else { panic!() };
    assert_eq!((record.holder.as_str(), record.transitions), ("a", 5));
    assert_eq!(record.acquired, Some(at(129).wall));
}

#[test]
fn a_released_lease_is_free_at_once() {
    let mut us = election("a");
    let released = Record { holder: String::new(), duration_seconds: 1, ..held_by("", 50) };
    let Judgement::Update(record) = us.judge(Some(released), at(50)) else { panic!() };
    assert_eq!((record.holder.as_str(), record.transitions), ("a", 5));
}

#[test]
fn a_renewal_keeps_when_it_was_acquired() {
    let mut us = election("a");
    assert_eq!(us.renewal(at(60)), None, "nothing seen yet");
    us.wrote(held_by("a", 60), at(60));
    let renewed = us.renewal(at(70)).unwrap();
    assert_eq!(renewed, held_by("a", 70));
    assert_eq!(us.renewal(at(75)), None, "too late to write without reading");
    assert_eq!(us.judge(Some(held_by("a", 60)), at(75)), Judgement::Update(held_by("a", 75)));
    assert_eq!(us.judge(Some(held_by("b", 76)), at(76)), Judgement::Wait);
    assert!(!us.is_leader());
}

#[test]
fn only_our_own_lease_is_released() {
    let us = election("a");
    assert_eq!(us.release(&held_by("b", 9), at(9)), None);
    let released = us.release(&held_by("a", 9), at(12)).unwrap();
    let spec = serde_json::to_value(released.to_spec()).unwrap();
    assert_eq!(spec["holderIdentity"], Value::Null);
    assert_eq!((&spec["leaseDurationSeconds"], &spec["leaseTransitions"]), (&json!(1), &json!(4)));
}

/// What happens to a request: how long until it is done and until its answer arrives, and whether
/// either is lost.
#[derive(Clone, Copy, Debug)]
struct Weather {
    before_ms: u64,
    after_ms: u64,
    lost: bool,
    unanswered: bool,
}

const FAIR: Weather = Weather { before_ms: 0, after_ms: 0, lost: false, unanswered: false };

/// One Lease, and Events that are taken and forgotten.
#[derive(Clone)]
struct Server {
    lease: Arc<Mutex<Option<Value>>>,
    weather: Arc<Mutex<Vec<Weather>>>,
    /// Nobody is answered while this is set.
    cut: Arc<Mutex<bool>>,
    events: Arc<Mutex<Vec<String>>>,
    holders: Arc<Mutex<Vec<(String, i64)>>>,
}

impl Server {
    fn new(weather: Vec<Weather>) -> Self {
        Self {
            lease: Arc::default(),
            weather: Arc::new(Mutex::new(weather)),
            cut: Arc::default(),
            events: Arc::default(),
            holders: Arc::default(),
        }
    }

    fn next_weather(&self) -> Weather {
        let mut weather = self.weather.lock();
        let next = weather.first().copied().unwrap_or(FAIR);
        if !weather.is_empty() {
            weather.rotate_left(1);
        }
        let cut = *self.cut.lock();
        Weather { lost: next.lost || cut, ..next }
    }

    fn apply(&self, method: &Method, path: &str, body: Value) -> (u16, Value) {
        if path.contains("/events") {
            self.events.lock().push(body["message"].as_str().unwrap_or_default().to_owned());
            return (201, body);
        }
        let mut lease = self.lease.lock();
        let version = |lease: &Value| lease["metadata"]["resourceVersion"].clone();
        let next = match &*lease {
            Some(lease) => version(lease).as_str().unwrap().parse::<u64>().unwrap() + 1,
            None => 1,
        };
        match (method, &*lease) {
            (&Method::GET, Some(lease)) => return (200, lease.clone()),
            (&Method::GET | &Method::PUT, None) => return failure(404, "NotFound"),
            (&Method::POST, Some(_)) => return failure(409, "AlreadyExists"),
            (&Method::PUT, Some(lease)) if version(lease) != version(&body) => {
                return failure(409, "Conflict");
            }
            _ => {}
        }
        let mut written = body;
        written["metadata"]["resourceVersion"] = json!(next.to_string());
        let holder = written["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned();
        let transitions = written["spec"]["leaseTransitions"].as_i64().unwrap();
        self.holders.lock().push((holder, transitions));
        *lease = Some(written.clone());
        (200, written)
    }
}

fn failure(code: u16, reason: &str) -> (u16, Value) {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
        "message": reason, "reason": reason, "code": code});
    (code, status)
}

impl tower::Service<Request<Body>> for Server {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = futures::future::BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(
        &mut self,
        _context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let server = self.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            let weather = server.next_weather();
            if weather.lost {
                std::future::pending::<()>().await;
            }
            // The request arrives even if the client no longer waits for the answer.
            let applied = tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(weather.before_ms)).await;
                server.apply(&head.method, head.uri.path(), body)
            });
            let (code, body) = applied.await.unwrap();
            tokio::time::sleep(Duration::from_millis(weather.after_ms)).await;
            if weather.unanswered {
                std::future::pending::<()>().await;
            }
            let response = Response::builder().status(code);
            Ok(response.body(Full::new(Bytes::from(body.to_string()))).unwrap())
        })
    }
}

/// Who leads now, by what the electors let run; and the most that ever did at once.
#[derive(Clone, Default)]
struct Leaders(Arc<Mutex<Vec<String>>>, Arc<Mutex<usize>>);

struct Leading(Leaders, String);

impl Drop for Leading {
    fn drop(&mut self) {
        self.0.0.lock().retain(|name| *name != self.1);
    }
}

impl Leaders {
    fn add(&self, name: &str) -> Leading {
        let mut leaders = self.0.lock();
        leaders.push(name.to_owned());
        let mut most = self.1.lock();
        *most = leaders.len().max(*most);
        Leading(self.clone(), name.to_owned())
    }

    fn now(&self) -> Option<String> {
        self.0.lock().first().cloned()
    }
}

fn config(identity: &str) -> LeaderElectionConfig {
    LeaderElectionConfig {
        namespace: "kube-system".to_owned(),
        name: "kube-scheduler".to_owned(),
        identity: identity.to_owned(),
        lease_duration: Duration::from_secs(15),
        renew_deadline: Duration::from_secs(10),
        retry_period: Duration::from_secs(2),
        component: "kube-scheduler".to_owned(),
        reporter: "default-scheduler".to_owned(),
    }
}

type Running = JoinHandle<Result<(), LeadershipLost>>;

/// An elector whose wall clock is wrong by so many seconds, and which stops when told.
fn start(
    server: &Server,
    leaders: &Leaders,
    identity: &str,
    skew_s: i64,
    stop: CancellationToken,
) -> (Running, Daemon) {
    let daemon = Daemon::default();
    let client = crate::in_process(server.clone());
    let mut elector = LeaderElector::new(client, config(identity), &daemon);
    let paused = elector.origin;
    let born = Timestamp::from_second(1_700_000_000 + skew_s).unwrap();
    elector.wall = Arc::new(move || born + paused.elapsed());
    let (leaders, identity) = (leaders.clone(), identity.to_owned());
    let running = tokio::spawn(elector.run(move |leading| async move {
        tokio::select! {
            () = stop.cancelled() => return,
            () = leading.cancelled() => {}
        }
        let _leading = leaders.add(&identity);
        stop.cancelled().await;
    }));
    (running, daemon)
}

fn status_of(daemon: &Daemon) -> bool {
    let text = pintle_component::encode_metrics(&daemon.registry);
    let line = |value| format!("leader_election_master_status{{name=\"kube-scheduler\"}} {value}");
    assert!(text.contains(&line(0)) || text.contains(&line(1)), "{text}");
    text.contains(&line(1))
}

#[tokio::test(start_paused = true)]
async fn one_leads_and_the_next_follows_a_clean_stop_at_once() {
    let (server, leaders) = (Server::new(vec![]), Leaders::default());
    let stop = CancellationToken::new();
    let (first, first_daemon) = start(&server, &leaders, "a", 0, stop.clone());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (_second, second_daemon) = start(&server, &leaders, "b", 0, CancellationToken::new());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(leaders.now().as_deref(), Some("a"));
    assert!(status_of(&first_daemon) && !status_of(&second_daemon));
    stop.cancel();
    first.await.unwrap().unwrap();
    assert!(!status_of(&first_daemon));
    // The retry period with all its jitter.
    tokio::time::sleep(Duration::from_millis(4_500)).await;
    assert_eq!(leaders.now().as_deref(), Some("b"));
    let holders = server.holders.lock().clone();
    assert!(holders.contains(&("a".to_owned(), 0)) && holders.contains(&(String::new(), 0)));
    assert_eq!(holders.last(), Some(&("b".to_owned(), 1)));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let events = server.events.lock().clone();
    assert_eq!(events, ["a became leader", "a stopped leading", "b became leader"]);
}

#[tokio::test(start_paused = true)]
async fn a_dead_leader_is_followed_after_the_lease() {
    let (server, leaders) = (Server::new(vec![]), Leaders::default());
    let (first, _) = start(&server, &leaders, "a", 3600, CancellationToken::new());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (_second, _) = start(&server, &leaders, "b", -3600, CancellationToken::new());
    tokio::time::sleep(Duration::from_secs(30)).await;
    first.abort();
    let _ = first.await;
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!(leaders.now(), None, "the lease still runs");
    // The other may have seen the last renewal a retry period (4.4 s with all its jitter) late, and
    // may look again as late after the lease: 23.8 s after the death.
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!(leaders.now().as_deref(), Some("b"));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_stops() {
    let (server, leaders) = (Server::new(vec![]), Leaders::default());
    let (first, daemon) = start(&server, &leaders, "a", 0, CancellationToken::new());
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(leaders.now().as_deref(), Some("a"));
    *server.cut.lock() = true;
    let error = first.await.unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        "leader election lost: lease kube-system/kube-scheduler could not be renewed in time"
    );
    assert_eq!(leaders.now(), None);
    assert!(daemon.health.is_ready(), "who stopped leading is not ill");
}

#[tokio::test(start_paused = true)]
async fn a_lease_of_client_go_is_respected() {
    let (server, leaders) = (Server::new(vec![]), Leaders::default());
    let foreign = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "kube-scheduler", "namespace": "kube-system", "resourceVersion": "8",
            "labels": {"keep": "me"}},
        "spec": {"holderIdentity": "kind-control-plane_0c9d", "leaseDurationSeconds": 15,
            "acquireTime": "2026-01-01T00:00:00.000000Z", "leaseTransitions": 2,
            "renewTime": "2026-01-01T00:00:00.000000Z", "preferredHolder": "x"}});
    *server.lease.lock() = Some(foreign);
    let (_running, _) = start(&server, &leaders, "a", 0, CancellationToken::new());
    tokio::time::sleep(Duration::from_secs(14)).await;
    assert_eq!(leaders.now(), None);
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!(leaders.now().as_deref(), Some("a"));
    let lease = server.lease.lock().clone().unwrap();
    assert_eq!(lease["spec"]["leaseTransitions"], 3);
    assert_eq!(lease["metadata"]["labels"]["keep"], "me");
    assert_eq!(lease["spec"]["preferredHolder"], "x", "fields that are not ours stay");
}

fn weather() -> impl Strategy<Value = Weather> {
    let delay = || prop_oneof![6 => 0..50_u64, 3 => 0..3_000_u64, 1 => 0..12_000_u64];
    (delay(), delay(), proptest::bool::weighted(0.1), proptest::bool::weighted(0.1)).prop_map(
        |(before_ms, after_ms, lost, unanswered)| Weather { before_ms, after_ms, lost, unanswered },
    )
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Wait(u64),
    Cut(bool),
    Kill(usize),
    Stop(usize),
    Start(usize, i64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (1..20_000_u64).prop_map(Act::Wait),
        1 => any::<bool>().prop_map(Act::Cut),
        1 => (0..3_usize).prop_map(Act::Kill),
        1 => (0..3_usize).prop_map(Act::Stop),
        3 => (0..3_usize, -100_000..100_000_i64).prop_map(|(who, skew)| Act::Start(who, skew)),
    ]
}

async fn live(acts: Vec<Act>, weather: Vec<Weather>) {
    let (server, leaders) = (Server::new(weather), Leaders::default());
    let mut running: [Option<(Running, CancellationToken)>; 3] = Default::default();
    let mut born = 0;
    for act in acts {
        match act {
            Act::Wait(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
            Act::Cut(cut) => *server.cut.lock() = cut,
            Act::Kill(who) => {
                if let Some((task, _)) = running[who].take() {
                    task.abort();
                    let _ = task.await;
                }
            }
            Act::Stop(who) => {
                if let Some((_, stop)) = &running[who] {
                    stop.cancel();
                }
            }
            Act::Start(who, skew_s) => {
                if let Some((task, _)) = running[who].take() {
                    task.abort();
                    let _ = task.await;
                }
                born += 1;
                let stop = CancellationToken::new();
                let name = format!("{who}_{born}");
                let (task, _) = start(&server, &leaders, &name, skew_s, stop.clone());
                running[who] = Some((task, stop));
            }
        }
    }
    // Once all is well, somebody who wants to lead does.
    *server.cut.lock() = false;
    server.weather.lock().clear();
    let (_last, _) = start(&server, &leaders, "last", 0, CancellationToken::new());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(leaders.now().is_some(), "nobody leads");
    assert_eq!(*leaders.1.lock(), 1, "so many led at once");
    check_transitions(&server.holders.lock());
}

/// `leaseTransitions` counts the changes of the holder.
fn check_transitions(holders: &[(String, i64)]) {
    let mut last: Option<&(String, i64)> = None;
    for record in holders {
        if let Some((holder, transitions)) = last {
            let kept = record.0.is_empty() || record.0 == *holder;
            assert_eq!(record.1, transitions + i64::from(!kept), "{holders:?}");
        }
        last = Some(record);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever is slow, lost, killed or cut off, and whatever the clocks say: never two.
    #[test]
    fn never_two_leaders(
        acts in proptest::collection::vec(act(), 1..40),
        weather in proptest::collection::vec(weather(), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(live(acts, weather));
    }
}
