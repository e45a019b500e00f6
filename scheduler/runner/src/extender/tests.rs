//! Calls against a server that answers from a script, honest or not.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::configuration::KubeSchedulerConfiguration;

/// What the server does with a request.
#[derive(Clone, Debug)]
enum Script {
    Answer(u16, String),
    /// Takes the request and says nothing.
    Silence,
    /// Says it has more than it sends.
    Endless,
}

/// A server in a thread of its own; the requests that it got come over the channel.
fn serve(script: Script) -> (SocketAddr, mpsc::Receiver<(String, Value)>) {
    let (send, receive) = mpsc::channel();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                if answer(stream, &script, &send).await.is_none() {
                    return;
                }
            }
        });
    });
    (told.recv().unwrap(), receive)
}

async fn answer(
    mut stream: tokio::net::TcpStream,
    script: &Script,
    send: &mpsc::Sender<(String, Value)>,
) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return Some(()) };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    assert!(head.starts_with("post ") && head.contains("content-type: application/json"), "{head}");
    send.send((path, serde_json::from_slice(&body).unwrap())).ok()?;
    let (code, body, length) = match script {
        Script::Answer(code, body) => (*code, body.clone(), body.len()),
        Script::Silence => {
            tokio::time::sleep(Duration::from_secs(30)).await;
            return None;
        }
        Script::Endless => (200, "[".to_owned(), usize::MAX >> 1),
    };
    let text = format!("HTTP/1.1 {code} X\r\ncontent-length: {length}\r\n\r\n{body}");
    let _ = stream.write_all(text.as_bytes()).await;
    if matches!(script, Script::Endless) {
        let chunk = vec![b' '; 1 << 20];
        while stream.write_all(&chunk).await.is_ok() {}
    }
    Some(())
}

/// An extender of this configuration at the server.
fn extender(address: SocketAddr, more: &str) -> HttpExtender {
    let timeout = if more.contains("httpTimeout") { "" } else { "httpTimeout: 20s, " };
    let text = format!(
        "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nextenders: \
         [{{urlPrefix: 'http://{address}/x/', filterVerb: filter, prioritizeVerb: prioritize, \
         preemptVerb: preempt, bindVerb: bind, weight: 3, {timeout}{more}}}]"
    );
    let configuration = KubeSchedulerConfiguration::parse(text.as_bytes()).unwrap();
    let checked = configuration.check().unwrap();
    HttpExtender::new(&checked.configuration().extenders[0]).unwrap()
}

fn scripted(more: &str, answer: &Value) -> (HttpExtender, mpsc::Receiver<(String, Value)>) {
    let (address, requests) = serve(Script::Answer(200, answer.to_string()));
    (extender(address, more), requests)
}

fn pod(name: &str, resources: &Value) -> Arc<PodInfo> {
    let pod = json!({"metadata": {"name": name, "namespace": "ns", "uid": format!("uid-{name}")},
        "spec": {"containers": [{"name": "c", "resources": resources}]}});
    Arc::new(PodInfo::new(Arc::new(serde_json::from_value(pod).unwrap())))
}

fn plain() -> Arc<PodInfo> {
    pod("p", &json!({}))
}

fn nodes() -> Vec<Arc<NodeInfo>> {
    let node = |name: &str| {
        let node = json!({"metadata": {"name": name}});
        Arc::new(NodeInfo::new(Arc::new(serde_json::from_value(node).unwrap())))
    };
    vec![node("a"), node("b"), node("c")]
}

fn error<T: fmt::Debug>(result: Result<T, ExtenderError>) -> String {
    result.unwrap_err().0
}

#[test]
fn filter_with_whole_nodes() {
    let answer = json!({
        "Nodes": {"items": [{"metadata": {"name": "b"}}]},
        "FailedNodes": {"a": "too far"},
        "FailedAndUnresolvableNodes": {"c": "never"},
        "Error": ""});
    let (extender, requests) = scripted("", &answer);
    let filtered = extender.filter(&plain(), &nodes()).unwrap();
    assert_eq!(filtered.feasible, ["b".into()]);
    assert_eq!(filtered.failed["a"], "too far");
    assert_eq!(filtered.failed_and_unresolvable["c"], "never");
    let (path, body) = requests.recv().unwrap();
    assert_eq!(path, "/x/filter");
    assert_eq!(body["Pod"]["metadata"]["name"], "p");
    assert_eq!(body["Nodes"]["items"][1]["metadata"]["name"], "b");
    assert_eq!(body["NodeNames"], Value::Null);
}

