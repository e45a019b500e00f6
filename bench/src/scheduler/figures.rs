//! What a run of a workload comes to.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::resource::v1::{DeviceClass, ResourceClaim};
use pintle_api::resources::{PODS, Resources, pod_requests};
use serde::{Deserialize, Serialize};

use crate::outcome::Outcome;
use crate::stats::quantile;

/// Everything noted of the measured part of a workload.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// When each measured pod got its node, since the measuring began; in order.
    pub(crate) scheduled_at_ns: Vec<u64>,
    /// How long each attempt at any pod took meanwhile.
    pub(crate) attempts_ns: Vec<u64>,
    /// How long what is measured computed meanwhile.
    pub(crate) cpu: Duration,
    /// Resident memory that a pod, and a node, added. The objects themselves are in it, the program's
    /// own pages are not (mode engine).
    pub(crate) bytes_per_pod: f64,
    pub(crate) bytes_per_node: f64,
    /// From objects in memory to a scheduler's first decision.
    pub(crate) cold_start: Option<Duration>,
    /// Measured pods that had no node in the end.
    pub(crate) pending: usize,
    pub(crate) overcommitted: usize,
    /// What share of each node's CPU and memory is asked for in the end, in the order of names.
    pub(crate) used: Vec<(f32, f32)>,
    /// Why the workload did not come to its end.
    pub(crate) cut: Option<String>,
}

impl Figures {
    pub(crate) fn reserve(&mut self, pods: usize) {
        self.scheduled_at_ns.reserve(pods);
        self.attempts_ns.reserve(pods + pods / 8);
    }

    pub(crate) fn scheduled(&mut self, since_begin: Duration) {
        self.scheduled_at_ns.push(nanos(since_begin));
    }

    pub(crate) fn attempt(&mut self, took: Duration) {
        self.attempts_ns.push(nanos(took));
    }

    /// Memory that is the harness's and nobody else's.
    pub(crate) fn own_bytes(&self) -> usize {
        (self.scheduled_at_ns.len() + self.attempts_ns.len()) * size_of::<u64>()
    }

    /// When the last measured pod got its node.
    pub(crate) fn end(&self) -> Duration {
        Duration::from_nanos(self.scheduled_at_ns.last().copied().unwrap_or_default())
    }

    pub(crate) fn throughput_average(&self) -> f64 {
        let took = self.end().as_secs_f64();
        self.scheduled_at_ns.len() as f64 / took.max(1e-9)
    }

    /// The standard deviation over nodes of the share of CPU and of memory in use.
    pub(crate) fn balance(&self) -> (f64, f64) {
        let of = |share: fn(&(f32, f32)) -> f32| {
            deviation(&self.used.iter().map(|used| f64::from(share(used))).collect::<Vec<_>>())
        };
        (of(|used| used.0), of(|used| used.1))
    }

    pub(crate) fn outcomes(&self, case: &str, mode: &str) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        let mut add = |metric: &str, unit: &str, value: f64| {
            outcomes.push(Outcome::new(case, mode, metric, unit, value));
        };
        add("throughput_average", "pods/s", self.throughput_average());
        let (_, mut windows) = self.windows();
        for (metric, q) in [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)] {
            if let Some(value) = quantile(&mut windows, q) {
                add(&format!("throughput_{metric}"), "pods/s", value);
            }
        }
        let mut attempts: Vec<f64> = self.attempts_ns.iter().map(|ns| *ns as f64 / 1e3).collect();
        for (metric, q) in [("p50", 0.5), ("p99", 0.99)] {
            if let Some(value) = quantile(&mut attempts, q) {
                add(&format!("attempt_latency_{metric}"), "us", value);
            }
        }
        let (balance_cpu, balance_memory) = self.balance();
        add("cpu_seconds", "s", self.cpu.as_secs_f64());
        add("memory_per_pod", "B", self.bytes_per_pod);
        add("memory_per_node", "B", self.bytes_per_node);
        if let Some(took) = self.cold_start {
            add("cold_start_seconds", "s", took.as_secs_f64());
        }
        add("pods_pending", "pods", self.pending as f64);
        add("nodes_overcommitted", "nodes", self.overcommitted as f64);
        add("balance_cpu", "stddev", balance_cpu);
        add("balance_memory", "stddev", balance_memory);
        outcomes
    }

    /// How long a window is, and the pods per second in each.
    pub(crate) fn windows(&self) -> (Duration, Vec<f64>) {
        let at: Vec<Duration> =
            self.scheduled_at_ns.iter().copied().map(Duration::from_nanos).collect();
        windows(&at)
    }

    /// Counts what the pods ask of their nodes, and who has devices, from the objects alone.
    pub(crate) fn count_use<'a>(
        &mut self,
        nodes: impl Iterator<Item = (&'a str, Allocatable)>,
        pods: impl Iterator<Item = (impl Borrow<Pod>, &'a str)>,
        devices: &Devices,
    ) {
        self.overcommitted += devices.had_twice;
        let mut used: BTreeMap<&str, (Resources, i64)> = BTreeMap::new();
        for (pod, node) in pods {
            let requests = pod_requests(pod.borrow());
            let (sum, count) = used.entry(node).or_default();
            sum.milli_cpu += requests.milli_cpu;
            sum.memory_bytes += requests.memory_bytes;
            sum.ephemeral_storage_bytes += requests.ephemeral_storage_bytes;
            for (name, amount) in requests.scalar {
                *sum.scalar.entry(name).or_default() += amount;
            }
            *count += 1;
        }
        let mut nodes: Vec<(&str, Allocatable)> = nodes.collect();
        nodes.sort_by_key(|(name, _)| *name);
        for (name, has) in nodes {
            let (sum, count) = used.remove(name).unwrap_or_default();
            let over = sum.milli_cpu > has.milli_cpu
                || sum.memory_bytes > has.memory_bytes
                || sum.ephemeral_storage_bytes > has.ephemeral_storage_bytes
                || count > has.other(PODS)
                || sum
                    .scalar
                    .iter()
                    .any(|(name, used)| devices.is_over(name, *used, has.other(name)));
            self.overcommitted += usize::from(over);
            let cpu = sum.milli_cpu as f32 / has.milli_cpu.max(1) as f32;
            self.used.push((cpu, sum.memory_bytes as f32 / has.memory_bytes.max(1) as f32));
        }
    }
}

