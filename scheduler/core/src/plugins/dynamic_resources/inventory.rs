//! The devices of the cluster: pools of slices, and which of them a node can reach.
//!
//! Mirrors `GatherPools`, and the taints that the slice tracker adds. A pool is all slices of one driver
//! and pool name with the newest generation. It is incomplete while some of its slices are missing, and
//! invalid if two of its devices have the same name, or if one consumes a counter that is not there.
//! Every device has a number, by which all tables about devices are indexed.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, NodeSelector};
use k8s_openapi::api::resource::v1::{Counter, Device, ResourceSlice, ResourceSliceSpec};
use k8s_openapi::api::resource::v1alpha3::DeviceTaintRule;
use pintle_api::node_affinity;
use pintle_api::quantity::Quantity;
use rustc_hash::{FxHashMap, FxHashSet};

/// What names a device: driver, pool and name.
pub(super) type DeviceId<'a> = (&'a str, &'a str, &'a str);

/// All pools.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    pools: Vec<Pool>,
    /// By driver and name.
    by_name: FxHashMap<Box<str>, FxHashMap<Box<str>, usize>>,
    /// The slices of one node, by its name: pool and position in it, in this order.
    local: FxHashMap<Box<str>, Vec<(usize, usize)>>,
    /// The slices that any node may reach, in the same order.
    shared: Vec<(usize, usize)>,
    device_count: usize,
}

/// All slices of one pool.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) driver: Box<str>,
    pub(super) name: Box<str>,
    pub(super) is_incomplete: bool,
    pub(super) is_invalid: bool,
    /// The pool's counters, all its counter sets one after the other.
    pub(super) counters: Vec<Quantity>,
    slices: Vec<Slice>,
    numbers: FxHashMap<Box<str>, usize>,
    /// What of the DeviceTaintRules is for devices of this pool.
    rules: Vec<Arc<DeviceTaintRule>>,
}

#[derive(Debug)]
struct Slice {
    slice: Arc<ResourceSlice>,
    /// The number of its first device.
    first: usize,
    /// Of each device, how much of which counter it consumes; empty if none does.
    consumption: Vec<Consumption>,
    /// Whether some of its devices have to be made ready first.
    is_conditional: bool,
}

/// How much of which of a pool's counters.
type Consumption = Vec<(usize, Quantity)>;

/// A device that a node can reach.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'p> {
    pub(super) id: DeviceId<'p>,
    pub(super) device: &'p Device,
    pub(super) slice: &'p Arc<ResourceSlice>,
    /// The device's position in the slice.
    pub(super) index: usize,
    /// The device's number.
    pub(super) number: usize,
    /// The pool's position, and the pool.
    pub(super) pool_at: usize,
    pub(super) pool: &'p Pool,
    /// How much of which counter it consumes.
    pub(super) consumption: &'p [(usize, Quantity)],
    /// Whether its pool is complete and valid.
    pub(super) is_usable: bool,
}

