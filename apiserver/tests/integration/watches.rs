//! Watches: where they start, what they deliver, how they end.

use std::time::Duration;

use futures::{AsyncBufReadExt as _, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use pintle_store::{Revision, Store as _};
use serde_json::{Value, json};

use crate::cluster::Cluster;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

struct Events(futures::stream::BoxStream<'static, Value>);

impl Events {
    async fn open(cluster: &Cluster, query: &str) -> Self {
        let request = http::Request::get(format!("{MAPS}?watch=true&{query}")).body(Vec::new());
        let stream = cluster.client.request_stream(request.unwrap()).await.unwrap();
        let lines = stream.lines().map_ok(|line| serde_json::from_str(&line).unwrap());
        Self(
            lines
                .take_while(|line| futures::future::ready(line.is_ok()))
                .map(Result::unwrap)
                .boxed(),
        )
    }

    /// `TYPE name` of the next event; of a bookmark its marker, of the end `END`.
    async fn next(&mut self) -> String {
        let next = tokio::time::timeout(Duration::from_secs(60), self.0.next()).await;
        let Some(event) = next.expect("an event within a minute") else { return "END".to_owned() };
        let metadata = &event["object"]["metadata"];
        let end = &metadata["annotations"]["k8s.io/initial-events-end"];
        let what = match event["type"].as_str().unwrap() {
            "BOOKMARK" if end == "true" => "initial-events-end".to_owned(),
            "BOOKMARK" => String::new(),
            "ERROR" => event["object"]["code"].to_string(),
            _ => metadata["name"].as_str().unwrap().to_owned(),
        };
        format!("{} {what}", event["type"].as_str().unwrap())
    }
}

fn maps(cluster: &Cluster) -> Api<ConfigMap> {
    Api::namespaced(cluster.client.clone(), "default")
}

async fn create(cluster: &Cluster, name: &str) -> String {
    let mut map = ConfigMap::default();
    map.metadata.name = Some(name.to_owned());
    let made = maps(cluster).create(&PostParams::default(), &map).await.unwrap();
    made.metadata.resource_version.unwrap()
}

async fn label(cluster: &Cluster, name: &str, value: &str) {
    let patch = Patch::Merge(json!({ "metadata": { "labels": { "k": value } } }));
    maps(cluster).patch(name, &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test]
async fn a_watch_goes_on_where_a_list_was_read() {
    let cluster = Cluster::start().await;
    let revision = create(&cluster, "a").await;
    create(&cluster, "b").await;
    let mut after = Events::open(&cluster, &format!("resourceVersion={revision}")).await;
    assert_eq!(after.next().await, "ADDED b");
    for query in ["", "resourceVersion=0"] {
        let mut all = Events::open(&cluster, query).await;
        assert_eq!(all.next().await, "ADDED a");
        assert_eq!(all.next().await, "ADDED b");
    }
    label(&cluster, "b", "1").await;
    assert_eq!(after.next().await, "MODIFIED b");
    maps(&cluster).delete("b", &DeleteParams::default()).await.unwrap();
    assert_eq!(after.next().await, "DELETED b");
}

#[tokio::test]
async fn an_object_that_stops_matching_is_deleted_for_the_watcher() {
    let cluster = Cluster::start().await;
    create(&cluster, "a").await;
    let mut events = Events::open(&cluster, "labelSelector=k%3D1").await;
    label(&cluster, "a", "1").await;
    assert_eq!(events.next().await, "ADDED a");
    label(&cluster, "a", "2").await;
    assert_eq!(events.next().await, "DELETED a");
    label(&cluster, "a", "1").await;
    assert_eq!(events.next().await, "ADDED a");
}

#[tokio::test]
async fn a_timeout_ends_with_a_bookmark() {
    let cluster = Cluster::start().await;
    create(&cluster, "a").await;
    let query = "resourceVersion=0&timeoutSeconds=1&allowWatchBookmarks=true";
    let mut events = Events::open(&cluster, query).await;
    assert_eq!(events.next().await, "ADDED a");
    assert_eq!(events.next().await, "BOOKMARK ");
    assert_eq!(events.next().await, "END");
}

#[tokio::test]
async fn initial_events_end_with_their_bookmark() {
    let cluster = Cluster::start().await;
    create(&cluster, "a").await;
    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut events = Events::open(&cluster, query).await;
    assert_eq!(events.next().await, "ADDED a");
    assert_eq!(events.next().await, "BOOKMARK initial-events-end");
    create(&cluster, "b").await;
    assert_eq!(events.next().await, "ADDED b");
    let (code, status) = cluster.get(&format!("{MAPS}?watch=true&sendInitialEvents=true")).await;
    assert_eq!(code, 422, "{status}");
    let silent = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
    let mut events = Events::open(&cluster, silent).await;
    assert_eq!(events.next().await, "ADDED a");
    assert_eq!(events.next().await, "ADDED b");
    create(&cluster, "c").await;
    assert_eq!(events.next().await, "ADDED c");
}

#[tokio::test]
async fn informers_of_both_kinds_see_everything() {
    let cluster = Cluster::start().await;
    create(&cluster, "a").await;
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let objects = watcher(maps(&cluster), config).default_backoff().applied_objects();
        let mut objects = std::pin::pin!(objects);
        let first = objects.try_next().await.unwrap().unwrap();
        assert_eq!(first.metadata.name.as_deref(), Some("a"));
    }
}

#[tokio::test]
async fn the_past_is_gone_and_the_future_not_yet_there() {
    let cluster = Cluster::start().await;
    create(&cluster, "a").await;
    let (code, status) = cluster.get(&format!("{MAPS}?watch=true&resourceVersion=999999")).await;
    assert_eq!(code, 504, "{status}");
    assert_eq!(status["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
    let now = cluster.store.revision().await.unwrap();
    create(&cluster, "b").await;
    cluster.store.compact(now).await.unwrap();
    let past = Revision(now.0 - 1);
    let query = format!("resourceVersion={past}&resourceVersionMatch=Exact");
    let (code, status) = cluster.get(&format!("{MAPS}?{query}")).await;
    assert_eq!((code, status["reason"].as_str()), (410, Some("Expired")), "{status}");
}

#[tokio::test]
async fn a_server_that_starts_anew_refuses_revisions_before_its_cache() {
    let cluster = Cluster::start().await;
    create(&cluster, "a").await;
    let daemon = pintle_component::Daemon::default();
    let config = pintle_apiserver::Config::default();
    let second =
        pintle_apiserver::ApiServer::new(cluster.store.clone(), config, &daemon).await.unwrap();
    let client = pintle_client::in_process(second.in_process(pintle_apiserver::UserInfo::admin()));
    let request = http::Request::get(format!("{MAPS}?watch=true&resourceVersion=1"));
    let body = kube::client::Body::empty();
    let response = client.send(request.body(body).unwrap()).await.unwrap();
    assert_eq!(response.status().as_u16(), 410);
    daemon.shutdown.cancel();
}
