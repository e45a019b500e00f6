//! What kube-proxy's mode IPVS leaves: seen at the start, and cleared.
//!
//! The kernel's virtual servers are not needed for it: a link of kube-proxy's name, and tools that note
//! what they are told.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pintle_node::NetNs;

use crate::server::pintle;

/// A network namespace with what kube-proxy has left in it, and the tools.
struct Left {
    namespace: NetNs,
    dir: tempfile::TempDir,
}

impl Left {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let namespace = NetNs::create(&format!("pintle-ipvs-{}", std::process::id())).unwrap();
        let left = Self { namespace, dir };
        // Of any kind: it is known by its name.
        left.ip(&["link", "add", "kube-ipvs0", "type", "bridge"]);
        left.ip(&["link", "add", "eth0", "type", "bridge"]);
        left.tool("ipvsadm", "");
        left.tool(
            "ipset",
            "[ \"$1\" != list ] || printf 'KUBE-CLUSTER-IP\\nothers\\nKUBE-LOOP-BACK\\n'",
        );
        let kubeconfig = "{apiVersion: v1, kind: Config, current-context: it, \
                          clusters: [{name: it, cluster: {server: \"http://127.0.0.1:1\"}}], \
                          contexts: [{name: it, context: {cluster: it, user: it}}], \
                          users: [{name: it, user: {}}]}";
        std::fs::write(left.path("kubeconfig"), kubeconfig).unwrap();
        left
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn ip(&self, args: &[&str]) {
        let status = Command::new("ip").args(["-n", self.namespace.name()]).args(args).status();
        assert!(status.unwrap().success(), "{args:?}");
    }

    fn tool(&self, name: &str, does: &str) {
        let path = self.path(name);
        let told = self.path("told");
        let script = format!("#!/bin/sh\necho {name} \"$@\" >> {}\n{does}\n", told.display());
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn told(&self) -> String {
        std::fs::read_to_string(self.path("told")).unwrap_or_default()
    }

    fn links(&self) -> String {
        let shown = Command::new("ip").args(["-n", self.namespace.name(), "link"]).output();
        String::from_utf8(shown.unwrap().stdout).unwrap()
    }

    /// `pintle proxy` in the namespace, where it sees these tools first.
    fn proxy(&self, args: &[&str], log: &Path) -> Child {
        let path = std::env::var("PATH").unwrap();
        Command::new("ip")
            .args(["netns", "exec", self.namespace.name(), "env"])
            .arg(format!("PATH={}:{path}", self.dir.path().display()))
            .arg(pintle().get_program())
            .args(["proxy", "--hostname-override", self.namespace.name()])
            .args(args)
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(log).unwrap())
            .spawn()
            .unwrap()
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        let _ = self.namespace.delete();
    }
}

#[test]
#[ignore = "needs root"]
fn what_the_mode_ipvs_has_left_is_named_and_cleared() {
    let left = Left::new();
    let log = left.path("log");
    let kubeconfig = left.path("kubeconfig").to_string_lossy().into_owned();
    // It waits for the Node then, whom nobody tells it of.
    let waits = ["--kubeconfig", &kubeconfig, "--detect-local-mode", "NodeCIDR"];
    let silent = ["--healthz-bind-address", "", "--metrics-bind-address", ""];
    let mut child = left.proxy(&[&waits[..], &silent].concat(), &log);
    let deadline = Instant::now() + Duration::from_secs(60);
    let said = loop {
        let said = std::fs::read_to_string(&log).unwrap();
        if said.contains("IPVS servers are still there") || Instant::now() > deadline {
            break said;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(said.contains("IPVS servers are still there") && said.contains("sets=2"), "{said}");
    assert_eq!(left.told(), "ipset list -name\n", "nothing is changed");
    assert!(left.links().contains("kube-ipvs0"));

    let mut child = left.proxy(&["--cleanup", "--clear-kube-proxy-rules"], &log);
    assert!(child.wait().unwrap().success(), "{}", std::fs::read_to_string(&log).unwrap());
    let cleared = "ipset list -name\nipset list -name\nipvsadm --clear\n\
                   ipset destroy KUBE-CLUSTER-IP\nipset destroy KUBE-LOOP-BACK\n";
    assert_eq!(left.told(), cleared, "other sets stay");
    assert!(!left.links().contains("kube-ipvs0") && left.links().contains("eth0"));
}
