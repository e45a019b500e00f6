//! The parts as processes of their own, each with its own identity, and their health endpoints.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::scheduler::Scheduler;
use crate::server::{Server, free_address, pintle};

/// One part as a child, killed on drop.
struct Part {
    child: Child,
    port: u16,
}

impl Part {
    fn start(command: &str, kubeconfig: &Path, args: &[&str]) -> Self {
        let port = free_address().port();
        let child = pintle()
            .arg(command)
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .args(["--port", &port.to_string()])
            .args(args)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, port }
    }

    async fn get(&self, path: &str) -> Option<(u16, String)> {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let (mut reader, mut writer) = stream.into_split();
        tokio::io::AsyncWriteExt::write_all(&mut writer, request.as_bytes()).await.ok()?;
        let mut text = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut reader, &mut text).await.ok()?;
        let status = text.split(' ').nth(1)?.parse().ok()?;
        Some((status, text.split_once("\r\n\r\n")?.1.to_owned()))
    }

    async fn ready(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut last = None;
        while Instant::now() < deadline {
            last = self.get("/readyz").await;
            if last.as_ref().is_some_and(|(status, _)| *status == 200) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("not ready: {last:?}");
    }

    /// SIGTERM; the part must end cleanly.
    async fn stop(mut self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "{status}");
                return;
            }
            assert!(Instant::now() < deadline, "does not stop");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `pintle apiserver` has no controllers of its own: what gets done is done by the other processes.
#[tokio::test(flavor = "multi_thread")]
async fn each_part_alone_makes_a_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start_part("apiserver", &data, &["--kubelet-kubeconfig=solo"]).await;
    let kubeconfig = |name: &str| data.join(format!("pki/{name}.kubeconfig"));

    let controllers =
        Part::start("controller-manager", &kubeconfig("kube-controller-manager"), &[]);
    let scheduler = Part::start("scheduler", &kubeconfig("kube-scheduler"), &["--secure-port=0"]);
    controllers.ready().await;
    scheduler.ready().await;
    let root_dir = dir.path().join("kubelet").to_string_lossy().into_owned();
    let flags = ["--runtime=hollow", "--hostname-override=solo", "--root-dir", &root_dir];
    let kubelet = Part::start("kubelet", &kubeconfig("kubelet-solo"), &flags);
    kubelet.ready().await;

    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/hello.yaml");
    server.kubectl_ok(&["apply", "-f", manifest]);
    server.kubectl_ok(&["rollout", "status", "deployment/hello", "--timeout=60s"]);
    let nodes = ["get", "pods", "-o", "jsonpath={.items[*].spec.nodeName}"];
    assert_eq!(server.kubectl_ok(&nodes), "solo solo solo solo solo solo");

    let (status, metrics) = scheduler.get("/metrics").await.unwrap();
    assert_eq!(status, 200);
    assert!(metrics.contains("scheduler_schedule_attempts_total"), "{metrics}");
    for part in [kubelet, scheduler, controllers] {
        assert_eq!(part.get("/livez").await.unwrap(), (200, "ok".to_owned()));
        part.stop().await;
    }
    assert!(server.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_anonymous() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &["--nodes=0"]).await;
    let kubeconfig = dir.path().join("nobody.kubeconfig");
    let text = std::fs::read_to_string(server.kubeconfig()).unwrap();
    let without_user: String = text
        .lines()
        .filter(|line| {
            !line.contains("client-certificate-data") && !line.contains("client-key-data")
        })
        .map(|line| format!("{line}\n"))
        .collect();
    assert_ne!(text.lines().count(), without_user.lines().count());
    std::fs::write(&kubeconfig, without_user).unwrap();
    let nobody = pintle_client::connect(Some(&kubeconfig)).await.unwrap();
    let refused = kube::Api::<k8s_openapi::api::core::v1::Namespace>::all(nobody)
        .list(&kube::api::ListParams::default())
        .await
        .unwrap_err();
    let kube::Error::Api(status) = refused else { panic!("{refused}") };
    assert_eq!((status.code, status.reason.as_str()), (401, "Unauthorized"));
}

/// The scheduler's port over TLS asks the API server whose token it is shown.
#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_for_those_whom_the_api_server_lets() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = dir.path().join("tokens");
    std::fs::write(&tokens, "s3cret,prometheus,1,system:masters\nweak,jane,2\n").unwrap();
    let tokens = format!("--token-auth-file={}", tokens.display());
    let server = Server::start(&dir.path().join("data"), &["--nodes=0", &tokens]).await;
    let configuration = "apiVersion: kubescheduler.config.k8s.io/v1\n\
                         kind: KubeSchedulerConfiguration\nleaderElection: {leaderElect: false}\n";
    let scheduler = Scheduler::start(&server, dir.path(), "watched", configuration);
    let url = format!("https://127.0.0.1:{}", scheduler.secure_port());
    let get = async |path: &str, token: Option<&str>| {
        let mut config = kube::Config::new(url.parse().unwrap());
        config.accept_invalid_certs = true;
        config.auth_info.token = token.map(|token| token.to_owned().into());
        let client = kube::Client::try_from(config).unwrap();
        let request = http::Request::get(path).body(kube::client::Body::empty()).unwrap();
        client.send(request).await.map(|response| response.status().as_u16())
    };
    crate::scheduler::until("it listens", &[&scheduler], async || {
        get("/healthz", None).await.is_ok_and(|status| status == 200)
    })
    .await;
    for (token, status) in
        [(Some("s3cret"), 200), (Some("weak"), 403), (Some("guess"), 401), (None, 403)]
    {
        assert_eq!(get("/metrics", token).await.unwrap(), status, "{token:?}");
    }
    drop(scheduler);
    assert!(server.terminate().await.success());
}
