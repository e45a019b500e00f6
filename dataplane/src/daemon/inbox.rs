//! What the two watches say, gathered into the catalog.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::jiff::Timestamp;
use kube::Resource;
use kube::runtime::watcher::{self, Event};
use rustc_hash::FxHashSet;

use super::metrics::{Kind, Metrics};
use crate::plan::{Catalog, DesiredService, NodeSpec, ServiceName, ServiceSpec, SliceSpec};

/// The catalog and how far the lists that fill it have come.
pub(super) struct Inbox {
    node: String,
    /// The node's primary address, if it is not the API's.
    node_ip: Option<IpAddr>,
    catalog: Catalog,
    started: Timestamp,
    /// When the changes of endpoints that wait for an update were set off, as their controller noted.
    triggers: Vec<Timestamp>,
    /// Whether changes were taken before, be it none in an empty cluster.
    applied: bool,
    services: Listing,
    slices: Listing,
    /// Whether the node was looked for.
    node_known: bool,
    /// What is wrong with Services' annotations, and nobody was told yet.
    warnings: Vec<(ServiceName, Arc<str>)>,
    /// Its podCIDRs, if they have changed since they were taken.
    pod_cidrs: Option<Vec<IpNet>>,
}

/// One kind's list.
#[derive(Default)]
struct Listing {
    /// The names in the list that is being read; none once it is.
    seen: FxHashSet<ServiceName>,
    /// Whether one was read to its end.
    complete: bool,
}

/// What an event says of one kind.
enum News<K> {
    Listed,
    Nothing,
    Removed(ServiceName),
    Set(ServiceName, K),
}

impl Inbox {
    pub(super) fn new(node: &str) -> Self {
        let (services, slices) = (Listing::default(), Listing::default());
        Self {
            node: node.to_owned(),
            node_ip: None,
            catalog: Catalog::default(),
            started: Timestamp::now(),
            triggers: Vec::new(),
            applied: false,
            services,
            slices,
            node_known: false,
            warnings: Vec::new(),
            pod_cidrs: None,
        }
    }

    /// This is the node's primary address, whatever the API says.
    pub(super) fn set_node_ip(&mut self, ip: Option<IpAddr>) {
        self.node_ip = ip;
    }

    /// When the changes were set off that have been taken and are applied now.
    pub(super) fn take_triggers(&mut self) -> Vec<Timestamp> {
        std::mem::take(&mut self.triggers)
    }

    /// Whether there is something to apply: once all is known that was there at the start, and from
    /// then on when there are changes.
    pub(super) fn has_work(&self) -> bool {
        let known = self.services.complete && self.slices.complete && self.node_known;
        known && (!self.applied || self.catalog.has_changes() || self.pod_cidrs.is_some())
    }

    /// Whether changes were taken before.
    pub(super) fn is_applied(&self) -> bool {
        self.applied
    }

    pub(super) fn take_changes(&mut self) -> Vec<(ServiceName, DesiredService)> {
        self.applied = true;
        self.catalog.take_changes()
    }

    /// What is wrong with Services' annotations that nobody was told of yet.
    pub(super) fn take_warnings(&mut self) -> Vec<(ServiceName, Arc<str>)> {
        std::mem::take(&mut self.warnings)
    }

    /// The node's podCIDRs, if they may be news.
    pub(super) fn take_pod_cidrs(&mut self) -> Option<Vec<IpNet>> {
        self.pod_cidrs.take()
    }

    pub(super) fn service(&mut self, event: watcher::Result<Event<Service>>, metrics: &Metrics) {
        let Some(event) = self.heard(event) else { return };
        let news = match self.services.read(event) {
            News::Listed => {
                self.catalog.retain_services(&std::mem::take(&mut self.services.seen));
                false
            }
            News::Nothing => false,
            News::Removed(name) => self.catalog.set_service(&name, None),
            News::Set(name, service) => {
                let spec = ServiceSpec::from_object(&service);
                let warning = spec.as_ref().and_then(|spec| spec.warning.clone());
                let fresh = warning.filter(|new| self.catalog.warning(&name) != Some(&**new));
                self.warnings.extend(fresh.map(|warning| (name.clone(), warning)));
                self.catalog.set_service(&name, spec)
            }
        };
        if news {
            metrics.queued(Kind::Service);
        }
    }

