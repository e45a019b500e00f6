//! The devices of the cluster: pools of slices, and which of them a node can reach.
//!
//! Mirrors `GatherPools`. A pool is all slices of one driver and pool name with the newest
//! generation. It is incomplete while some of its slices are missing, and invalid if two of its
//! devices have the same name. Slices that select nodes device by device, and devices that consume
//! counters, belong to partitionable devices (alpha, off by default) and are left out.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::resource::v1::{Device, ResourceClaim, ResourceSlice, ResourceSliceSpec};
use pintle_api::node_affinity;
use rustc_hash::{FxHashMap, FxHashSet};

use super::claim;

/// What names a device: driver, pool and name.
pub(super) type DeviceId<'a> = (&'a str, &'a str, &'a str);

/// All pools.
#[derive(Debug, Default)]
pub(super) struct Inventory<'a> {
    pools: Vec<Pool<'a>>,
    /// The slices of one node, by its name: pool and position in it.
    local: FxHashMap<&'a str, Vec<(usize, usize)>>,
    /// The slices that any node may reach.
    shared: Vec<(usize, usize)>,
}

/// All slices of one pool.
#[derive(Debug)]
pub(super) struct Pool<'a> {
    pub(super) driver: &'a str,
    pub(super) name: &'a str,
    pub(super) is_incomplete: bool,
    pub(super) is_invalid: bool,
    slices: Vec<&'a Arc<ResourceSlice>>,
}

/// A device that a node can reach.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) id: DeviceId<'a>,
    pub(super) device: &'a Device,
    pub(super) slice: &'a Arc<ResourceSlice>,
    /// The device's position in the slice.
    pub(super) index: usize,
    /// Whether its pool is incomplete or invalid.
    pub(super) is_usable: bool,
}

impl<'a> Inventory<'a> {
    /// Sorts slices into pools. Pools are in the order of driver and name, slices as they come.
    pub(super) fn new(slices: impl Iterator<Item = &'a Arc<ResourceSlice>>) -> Self {
        let mut by_pool: BTreeMap<(&str, &str), Vec<&Arc<ResourceSlice>>> = BTreeMap::new();
        for slice in slices.filter(|slice| slice.spec.per_device_node_selection.is_none()) {
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
        let pools =
            by_pool.into_iter().map(|((driver, name), slices)| Pool::new(driver, name, slices));
        let mut inventory = Self { pools: pools.collect(), ..Self::default() };
        for (at, pool) in inventory.pools.iter().enumerate() {
            for (position, slice) in pool.slices.iter().enumerate() {
                match node_name(&slice.spec) {
                    Some(node) => {
                        inventory.local.entry(node).or_default().push((at, position));
                    }
                    None => inventory.shared.push((at, position)),
                }
            }
        }
        inventory
    }

    /// The slices that the node can reach, by pool.
    fn slices(&self, node: &Node) -> BTreeMap<usize, Vec<usize>> {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let local = self.local.get(name).into_iter().flatten();
        let shared = self
            .shared
            .iter()
            .filter(|(pool, position)| reaches(&self.pools[*pool].slices[*position].spec, node));
        let mut by_pool: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (pool, position) in local.chain(shared) {
            by_pool.entry(*pool).or_default().push(*position);
        }
        by_pool.values_mut().for_each(|positions| positions.sort_unstable());
        by_pool
    }

    /// The pools and devices that the node can reach.
    pub(super) fn of_node(&self, node: &Node) -> (Vec<&Pool<'a>>, Vec<Candidate<'a>>) {
        let (mut pools, mut devices) = (Vec::new(), Vec::new());
        for (pool, positions) in self.slices(node) {
            let pool = &self.pools[pool];
            for position in positions {
                pool.add_devices(position, &mut devices);
            }
            pools.push(pool);
        }
        (pools, devices)
    }
}

impl<'a> Pool<'a> {
    fn new(driver: &'a str, name: &'a str, slices: Vec<&'a Arc<ResourceSlice>>) -> Self {
        let wanted = slices.first().map_or(0, |slice| slice.spec.pool.resource_slice_count);
        let mut names = FxHashSet::default();
        let mut devices = slices.iter().flat_map(|slice| slice.spec.devices.iter().flatten());
        Self {
            driver,
            name,
            is_incomplete: i64::try_from(slices.len()) != Ok(wanted),
            is_invalid: !devices.all(|device| names.insert(device.name.as_str())),
            slices,
        }
    }

    fn add_devices(&self, position: usize, devices: &mut Vec<Candidate<'a>>) {
        let slice = self.slices[position];
        for (index, device) in slice.spec.devices.iter().flatten().enumerate() {
            devices.push(Candidate {
                id: (self.driver, self.name, &device.name),
                device,
                slice,
                index,
                is_usable: !self.is_incomplete && !self.is_invalid,
            });
        }
    }
}

fn node_name(slice: &ResourceSliceSpec) -> Option<&str> {
    slice.node_name.as_deref().filter(|name| !name.is_empty())
}

/// Whether the node can reach a slice that is not of one node.
fn reaches(slice: &ResourceSliceSpec, node: &Node) -> bool {
    slice.all_nodes == Some(true)
        || slice.node_selector.as_ref().is_some_and(|s| node_affinity::selector_matches(s, node))
}

/// The devices that claims have. Those used with admin access are not taken by that.
pub(super) fn allocated<'a>(
    claims: impl Iterator<Item = &'a Arc<ResourceClaim>>,
) -> FxHashSet<DeviceId<'a>> {
    let allocations = claims.filter_map(|claim| claim::allocation(claim));
    let devices = allocations.filter_map(|allocation| allocation.devices.as_ref());
    let results = devices.flat_map(|devices| devices.results.iter().flatten());
    results
        .filter(|result| result.admin_access != Some(true))
        .map(|result| (result.driver.as_str(), result.pool.as_str(), result.device.as_str()))
        .collect()
}
