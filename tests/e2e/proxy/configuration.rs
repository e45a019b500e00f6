//! The command line, the configuration file and the manifests.

use std::path::Path;
use std::process::Stdio;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use pintle_api::decode;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::run;
use crate::server::pintle;

#[test]
fn a_configuration_that_is_wrong_stops_the_start_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let header = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";
    for (body, words) in [
        ("nodePortAdresses: [primary]", "unknown field \"nodePortAdresses\""),
        ("mode: userspace", "mode: Invalid value: \"userspace\""),
        ("featureGates: {AllAlfa: true}", "unrecognized feature gate: AllAlfa"),
        ("conntrack: {min: -1}", "conntrack.min: Invalid value: -1"),
        ("iptables: {syncPeriod: often}", "syncPeriod"),
        ("healthzBindAddress: nowhere", "healthzBindAddress: Invalid value: \"nowhere\""),
    ] {
        let path = dir.path().join("config.conf");
        std::fs::write(&path, format!("{header}{body}\n")).unwrap();
        let path = path.to_string_lossy().into_owned();
        let (code, _, text) = run(&["proxy", "--config", &path]);
        assert_eq!(code, Some(64), "{body}: {text}");
        assert_eq!(text.lines().count(), 1, "{body}: {text}");
        assert!(text.contains(&path) && text.contains(words), "{body}: {text}");
    }
    for (args, words) in [
        (&["--config", "/nonexistent/config.conf"][..], "read /nonexistent/config.conf"),
        (&["--cluster-cidr", "10.0.0.0"], "clusterCIDR: Invalid value: \"10.0.0.0\""),
        (&["--detect-local-mode", "Guess"], "detectLocalMode: Unsupported value: \"Guess\""),
        (&["--nodeport-addresses", "here"], "nodePortAddresses[0]: Invalid value: \"here\""),
        (&["--feature-gates", "A=true"], "unrecognized feature gate: A"),
        (&["--hostname-override", " "], "--hostname-override: must not be empty"),
        (&["--metrics-bind-address", "1.2.3.4:70000"], "metricsBindAddress: Invalid value"),
    ] {
        let (code, _, text) = run(&[&["proxy"][..], args].concat());
        assert_eq!(code, Some(64), "{args:?}: {text}");
        assert!(text.contains(words), "{args:?}: {text}");
    }
}

/// A command line that people have for kube-proxy gets as far as the API server.
#[test]
fn kube_proxys_flags_are_taken() {
    let (code, _, text) = run(&[
        "proxy",
        "--kubeconfig=/nonexistent/kubeconfig",
        "--proxy-mode=ipvs",
        "--ipvs-scheduler=lc",
        "--ipvs-strict-arp",
        "--ipvs-sync-period=30s",
        "--iptables-min-sync-period=1s",
        "--iptables-masquerade-bit=14",
        "--conntrack-max-per-core=0",
        "--cluster-cidr=10.244.0.0/16,fd00:10::/56",
        "--masquerade-all=true",
        "--nodeport-addresses=10.0.0.0/8,primary",
        "--feature-gates=AllAlpha=false,ContextualLogging=true",
        "--config-sync-period=15m",
        "--oom-score-adj=-998",
        "--profiling=false",
        "--v=2",
        "--cleanup=false",
    ]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("/nonexistent/kubeconfig"), "{text}");
    let (code, _, text) = run(&["proxy", "--cluster-cdr=10.0.0.0/8"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("--cluster-cdr"), "{text}");
}

fn manifest(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/proxy").join(name);
    let text = std::fs::read_to_string(path).unwrap();
    let documents = text.split("\n---\n").map(|text| {
        let document = decode::parse(text.as_bytes(), decode::Syntax::Yaml).unwrap();
        assert_eq!(document.duplicates, Vec::<String>::new());
        document.value
    });
    documents.collect()
}

fn typed<T: DeserializeOwned>(mut object: Value) -> T {
    for field in ["apiVersion", "kind"] {
        object.as_object_mut().unwrap().remove(field);
    }
    let (typed, unknown) = decode::read(&mut object).unwrap();
    assert_eq!(unknown, Vec::<String>::new());
    typed
}

/// The DaemonSet's own command line with the ConfigMap's files: all that stops it is that there is no
/// cluster.
#[test]
fn the_manifests_are_whole_and_taken() {
    let dir = tempfile::tempdir().unwrap();
    let daemon_set: DaemonSet = typed(manifest("daemonset.yaml").remove(0));
    let pod = daemon_set.spec.unwrap().template.spec.unwrap();
    let config_map: ConfigMap = typed(manifest("config.yaml").remove(0));
    for (file, text) in config_map.data.unwrap() {
        let text = text.replace("/var/lib/kube-proxy", &dir.path().to_string_lossy());
        std::fs::write(dir.path().join(file), text).unwrap();
    }
    // The kubeconfig's certificates are a pod's.
    std::fs::remove_file(dir.path().join("kubeconfig.conf")).unwrap();
    let container = &pod.containers[0];
    let args = container.args.iter().flatten().map(|arg| {
        let arg = arg.replace("/var/lib/kube-proxy", &dir.path().to_string_lossy());
        arg.replace("$(NODE_NAME)", "node-0")
    });
    let output = pintle().arg("proxy").args(args).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("kubeconfig.conf"), "{text}");
    let volumes = pod.volumes.unwrap();
    let source = volumes[0].config_map.as_ref().unwrap();
    assert_eq!(Some(&source.name), config_map.metadata.name.as_ref());

    let mut rbac = manifest("rbac.yaml");
    let binding: ClusterRoleBinding = typed(rbac.remove(2));
    let role: ClusterRole = typed(rbac.remove(1));
    assert_eq!(Some(&binding.role_ref.name), role.metadata.name.as_ref());
    let subject = &binding.subjects.unwrap()[0];
    assert_eq!(Some(&subject.name), pod.service_account_name.as_ref());
    let allows = |group: &str, resource: &str, verb: &str| {
        role.rules.iter().flatten().any(|rule| {
            let has =
                |list: &Option<Vec<String>>, it: &str| list.iter().flatten().any(|one| one == it);
            has(&rule.api_groups, group)
                && has(&rule.resources, resource)
                && rule.verbs.iter().any(|one| one == verb)
        })
    };
    for (group, resource, verbs) in [
        ("", "services", &["get", "list", "watch"][..]),
        ("", "nodes", &["get", "list", "watch"]),
        ("discovery.k8s.io", "endpointslices", &["list", "watch"]),
        ("", "events", &["create", "patch"]),
    ] {
        assert!(verbs.iter().all(|verb| allows(group, resource, verb)), "{resource}");
    }
}