    pub(super) fn slice(
        &mut self,
        event: watcher::Result<Event<EndpointSlice>>,
        metrics: &Metrics,
    ) {
        let Some(event) = self.heard(event) else { return };
        let mut trigger = None;
        let news = match self.slices.read(event) {
            News::Listed => {
                self.catalog.retain_slices(&std::mem::take(&mut self.slices.seen));
                false
            }
            News::Nothing => false,
            News::Removed(name) => self.catalog.set_slice(&name, None),
            News::Set(name, slice) => {
                trigger = last_change(&slice);
                self.catalog.set_slice(&name, SliceSpec::from_object(&slice, &self.node))
            }
        };
        if news {
            metrics.queued(Kind::EndpointSlice);
            // What changed before this process began says nothing of it.
            let recent = trigger.filter(|time| *time > self.started);
            self.triggers.extend(recent.filter(|_| self.triggers.len() < TRIGGERS_MAX));
        }
    }

    /// Something of the node itself. A node that is not there, or not yet, is one without a zone.
    pub(super) fn node(&mut self, event: watcher::Result<Event<Node>>) {
        let Some(event) = self.heard(event) else { return };
        match event {
            Event::Apply(node) | Event::InitApply(node) => {
                let mut spec = NodeSpec::from_object(&node);
                if let Some(ip) = self.node_ip {
                    spec.addresses.insert(0, ip);
                }
                if spec.pod_cidrs != self.catalog.node().pod_cidrs {
                    self.pod_cidrs = Some(spec.pod_cidrs.clone());
                }
                self.catalog.set_node(spec);
            }
            // kube-proxy goes on with what it knew.
            Event::Delete(_) | Event::Init => {}
            Event::InitDone => self.node_known = true,
        }
    }

    /// The cluster as last heard.
    pub(super) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    fn heard<K: Resource<DynamicType = ()>>(
        &self,
        event: watcher::Result<Event<K>>,
    ) -> Option<Event<K>> {
        let failed = |error: &watcher::Error| {
            tracing::warn!(node = self.node, kind = %K::kind(&()), %error, "watch again");
        };
        event.inspect_err(failed).ok()
    }
}

impl Listing {
    fn read<K: Resource>(&mut self, event: Event<K>) -> News<K> {
        match event {
            Event::Init => {
                self.seen.clear();
                News::Nothing
            }
            Event::InitApply(object) => match name(&object) {
                Some(name) => {
                    self.seen.insert(name.clone());
                    News::Set(name, object)
                }
                None => News::Nothing,
            },
            Event::InitDone => {
                self.complete = true;
                News::Listed
            }
            Event::Apply(object) => {
                name(&object).map_or(News::Nothing, |name| News::Set(name, object))
            }
            Event::Delete(object) => name(&object).map_or(News::Nothing, News::Removed),
        }
    }
}

/// The annotation of the endpoints' controller: when the pod or Service changed.
fn last_change(slice: &EndpointSlice) -> Option<Timestamp> {
    let annotations = slice.metadata.annotations.as_ref()?;
    annotations.get("endpoints.kubernetes.io/last-change-trigger-time")?.parse().ok()
}

/// So many changes may wait for one update; more are not timed.
const TRIGGERS_MAX: usize = 10_000;

/// An object's namespace and name, which those of the API have.
fn name(object: &impl Resource) -> Option<ServiceName> {
    let meta = object.meta();
    Some(ServiceName::new(meta.namespace.as_deref()?, meta.name.as_deref()?))
}
