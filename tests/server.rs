//! A `pintle standalone` of the test's own: free port, temporary data directory, killed on drop.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A running server and what is needed to talk to it.
pub(crate) struct Server {
    child: Child,
    data_dir: PathBuf,
    listen: SocketAddr,
    log: PathBuf,
}

impl Server {
    /// Start on a data directory that the caller owns, and wait until it is ready.
    pub(crate) async fn start(data_dir: &Path, args: &[&str]) -> Self {
        Self::start_at(free_address(), data_dir, args).await
    }

    /// As [`Server::start`], on a fixed address, so that a restarted server is found again.
    pub(crate) async fn start_at(listen: SocketAddr, data_dir: &Path, args: &[&str]) -> Self {
        Self::spawn("standalone", listen, data_dir, args).await
    }

    /// As [`Server::start`], with another subcommand than `standalone`.
    pub(crate) async fn start_part(command: &str, data_dir: &Path, args: &[&str]) -> Self {
        Self::spawn(command, free_address(), data_dir, args).await
    }

    async fn spawn(command: &str, listen: SocketAddr, data_dir: &Path, args: &[&str]) -> Self {
        let log = data_dir.with_extension("log");
        let output = File::options().create(true).append(true).open(&log).unwrap();
        let child = pintle()
            .args([command, "--listen", &listen.to_string(), "--data-dir"])
            .arg(data_dir)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output)
            .spawn()
            .unwrap();
        let mut server = Self { child, data_dir: data_dir.to_path_buf(), listen, log };
        server.wait_ready().await;
        server
    }

    async fn wait_ready(&mut self) {
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("server ended with {status}:\n{}", self.log());
            }
            if let Ok(client) = pintle_client::connect(Some(&self.kubeconfig())).await {
                let request = http::Request::get("/readyz").body(Vec::new()).unwrap();
                if client.request_text(request).await.is_ok() {
                    return;
                }
            }
            assert!(Instant::now() < deadline, "server is not ready:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn client(&self) -> kube::Client {
        pintle_client::connect(Some(&self.kubeconfig())).await.unwrap()
    }

    /// A client that reports 429 and 503 at once, where kube's default retries for minutes.
    pub(crate) async fn impatient_client(&self) -> kube::Client {
        let kubeconfig = kube::config::Kubeconfig::read_from(self.kubeconfig()).unwrap();
        let options = kube::config::KubeConfigOptions::default();
        let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
        config.default_retry = false;
        kube::Client::try_from(config).unwrap()
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.data_dir.join("admin.kubeconfig")
    }

    pub(crate) fn listen(&self) -> SocketAddr {
        self.listen
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Run kubectl against this server, with a discovery cache of its own.
    pub(crate) fn kubectl(&self, args: &[&str]) -> Output {
        Command::new("kubectl")
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .arg("--cache-dir")
            .arg(self.data_dir.join("kubectl-cache"))
            .args(args)
            .stdin(Stdio::null())
            .output()
            .expect("kubectl is installed by scripts/setup")
    }

    /// Run kubectl and return what it printed; it must succeed.
    pub(crate) fn kubectl_ok(&self, args: &[&str]) -> String {
        let output = self.kubectl(args);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "kubectl {args:?}: {}\n{text}\n{}\nserver log:\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr),
            self.log(),
        );
        text
    }

    /// SIGKILL: nothing is flushed, nothing is said.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and wait for the end.
    pub(crate) async fn terminate(mut self) -> ExitStatus {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        let deadline = Instant::now() + STOP_TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "server does not stop:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.log);
    }
}

/// The binary under test.
pub(crate) fn pintle() -> Command {
    Command::new(env!("CARGO_BIN_EXE_pintle"))
}

/// A loopback address that is free. Each is given once, and none is of the range that the kernel takes
/// the ports of connections from, so that it still is when a server comes to listen there.
pub(crate) fn free_address() -> SocketAddr {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id() * 150 + GIVEN.fetch_add(1, Ordering::Relaxed);
        let port = 12_000 + u16::try_from(number % 18_000).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

const READY_TIMEOUT: Duration = Duration::from_secs(30);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