#[test]
fn filter_with_names_of_nodes() {
    // Written as older extenders write it.
    let answer = json!({"nodenames": ["c", "a"], "failedNodes": {"b": "no"}});
    let (extender, requests) = scripted("nodeCacheCapable: true", &answer);
    let filtered = extender.filter(&plain(), &nodes()).unwrap();
    assert_eq!(filtered.feasible, ["c".into(), "a".into()]);
    assert_eq!(filtered.failed["b"], "no");
    let (_, body) = requests.recv().unwrap();
    assert_eq!((&body["NodeNames"], &body["Nodes"]), (&json!(["a", "b", "c"]), &Value::Null));
}

#[test]
fn prioritize_and_the_weight() {
    let answer = json!([{"Host": "a", "Score": 7}, {"host": "b"}, {"Host": "zz", "Score": 1}]);
    let (extender, requests) = scripted("", &answer);
    let (scores, weight) = extender.prioritize(&plain(), &nodes()).unwrap();
    assert_eq!((scores["a"], scores["b"], weight), (7, 0, 3));
    assert_eq!(requests.recv().unwrap().0, "/x/prioritize");
}

fn candidates() -> Vec<PreemptionCandidate> {
    let mut node = NodeInfo::clone(&nodes()[0]);
    let victims = vec![pod("v1", &json!({})), pod("v2", &json!({}))];
    victims.iter().for_each(|victim| node.add_pod(Arc::clone(victim)));
    vec![
        PreemptionCandidate { node: Arc::new(node), victims, pdb_violations: 1 },
        PreemptionCandidate { node: nodes()[1].clone(), victims: vec![], pdb_violations: 0 },
    ]
}

