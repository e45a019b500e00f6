//! The objects of a live cluster: one list of each kind, in pages, nothing written.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use pintle_scheduler_core::explain::{Cluster, KINDS, ReadKind};
use serde_json::Value;

/// As many objects as upstream's informers ask for at a time.
const PAGE: usize = 500;

/// Lists everything that scheduling reads. Kinds that the API server does not serve count as empty.
pub(super) fn read(kubeconfig: Option<&Path>, cluster: &mut Cluster) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(async {
        let client = pintle_client::connect(kubeconfig).await?;
        for kind in KINDS.iter() {
            list(&client, kind, cluster).await.with_context(|| format!("list {}", kind.plural))?;
        }
        Ok(())
    })
}

async fn list(client: &kube::Client, kind: &ReadKind, cluster: &mut Cluster) -> anyhow::Result<()> {
    let root = if kind.api_version.contains('/') { "/apis" } else { "/api" };
    let path = format!("{root}/{}/{}?limit={PAGE}", kind.api_version, kind.plural);
    let mut next = String::new();
    loop {
        let request = http::Request::get(format!("{path}{next}")).body(Vec::new())?;
        let mut page: Value = match client.request(request).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(()),
            page => page?,
        };
        let token = page["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
        // Lists need not say what they are lists of.
        page["apiVersion"] = kind.api_version.into();
        page["kind"] = format!("{}List", kind.kind).into();
        // Fields that this release does not know are no concern of the reader's.
        cluster.add(page).map_err(|error| anyhow!("{error}"))?;
        if token.is_empty() {
            return Ok(());
        }
        next = format!("&continue={}", escaped(&token));
    }
}

/// Tokens are base64, whose `+`, `/` and `=` mean something in a query.
fn escaped(token: &str) -> String {
    token.replace('%', "%25").replace('+', "%2B").replace('/', "%2F").replace('=', "%3D")
}
