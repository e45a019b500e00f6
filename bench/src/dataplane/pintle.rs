//! pintle's own modes: the dataplane in this process, as its daemon drives it.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use pintle_dataplane::plan::{
    Catalog, DesiredService, LocalDetector, NodeSpec, Planner, ServiceName, ServiceSpec, SliceSpec,
    node_port_addresses,
};
use pintle_dataplane::{Dataplane, Express, Limits, NodeNamespace};

use anyhow::{Context as _, ensure};
use pintle_node::cgroup::Cgroup;

use super::cluster::{Cluster, NAMESPACE};
use super::mode::Mode;
use super::packet;
use super::world::{POD_CIDR, World};

/// A dataplane and what it was told.
pub(super) struct Pintle {
    pub(super) dataplane: Dataplane,
    planner: Planner,
    catalog: Catalog,
    /// Where no process is, for the hooks of a mode without them.
    nowhere: Option<Cgroup>,
}

impl Pintle {
    /// Load and attach, without any Service.
    pub(super) fn attach(mode: Mode, world: &World, cluster: Cluster) -> anyhow::Result<Self> {
        let limits = limits(cluster);
        let by_sockets = matches!(mode, Mode::Pintle | Mode::PintleSockets);
        let nowhere = (!by_sockets).then(|| world.cgroup.child("nowhere"));
        if let Some(nowhere) = &nowhere {
            nowhere.create()?;
        }
        let cgroup = nowhere.as_ref().unwrap_or(&world.cgroup);
        let namespace = NodeNamespace::Named(world.node.clone());
        let detector = LocalDetector::Cidrs(vec![POD_CIDR.parse()?]);
        let mut dataplane = Dataplane::load(cgroup.path(), limits)?;
        dataplane.set_node_namespace(&namespace)?;
        dataplane.set_local(&detector, false)?;
        let links = namespace.links()?;
        if mode == Mode::PintleXdp {
            dataplane.set_express(Express::Native);
        }
        if mode.serves_outside() {
            dataplane.set_links(&namespace, &detector, &links)?;
        }
        let mut planner = Planner::new(limits);
        let addresses = links.iter().flat_map(|link| &link.addresses).copied().collect::<Vec<_>>();
        let addresses = node_port_addresses(&[], &NodeSpec::default(), &addresses);
        dataplane.apply(&planner.plan_node_addresses(addresses).ops)?;
        Ok(Self { dataplane, planner, catalog: Catalog::default(), nowhere })
    }

    /// From the API's objects to the kernel.
    pub(super) fn program(&mut self, objects: Vec<(Service, EndpointSlice)>) -> anyhow::Result<()> {
        for (service, slice) in objects {
            let name = name_of(service.metadata.name.as_deref());
            self.catalog.set_service(&name, ServiceSpec::from_object(&service));
            let name = name_of(slice.metadata.name.as_deref());
            self.catalog.set_slice(&name, SliceSpec::from_object(&slice, NODE));
        }
        let plan = self.planner.plan(0, self.catalog.take_changes());
        let rejected = plan.rejected.first().map(|rejected| rejected.reason.to_string());
        ensure!(rejected.is_none(), "a Service was rejected: {}", rejected.unwrap_or_default());
        self.dataplane.apply(&plan.ops).context("fill the tables")?;
        // The daemon does every other second.
        Ok(self.dataplane.look_for_strays()?)
    }

    /// Serve these as well.
    pub(super) fn add(
        &mut self,
        services: Vec<(ServiceName, DesiredService)>,
    ) -> anyhow::Result<()> {
        let plan = self.planner.plan(0, services);
        Ok(self.dataplane.apply(&plan.ops)?)
    }
}

impl Drop for Pintle {
    fn drop(&mut self) {
        if let Some(nowhere) = &self.nowhere {
            let _ = std::fs::remove_dir(nowhere.path());
        }
    }
}

/// All objects of the API that say what there is.
pub(super) fn objects(cluster: Cluster) -> Vec<(Service, EndpointSlice)> {
    let all = 0..cluster.services;
    all.map(|service| (cluster.service(service), cluster.slice(service))).collect()
}

/// Room for the Services, and for as many again of their endpoints while they change.
fn limits(cluster: Cluster) -> Limits {
    let default = Limits::default();
    let frontends = cluster.services + cluster.probes().len() + packet::services().len();
    let slots = cluster.services * cluster.endpoints.next_power_of_two();
    let spare = slots / 8 + cluster.endpoints.next_power_of_two() * 1024;
    Limits {
        frontends_max: default.frontends_max.max(u32::try_from(frontends).unwrap_or(u32::MAX)),
        slots_max: default.slots_max.max(u32::try_from(slots + spare).unwrap_or(u32::MAX)),
        ..default
    }
}

fn name_of(name: Option<&str>) -> ServiceName {
    ServiceName::new(NAMESPACE, name.unwrap_or_default())
}

pub(super) const NODE: &str = "node";