#[test]
fn preempt_narrows_candidates_and_victims() {
    let answer = json!({"NodeNameToMetaVictims":
        {"a": {"Pods": [{"UID": "uid-v2"}], "NumPDBViolations": 2}}});
    for more in ["", "nodeCacheCapable: true"] {
        let (extender, requests) = scripted(more, &answer);
        let remaining = extender.process_preemption(&plain(), candidates()).unwrap();
        let [only] = remaining.as_slice() else { panic!("{remaining:?}") };
        assert_eq!((&**only.node.name(), only.pdb_violations), ("a", 2));
        assert_eq!(only.victims.iter().map(|it| it.name()).collect::<Vec<_>>(), ["v2"]);
        let (path, body) = requests.recv().unwrap();
        assert_eq!(path, "/x/preempt");
        let (full, meta) = (&body["NodeNameToVictims"], &body["NodeNameToMetaVictims"]);
        if more.is_empty() {
            assert_eq!(full["a"]["Pods"][0]["metadata"]["name"], "v1");
            assert!(meta.is_null());
        } else {
            let expected = json!({"Pods": [{"UID": "uid-v1"}, {"UID": "uid-v2"}],
                "NumPDBViolations": 1});
            assert_eq!((&meta["a"], full), (&expected, &Value::Null));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bind_and_its_refusal() {
    let (bound, requests) = scripted("", &json!({"Error": ""}));
    bound.bind(&plain(), "b").await.unwrap();
    let expected = json!({"PodName": "p", "PodNamespace": "ns", "PodUID": "uid-p", "Node": "b"});
    assert_eq!(requests.recv().unwrap(), ("/x/bind".to_owned(), expected));
    assert!(bound.is_binder());
    let (refused, _requests) = scripted("", &json!({"Error": "not today"}));
    assert_eq!(error(refused.bind(&plain(), "b").await), "not today");
    // A blocking call from a worker of the runtime does not stop the others.
    let (filtering, _requests) = scripted("", &json!({"Nodes": {"items": []}}));
    assert_eq!(filtering.filter(&plain(), &nodes()).unwrap(), ExtenderFilter::default());
}

#[test]
fn lies_and_garbage_are_errors() {
    for (more, answer, expected) in [
        (
            "nodeCacheCapable: true",
            json!({"NodeNames": ["zz"]}),
            "claims a filtered node \"zz\" which is not found in the input node list",
        ),
        ("", json!({"Nodes": {"items": [{"metadata": {"name": "zz"}}]}}), "\"zz\""),
        ("", json!({"Error": "broken"}), "broken"),
        ("", json!([1]), "the answer of the extender is no good: ExtenderFilterResult is [1]"),
        ("", json!({"Nodes": 3}), ""),
        ("", json!({"Nodes": {"items": {}}}), "Nodes.items is {}"),
        ("", json!({"Error": 3}), "Error is 3"),
        ("", json!({"Nodes": {"items": []}, "FailedNodes": ["a"]}), "FailedNodes is [\"a\"]"),
    ] {
        let (extender, _requests) = scripted(more, &answer);
        match extender.filter(&plain(), &nodes()) {
            Ok(filtered) => assert_eq!((filtered.feasible.len(), expected), (0, ""), "{answer}"),
            Err(error) => assert!(error.0.contains(expected), "{answer}: {}", error.0),
        }
    }
    for answer in [json!({}), json!([{"Host": "a", "Score": "high"}]), json!([3])] {
        let (extender, _requests) = scripted("", &answer);
        assert!(extender.prioritize(&plain(), &nodes()).is_err(), "{answer}");
    }
    for (answer, expected) in [
        (json!({"NodeNameToMetaVictims": {"zz": {}}}), "\"zz\" which is not found"),
        (
            json!({"NodeNameToMetaVictims": {"b": {"Pods": [{"UID": "uid-v1"}]}}}),
            "claims to preempt pod (UID: uid-v1) on node: b, but the pod is not found on that node",
        ),
    ] {
        let (extender, _requests) = scripted("", &answer);
        let said = error(extender.process_preemption(&plain(), candidates()));
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn no_answer_no_sense_and_no_end() {
    let (address, _requests) = serve(Script::Silence);
    let started = Instant::now();
    let said = error(extender(address, "httpTimeout: 100ms").filter(&plain(), &nodes()));
    assert!(said.contains("context deadline exceeded"), "{said}");
    assert!(started.elapsed() < Duration::from_secs(10));

    let (address, _requests) = serve(Script::Answer(503, String::new()));
    let said = error(extender(address, "").filter(&plain(), &nodes()));
    let url = format!("http://{address}/x/filter");
    assert_eq!(said, format!("failed filter with extender at URL {url}, code 503"));

    let (address, _requests) = serve(Script::Answer(200, "<html>".to_owned()));
    let said = error(extender(address, "").filter(&plain(), &nodes()));
    assert!(
        said.starts_with(&format!("Post {url:?}: expected value", url = url_of(address))),
        "{said}"
    );

    let (address, _requests) = serve(Script::Endless);
    let said = error(extender(address, "").filter(&plain(), &nodes()));
    assert!(said.contains("length limit exceeded"), "{said}");

    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let said = error(extender(nobody, "").filter(&plain(), &nodes()));
    assert!(said.starts_with("Post "), "{said}");
}

fn url_of(address: SocketAddr) -> String {
    format!("http://{address}/x/filter")
}

#[test]
fn interest_is_in_managed_resources() {
    let (address, _requests) = serve(Script::Silence);
    let all = extender(address, "");
    let some = extender(address, "managedResources: [{name: example.com/gpu}], ignorable: true");
    let wanting = pod("w", &json!({"limits": {"example.com/gpu": "1"}}));
    assert!(all.is_interested(&plain()) && !all.is_ignorable());
    assert!(!some.is_interested(&plain()) && some.is_ignorable());
    assert!(some.is_interested(&wanting));
    assert!(some.is_filter() && some.is_prioritizer() && some.supports_preemption());
}

#[test]
fn certificates_that_are_none_stop_the_start() {
    let settings = |tls: &str| {
        let text = format!(
            "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n\
             extenders: [{{urlPrefix: 'https://e', enableHTTPS: true, tlsConfig: {{{tls}}}}}]"
        );
        KubeSchedulerConfiguration::parse(text.as_bytes()).unwrap().extenders[0].clone()
    };
    let said = HttpExtender::new(&settings("caFile: /nonexistent/ca")).unwrap_err().to_string();
    assert_eq!(said, "set up extender https://e: read /nonexistent/ca");
    let said = HttpExtender::new(&settings("caData: bm8gcGVt")).unwrap_err().to_string();
    assert_eq!(said, "set up extender https://e: its CA is not PEM");
    HttpExtender::new(&settings("insecure: true")).unwrap();
}
