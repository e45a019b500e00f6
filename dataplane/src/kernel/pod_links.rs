//! Since when the pods' links have the programs for packets.
//!
//! What pods send to Services their sockets have translated, so on a pod's link the programs find nothing
//! to do, at some 75 ns a packet and program, but in three cases:
//!
//! * clients elsewhere whose connections to a pod of this node are masqueraded: known by what is
//!   published, and the programs are there before it is;
//! * SCTP, whose sockets have no hooks: likewise;
//! * pods whose sockets the host does not see, of virtual machines say: known by their packets to
//!   Services. They leave the node untranslated by another link, of which the program counts them
//!   ([`pintle_ebpf_common::event::STRAYED`]). Where the node's routes send them by no such link, the
//!   programs are on the pods' links from the start.
//!
//! Once they are there they stay: connections are noted that need them. What is pinned says so to the next
//! process.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use pintle_ebpf_common::{
    Address, Frontend, FrontendKey, event, flag, locality, protocol, setting,
};

use super::links::{LinkError, pin_path};
use super::load::Dataplane;
use super::namespace::{Link, LinkRole, NodeNamespace};
use super::route;
use crate::plan::{LocalDetector, address, ip_addr};

/// Whether the programs for packets are on pods' links too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodLinks {
    /// From the start.
    Always,
    /// From when they are needed.
    #[default]
    WhenNeeded,
}

/// The pods' links without programs.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    pub(super) when: PodLinks,
    /// Whether they are needed, for good.
    needed: bool,
    /// Whether it was looked what an earlier process has pinned.
    looked_at_pins: bool,
    namespace: NodeNamespace,
    links: BTreeMap<u32, Link>,
    detector: Option<LocalDetector>,
    /// The node's own addresses: who has one needs no link to be reached.
    own: BTreeSet<Address>,
    /// A cluster IP of each family, to see which way packets to them go.
    cluster_ips: [Option<Address>; 2],
}

impl LeftOut {
    /// Whether a link has no programs.
    pub(super) fn has(&self, index: u32) -> bool {
        self.links.contains_key(&index)
    }

    fn may(&self) -> bool {
        self.when == PodLinks::WhenNeeded && !self.needed
    }
}

impl Dataplane {
    /// Whether pods' links have the programs for packets from the start. To be said before
    /// [`Dataplane::set_links`].
    pub fn set_pod_links(&mut self, when: PodLinks) {
        self.attachments.left_out.when = when;
    }

    /// The links that have programs for packets.
    #[must_use]
    pub fn served_links(&self) -> Vec<u32> {
        self.attachments.attached.keys().copied().collect()
    }

    /// Choose, of the links that there are now, those that need no programs.
    pub(super) fn leave_out(
        &mut self,
        namespace: &NodeNamespace,
        detector: &LocalDetector,
        links: &[&Link],
    ) {
        let is_pods = |link: &Link| {
            link.role == LinkRole::Inner && detector.is_pod_link(&link.name, &link.addresses)
        };
        let settings = setting::MASQUERADE_ALL | setting::NODE_SOCKETS_ONLY;
        let by_settings = self.current.flags & settings != 0;
        let attachments = &mut self.attachments;
        let left_out = &mut attachments.left_out;
        left_out.namespace = namespace.clone();
        left_out.detector = Some(detector.clone());
        left_out.own =
            links.iter().flat_map(|link| &link.addresses).map(|ip| address(*ip)).collect();
        let pods = links.iter().filter(|link| is_pods(link));
        let pods: BTreeMap<u32, Link> = pods.map(|link| (link.index, (*link).clone())).collect();
        if let Some(pins) = attachments.pins.as_deref().filter(|_| !left_out.looked_at_pins) {
            left_out.needed |= are_pinned(pins, &pods, links);
        }
        left_out.looked_at_pins = true;
        left_out.needed |= by_settings;
        let without =
            pods.into_iter().filter(|(index, _)| !attachments.attached.contains_key(index));
        left_out.links = if left_out.may() { without.collect() } else { BTreeMap::new() };
    }

    /// Serve the links too that were taken for pods', if that is not certain any more.
    pub(crate) fn serve_pod_links(&mut self) {
        let served = self.need_pod_links("it has changed which links are the pods'");
        log_failure(served);
    }

    /// From now on pods' links have the programs for packets.
    pub(super) fn need_pod_links(&mut self, why: &str) -> Result<(), LinkError> {
        let left_out = &mut self.attachments.left_out;
        if !left_out.may() {
            return Ok(());
        }
        let namespace = left_out.namespace.clone();
        left_out.needed = true;
        let links = std::mem::take(&mut left_out.links);
        tracing::info!(why, "pods' links are served too");
        let attach = |(_, link): (u32, Link)| self.attach_to(&namespace, &link);
        links.into_iter().map(attach).fold(Ok(()), Result::and)
    }

