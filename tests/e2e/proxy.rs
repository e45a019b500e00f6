//! `pintle proxy` as an operator runs it: configuration, endpoints, tables, kills and clean-up.

mod churn;
mod configuration;
mod ipvs;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aya::programs::SchedClassifier;
use aya::programs::tc::TcAttachType;
use k8s_openapi::api::core::v1::{Event, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use pintle_dataplane::{NodeNamespace, Pins};
use serde_json::{Value, json};

use crate::server::{Server, free_address, pintle};

fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } =
        pintle().args(args).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (status.code(), text(stdout), text(stderr))
}

/// A cgroup of one test, removed at its end.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(name: &str) -> Self {
        let path = pintle_node::cgroup::find_or_mount().unwrap().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// A command that runs in it.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ >\"$0/cgroup.procs\" && exec \"$@\""]).arg(&self.0);
        command.arg(pintle().get_program()).args(args).stdin(Stdio::null());
        command
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for _ in 0..200 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A node whose name is this test's own, with a proxy that comes and goes. Its pins go at the end.
struct Node {
    name: String,
    cgroup: Cgroup,
    healthz: SocketAddr,
    metrics: SocketAddr,
    log: PathBuf,
    kubeconfig: PathBuf,
    proxy: Option<Child>,
}

impl Node {
    fn new(test: &str, dir: &Path, kubeconfig: PathBuf) -> Self {
        let name = format!("{test}-{}", std::process::id());
        Self {
            cgroup: Cgroup::new(&format!("pintle-{name}")),
            name,
            healthz: free_address(),
            metrics: free_address(),
            log: dir.join("proxy.log"),
            kubeconfig,
            proxy: None,
        }
    }

