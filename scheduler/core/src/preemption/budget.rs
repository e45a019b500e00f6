//! Which victims a PodDisruptionBudget would keep.

use std::sync::Arc;

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use pintle_api::labels::Selector;

use crate::cache::Objects;
use crate::pod::PodInfo;

/// All budgets that select something.
#[derive(Clone, Debug, Default)]
pub struct Budgets(Vec<Budget>);

#[derive(Clone, Debug)]
struct Budget {
    object: Arc<PodDisruptionBudget>,
    selector: Selector,
    /// `status.disruptionsAllowed`.
    allowed: i64,
}

impl Budgets {
    /// The budgets of the cluster. One with an empty selector or none selects nothing here, and one
    /// whose selector makes no sense is passed over.
    pub fn new(objects: &Objects) -> Self {
        let budget = |object: &Arc<PodDisruptionBudget>| {
            let selector = object.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            let selector = Selector::try_from(selector).ok()?;
            let status = object.status.as_ref();
            let allowed = status.map_or(0, |status| status.disruptions_allowed).into();
            let selects = !selector.is_everything() && !selector.is_nothing();
            selects.then(|| Budget { object: Arc::clone(object), selector, allowed })
        };
        Self(objects.pod_disruption_budgets.iter().filter_map(budget).collect())
    }

    /// Splits pods, in the order in which they would be evicted, into those whose eviction would
    /// violate a budget and the others. Each group keeps the order. A pod that the API server has
    /// evicted already (`status.disruptedPods`) is counted there.
    pub fn split(&self, pods: Vec<Arc<PodInfo>>) -> (Vec<Arc<PodInfo>>, Vec<Arc<PodInfo>>) {
        if self.0.is_empty() {
            return (Vec::new(), pods);
        }
        let mut allowed: Vec<i64> = self.0.iter().map(|budget| budget.allowed).collect();
        pods.into_iter().partition(|pod| {
            let mut is_violated = false;
            for (budget, allowed) in self.0.iter().zip(&mut allowed) {
                if budget.counts(pod) {
                    *allowed -= 1;
                    is_violated |= *allowed < 0;
                }
            }
            is_violated
        })
    }
}

impl Budget {
    fn counts(&self, pod: &PodInfo) -> bool {
        let (meta, status) = (&self.object.metadata, self.object.status.as_ref());
        let disrupted = status.and_then(|status| status.disrupted_pods.as_ref());
        let labels = pod.pod.metadata.labels.as_ref().filter(|labels| !labels.is_empty());
        meta.namespace.as_deref().unwrap_or_default() == pod.namespace()
            && labels.is_some_and(|labels| self.selector.matches(labels))
            && !disrupted.is_some_and(|disrupted| disrupted.contains_key(pod.name()))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::needless_pass_by_value, reason = "json! reads best in place")]

    use serde_json::{Value, json};

    use super::*;
    use crate::cache::{Cache, Object};

    fn pod(name: &str, namespace: &str, labels: Value) -> Arc<PodInfo> {
        let meta = json!({"name": name, "namespace": namespace, "labels": labels});
        let object = json!({"metadata": meta, "spec": {"containers": []}});
        Arc::new(PodInfo::new(Arc::new(serde_json::from_value(object).unwrap())))
    }

    fn violating(budgets: &[Value], pods: Vec<Arc<PodInfo>>) -> Vec<String> {
        let mut cache = Cache::default();
        for (at, budget) in budgets.iter().enumerate() {
            let mut object = budget.clone();
            object["metadata"] = json!({"name": at.to_string(), "namespace": "default"});
            let object = Arc::new(serde_json::from_value(object).unwrap());
            cache.apply(&Object::PodDisruptionBudget(None, Some(object)));
        }
        let (violating, _) = Budgets::new(cache.snapshot().objects()).split(pods);
        violating.iter().map(|pod| pod.name().to_owned()).collect()
    }

    #[test]
    fn budgets_count_as_upstream() {
        let web = || json!({"app": "web"});
        let of = |selector: Value, allowed: i32| {
            json!({"spec": {"selector": selector},
                "status": {"disruptionsAllowed": allowed, "currentHealthy": 0,
                    "desiredHealthy": 0, "expectedPods": 0}})
        };
        let selector = || json!({"matchLabels": web()});
        let pods = || vec![pod("a", "default", web()), pod("b", "default", web())];
        let none: [&str; 0] = [];
        assert_eq!(violating(&[of(selector(), 0)], pods()), ["a", "b"]);
        assert_eq!(violating(&[of(selector(), 1)], pods()), ["b"]);
        assert_eq!(violating(&[of(selector(), 2)], pods()), none);
        assert_eq!(violating(&[of(selector(), 2), of(selector(), 1)], pods()), ["b"]);
        // Nothing is selected by no selector, an empty one, or one that makes no sense.
        assert_eq!(violating(&[json!({"spec": {}})], pods()), none);
        assert_eq!(violating(&[of(json!({}), 0)], pods()), none);
        let bad = json!({"matchExpressions": [{"key": "app", "operator": "Near"}]});
        assert_eq!(violating(&[of(bad, 0)], pods()), none);
        // Pods of other namespaces and without labels are nobody's.
        let others = vec![pod("a", "other", web()), pod("b", "default", json!({}))];
        assert_eq!(violating(&[of(selector(), 0)], others), none);
        let mut counted = of(selector(), 0);
        counted["status"]["disruptedPods"] = json!({"a": "2025-01-01T00:00:00Z"});
        assert_eq!(violating(&[counted], pods()), ["b"]);
        // A budget without a status allows nothing.
        assert_eq!(violating(&[json!({"spec": {"selector": selector()}})], pods()), ["a", "b"]);
    }
}
