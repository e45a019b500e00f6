//! A killed API server loses no write that it acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ListParams, ObjectMeta, PostParams};
use kube::{Api, ResourceExt as _};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use crate::server::{Server, free_address};

/// Writers create and update ConfigMaps while the server is killed; after every restart each name
/// holds at least the newest value that was acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn fifty_sigkills_lose_no_acknowledged_write() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let listen = free_address();
    let acknowledged = Acknowledged::default();
    for round in 0..ROUNDS {
        let server = Server::start_at(listen, &data_dir, &["--nodes=0"]).await;
        check(&server.client().await, &acknowledged, round).await;
        let writers: Vec<_> = (0..WRITERS)
            .map(|id| tokio::spawn(write(id, listen_client(&server), acknowledged.clone())))
            .collect();
        // Between a few and a few hundred writes into the round, at a different point each time.
        tokio::time::sleep(Duration::from_millis(20 + (round * 37) % 120)).await;
        server.kill();
        for writer in writers {
            writer.await.unwrap();
        }
    }
    let server = Server::start_at(listen, &data_dir, &["--nodes=0"]).await;
    check(&server.client().await, &acknowledged, ROUNDS).await;
    let written = acknowledged.writes.load(Ordering::Relaxed);
    assert!(written > ROUNDS * 10, "only {written} writes in {ROUNDS} rounds prove little");
    println!("{written} acknowledged writes survived {ROUNDS} kills");
}

#[derive(Clone, Default)]
struct Acknowledged {
    newest: Arc<Mutex<FxHashMap<String, u64>>>,
    writes: Arc<AtomicU64>,
}

fn listen_client(server: &Server) -> impl Future<Output = kube::Client> + Send + 'static {
    let kubeconfig = server.kubeconfig();
    async move { pintle_client::connect(Some(&kubeconfig)).await.unwrap() }
}

/// Write until the server is gone.
async fn write(id: u64, client: impl Future<Output = kube::Client>, acknowledged: Acknowledged) {
    let maps = Api::<ConfigMap>::default_namespaced(client.await);
    for number in 0.. {
        let name = format!("writer-{id}-{}", number % NAMES_PER_WRITER);
        let value = acknowledged.writes.fetch_add(1, Ordering::Relaxed) + 1;
        let data = [("value".to_owned(), value.to_string())].into();
        let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
        let map = ConfigMap { metadata, data: Some(data), ..ConfigMap::default() };
        let known = acknowledged.newest.lock().contains_key(&name);
        let result = if known {
            maps.replace(&name, &PostParams::default(), &map).await
        } else {
            maps.create(&PostParams::default(), &map).await
        };
        match result {
            Ok(_) => {
                acknowledged.newest.lock().insert(name, value);
            }
            // Durable but unacknowledged in an earlier round: it is known from now on.
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {
                acknowledged.newest.lock().insert(name, 0);
            }
            Err(_) => return,
        }
    }
}

async fn check(client: &kube::Client, acknowledged: &Acknowledged, round: u64) {
    let maps = Api::<ConfigMap>::default_namespaced(client.clone());
    let list = maps.list(&ListParams::default()).await.unwrap();
    let found: FxHashMap<String, u64> = list
        .into_iter()
        .filter_map(|map| Some((map.name_any(), map.data?.get("value")?.parse().ok()?)))
        .collect();
    for (name, newest) in acknowledged.newest.lock().iter() {
        let value = found.get(name);
        assert!(
            value.is_some_and(|value| value >= newest),
            "round {round}: {name} holds {value:?}, but {newest} was acknowledged"
        );
    }
}

const ROUNDS: u64 = 50;
const WRITERS: u64 = 8;
const NAMES_PER_WRITER: u64 = 20;
