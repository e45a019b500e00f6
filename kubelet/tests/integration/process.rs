//! The process runtime alone.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use pintle_kubelet::runtime::process::ProcessRuntime;
use pintle_kubelet::runtime::{ContainerRun, ContainerRuntime as _, ContainerSignal, PodRef};

use crate::machine::{Machine, pod_cidr};

fn pod(name: &str) -> PodRef {
    PodRef {
        namespace: "default".to_owned(),
        name: name.to_owned(),
        uid: format!("uid-{name}"),
        host_network: false,
    }
}

fn run(command: &[&str]) -> ContainerRun {
    ContainerRun {
        name: "main".to_owned(),
        restart: 0,
        command: command.iter().map(|&text| text.to_owned()).collect(),
        env: BTreeMap::from([("GREETING".to_owned(), "hello".to_owned())]),
        working_dir: None,
        memory_max_bytes: Some(64 << 20),
        cpu_max_milli: Some(500),
        cpu_request_milli: 100,
    }
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work).await.expect("in time")
}

async fn runtime(machine: &Machine, third: u8) -> ProcessRuntime {
    let config = machine.process_config();
    config.network.set_pod_cidr(pod_cidr(third)).await.unwrap();
    ProcessRuntime::new(config)
}

fn log(machine: &Machine, pod: &PodRef) -> String {
    let directory = format!("pods/{}_{}_{}/main/0.log", pod.namespace, pod.name, pod.uid);
    std::fs::read_to_string(machine.root.path().join(directory)).unwrap()
}

#[tokio::test]
#[ignore = "needs root"]
async fn a_command_runs_in_its_own_network_with_its_environment_and_log() {
    let machine = Machine::new("runs").await;
    let (runtime, pod) = (runtime(&machine, 1).await, pod("web-0"));
    let ip = runtime.create_sandbox(&pod).await.unwrap();
    let script = "echo $GREETING from $(hostname) in $PWD; echo bad >&2; \
                  cat /proc/self/cgroup; cat /proc/net/fib_trie; exit 7";
    let started = within(runtime.start(&pod, &run(&["sh", "-c", script]))).await.unwrap();
    let exit = within(started.exit).await.unwrap();
    assert_eq!((exit.code, exit.signal), (7, None));
    // The log's last lines follow the exit.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let log = log(&machine, &pod);
    assert!(log.contains(" stdout F hello from web-0 in /\n"), "{log}");
    assert!(log.contains(" stderr F bad\n"), "{log}");
    assert!(log.contains("/poduid-web-0/main\n"), "{log}");
    assert!(log.contains(&format!("|-- {ip}\n")), "{log}");
    runtime.remove_sandbox(&pod, true).await.unwrap();
    assert_eq!(machine.pods_left(), Vec::<String>::new());
    assert!(!machine.root.path().join("pods/default_web-0_uid-web-0").exists());
}

#[tokio::test]
#[ignore = "needs root"]
async fn a_command_that_is_not_there_is_named() {
    let machine = Machine::new("missing").await;
    let (runtime, pod) = (runtime(&machine, 2).await, pod("nope"));
    runtime.create_sandbox(&pod).await.unwrap();
    let error = within(runtime.start(&pod, &run(&["no-such-command"]))).await.unwrap_err();
    assert_eq!(error.message, "exec: \"no-such-command\": executable file not found in $PATH");
    let plain = machine.root.path().join("plain").display().to_string();
    std::fs::write(&plain, "").unwrap();
    let error = within(runtime.start(&pod, &run(&[&plain]))).await.unwrap_err();
    assert_eq!(error.message, format!("exec: {plain:?}: permission denied"));
    let mut elsewhere = run(&["true"]);
    elsewhere.working_dir = Some("/nowhere".to_owned());
    let error = within(runtime.start(&pod, &elsewhere)).await.unwrap_err();
    assert_eq!(error.message, "chdir to cwd (\"/nowhere\"): no such file or directory");
    runtime.remove_sandbox(&pod, true).await.unwrap();
}

#[tokio::test]
#[ignore = "needs root"]
async fn a_container_ends_by_term_or_kill_with_all_its_processes() {
    let machine = Machine::new("signals").await;
    let (runtime, pod) = (runtime(&machine, 3).await, pod("deaf"));
    runtime.create_sandbox(&pod).await.unwrap();
    let polite = within(runtime.start(&pod, &run(&["sleep", "1000"]))).await.unwrap();
    polite.signals.send(ContainerSignal::Terminate).await.unwrap();
    let exit = within(polite.exit).await.unwrap();
    assert_eq!((exit.code, exit.signal), (143, Some(15)));

    // The child survives its parent's SIGTERM handler, but not the container.
    let script = "trap '' TERM; sleep 1001 & wait; sleep 1001";
    let deaf = within(runtime.start(&pod, &run(&["sh", "-c", script]))).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    deaf.signals.send(ContainerSignal::Terminate).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    deaf.signals.send(ContainerSignal::Kill).await.unwrap();
    let exit = within(deaf.exit).await.unwrap();
    assert_eq!((exit.code, exit.signal), (137, Some(9)));
    runtime.remove_sandbox(&pod, true).await.unwrap();
    assert_eq!(machine.pods_left(), Vec::<String>::new());
}

#[tokio::test]
#[ignore = "needs root"]
async fn probes_see_the_pod_from_inside() {
    let machine = Machine::new("probes").await;
    let (runtime, pod) = (runtime(&machine, 4).await, pod("probed"));
    let ip = runtime.create_sandbox(&pod).await.unwrap();
    let run = run(&["sleep", "1000"]);
    let started = within(runtime.start(&pod, &run)).await.unwrap();
    let second = Duration::from_secs(1);
    let exec = |command: &str| vec!["sh".to_owned(), "-c".to_owned(), command.to_owned()];

    let output = runtime.exec(&pod, &run, &exec("echo $GREETING; exit 3"), second).await.unwrap();
    assert_eq!((output.code, output.output.as_str()), (3, "hello\n"));
    let error = runtime.exec(&pod, &run, &exec("sleep 1000"), second).await.unwrap_err();
    assert_eq!(error.message, "command timed out after 1s");

    let address = SocketAddr::from((ip, 8080));
    let refused = runtime.connect(&pod, address, None, second).await.unwrap_err();
    assert_eq!(refused.message, format!("dial tcp {ip}:8080: connect: connection refused"));
    let namespace = machine.network.as_ref().unwrap().nodes()[0].pod_namespace(&pod.uid);
    let listener = namespace.run_in(|| std::net::TcpListener::bind(address)).unwrap().unwrap();
    runtime.connect(&pod, address, None, second).await.unwrap();
    drop((listener, started));
    runtime.remove_sandbox(&pod, true).await.unwrap();
}
