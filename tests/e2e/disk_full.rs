//! A full disk: writes are refused with a clear Status, and nothing acknowledged is lost.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams};
use kube::{Api, ResourceExt};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::server::Server;

/// A small disk in memory, unmounted on drop.
struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    fn mount(path: PathBuf, size: &str) -> Self {
        std::fs::create_dir_all(&path).unwrap();
        let options = format!("size={size}");
        mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
            .unwrap();
        Self { path }
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
    }
}

fn big_map(number: usize) -> ConfigMap {
    let data = [("data".to_owned(), "x".repeat(MAP_BYTES))].into();
    let metadata = ObjectMeta { name: Some(format!("map-{number}")), ..ObjectMeta::default() };
    ConfigMap { metadata, data: Some(data), ..ConfigMap::default() }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root"]
async fn writes_are_refused_and_nothing_acknowledged_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(dir.path().join("disk"), "160m");
    let data_dir = disk.path().join("data");
    let server = Server::start(&data_dir, &["--nodes=0"]).await;
    let maps = Api::<ConfigMap>::default_namespaced(server.impatient_client().await);

    let mut acknowledged = 0;
    let refused = loop {
        assert!(acknowledged < 4096, "2 GiB fit on a disk of 160 MiB");
        match maps.create(&PostParams::default(), &big_map(acknowledged)).await {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
    };
    let kube::Error::Api(status) = refused else { panic!("no Status: {refused}") };
    assert_eq!(status.code, 503, "{status:?}");
    assert!(status.message.contains("space"), "{status:?}");
    assert!(acknowledged > 50, "only {acknowledged} maps fit");

    count(&maps, acknowledged).await;
    server.kill();
    let server = Server::start(&data_dir, &["--nodes=0"]).await;
    let maps = Api::<ConfigMap>::default_namespaced(server.impatient_client().await);
    count(&maps, acknowledged).await;
    maps.delete("map-0", &DeleteParams::default()).await.ok();
}

/// Every acknowledged map is there and whole. One more may be: it was written, but not in time.
async fn count(maps: &Api<ConfigMap>, acknowledged: usize) {
    let params = ListParams::default().labels("!nothing");
    let found = maps.list(&params).await.unwrap();
    let whole: Vec<String> = found
        .iter()
        .filter(|map| map.data.as_ref().is_some_and(|data| data["data"].len() == MAP_BYTES))
        .map(ResourceExt::name_any)
        .collect();
    for number in 0..acknowledged {
        let name = format!("map-{number}");
        assert!(whole.contains(&name), "{name} of {acknowledged} is lost");
    }
}

const MAP_BYTES: usize = 512 << 10;