    fn start(&mut self, args: &[&str]) {
        let log = std::fs::File::options().create(true).append(true).open(&self.log).unwrap();
        let child = pintle()
            .args(["proxy", "--hostname-override", &self.name, "--cluster-cidr=10.244.0.0/16"])
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .arg("--cgroup")
            .arg(&self.cgroup.0)
            .args(["--healthz-bind-address", &self.healthz.to_string()])
            .args(["--metrics-bind-address", &self.metrics.to_string()])
            .args(args)
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.proxy = Some(child);
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.proxy.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn ready(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while get(self.healthz, "/readyz").is_none_or(|(status, _)| status != 200) {
            assert!(Instant::now() < deadline, "not ready: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Connections from the node's cgroup: how many were answered.
    fn connect(&self, to: SocketAddr, count: u32) -> u64 {
        let (to, count) = (to.to_string(), count.to_string());
        let output =
            self.cgroup.command(&["agnhost", "connect", &to, "--count", &count]).output().unwrap();
        let tally: Value = serde_json::from_slice(&output.stdout).unwrap();
        answered(&tally)
    }

    fn show(&self, args: &[&str]) -> (Option<i32>, String, String) {
        run(&[&["proxy"][..], args, &["--node", &self.name]].concat())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        Pins::of("machine", &self.name).remove().unwrap();
    }
}

fn answered(tally: &Value) -> u64 {
    tally["answered"].as_object().unwrap().values().filter_map(Value::as_u64).sum()
}

fn get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
    let text = std::io::read_to_string(stream).ok()?;
    let status = text.split(' ').nth(1)?.parse().ok()?;
    Some((status, text.split_once("\r\n\r\n")?.1.to_owned()))
}

/// An address of this machine that is no loopback one, which endpoints may not have.
fn own_address() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("192.0.2.1:9").unwrap();
    socket.local_addr().unwrap().ip()
}

/// A backend that answers `GET /hostname` until it is dropped.
struct Backend {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
}

impl Backend {
    fn start() -> Self {
        let listener = TcpListener::bind((own_address(), 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(mut stream) = stream else { continue };
                // To the end: what is left unread would reset the connection.
                let (mut request, mut buffer) = (Vec::new(), [0; 256]);
                while !request.ends_with(b"\r\n\r\n") {
                    match std::io::Read::read(&mut stream, &mut buffer) {
                        Ok(length) if length > 0 => request.extend_from_slice(&buffer[..length]),
                        _ => break,
                    }
                }
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            }
        });
        Self { address, stop }
    }

    fn slice(&self, name: &str) -> EndpointSlice {
        serde_json::from_value(json!({
            "metadata": { "name": name, "labels": { "kubernetes.io/service-name": "web" } },
            "addressType": "IPv4",
            "ports": [{ "name": "http", "protocol": "TCP", "port": self.address.port() }],
            "endpoints": [{ "addresses": [self.address.ip()], "conditions": { "ready": true } }],
        }))
        .unwrap()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

/// The Service `web`, without a selector. Returns its address.
async fn service(client: &kube::Client) -> SocketAddr {
    let service: Service = serde_json::from_value(json!({
        "metadata": { "name": "web" },
        "spec": { "ports": [{ "name": "http", "port": 80 }] },
    }))
    .unwrap();
    let services = Api::<Service>::namespaced(client.clone(), "default");
    let made = services.create(&PostParams::default(), &service).await.unwrap();
    let ip: IpAddr = made.spec.unwrap().cluster_ip.unwrap().parse().unwrap();
    SocketAddr::new(ip, 80)
}

/// The programs on this machine's links where packets come in.
fn ingress_programs() -> BTreeSet<u32> {
    let links = NodeNamespace::Own.links().unwrap();
    let ethernet = links.iter().filter(|link| link.ethernet);
    let programs = ethernet.flat_map(|link| {
        let (_, programs) =
            SchedClassifier::query_tcx(&link.name, TcAttachType::Ingress).unwrap_or_default();
        programs.into_iter().map(|program| program.id()).collect::<Vec<_>>()
    });
    programs.collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root"]
async fn a_proxy_serves_shows_its_tables_survives_its_death_and_cleans_up() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &["--nodes=0"]).await;
    let client = server.client().await;
    let web = service(&client).await;
    let backend = Backend::start();
    let slices = Api::<EndpointSlice>::namespaced(client, "default");
    slices.create(&PostParams::default(), &backend.slice("web-1")).await.unwrap();
    let before = ingress_programs();

    let mut node = Node::new("proxy", dir.path(), server.kubeconfig());
    node.start(&["--ipvs-scheduler=rr", "-v=2"]);
    node.ready();
    assert!(node.log().contains("have no effect here: --ipvs-scheduler"), "{}", node.log());
    assert_eq!(node.connect(web, 3), 3);
    check_endpoints(&node);
    check_tables(&node, web, backend.address);
    let ours: BTreeSet<u32> = &ingress_programs() - &before;
    assert!(!ours.is_empty(), "the links' packets are translated");

    node.kill();
    assert_eq!(node.connect(web, 3), 3, "without a process");
    check_tables(&node, web, backend.address);

    node.start(&[]);
    node.ready();
    assert_eq!(node.connect(web, 3), 3, "with the next process");
    node.kill();
    let (code, _, text) = run(&["proxy", "--cleanup", "--hostname-override", &node.name]);
    assert_eq!(code, Some(0), "{text}");
    assert!(!Pins::of("machine", &node.name).path().exists());
    let gone = (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        ours.is_disjoint(&ingress_programs())
    });
    assert!(gone, "programs are left on the links");
    assert_eq!(node.connect(web, 1), 0, "nothing is translated any more");
    let (code, _, text) = node.show(&["services"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&format!("no tables of node {} on this machine", node.name)), "{text}");
    assert!(server.terminate().await.success());
}

fn check_endpoints(node: &Node) {
    let (status, body) = get(node.healthz, "/healthz").unwrap();
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &body["nodeEligible"]), (200, &json!(true)), "{body}");
    assert_eq!(get(node.metrics, "/proxyMode").unwrap(), (200, "ebpf".to_owned()));
    let (_, configz) = get(node.metrics, "/configz").unwrap();
    let configz: Value = serde_json::from_str(&configz).unwrap();
    assert_eq!(configz["kubeproxy.config.k8s.io"]["clusterCIDR"], "10.244.0.0/16");
    let (_, text) = get(node.metrics, "/metrics").unwrap();
    for name in [
        "kubeproxy_sync_proxy_rules_duration_seconds_bucket{",
        "kubeproxy_sync_proxy_rules_last_timestamp_seconds{",
        "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{",
        "kubeproxy_sync_proxy_rules_endpoint_changes_pending{",
        "kubeproxy_sync_proxy_rules_endpoint_changes_total{",
        "kubeproxy_sync_proxy_rules_service_changes_pending{",
        "kubeproxy_sync_proxy_rules_service_changes_total{",
        "kubeproxy_sync_proxy_rules_no_local_endpoints_total{",
        "kubeproxy_proxy_healthz_total{",
        "pintle_dataplane_service_packets_total{",
        "pintle_dataplane_service_bytes_total{",
        "pintle_dataplane_events_total{",
    ] {
        assert!(text.contains(name), "{name}: {text}");
    }
    let counted = text.lines().find(|line| {
        line.starts_with("pintle_dataplane_service_connections_total{")
            && line.contains("service=\"web\",port=\"http\",protocol=\"TCP\",ip_family=\"IPv4\"")
    });
    assert!(counted.is_some_and(|line| line.ends_with("} 3")), "{text}");
}

