//! What the command line refuses, in one line and with an exit code.

use std::process::{Output, Stdio};

use crate::server::{Server, free_address, pintle};

fn run(args: &[&str]) -> (Option<i32>, String) {
    let output: Output = pintle().args(args).stdin(Stdio::null()).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn last_line(text: &str) -> &str {
    text.trim_end().lines().last().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_on_the_same_data_directory() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let server = Server::start(&data_dir, &["--nodes=0"]).await;
    let data = data_dir.to_string_lossy().into_owned();
    let listen = free_address().to_string();
    let (code, text) = run(&["standalone", "--nodes=0", "--listen", &listen, "--data-dir", &data]);
    assert_eq!(code, Some(1), "{text}");
    assert!(last_line(&text).starts_with("pintle: "), "{text}");
    assert!(last_line(&text).contains(&data), "{text}");
    server.kubectl_ok(&["get", "namespaces"]);
    assert!(server.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("one"), &["--nodes=0"]).await;
    let listen = server.listen().to_string();
    let two = dir.path().join("two").to_string_lossy().into_owned();
    let (code, text) = run(&["standalone", "--nodes=0", "--listen", &listen, "--data-dir", &two]);
    assert_eq!(code, Some(1), "{text}");
    assert!(last_line(&text).contains(&listen), "{text}");
}

#[test]
fn a_data_directory_that_is_a_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_string_lossy().into_owned();
    let listen = free_address().to_string();
    let (code, text) = run(&["standalone", "--nodes=0", "--listen", &listen, "--data-dir", &path]);
    assert_eq!(code, Some(1), "{text}");
    assert!(last_line(&text).contains(&path), "{text}");
}

#[test]
fn values_that_make_no_sense() {
    for (args, names) in [
        (&["standalone", "--listen", "nowhere"][..], "--listen"),
        (&["standalone", "--runtime", "docker"], "--runtime"),
        (&["standalone", "--nodes", "-1"], "-1"),
        (&["standalone", "--event-ttl", "0s"], "--event-ttl"),
        (&["standalone", "--log-format", "xml"], "--log-format"),
        (&["--log", "pintle=verbose", "standalone"], "pintle=verbose"),
        (&["standalone", "--nodes", "100000", "--runtime", "process"], "--nodes"),
    ] {
        let (code, text) = run(args);
        assert!(matches!(code, Some(2 | 64)), "{args:?}: {code:?} {text}");
        assert!(text.contains(names), "{args:?}: {text}");
    }
}

#[test]
fn a_kubeconfig_that_is_not_there() {
    for part in ["scheduler", "controller-manager", "kubelet", "proxy"] {
        let (code, text) = run(&[part, "--kubeconfig", "/nonexistent/kubeconfig"]);
        assert_eq!(code, Some(1), "{part}: {text}");
        assert!(last_line(&text).contains("/nonexistent/kubeconfig"), "{part}: {text}");
    }
}

#[test]
fn help_and_version_read_well() {
    let output = pintle().arg("--version").output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        concat!("pintle ", env!("CARGO_PKG_VERSION"), "\n")
    );
    let output = pintle().args(["standalone", "--help"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    for flag in ["--nodes <N>", "--data-dir <DIR>", "--listen <ADDR:PORT>", "--runtime <RUNTIME>"] {
        assert!(text.contains(flag), "{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
}