impl Inventory {
    /// Sorts slices into pools. Pools are in the order of driver and name, slices as they come, but
    /// those with devices that have to be made ready come last.
    pub(super) fn new<'a>(
        slices: impl Iterator<Item = &'a Arc<ResourceSlice>>,
        rules: &[&Arc<DeviceTaintRule>],
    ) -> Self {
        let mut by_pool: BTreeMap<(&str, &str), Vec<&Arc<ResourceSlice>>> = BTreeMap::new();
        for slice in slices {
            let pool = by_pool.entry((&slice.spec.driver, &slice.spec.pool.name)).or_default();
            let generation = slice.spec.pool.generation;
            let newest = pool.first().map_or(generation, |first| first.spec.pool.generation);
            if generation > newest {
                pool.clear();
            }
            if generation >= newest {
                pool.push(slice);
            }
        }
        let mut inventory = Self::default();
        for ((driver, name), slices) in by_pool {
            let pool = Pool::new(driver, name, &slices, inventory.device_count, rules);
            inventory.add(pool);
        }
        inventory
    }

    fn add(&mut self, pool: Pool) {
        let at = self.pools.len();
        for (position, slice) in pool.slices.iter().enumerate() {
            self.device_count += slice.devices().len();
            match node_name(&slice.slice.spec) {
                // Counters are everybody's, wherever the slice is.
                Some(node) if !slice.has_counters() => {
                    self.local.entry(node.into()).or_default().push((at, position));
                }
                _ => self.shared.push((at, position)),
            }
        }
        let of_driver = self.by_name.entry(pool.driver.clone()).or_default();
        of_driver.insert(pool.name.clone(), at);
        self.pools.push(pool);
    }

    /// How many devices there are.
    pub(super) fn device_count(&self) -> usize {
        self.device_count
    }

    /// The nodes that have slices of their own, and these; `None` if there are slices of other kinds.
    pub(super) fn local(&self) -> Option<impl Iterator<Item = (&str, &[(usize, usize)])>> {
        let local = self.local.iter().map(|(node, slices)| (&**node, slices.as_slice()));
        self.shared.is_empty().then_some(local)
    }

    /// The pools, in their order.
    pub(super) fn pools(&self) -> &[Pool] {
        &self.pools
    }

    /// The pool's position and the device's number.
    pub(super) fn find(&self, (driver, pool, device): DeviceId<'_>) -> Option<(usize, usize)> {
        let at = *self.by_name.get(driver)?.get(pool)?;
        Some((at, *self.pools[at].numbers.get(device)?))
    }

    /// The pools and devices that the node can reach.
    pub(super) fn of_node(&self, node: &Node) -> (Vec<&Pool>, Vec<Candidate<'_>>) {
        let (mut pools, mut devices) = (Vec::new(), Vec::new());
        let (mut last_pools, mut last_devices) = (Vec::new(), Vec::new());
        let slices = self.slices(node);
        for reached in slices.chunk_by(|a, b| a.0 == b.0) {
            let at = reached[0].0;
            let pool = &self.pools[at];
            let is_last = reached.iter().any(|(_, position)| pool.slices[*position].is_conditional);
            let (pools, devices) = match is_last {
                false => (&mut pools, &mut devices),
                true => (&mut last_pools, &mut last_devices),
            };
            for (_, position) in reached {
                pool.add_devices(at, &pool.slices[*position], node, devices);
            }
            pools.push(pool);
        }
        pools.append(&mut last_pools);
        devices.append(&mut last_devices);
        (pools, devices)
    }

    /// The slices that the node can reach, in the order of pools and positions.
    fn slices(&self, node: &Node) -> Vec<(usize, usize)> {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let mut reached = self.local.get(name).cloned().unwrap_or_default();
        let before = reached.len();
        reached.extend(self.shared.iter().filter(|(pool, position)| {
            let slice = &self.pools[*pool].slices[*position];
            slice.has_counters() || slice.is_reached_from(node)
        }));
        if before > 0 && reached.len() > before {
            reached.sort_unstable();
        }
        reached
    }

    /// How much of which counters of its pool the device consumes.
    pub(super) fn consumption(&self, pool: usize, number: usize) -> &[(usize, Quantity)] {
        let slices = &self.pools[pool].slices;
        let at = slices.partition_point(|slice| slice.first <= number);
        let Some(slice) = at.checked_sub(1).map(|at| &slices[at]) else { return &[] };
        slice.consumption(number - slice.first)
    }
}

impl Pool {
    fn new(
        driver: &str,
        name: &str,
        slices: &[&Arc<ResourceSlice>],
        mut first: usize,
        rules: &[&Arc<DeviceTaintRule>],
    ) -> Self {
        let wanted = slices.first().map_or(0, |slice| slice.spec.pool.resource_slice_count);
        let (sets, counters, mut is_invalid) = counters(slices);
        let (last, others): (Vec<_>, Vec<_>) =
            slices.iter().partition(|slice| is_conditional(slice));
        let (mut numbers, mut own) = (FxHashMap::default(), Vec::new());
        for slice in others.into_iter().chain(last) {
            let slice = Slice::new(slice, first, &sets, &mut is_invalid);
            for device in slice.devices() {
                is_invalid |= numbers.insert(device.name.as_str().into(), first).is_some();
                first += 1;
            }
            own.push(slice);
        }
        let is_own = |rule: &&&Arc<DeviceTaintRule>| {
            let selector = rule.spec.device_selector.as_ref();
            selector.is_none_or(|selector| {
                selector.driver.as_deref().is_none_or(|wanted| wanted == driver)
                    && selector.pool.as_deref().is_none_or(|wanted| wanted == name)
            })
        };
        Self {
            driver: driver.into(),
            name: name.into(),
            is_incomplete: i64::try_from(slices.len()) != Ok(wanted),
            is_invalid,
            counters,
            slices: own,
            numbers,
            rules: rules.iter().filter(is_own).map(|rule| Arc::clone(rule)).collect(),
        }
    }

    fn add_devices<'p>(
        &'p self,
        pool_at: usize,
        of: &'p Slice,
        node: &Node,
        devices: &mut Vec<Candidate<'p>>,
    ) {
        let each = of.slice.spec.per_device_node_selection == Some(true);
        for (index, device) in of.devices().iter().enumerate() {
            if each && !device_is_reached_from(device, node) {
                continue;
            }
            devices.push(Candidate {
                id: (&self.driver, &self.name, &device.name),
                device,
                slice: &of.slice,
                index,
                number: of.first + index,
                pool_at,
                pool: self,
                consumption: of.consumption(index),
                is_usable: !self.is_incomplete && !self.is_invalid,
            });
        }
    }

    /// The taints that rules give to the device: key, value and effect.
    pub(super) fn ruled_taints<'p>(
        &'p self,
        device: &str,
    ) -> impl Iterator<Item = (&'p str, Option<&'p str>, &'p str)> {
        let is_meant = move |rule: &&Arc<DeviceTaintRule>| {
            let selector = rule.spec.device_selector.as_ref();
            let wanted = selector.and_then(|selector| selector.device.as_deref());
            wanted.is_none_or(|wanted| wanted == device)
        };
        self.rules.iter().filter(is_meant).map(|rule| {
            let taint = &rule.spec.taint;
            (taint.key.as_str(), taint.value.as_deref(), taint.effect.as_str())
        })
    }
}

