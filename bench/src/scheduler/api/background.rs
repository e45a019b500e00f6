//! What happens by itself while pods are scheduled: objects come and go, pods are deleted.

use std::time::Duration;

use anyhow::Context as _;

use super::Run;
use super::requests::{Request, Requests};
use crate::scheduler::config::{Churn, ChurnMode, DeletePods};
use crate::scheduler::template::Template;

impl Run<'_> {
    pub(super) fn start_churn(&mut self, churn: &Churn, namespace: String) -> anyhow::Result<()> {
        let paths = churn.template_paths.iter();
        let templates: anyhow::Result<Vec<Template>> =
            paths.map(|path| Template::read(&self.directory.join(path))).collect();
        let ticker = Ticker {
            templates: templates?,
            namespace,
            mode: churn.mode,
            number: churn.number,
            interval: Duration::from_millis(churn.interval_milliseconds.max(1)),
            requests: self.requests.clone(),
        };
        self.background.spawn(ticker.run());
        Ok(())
    }

    pub(super) async fn delete_pods(&mut self, pods: &DeletePods) -> anyhow::Result<()> {
        let names = self.observed.names_of(pods);
        let paths: Vec<String> = names
            .iter()
            .map(|name| format!("/api/v1/namespaces/{}/pods/{name}", pods.namespace))
            .collect();
        let requests = self.requests.clone();
        let per_second = u32::try_from(pods.delete_pods_per_second).unwrap_or(u32::MAX);
        let interval = Duration::from_secs(1).checked_div(per_second).unwrap_or_default();
        let deleting = async move {
            for path in paths {
                requests.delete(&path).await?;
                tokio::time::sleep(interval).await;
            }
            anyhow::Ok(())
        };
        if !pods.skip_wait_to_completion {
            return deleting.await.context("delete pods");
        }
        self.background.spawn(async move {
            // The API server may end first.
            let _ = deleting.await;
        });
        Ok(())
    }
}

/// A churn under way.
struct Ticker {
    templates: Vec<Template>,
    namespace: String,
    mode: ChurnMode,
    number: usize,
    interval: Duration,
    requests: Requests,
}

impl Ticker {
    async fn run(self) {
        let mut ticks = 0;
        let places = self.number.max(1);
        let mut created: Vec<Option<String>> = vec![None; self.templates.len() * places];
        let mut clock = tokio::time::interval(self.interval);
        while self.mode == ChurnMode::Recreate || self.number == 0 || ticks < self.number {
            clock.tick().await;
            for (at, template) in self.templates.iter().enumerate() {
                let place = &mut created[at * places + ticks % places];
                let before = match self.mode {
                    ChurnMode::Create => None,
                    ChurnMode::Recreate => place.take(),
                };
                // Refusals are no matter: the next tick tries with another object.
                match before {
                    Some(path) => drop(self.requests.delete(&path).await),
                    None => *place = self.create(template, ticks).await.ok(),
                }
            }
            ticks += 1;
        }
    }

    async fn create(&self, template: &Template, tick: usize) -> anyhow::Result<String> {
        let mut object = template.object(tick)?;
        let name = object["metadata"]["name"].as_str().unwrap_or("churn");
        let name = format!("{name}-churn-{tick}");
        object["metadata"]["name"] = name.as_str().into();
        // Its priority would need a class; the highest there is by name.
        if let Some(spec) = object["spec"].as_object_mut()
            && spec.remove("priority").is_some()
        {
            spec.insert("priorityClassName".to_owned(), "system-cluster-critical".into());
        }
        let request = Request::create(&object, Some(&self.namespace))?;
        let path = format!("{}/{name}", request.path);
        self.requests.send(request).await?;
        Ok(path)
    }
}
