use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn sans(host: &str) -> Sans {
    Sans::new("0.0.0.0:6443".parse().unwrap(), "10.96.0.1".parse().unwrap(), Some(host))
}

#[test]
fn a_second_start_reuses_every_file() {
    let dir = tempfile::tempdir().unwrap();
    let first = ensure(dir.path(), &sans("a")).unwrap();
    let admin = std::fs::read_to_string(&first.admin_kubeconfig).unwrap();
    let second = ensure(dir.path(), &sans("a")).unwrap();
    assert_eq!(first.ca_pem, second.ca_pem);
    assert_eq!(first.serving_pem, second.serving_pem);
    assert_eq!(std::fs::read_to_string(&second.admin_kubeconfig).unwrap(), admin);
    assert!(admin.contains("server: https://127.0.0.1:6443"), "{admin}");
}

#[test]
fn other_names_reissue_the_serving_certificate_alone() {
    let dir = tempfile::tempdir().unwrap();
    let first = ensure(dir.path(), &sans("a")).unwrap();
    let second = ensure(dir.path(), &sans("b")).unwrap();
    assert_eq!(first.ca_pem, second.ca_pem);
    assert_ne!(first.serving_pem, second.serving_pem);
    second.server_config().unwrap();
}

#[test]
fn secrets_are_their_owners_alone() {
    let dir = tempfile::tempdir().unwrap();
    let pki = ensure(dir.path(), &sans("a")).unwrap();
    let node = pki.node_kubeconfig("node-1").unwrap();
    let key = dir.path().join("pki/ca.key");
    for path in [&pki.admin_kubeconfig, &node, &key] {
        let mode = std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
    }
}

#[test]
fn a_broken_ca_is_named() {
    let dir = tempfile::tempdir().unwrap();
    ensure(dir.path(), &sans("a")).unwrap();
    std::fs::write(dir.path().join("pki/ca.crt"), "nonsense").unwrap();
    let message = ensure(dir.path(), &sans("a")).unwrap_err().to_string();
    assert!(message.contains("ca.crt"), "{message}");
}