impl Slice {
    fn new(
        slice: &Arc<ResourceSlice>,
        first: usize,
        sets: &CounterSets<'_>,
        is_invalid: &mut bool,
    ) -> Self {
        let devices = devices(slice);
        let consumes =
            |device: &Device| device.consumes_counters.as_ref().is_some_and(|c| !c.is_empty());
        let consumption = match devices.iter().any(consumes) {
            false => Vec::new(),
            true => devices.iter().map(|device| consumption(device, sets, is_invalid)).collect(),
        };
        let is_conditional = is_conditional(slice);
        Self { slice: Arc::clone(slice), first, consumption, is_conditional }
    }

    fn devices(&self) -> &[Device] {
        devices(&self.slice)
    }

    fn consumption(&self, index: usize) -> &[(usize, Quantity)] {
        self.consumption.get(index).map_or(&[], Vec::as_slice)
    }

    fn has_counters(&self) -> bool {
        has_counters(&self.slice)
    }

    /// Whether the node can reach the slice, or a device of it, which is not of one node.
    fn is_reached_from(&self, node: &Node) -> bool {
        let spec = &self.slice.spec;
        if spec.all_nodes == Some(true) || spec.node_selector.is_some() {
            return spec.all_nodes == Some(true) || selects(spec.node_selector.as_ref(), node);
        }
        spec.per_device_node_selection == Some(true)
            && self.devices().iter().any(|device| device_is_reached_from(device, node))
    }
}

fn has_counters(slice: &ResourceSlice) -> bool {
    slice.spec.shared_counters.as_ref().is_some_and(|sets| !sets.is_empty())
}

/// The slice's devices. A slice of counters has none.
fn devices(slice: &ResourceSlice) -> &[Device] {
    if has_counters(slice) {
        return &[];
    }
    slice.spec.devices.as_deref().unwrap_or_default()
}

/// The position of a counter among a pool's, by set and name.
type CounterSets<'a> = FxHashMap<(&'a str, &'a str), usize>;

/// The counters of a pool, and whether two of its sets have the same name.
fn counters<'a>(slices: &[&'a Arc<ResourceSlice>]) -> (CounterSets<'a>, Vec<Quantity>, bool) {
    let (mut at, mut counters, mut is_invalid) = (CounterSets::default(), Vec::new(), false);
    let mut names = FxHashSet::default();
    for set in slices.iter().flat_map(|slice| slice.spec.shared_counters.iter().flatten()) {
        is_invalid |= !names.insert(set.name.as_str());
        for (name, counter) in &set.counters {
            at.insert((set.name.as_str(), name.as_str()), counters.len());
            counters.push(amount(counter));
        }
    }
    (at, counters, is_invalid)
}

fn consumption(device: &Device, sets: &CounterSets<'_>, is_invalid: &mut bool) -> Consumption {
    let mut consumption = Consumption::new();
    for consumed in device.consumes_counters.iter().flatten() {
        for (name, counter) in &consumed.counters {
            match sets.get(&(consumed.counter_set.as_str(), name.as_str())) {
                Some(at) => consumption.push((*at, amount(counter))),
                None => *is_invalid = true,
            }
        }
    }
    consumption
}

/// Validation has refused what is no quantity.
fn amount(counter: &Counter) -> Quantity {
    Quantity::try_from(&counter.value).unwrap_or(Quantity::ZERO)
}

fn is_conditional(slice: &ResourceSlice) -> bool {
    slice.spec.devices.iter().flatten().any(|device| device.binding_conditions.is_some())
}

fn node_name(slice: &ResourceSliceSpec) -> Option<&str> {
    slice.node_name.as_deref().filter(|name| !name.is_empty())
}

/// Whether the node can reach a device of a slice whose devices choose their nodes themselves.
fn device_is_reached_from(device: &Device, node: &Node) -> bool {
    match device.node_name.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => node.metadata.name.as_deref() == Some(name),
        None => device.all_nodes == Some(true) || selects(device.node_selector.as_ref(), node),
    }
}

fn selects(selector: Option<&NodeSelector>, node: &Node) -> bool {
    selector.is_some_and(|selector| node_affinity::selector_matches(selector, node))
}