fn check_tables(node: &Node, web: SocketAddr, backend: SocketAddr) {
    let (code, text, errors) = node.show(&["services", "web"]);
    assert_eq!(code, Some(0), "{errors}");
    let lines: Vec<&str> = text.lines().collect();
    let header = "NAMESPACE   NAME   KIND        ADDRESS";
    assert!(lines[0].starts_with(header), "{text}");
    let words: Vec<&str> = lines[1].split_whitespace().collect();
    let ip = web.ip().to_string();
    assert_eq!(words[..6], ["default", "web", "ClusterIP", &ip, "http:80/TCP", "1"], "{text}");
    let json = |args: &[&str]| -> Value {
        let (code, text, errors) = node.show(args);
        assert_eq!(code, Some(0), "{errors}");
        serde_json::from_str(&text).unwrap()
    };
    let rows = json(&["services", "web", "-o", "json"]);
    assert_eq!(rows[0]["address"], ip);
    assert!(rows[0]["connections"].as_u64().unwrap() >= 3, "{rows}");
    let rows = json(&["backends", "-n", "default", "web", "-o", "json"]);
    assert_eq!(rows[0]["backend"], backend.to_string());
    assert_eq!(rows[0]["node"], node.name);
    let rows = json(&["connections", "-o", "json"]);
    assert!(rows.is_array(), "{rows}");
    let (to, from) = (web.to_string(), "10.244.0.9:4000");
    let traced = json(&["trace", "tcp", from, &to, "-o", "json"]);
    assert_eq!((&traced["verdict"], &traced["place"]), (&json!("backend"), &json!("pod")));
    assert_eq!(traced["backends"], json!([backend]));
    let (_, text, _) = node.show(&["trace", "tcp", from, &to]);
    assert!(text.contains("Rule:      the only endpoint"), "{text}");
    let (_, text, _) = node.show(&["trace", "udp", from, &to]);
    assert!(text.contains("is no Service's address"), "{text}");
}

