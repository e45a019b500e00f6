//! Who may read a daemon's endpoints: the API server is asked, by TokenReview and
//! SubjectAccessReview, as `k8s.io/apiserver`'s delegating authentication and authorization do.
//!
//! Client certificates and request headers are not looked at: a bearer token, or nobody.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};
use parking_lot::Mutex;
use pintle_component::{Authorize, Refusal};
use tokio::time::Instant;

type Question = (String, Option<String>);
type Answer = Result<(), Refusal>;

/// Lets those read a path who may `get` it by the API server's word. Paths in `always_allowed` are
/// for everybody; a `*` at the end stands for anything.
pub fn delegated_access(client: Client, always_allowed: Vec<String>) -> Authorize {
    let answers: Arc<Mutex<HashMap<Question, (Instant, Answer)>>> = Arc::default();
    Arc::new(move |path, token| {
        let (client, answers) = (client.clone(), Arc::clone(&answers));
        let open = always_allowed.iter().any(|allowed| covers(allowed, &path));
        Box::pin(async move {
            if open {
                return Ok(());
            }
            let question = (path, token);
            let known = answers.lock().get(&question).cloned();
            if let Some((until, answer)) = known
                && Instant::now() < until
            {
                return answer;
            }
            let answer = ask(&client, &question).await;
            let mut answers = answers.lock();
            if answers.len() >= REMEMBERED_MAX {
                answers.clear();
            }
            answers.insert(question, (Instant::now() + REMEMBERED_FOR, answer.clone()));
            answer
        })
    })
}

fn covers(allowed: &str, path: &str) -> bool {
    match allowed.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => path == allowed,
    }
}

async fn ask(client: &Client, (path, token): &Question) -> Answer {
    let asked = async {
        let user = match token {
            Some(token) => review_token(client, token).await?,
            None => Some(anonymous()),
        };
        let Some(user) = user else {
            return Ok(Err(Refusal { status: 401, body: "Unauthorized\n".to_owned() }));
        };
        review_access(client, user, path).await
    };
    match tokio::time::timeout(REVIEW_MAX, asked).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            tracing::warn!(path, %error, "ask the API server who may read this");
            Err(Refusal { status: 500, body: "Internal Server Error\n".to_owned() })
        }
        Err(_) => Err(Refusal { status: 500, body: "Internal Server Error\n".to_owned() }),
    }
}

async fn review_token(client: &Client, token: &str) -> kube::Result<Option<UserInfo>> {
    let spec = TokenReviewSpec { token: Some(token.to_owned()), audiences: None };
    let review = TokenReview { spec, ..TokenReview::default() };
    let api: Api<TokenReview> = Api::all(client.clone());
    let status = api.create(&PostParams::default(), &review).await?.status.unwrap_or_default();
    Ok(status.user.filter(|_| status.authenticated == Some(true)))
}

async fn review_access(client: &Client, user: UserInfo, path: &str) -> kube::Result<Answer> {
    let name = user.username.clone().unwrap_or_default();
    let attributes =
        NonResourceAttributes { path: Some(path.to_owned()), verb: Some("get".to_owned()) };
    let spec = SubjectAccessReviewSpec {
        user: user.username,
        groups: user.groups,
        uid: user.uid,
        extra: user.extra,
        non_resource_attributes: Some(attributes),
        resource_attributes: None,
    };
    let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
    let api: Api<SubjectAccessReview> = Api::all(client.clone());
    let status = api.create(&PostParams::default(), &review).await?.status;
    if status.is_some_and(|status| status.allowed && status.denied != Some(true)) {
        return Ok(Ok(()));
    }
    let body = format!("forbidden: User {name:?} cannot get path {path:?}\n");
    Ok(Err(Refusal { status: 403, body }))
}

fn anonymous() -> UserInfo {
    UserInfo {
        username: Some("system:anonymous".to_owned()),
        groups: Some(vec!["system:unauthenticated".to_owned()]),
        ..UserInfo::default()
    }
}

/// Upstream's: long enough for a scraper's burst, short enough that a revoked right is soon felt.
const REMEMBERED_FOR: Duration = Duration::from_secs(10);
/// Answers kept; a flood of made-up tokens shall not fill the memory.
const REMEMBERED_MAX: usize = 256;
/// How long the API server may take.
const REVIEW_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::{BodyExt as _, Full};
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;

    /// Knows the token `good` of `prometheus`, who may read `/metrics`, and counts what it is asked.
    fn client(asked: Arc<Mutex<usize>>) -> Client {
        crate::in_process(tower::service_fn(move |request: Request<Body>| {
            let asked = Arc::clone(&asked);
            async move {
                *asked.lock() += 1;
                let (head, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let mut review: Value = serde_json::from_slice(&body).unwrap();
                let spec = &review["spec"];
                review["status"] = if head.uri.path().ends_with("/tokenreviews") {
                    json!({"authenticated": spec["token"] == "good",
                        "user": {"username": "prometheus", "groups": ["g"]}})
                } else {
                    let wanted = &spec["nonResourceAttributes"];
                    assert_eq!(wanted["verb"], "get");
                    let may = spec["user"] == "prometheus" && wanted["path"] == "/metrics";
                    json!({"allowed": may})
                };
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(review.to_string()))))
            }
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn the_api_server_says_who_may_read() {
        let asked = Arc::default();
        let access = delegated_access(client(Arc::clone(&asked)), vec!["/open/*".to_owned()]);
        let ask = |path: &str, token: Option<&str>| access(path.to_owned(), token.map(Into::into));
        assert_eq!(ask("/metrics", Some("good")).await, Ok(()));
        assert_eq!(ask("/metrics", Some("bad")).await.unwrap_err().status, 401);
        let nobody = ask("/metrics", None).await.unwrap_err();
        assert_eq!(
            (nobody.status, nobody.body.as_str()),
            (403, "forbidden: User \"system:anonymous\" cannot get path \"/metrics\"\n")
        );
        assert_eq!(ask("/debug", Some("good")).await.unwrap_err().status, 403);
        assert_eq!(ask("/open/x", None).await, Ok(()));
        let so_far = *asked.lock();
        assert_eq!(ask("/metrics", Some("good")).await, Ok(()));
        assert_eq!(*asked.lock(), so_far, "answered from memory");
        tokio::time::sleep(REMEMBERED_FOR).await;
        assert_eq!(ask("/metrics", Some("good")).await, Ok(()));
        assert_eq!(*asked.lock(), so_far + 2);
    }
}
