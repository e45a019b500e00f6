//! What a run of a workload comes to.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use pintle_api::resources::{PODS, Resources, pod_requests};

use crate::outcome::Outcome;
use crate::stats::quantile;

/// Everything noted of the measured part of a workload.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// When each measured pod was reserved, since the measuring began.
    pub(crate) scheduled_at: Vec<Duration>,
    /// How long each attempt at any pod took meanwhile.
    pub(crate) attempts: Vec<Duration>,
    /// How long this process computed meanwhile.
    pub(crate) cpu: Duration,
    /// Resident memory that a pod, and a node, added. The harness's own copies are in it.
    pub(crate) bytes_per_pod: f64,
    pub(crate) bytes_per_node: f64,
    /// Measured pods that were not reserved in the end.
    pub(crate) pending: usize,
    pub(crate) overcommitted: usize,
    /// The standard deviation over nodes of the share in use.
    pub(crate) cpu_deviation: f64,
    pub(crate) memory_deviation: f64,
}

impl Figures {
    pub(crate) fn outcomes(mut self, case: &str, mode: &str) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        let mut add = |metric: &str, unit: &str, value: f64| {
            outcomes.push(Outcome::new(case, mode, metric, unit, value));
        };
        let took = self.scheduled_at.last().copied().unwrap_or_default().as_secs_f64();
        let average = self.scheduled_at.len() as f64 / took.max(f64::MIN_POSITIVE);
        add("throughput_average", "pods/s", average);
        let mut windows = windows(&self.scheduled_at);
        for (metric, q) in [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)] {
            if let Some(value) = quantile(&mut windows, q) {
                add(&format!("throughput_{metric}"), "pods/s", value);
            }
        }
        let mut attempts: Vec<f64> =
            self.attempts.drain(..).map(|took| took.as_secs_f64() * 1e6).collect();
        for (metric, q) in [("p50", 0.5), ("p99", 0.99)] {
            if let Some(value) = quantile(&mut attempts, q) {
                add(&format!("attempt_latency_{metric}"), "us", value);
            }
        }
        add("cpu_seconds", "s", self.cpu.as_secs_f64());
        add("memory_per_pod", "B", self.bytes_per_pod);
        add("memory_per_node", "B", self.bytes_per_node);
        add("pods_pending", "pods", self.pending as f64);
        add("nodes_overcommitted", "nodes", self.overcommitted as f64);
        add("balance_cpu", "stddev", self.cpu_deviation);
        add("balance_memory", "stddev", self.memory_deviation);
        outcomes
    }

    /// Counts what the pods ask of their nodes, from the objects alone.
    pub(crate) fn count_use<'a>(
        &mut self,
        nodes: impl Iterator<Item = &'a Node>,
        pods: impl Iterator<Item = (&'a Pod, &'a str)>,
    ) {
        let mut used: BTreeMap<&str, (Resources, i64)> = BTreeMap::new();
        for (pod, node) in pods {
            let requests = pod_requests(pod);
            let (sum, count) = used.entry(node).or_default();
            sum.milli_cpu += requests.milli_cpu;
            sum.memory_bytes += requests.memory_bytes;
            sum.ephemeral_storage_bytes += requests.ephemeral_storage_bytes;
            for (name, amount) in requests.scalar {
                *sum.scalar.entry(name).or_default() += amount;
            }
            *count += 1;
        }
        let (mut cpu, mut memory) = (Vec::new(), Vec::new());
        for node in nodes {
            let has = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
            let has = Resources::from_list(has);
            let (sum, count) =
                used.remove(node.metadata.name.as_deref().unwrap_or_default()).unwrap_or_default();
            let amount = |resources: &Resources, name: &String| {
                resources.scalar.get(name).copied().unwrap_or(0)
            };
            let over = sum.milli_cpu > has.milli_cpu
                || sum.memory_bytes > has.memory_bytes
                || sum.ephemeral_storage_bytes > has.ephemeral_storage_bytes
                || count > amount(&has, &PODS.to_owned())
                || sum.scalar.iter().any(|(name, used)| *used > amount(&has, name));
            self.overcommitted += usize::from(over);
            cpu.push(sum.milli_cpu as f64 / has.milli_cpu.max(1) as f64);
            memory.push(sum.memory_bytes as f64 / has.memory_bytes.max(1) as f64);
        }
        self.cpu_deviation = deviation(&cpu);
        self.memory_deviation = deviation(&memory);
    }
}

/// Pods per second in windows of a twentieth of the run, between a millisecond and a second. The
/// last, which is cut short, is left out unless it is the only one.
fn windows(scheduled_at: &[Duration]) -> Vec<f64> {
    let Some(end) = scheduled_at.last() else { return Vec::new() };
    let window = (*end / 20).clamp(Duration::from_millis(1), Duration::from_secs(1));
    let number = |at: &Duration| (at.as_nanos() / window.as_nanos()) as usize;
    let mut counts = vec![0_u64; number(end) + 1];
    scheduled_at.iter().for_each(|at| counts[number(at)] += 1);
    if counts.len() > 1 {
        counts.pop();
        counts.into_iter().map(|count| count as f64 / window.as_secs_f64()).collect()
    } else {
        vec![scheduled_at.len() as f64 / end.as_secs_f64().max(f64::MIN_POSITIVE)]
    }
}

fn deviation(values: &[f64]) -> f64 {
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    (values.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / count).sqrt()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn windows_leave_out_the_last() {
        let ms = Duration::from_millis;
        assert_eq!(windows(&[ms(0), ms(0), ms(1), ms(2)]), [2000.0, 1000.0]);
        assert_eq!(windows(&[Duration::from_micros(500)]), [2000.0]);
        assert!(windows(&[]).is_empty());
    }

    #[test]
    fn nodes_with_more_asked_than_there_is_are_counted() {
        let node = |name: &str, pods: &str| -> Node {
            serde_json::from_value(json!({"metadata": {"name": name}, "status": {"allocatable":
                {"cpu": "1", "memory": "1Gi", "pods": pods}}}))
            .unwrap()
        };
        let pod: Pod = serde_json::from_value(json!({"metadata": {}, "spec": {"containers": [
            {"name": "c", "resources": {"requests": {"cpu": "600m"}}}]}}))
        .unwrap();
        for (pods, limit, expected) in [(1, "9", 0), (2, "9", 1), (1, "0", 1)] {
            let mut figures = Figures::default();
            let nodes = [node("a", limit), node("b", "9")];
            figures.count_use(nodes.iter(), (0..pods).map(|_| (&pod, "a")));
            assert_eq!(figures.overcommitted, expected, "{pods} pods");
            assert!(figures.cpu_deviation > 0.0);
        }
    }
}
