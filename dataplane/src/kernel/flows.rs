//! The end of datagram flows whose backend is gone.
//!
//! Mirrors kube-proxy's `pkg/proxy/conntrack`, whose entries are here [`Tracked`] ones for clients
//! elsewhere and connected sockets on the node. TCP is left to find out by itself, as there, and so is
//! a socket that names its destination with each datagram: the next one goes to another backend.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;

use aya::maps::{HashMap, MapData, MapError};
use nix::sched::{CloneFlags, setns};
use pintle_ebpf_common::{
    Endpoint, Frontend, FrontendKey, Tracked, Translation, Tuple, hook, protocol, tracked,
};

use super::load::Dataplane;
use super::sock_diag::SockDiag;
use super::syscall;

/// Which flows are to end: of each address those whose backend is not one of these, in order.
pub(super) struct Ending<'a> {
    serving: BTreeMap<FrontendKey, &'a [Endpoint]>,
    frontends: &'a HashMap<MapData, FrontendKey, Frontend>,
}

impl Ending<'_> {
    /// Whether a flow to `service` that has this backend is to end. The address may be one of the
    /// node's, with a node port.
    fn ends(&self, service: Endpoint, backend: Endpoint) -> bool {
        let key = FrontendKey::new(service.address, service.port_be, protocol::UDP);
        let serving = self.serving.get(&key).or_else(|| {
            let of_node = self.serving.get(&key.node_port());
            of_node.filter(|_| self.frontends.get(&key, 0).is_err())
        });
        serving.is_some_and(|serving| serving.binary_search(&backend).is_err())
    }
}

impl Dataplane {
    /// End the datagram flows to these addresses but for those with the backends given.
    pub(super) fn end_flows<'a>(
        &'a self,
        serving: impl Iterator<Item = (FrontendKey, &'a [Endpoint])>,
    ) -> Result<(), MapError> {
        let ending = Ending { serving: serving.collect(), frontends: &self.frontends };
        let connections = self.end_tracked(&ending)?;
        // Sockets are torn down as far as they can be found: the tables are right either way.
        let sockets = self.end_sockets(&ending).unwrap_or_else(|error| {
            tracing::warn!(%error, "look for UDP sockets whose backend is gone");
            0
        });
        if connections + sockets > 0 {
            tracing::info!(connections, sockets, "ended datagram flows to backends that are gone");
        }
        Ok(())
    }

    /// Forget connections from outside, in both directions, as they come in and as they leave.
    fn end_tracked(&self, ending: &Ending<'_>) -> Result<usize, MapError> {
        let map = self.tracked.fd().as_fd();
        let failed = |error: io::Error| MapError::IoError(error);
        let (mut token, mut ended) = (None, Vec::new());
        loop {
            let batch = syscall::lookup_batch::<Tuple, Tracked>(map, token).map_err(failed)?;
            ended.extend(batch.entries.into_iter().filter(|(key, entry)| {
                let Tuple { destination, destination_port_be, .. } = *key;
                let backend = Endpoint::new(entry.to.destination, entry.to.destination_port_be);
                key.protocol == protocol::UDP
                    && key.hook == hook::INGRESS
                    && entry.flags & tracked::REPLY == 0
                    && ending.ends(Endpoint::new(destination, destination_port_be), backend)
            }));
            token = batch.next;
            if token.is_none() {
                break;
            }
        }
        for (key, entry) in &ended {
            self.forget(*key, entry);
        }
        Ok(ended.len())
    }

    /// What is gone already is fine.
    fn forget(&self, key: Tuple, entry: &Tracked) {
        let map = self.tracked.fd().as_fd();
        let leaving = Tuple { hook: hook::EGRESS, ..entry.to };
        if let Ok(masqueraded) = syscall::lookup::<Tuple, Tracked>(map, &leaving) {
            let _ = syscall::delete(map, &masqueraded.to.reversed());
        }
        for key in [key, entry.to.reversed(), leaving] {
            let _ = syscall::delete(map, &key);
        }
    }

    /// Disconnect the sockets of the cgroup's processes, in each network namespace that one of them is
    /// in, and in the node's own.
    fn end_sockets(&self, ending: &Ending<'_>) -> io::Result<usize> {
        let namespaces = namespaces(&self.cgroup);
        let connected = &self.connected;
        let one = || {
            let mut ended = 0;
            for namespace in namespaces.values() {
                // One that went meanwhile has no sockets any more.
                if let Ok(file) = File::open(namespace)
                    && setns(&file, CloneFlags::CLONE_NEWNET).is_ok()
                {
                    ended += end_sockets_here(connected, ending)?;
                }
            }
            Ok(ended)
        };
        // A thread of its own, since it changes its namespace.
        thread::scope(|scope| scope.spawn(one).join())
            .unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
    }
}

/// In this thread's network namespace.
fn end_sockets_here(
    connected: &HashMap<MapData, u64, Translation>,
    ending: &Ending<'_>,
) -> io::Result<usize> {
    let mut diag = SockDiag::open()?;
    let mut ended = 0;
    for socket in diag.connected()? {
        // None: it went past the Services.
        let Ok(Translation { backend, service }) = connected.get(&socket.cookie, 0) else {
            continue;
        };
        if ending.ends(service, backend) {
            diag.destroy(&socket)?;
            ended += 1;
        }
    }
    Ok(ended)
}

/// A path to each network namespace of the processes in a cgroup and those below, by its number.
fn namespaces(cgroup: &Path) -> BTreeMap<u64, PathBuf> {
    let mut found = BTreeMap::new();
    let mut cgroups = vec![cgroup.to_owned()];
    while let Some(cgroup) = cgroups.pop() {
        let processes = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
        for process in processes.lines() {
            let path = Path::new("/proc").join(process).join("ns/net");
            if let Ok(metadata) = fs::metadata(&path) {
                found.entry(metadata.ino()).or_insert(path);
            }
        }
        let below = fs::read_dir(&cgroup).into_iter().flatten().flatten();
        cgroups.extend(below.map(|entry| entry.path()).filter(|path| path.is_dir()));
    }
    found
}
