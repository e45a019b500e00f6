//! Reviews: who a token is, and who may do what.

use pintle_apiserver::Config;
use serde_json::{Value, json};

use crate::cluster::Cluster;

const TOKENS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const ACCESS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
const OWN_ACCESS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
const LOCAL: &str = "/apis/authorization.k8s.io/v1/namespaces/a/localsubjectaccessreviews";

async fn cluster() -> Cluster {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "s3cret,jane,1,\"system:masters,ops\"\n").unwrap();
    let token_file = Some(file.path().to_owned());
    Cluster::start_with(Config { token_file, ..Config::default() }).await
}

async fn review(cluster: &Cluster, path: &str, spec: Value) -> (u16, Value) {
    cluster.send("POST", path, &json!({ "spec": spec })).await
}

#[tokio::test]
async fn a_token_is_somebodys_or_nobodys() {
    let cluster = cluster().await;
    let (code, answer) = review(&cluster, TOKENS, json!({ "token": "s3cret" })).await;
    assert_eq!((code, answer["kind"].as_str()), (201, Some("TokenReview")));
    let groups = ["system:masters", "ops", "system:authenticated"];
    let user = json!({ "username": "jane", "groups": groups });
    assert_eq!(answer["status"], json!({ "authenticated": true, "user": user }));
    let (_, answer) = review(&cluster, TOKENS, json!({ "token": "guess" })).await;
    assert_eq!(answer["status"], json!({ "user": {} }));
    let (code, status) = review(&cluster, TOKENS, json!({})).await;
    assert_eq!(code, 400);
    assert_eq!(status["message"], "token is required for TokenReview in authentication");
    assert_eq!(cluster.get(TOKENS).await.0, 405);
}

#[tokio::test]
async fn access_is_what_the_requests_themselves_would_meet() {
    let cluster = cluster().await;
    let binding = json!({ "verb": "create", "resource": "pods", "subresource": "binding" });
    let metrics = json!({ "verb": "get", "path": "/metrics" });
    for (spec, allowed) in [
        (json!({ "user": "system:kube-scheduler", "resourceAttributes": binding }), true),
        (json!({ "user": "jane", "resourceAttributes": binding }), false),
        (json!({ "user": "jane", "nonResourceAttributes": metrics }), false),
        (json!({ "groups": ["system:masters"], "nonResourceAttributes": metrics }), true),
        (json!({ "user": "jane", "resourceAttributes": { "verb": "*", "resource": "*" } }), false),
    ] {
        let (code, answer) = review(&cluster, ACCESS, spec.clone()).await;
        assert_eq!((code, answer["status"]["allowed"].as_bool()), (201, Some(allowed)), "{spec}");
    }
    let (_, answer) = review(&cluster, OWN_ACCESS, json!({ "resourceAttributes": binding })).await;
    assert_eq!(answer["status"]["allowed"], true, "the administrator may");
    let whoami = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let (_, answer) = cluster.send("POST", whoami, &json!({})).await;
    let groups = json!(["system:masters", "system:authenticated"]);
    assert_eq!(answer["status"]["userInfo"]["groups"], groups, "{answer}");
}

#[tokio::test]
async fn questions_that_make_no_sense_are_refused() {
    let cluster = cluster().await;
    let pods = json!({ "verb": "get", "resource": "pods" });
    let path = json!({ "verb": "get", "path": "/metrics" });
    for (spec, words) in [
        (json!({ "user": "jane" }), "spec.resourceAttributes: Invalid value"),
        (json!({ "resourceAttributes": pods }), "spec.user: Invalid value"),
        (
            json!({ "user": "jane", "resourceAttributes": pods, "nonResourceAttributes": path }),
            "spec.nonResourceAttributes: Invalid value",
        ),
    ] {
        let (code, status) = review(&cluster, ACCESS, spec).await;
        assert_eq!(code, 422, "{status}");
        assert!(status["message"].as_str().unwrap().contains(words), "{status}");
    }
    let elsewhere = json!({ "verb": "get", "resource": "pods", "namespace": "b" });
    let spec = json!({ "user": "jane", "resourceAttributes": elsewhere });
    let (code, status) = review(&cluster, LOCAL, spec).await;
    assert_eq!(code, 422, "{status}");
    let own = json!({ "verb": "get", "resource": "pods", "namespace": "a" });
    let spec = json!({ "user": "jane", "resourceAttributes": own });
    let (code, answer) = review(&cluster, LOCAL, spec).await;
    assert_eq!((code, answer["status"]["allowed"].as_bool()), (201, Some(false)), "{answer}");
}
