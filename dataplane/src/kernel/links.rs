//! The programs for packets, on the node's links as they come and go.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use aya::maps::MapError;
use pintle_ebpf_common::{Address, Device, SourceRange, device, setting};

use super::error::LoadError;
use super::grow::update_link;
use super::inventory;
use super::load::Dataplane;
use super::namespace::{Link, LinkRole, NamespaceError, NodeNamespace};
use super::pod_links::LeftOut;
use super::programs::ForPackets;
use super::syscall::{self, Hook};
use super::xdp::{self, Express, Mode};
use crate::plan::{LocalDetector, MapOp, address};

/// The programs, and where they are attached.
pub(super) struct Attachments {
    pub(super) programs: ForPackets,
    express: Express,
    /// Where the attachments are pinned.
    pub(super) pins: Option<PathBuf>,
    /// By the link's number; the attachments that are not pinned go with these descriptors.
    pub(super) attached: BTreeMap<u32, Vec<OwnedFd>>,
    known: BTreeMap<u32, Device>,
    /// The pods' links, on which there need not be any.
    pub(super) left_out: LeftOut,
}

/// A link could not be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The programs could not be attached to it.
    #[error("attach the programs for packets to link {link}")]
    Attach {
        /// The link.
        link: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The connections could not be read.
    #[error("look which packets can be of a connection")]
    Filter(#[source] MapError),
    /// The kernel does not say which way packets go.
    #[error("ask for the way to a cluster IP")]
    Route(#[source] io::Error),
    /// What the programs have counted could not be read.
    #[error("look whether packets to Services go untranslated")]
    Strays(#[source] MapError),
    /// The programs could not be told of it.
    #[error("tell the programs of link {link}")]
    Map {
        /// The link.
        link: String,
        /// What the kernel said.
        #[source]
        source: MapError,
    },
    /// The node's network namespace could not be entered.
    #[error(transparent)]
    Namespace(NamespaceError),
}

impl Attachments {
    pub(super) fn new(programs: ForPackets, pins: Option<PathBuf>) -> Self {
        Self {
            programs,
            express: Express::Off,
            pins,
            attached: BTreeMap::new(),
            known: BTreeMap::new(),
            left_out: LeftOut::default(),
        }
    }

    /// Attach to a link that is new. Runs in the node's network namespace. Says which of the flags
    /// [`TURNING_BACK`] the link has now.
    fn attach(&mut self, namespace: &NodeNamespace, link: &Link) -> Result<u32, LinkError> {
        let failed = |source| LinkError::Attach { link: link.name.clone(), source };
        let programs = self.programs.try_clone().map_err(failed)?;
        let (index, name, express) = (link.index, link.name.clone(), self.express);
        let pins = self.pins.clone();
        let attach = move || {
            let pin = |what| pins.as_deref().map(|pins| pin_path(pins, what, index));
            let ingress = pin("ingress");
            let ingress = attach_one(&programs.ingress, index, Hook::Ingress, ingress.as_deref())?;
            let egress = pin("egress");
            let egress = attach_one(&programs.egress, index, Hook::Egress, egress.as_deref())?;
            let pin = pin("express");
            if let Some(pin) = &pin {
                // By another mode, perhaps; packets are the kernel's for a moment.
                let _ = fs::remove_file(pin);
            }
            let program = &programs.express;
            let express = (express != Express::Off)
                .then(|| xdp::attach(program, (index, &name), express, pin.as_deref()));
            Ok((vec![ingress, egress], express.flatten()))
        };
        let attached: io::Result<_> = namespace.run(attach).map_err(LinkError::Namespace)?;
        let (mut attachments, express) = attached.map_err(failed)?;
        let flags = match express {
            None => 0,
            Some((_, Mode::Native)) => device::TURNS_BACK | device::MAKES_SUMS,
            Some((_, Mode::Generic)) => device::TURNS_BACK,
        };
        attachments.extend(express.map(|(attachment, _)| attachment));
        self.attached.insert(link.index, attachments);
        Ok(flags)
    }

    /// Let all attachments run these programs.
    pub(super) fn update_links(&self, programs: &ForPackets) -> Result<(), LoadError> {
        let ForPackets { ingress, egress, express } = programs;
        for (index, attached) in &self.attached {
            // In the order in which they were attached.
            for (attachment, program) in attached.iter().zip([ingress, egress, express]) {
                update_link(attachment, program).map_err(|source| LoadError::UpdateLink {
                    link: format!("of the node's link {index}"),
                    source,
                })?;
            }
        }
        Ok(())
    }

    /// Go on with what `old` was attached to, which runs these programs by now.
    pub(super) fn inherit(&mut self, old: &mut Self) {
        self.express = old.express;
        self.attached = std::mem::take(&mut old.attached);
        self.known = std::mem::take(&mut old.known);
        self.left_out = std::mem::take(&mut old.left_out);
    }

    /// A link is gone, and with it what was attached to it; its pins are left over.
    fn forget(&mut self, index: u32) {
        self.attached.remove(&index);
        if let Some(pins) = &self.pins {
            for what in ["ingress", "egress", "express"] {
                let _ = fs::remove_file(pin_path(pins, what, index));
            }
        }
    }
}

/// Attach, or let an attachment that is pinned run this program.
fn attach_one(
    program: &OwnedFd,
    index: u32,
    hook: Hook,
    pin: Option<&Path>,
) -> io::Result<OwnedFd> {
    if let Some(pin) = pin {
        if let Ok(link) = syscall::open_pinned(pin)
            && syscall::update_link(link.as_fd(), program.as_fd()).is_ok()
        {
            return Ok(link);
        }
        // There is none, or its link is gone.
        let _ = fs::remove_file(pin);
    }
    let link = syscall::attach_to_link(program.as_fd(), index, hook)?;
    if let Some(pin) = pin {
        syscall::pin(link.as_fd(), pin)?;
    }
    Ok(link)
}

pub(super) fn pin_path(pins: &Path, what: &str, index: u32) -> PathBuf {
    pins.join(format!("link_{what}_{index}"))
}

impl Dataplane {
    /// Whether packets may turn back before the kernel sees them, on links that are attached to from
    /// now on.
    pub fn set_express(&mut self, express: Express) {
        self.attachments.express = express;
    }

    /// Translate the packets of these links of the node, and of no others: not of those that are ports of
    /// a bridge, which hands their packets on as its own, and of pods' links as [`PodLinks`] says. The
    /// links are those of `namespace`. One that cannot be served does not keep the others from it; the
    /// first such error is returned.
    ///
    /// [`PodLinks`]: super::PodLinks
    pub fn set_links(
        &mut self,
        namespace: &NodeNamespace,
        detector: &LocalDetector,
        links: &[Link],
    ) -> Result<(), LinkError> {
        let is_served =
            |link: &Link| link.ethernet && link.index != 0 && link.role != LinkRole::Port;
        let links: Vec<&Link> = links.iter().filter(|link| is_served(link)).collect();
        let gone = self.attachments.attached.keys().chain(self.attachments.known.keys());
        let gone: Vec<u32> =
            gone.copied().filter(|index| links.iter().all(|link| link.index != *index)).collect();
        for index in gone {
            self.attachments.forget(index);
            self.attachments.known.remove(&index);
            // Removed twice is fine.
            let _ = self.devices.remove(&index);
        }
        let mut outcome = self.refresh_filter().map_err(LinkError::Filter);
        self.leave_out(namespace, detector, &links);
        for link in links {
            outcome = outcome.and(self.set_link(namespace, detector, link));
        }
        outcome
    }

    fn set_link(
        &mut self,
        namespace: &NodeNamespace,
        detector: &LocalDetector,
        link: &Link,
    ) -> Result<(), LinkError> {
        let known = self.attachments.known.get(&link.index);
        let turns_back = known.map_or(0, |device| device.flags & TURNING_BACK);
        let mut device = describe(detector, link);
        device.flags |= turns_back;
        self.put_device(link, device)?;
        if self.attachments.left_out.has(link.index) {
            return Ok(());
        }
        self.attach_to(namespace, link)
    }

    /// Attach to a link that the programs know, if they are not there.
    pub(super) fn attach_to(
        &mut self,
        namespace: &NodeNamespace,
        link: &Link,
    ) -> Result<(), LinkError> {
        let known = self.attachments.known.get(&link.index).copied();
        if let Some(mut device) = known
            && !self.attachments.attached.contains_key(&link.index)
        {
            device.flags |= self.attachments.attach(namespace, link)?;
            self.put_device(link, device)?;
            tracing::info!(link = link.name, "packets of the link are translated");
        }
        Ok(())
    }

    fn put_device(&mut self, link: &Link, device: Device) -> Result<(), LinkError> {
        if self.attachments.known.get(&link.index) != Some(&device) {
            self.filter.add_node_address(device.v4);
            self.filter.add_node_address(device.v6);
            let put = self.devices.insert(link.index, device, 0);
            put.map_err(|source| LinkError::Map { link: link.name.clone(), source })?;
            self.attachments.known.insert(link.index, device);
        }
        Ok(())
    }

    /// Tell the programs how they can tell the cluster's own clients. What they were told before, be it
    /// by an earlier process, does not count any more.
    pub fn set_local(
        &mut self,
        detector: &LocalDetector,
        masquerade_all: bool,
    ) -> Result<(), LoadError> {
        let failed = |source| LoadError::Map { map: "SETTINGS", source };
        let mut bits = 0;
        if detector.is_implemented() {
            bits |= setting::DETECTS_LOCAL;
        }
        if masquerade_all {
            bits |= setting::MASQUERADE_ALL;
        }
        let (ranges, wanted) = (SourceRange::LOCAL, detector.cidrs());
        let known = inventory::local_ranges(self).map_err(failed)?;
        let new = wanted.iter().filter(|cidr| !known.contains(cidr));
        let gone = known.iter().filter(|cidr| !wanted.contains(cidr));
        let mut ops: Vec<MapOp> =
            new.map(|cidr| MapOp::PutSourceRange { ranges, cidr: *cidr }).collect();
        ops.extend(gone.map(|cidr| MapOp::RemoveSourceRange { ranges, cidr: *cidr }));
        self.apply(&ops).map_err(|error| failed(error.source))?;
        self.current.flags &= !(setting::DETECTS_LOCAL | setting::MASQUERADE_ALL);
        self.current.flags |= bits;
        self.settings.set(0, self.current, 0).map_err(failed)
    }
}

/// The flags of a link that a program before the kernel is on.
const TURNING_BACK: u32 = device::TURNS_BACK | device::MAKES_SUMS;

fn describe(detector: &LocalDetector, link: &Link) -> Device {
    let first = |v4| {
        let mut of_family = link.addresses.iter().filter(|ip| ip.is_ipv4() == v4 && is_global(ip));
        of_family.next().map_or(Address::default(), |ip| address(*ip))
    };
    let flags = if detector.is_local_link(&link.name) { device::LOCAL } else { 0 };
    Device { v4: first(true), v6: first(false), flags, mtu: link.mtu }
}

fn is_global(ip: &std::net::IpAddr) -> bool {
    match ip {
        std::net::IpAddr::V4(_) => true,
        std::net::IpAddr::V6(ip) => !ip.is_unicast_link_local(),
    }
}