/// What there is to say of devices when use is counted.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    /// The resources that they stand for on nodes that have none.
    stand_for: BTreeSet<String>,
    /// How many are had by two claims, each for itself alone.
    had_twice: usize,
}

impl Devices {
    pub(crate) fn of<'a>(
        classes: impl Iterator<Item = &'a DeviceClass>,
        claims: impl Iterator<Item = &'a ResourceClaim>,
    ) -> Self {
        let mut devices = Self::default();
        for class in classes {
            let name = class.metadata.name.as_deref().unwrap_or_default();
            devices.stand_for.extend(class.spec.extended_resource_name.clone());
            devices.stand_for.insert(format!("deviceclass.resource.kubernetes.io/{name}"));
        }
        let mut had = BTreeSet::new();
        let allocations = claims.filter_map(|claim| claim.status.as_ref()?.allocation.as_ref());
        let results =
            allocations.filter_map(|allocation| allocation.devices.as_ref()?.results.as_ref());
        for it in results.flatten() {
            let is_alone = it.share_id.is_none() && it.admin_access != Some(true);
            if is_alone && !had.insert((&it.driver, &it.pool, &it.device)) {
                devices.had_twice += 1;
            }
        }
        devices
    }

    /// Whether more of a resource is used than a node has.
    fn is_over(&self, name: &str, used: i64, has: i64) -> bool {
        used > has && !(has == 0 && self.stand_for.contains(name))
    }
}

/// What a node has for its pods, by its object.
#[derive(Clone, Debug)]
pub(crate) struct Allocatable {
    milli_cpu: i64,
    memory_bytes: i64,
    ephemeral_storage_bytes: i64,
    others: Box<[(Box<str>, i64)]>,
}

impl Allocatable {
    pub(crate) fn of(node: &Node) -> Self {
        let has = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
        let has = Resources::from_list(has);
        let others = has.scalar.iter().map(|(name, amount)| (Box::from(name.as_str()), *amount));
        Self {
            milli_cpu: has.milli_cpu,
            memory_bytes: has.memory_bytes,
            ephemeral_storage_bytes: has.ephemeral_storage_bytes,
            others: others.collect(),
        }
    }

    /// What it holds besides itself.
    pub(crate) fn heap_bytes(&self) -> usize {
        let other = |(name, _): &(Box<str>, i64)| size_of::<(Box<str>, i64)>() + name.len();
        self.others.iter().map(other).sum()
    }

    fn other(&self, name: &str) -> i64 {
        let found = self.others.iter().find(|(other, _)| **other == *name);
        found.map_or(0, |(_, amount)| *amount)
    }
}

/// Pods per second in windows of a twentieth of the run, between a millisecond and a second. The
/// last, which is cut short, is left out unless it is the only one.
fn windows(scheduled_at: &[Duration]) -> (Duration, Vec<f64>) {
    let Some(end) = scheduled_at.last() else { return (Duration::ZERO, Vec::new()) };
    let window = (*end / 20).clamp(Duration::from_millis(1), Duration::from_secs(1));
    let number = |at: &Duration| (at.as_nanos() / window.as_nanos()) as usize;
    let mut counts = vec![0_u64; number(end) + 1];
    scheduled_at.iter().for_each(|at| counts[number(at)] += 1);
    if counts.len() > 1 {
        counts.pop();
        (window, counts.into_iter().map(|count| count as f64 / window.as_secs_f64()).collect())
    } else {
        (*end, vec![scheduled_at.len() as f64 / end.as_secs_f64().max(1e-9)])
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
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
        assert_eq!(windows(&[ms(0), ms(0), ms(1), ms(2)]).1, [2000.0, 1000.0]);
        assert_eq!(windows(&[Duration::from_micros(500)]).1, [2000.0]);
        assert!(windows(&[]).1.is_empty());
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
            let nodes = nodes.iter().map(|node| {
                (node.metadata.name.as_deref().unwrap_or_default(), Allocatable::of(node))
            });
            figures.count_use(nodes, (0..pods).map(|_| (&pod, "a")), &Devices::default());
            assert_eq!(figures.overcommitted, expected, "{pods} pods");
            assert!(figures.balance().0 > 0.0);
        }
    }
}