/// An address that another Service has, and a node port that a process has: an Event and a number each,
/// and nobody else is kept from being served.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root"]
async fn what_cannot_be_served_is_an_event_and_a_number() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &["--nodes=0"]).await;
    let client = server.client().await;
    let (web, backend) = (service(&client).await, Backend::start());
    let slices = Api::<EndpointSlice>::namespaced(client.clone(), "default");
    slices.create(&PostParams::default(), &backend.slice("web-1")).await.unwrap();
    let mut node = Node::new("taken", dir.path(), server.kubeconfig());
    node.start(&[]);
    node.ready();

    let number = (30_100..32_000).find(|number| TcpListener::bind(("0.0.0.0", *number)).is_ok());
    let listener = TcpListener::bind(("0.0.0.0", number.unwrap())).unwrap();
    let number = listener.local_addr().unwrap().port();
    let services = Api::<Service>::namespaced(client.clone(), "default");
    for (name, spec) in [
        ("first", json!({ "externalIPs": ["198.51.100.77"], "ports": [{ "port": 81 }] })),
        ("second", json!({ "externalIPs": ["198.51.100.77"], "ports": [{ "port": 81 }] })),
        ("busy", json!({ "type": "NodePort", "ports": [{ "port": 80, "nodePort": number }] })),
    ] {
        let service = json!({ "metadata": { "name": name }, "spec": spec });
        let service = serde_json::from_value(service).unwrap();
        services.create(&PostParams::default(), &service).await.unwrap();
    }
    let refused = event(&client, "second", "FailedToServe").await;
    let words = "198.51.100.77:81 is not served: the address belongs to Service default/first";
    assert!(refused.ends_with(words) && refused.contains(&node.name), "{refused}");
    let taken = event(&client, "busy", "NodePortInUse").await;
    assert!(taken.contains(&format!("a process listens at node port {number}/TCP")), "{taken}");
    let (_, text) = get(node.metrics, "/metrics").unwrap();
    for (metric, value) in [("rejected", 1), ("node_ports_taken_total", 1)] {
        let line = format!("pintle_dataplane_{metric}{{node=\"{}\"}} {value}", node.name);
        assert!(text.contains(&line), "{line}: {text}");
    }
    assert_eq!(node.connect(web, 3), 3, "the others are served");

    // As soon as the address is free, whoever waits for it has it.
    services.delete("first", &DeleteParams::default()).await.unwrap();
    let none = format!("pintle_dataplane_rejected{{node=\"{}\"}} 0", node.name);
    let served = (0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        get(node.metrics, "/metrics").unwrap().1.contains(&none)
    });
    assert!(served, "{}", node.log());
    assert!(server.terminate().await.success());
}

/// Wait for the Event of a Service, and return what it says.
async fn event(client: &kube::Client, service: &str, reason: &str) -> String {
    let events = Api::<Event>::namespaced(client.clone(), "default");
    for _ in 0..500 {
        let list = events.list(&ListParams::default()).await.unwrap();
        let found = list.items.into_iter().find(|event| {
            let name = event.involved_object.name.as_deref();
            name == Some(service) && event.reason.as_deref() == Some(reason)
        });
        if let Some(event) = found {
            assert_eq!(event.involved_object.kind.as_deref(), Some("Service"));
            assert_eq!(event.type_.as_deref(), Some("Warning"));
            return event.message.unwrap_or_default();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no Event {reason} of Service {service}");
}

/// A bpf file system that the proxy had to mount goes with it; one that was there stays.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root"]
async fn a_bpf_file_system_of_ours_is_unmounted() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &["--nodes=0"]).await;
    let name = format!("mount-{}", std::process::id());
    let cgroup = Cgroup::new(&format!("pintle-{name}"));
    let healthz = free_address();
    // In a mount namespace of its own, where nothing is mounted there.
    let script = "
        while umount /sys/fs/bpf 2>/dev/null; do :; done
        bpf() { grep -c ' /sys/fs/bpf .* - bpf ' /proc/self/mountinfo; }
        test \"$(bpf)\" = 0
        \"$PINTLE\" proxy --hostname-override \"$NAME\" --kubeconfig \"$KUBECONFIG\" \
            --cgroup \"$GROUP\" --healthz-bind-address \"$HEALTHZ\" --metrics-bind-address= &
        proxy=$!
        n=0
        until test -e /sys/fs/bpf/pintle/machine/$NAME/v*/FRONTENDS; do
            n=$((n + 1)); test $n -lt 300; sleep 0.1
        done
        kill -9 $proxy; wait $proxy || :
        test \"$(bpf)\" = 1
        \"$PINTLE\" proxy --cleanup --hostname-override \"$NAME\"
        test \"$(bpf)\" = 0
        mount -t bpf bpf /sys/fs/bpf
        \"$PINTLE\" proxy --cleanup --hostname-override \"$NAME\"
        test \"$(bpf)\" = 1
    ";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-exuc", script])
        .env("PINTLE", pintle().get_program())
        .env("NAME", &name)
        .env("KUBECONFIG", server.kubeconfig())
        .env("GROUP", &cgroup.0)
        .env("HEALTHZ", healthz.to_string())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    assert!(said.contains("unmounted the bpf file system"), "{said}");
    assert!(server.terminate().await.success());
}
