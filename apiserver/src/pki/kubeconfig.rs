//! The text of a kubeconfig with everything embedded.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

pub(super) struct Fields<'a> {
    pub(super) server_url: &'a str,
    pub(super) ca_pem: &'a str,
    pub(super) user: &'a str,
    pub(super) certificate_pem: &'a str,
    pub(super) key_pem: &'a str,
}

pub(super) fn render(fields: &Fields<'_>) -> String {
    let Fields { server_url, user, .. } = fields;
    let ca = STANDARD.encode(fields.ca_pem);
    let certificate = STANDARD.encode(fields.certificate_pem);
    let key = STANDARD.encode(fields.key_pem);
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: pintle
  cluster:
    certificate-authority-data: {ca}
    server: {server_url}
contexts:
- name: {user}@pintle
  context:
    cluster: pintle
    user: {user}
current-context: {user}@pintle
preferences: {{}}
users:
- name: {user}
  user:
    client-certificate-data: {certificate}
    client-key-data: {key}
"
    )
}
