//! The programs for packets, on the node's links as they come and go.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use aya::maps::MapError;
use pintle_ebpf_common::{Address, Device, SourceRange, device, setting};

use super::error::LoadError;
use super::load::Dataplane;
use super::namespace::{Link, NamespaceError, NodeNamespace};
use super::syscall::{self, Direction};
use crate::plan::{LocalDetector, MapOp, address};

/// The programs, and where they are attached.
pub(super) struct Attachments {
    ingress: OwnedFd,
    egress: OwnedFd,
    /// Where the attachments are pinned.
    pins: Option<PathBuf>,
    /// By the link's number; the attachments that are not pinned go with these descriptors.
    attached: BTreeMap<u32, Vec<OwnedFd>>,
    known: BTreeMap<u32, Device>,
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
    pub(super) fn new(ingress: OwnedFd, egress: OwnedFd, pins: Option<PathBuf>) -> Self {
        Self { ingress, egress, pins, attached: BTreeMap::new(), known: BTreeMap::new() }
    }

    /// Attach to a link that is new. Runs in the node's network namespace.
    fn attach(&mut self, namespace: &NodeNamespace, link: &Link) -> Result<(), LinkError> {
        let failed = |source| LinkError::Attach { link: link.name.clone(), source };
        let mut attachments = Vec::new();
        for direction in [Direction::Ingress, Direction::Egress] {
            let program = match direction {
                Direction::Ingress => &self.ingress,
                Direction::Egress => &self.egress,
            };
            let program = program.try_clone().map_err(failed)?;
            let index = link.index;
            let pin = self.pins.as_deref().map(|pins| pin_path(pins, index, direction));
            let attach = move || attach_one(&program, index, direction, pin.as_deref());
            let attached = namespace.run(attach).map_err(LinkError::Namespace)?;
            attachments.push(attached.map_err(failed)?);
        }
        self.attached.insert(link.index, attachments);
        Ok(())
    }

    /// A link is gone, and with it what was attached to it; its pins are left over.
    fn forget(&mut self, index: u32) {
        self.attached.remove(&index);
        for direction in [Direction::Ingress, Direction::Egress] {
            if let Some(pins) = &self.pins {
                let _ = fs::remove_file(pin_path(pins, index, direction));
            }
        }
    }
}

/// Attach, or let an attachment that is pinned run this program.
fn attach_one(
    program: &OwnedFd,
    index: u32,
    direction: Direction,
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
    let link = syscall::attach_to_link(program.as_fd(), index, direction)?;
    if let Some(pin) = pin {
        syscall::pin(link.as_fd(), pin)?;
    }
    Ok(link)
}

fn pin_path(pins: &Path, index: u32, direction: Direction) -> PathBuf {
    pins.join(match direction {
        Direction::Ingress => format!("link_ingress_{index}"),
        Direction::Egress => format!("link_egress_{index}"),
    })
}

impl Dataplane {
    /// Translate the packets of these links of the node, and of no others. The links are those of
    /// `namespace`. One that cannot be served does not keep the others from it; the first such error
    /// is returned.
    pub fn set_links(
        &mut self,
        namespace: &NodeNamespace,
        detector: &LocalDetector,
        links: &[Link],
    ) -> Result<(), LinkError> {
        let gone = self.attachments.attached.keys().chain(self.attachments.known.keys());
        let gone: Vec<u32> =
            gone.copied().filter(|index| links.iter().all(|link| link.index != *index)).collect();
        for index in gone {
            self.attachments.forget(index);
            self.attachments.known.remove(&index);
            // Removed twice is fine.
            let _ = self.devices.remove(&index);
        }
        let mut outcome = Ok(());
        for link in links.iter().filter(|link| link.ethernet && link.index != 0) {
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
        let device = describe(detector, link);
        if self.attachments.known.get(&link.index) != Some(&device) {
            let put = self.devices.insert(link.index, device, 0);
            put.map_err(|source| LinkError::Map { link: link.name.clone(), source })?;
            self.attachments.known.insert(link.index, device);
        }
        if !self.attachments.attached.contains_key(&link.index) {
            self.attachments.attach(namespace, link)?;
            tracing::info!(link = link.name, "packets of the link are translated");
        }
        Ok(())
    }

    /// Tell the programs how they can tell the cluster's own clients.
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
        let cidrs = detector.cidrs().into_iter();
        let ops: Vec<MapOp> =
            cidrs.map(|cidr| MapOp::PutSourceRange { ranges: SourceRange::LOCAL, cidr }).collect();
        self.apply(&ops).map_err(|error| failed(error.source))?;
        self.current.flags &= !(setting::DETECTS_LOCAL | setting::MASQUERADE_ALL);
        self.current.flags |= bits;
        self.settings.set(0, self.current, 0).map_err(failed)
    }
}

fn describe(detector: &LocalDetector, link: &Link) -> Device {
    let first = |v4| {
        let mut of_family = link.addresses.iter().filter(|ip| ip.is_ipv4() == v4 && is_global(ip));
        of_family.next().map_or(Address::default(), |ip| address(*ip))
    };
    let flags = if detector.is_local_link(&link.name) { device::LOCAL } else { 0 };
    Device { v4: first(true), v6: first(false), flags, padding: 0 }
}

fn is_global(ip: &std::net::IpAddr) -> bool {
    match ip {
        std::net::IpAddr::V4(_) => true,
        std::net::IpAddr::V6(ip) => !ip.is_unicast_link_local(),
    }
}