    /// Before a frontend is published: see to it that the programs are where its packets pass.
    pub(super) fn prepare_pod_links(&mut self, key: &FrontendKey, frontend: &Frontend) {
        if !self.attachments.left_out.may() {
            return;
        }
        if frontend.flags & flag::CLUSTER_IP != 0 {
            let family = usize::from(key.address.v4().is_none());
            self.attachments.left_out.cluster_ips[family] = Some(key.address);
        }
        let prepared = if key.protocol == protocol::SCTP {
            self.need_pod_links("a Service of SCTP")
        } else if self.masquerades_here(frontend) {
            self.need_pod_links("a Service that clients elsewhere may use has a pod of this node")
        } else {
            Ok(())
        };
        log_failure(prepared);
    }

    /// Whether what is masqueraded may go to a pod of this node. To a cluster IP it is not if that is known
    /// to be of this node.
    fn masquerades_here(&mut self, frontend: &Frontend) -> bool {
        let is_exposed = frontend.flags & flag::MASQUERADE != 0;
        let is_cluster_ip = frontend.flags & flag::CLUSTER_IP != 0
            && self.current.flags & setting::DETECTS_LOCAL != 0;
        if !is_exposed && !is_cluster_ip {
            return false;
        }
        let LeftOut { own, detector, .. } = &self.attachments.left_out;
        let may_be_pod = |address| {
            detector.as_ref().is_none_or(|detector| detector.may_be_pod(ip_addr(address)))
        };
        [frontend.internal, frontend.external].into_iter().any(|run| {
            let slots = self.slots.read(run).unwrap_or_default();
            let mut backends = slots.into_iter().filter_map(|slot| slot.open(frontend.table));
            backends.any(|backend| match backend.locality {
                locality::OTHER_NODE => false,
                _ if own.contains(&backend.address) => false,
                locality::THIS_NODE => is_exposed,
                _ => may_be_pod(backend.address),
            })
        })
    }

    /// See whether packets of pods to Services go untranslated, or would and nobody noticed. To be called
    /// every few seconds.
    pub fn look_for_strays(&mut self) -> Result<(), LinkError> {
        if !self.attachments.left_out.may() || self.attachments.left_out.links.is_empty() {
            return Ok(());
        }
        let strayed = self.count(event::STRAYED).map_err(LinkError::Strays)?;
        if strayed != 0 {
            return self.need_pod_links("a pod whose sockets are not seen asks for a Service");
        }
        for cluster_ip in self.cluster_ips().into_iter().flatten() {
            let way = move || route::link_to(ip_addr(cluster_ip));
            let namespace = &self.attachments.left_out.namespace;
            let link = namespace.run(way).map_err(LinkError::Namespace)?;
            let is_served = |link| self.attachments.attached.contains_key(&link);
            if !link.map_err(LinkError::Route)?.is_some_and(is_served) {
                return self.need_pod_links("packets to Services leave by no link that is served");
            }
        }
        Ok(())
    }

    /// A cluster IP of each family that has some. What an earlier process has published is looked through
    /// as far as it takes to find any.
    fn cluster_ips(&mut self) -> [Option<Address>; 2] {
        let known = &mut self.attachments.left_out.cluster_ips;
        if known.iter().all(Option::is_none) {
            let entries = self.frontends.iter().take(FRONTENDS_LOOK).flatten();
            for (key, _) in entries.filter(|(_, it)| it.flags & flag::CLUSTER_IP != 0) {
                known[usize::from(key.address.v4().is_none())] = Some(key.address);
            }
        }
        *known
    }
}

fn log_failure(served: Result<(), LinkError>) {
    if let Err(error) = served {
        let source = std::error::Error::source(&error).map(ToString::to_string);
        tracing::warn!(%error, source, "clients elsewhere of this node's pods are not served");
    }
}

/// Whether an earlier process has attached to pods' links, of which some may be gone.
fn are_pinned(pins: &Path, pods: &BTreeMap<u32, Link>, links: &[&Link]) -> bool {
    let is_pinned = |index: &u32| pin_path(pins, "ingress", *index).exists();
    let entries = fs::read_dir(pins).into_iter().flatten().flatten();
    let pinned = entries.filter_map(|entry| {
        entry.file_name().to_str()?.strip_prefix("link_ingress_")?.parse::<u32>().ok()
    });
    let is_gone = |index: u32| links.iter().all(|link| link.index != index);
    pods.keys().any(is_pinned) || pinned.into_iter().any(is_gone)
}

/// How many addresses are looked through for a cluster IP; nearly all are.
const FRONTENDS_LOOK: usize = 64;
