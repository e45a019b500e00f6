//! Cluster IPs and node ports of Services.
//!
//! What is taken is kept in memory, rebuilt from the Services at start. A [`Claim`] takes before the
//! Service is written and gives back if it is not, so that two writers cannot get the same address.
//! As upstream does, addresses are drawn from the upper band of the range first, which leaves the
//! lower one to those who ask for an address themselves.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use parking_lot::Mutex;
use pintle_api::field::{Errors, Path};
use pintle_api::scheme::{self, Kind};
use pintle_api::status::{Status, Subject};
use rand::RngExt as _;
use serde_json::{Value, json};

use crate::config::{Ipv4Cidr, PortRange};
use crate::watch_cache::WatchCache;
use crate::{Config, Error, object};

/// The allocators of one server.
pub(crate) struct Allocators {
    cidr: Ipv4Cidr,
    ports: PortRange,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Taken {
    addresses: BTreeSet<Ipv4Addr>,
    ports: BTreeSet<u16>,
}

/// What a write takes and lets go; undone when dropped unless [kept](Claim::keep).
pub(crate) struct Claim {
    all: Arc<Mutex<Taken>>,
    new: Taken,
    freed: Taken,
}

impl Claim {
    /// The Service was written.
    pub(crate) fn keep(mut self) {
        let freed = std::mem::take(&mut self.freed);
        self.new = Taken::default();
        self.all.lock().remove(&freed);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.all.lock().remove(&self.new);
    }
}

impl Taken {
    fn of(service: &Value) -> Self {
        let address = object::text(service, &["spec", "clusterIP"]).parse().ok();
        let ports = service["spec"]["ports"].as_array().into_iter().flatten();
        let ports = ports.filter_map(|port| u16::try_from(port["nodePort"].as_u64()?).ok());
        Self {
            addresses: address.into_iter().collect(),
            ports: ports.filter(|port| *port > 0).collect(),
        }
    }

    fn remove(&mut self, other: &Self) {
        self.addresses.retain(|address| !other.addresses.contains(address));
        self.ports.retain(|port| !other.ports.contains(port));
    }
}

impl Allocators {
    pub(crate) fn new(config: &Config, cache: &WatchCache) -> Result<Self, Error> {
        let cidr = config.service_cidr;
        if cidr.prefix_len() > 30 {
            return Err(Error::ServiceCidr(cidr));
        }
        let mut taken = Taken::default();
        if let Some(services) = scheme::of(Kind::Service) {
            for entry in cache.list(services, "").0 {
                let mut one = Taken::of(&entry.full());
                taken.addresses.append(&mut one.addresses);
                taken.ports.append(&mut one.ports);
            }
        }
        Ok(Self { cidr, ports: config.node_ports, taken: Arc::new(Mutex::new(taken)) })
    }

    /// Take what `service` asks for or needs, beyond what it had as `old`, and write it into it.
    pub(crate) fn claim(&self, service: &mut Value, old: Option<&Value>) -> Result<Claim, Status> {
        let had = old.map(Taken::of).unwrap_or_default();
        let mut all = self.taken.lock();
        let mut new = Taken::default();
        let mut errors = Errors::new();
        self.claim_address(service, &had, &all, &mut new, &mut errors);
        self.claim_ports(service, &had, &all, &mut new, &mut errors);
        if !errors.is_empty() {
            let name = object::name(service);
            return Err(Status::invalid(Subject { group: "", kind: "Service", name }, &errors));
        }
        let mut freed = had;
        freed.remove(&Taken::of(service));
        all.addresses.extend(&new.addresses);
        all.ports.extend(&new.ports);
        Ok(Claim { all: Arc::clone(&self.taken), new, freed })
    }

    /// Give back what a removed object had.
    pub(crate) fn release(&self, kind: Kind, object: &Value) {
        if kind == Kind::Service {
            self.taken.lock().remove(&Taken::of(object));
        }
    }

    fn claim_address(
        &self,
        service: &mut Value,
        had: &Taken,
        all: &Taken,
        new: &mut Taken,
        errors: &mut Errors,
    ) {
        let wanted = object::text(service, &["spec", "clusterIP"]).to_owned();
        if object::text(service, &["spec", "type"]) == "ExternalName" || wanted == "None" {
            return;
        }
        let spec = Path::new("spec");
        let path = spec.child("clusterIPs");
        let address = match wanted.parse::<Ipv4Addr>() {
            Ok(address) if had.addresses.contains(&address) => address,
            Ok(address) => match self.refuse(address, all) {
                None => address,
                Some(why) => {
                    let detail = format!("failed to allocate IP {address}: {why}");
                    return errors.invalid(&path, json!([wanted]), detail);
                }
            },
            // Anything else that is there was refused by validation.
            Err(_) => match self.free_address(all) {
                Some(address) => address,
                None => {
                    let detail = "failed to allocate a serviceIP: range is full";
                    return errors.invalid(&path, json!([]), detail);
                }
            },
        };
        if !had.addresses.contains(&address) {
            new.addresses.insert(address);
        }
        let spec = object::section(service, "spec");
        spec.insert("clusterIP".to_owned(), json!(address));
        spec.insert("clusterIPs".to_owned(), json!([address]));
        spec.entry("ipFamilies").or_insert_with(|| json!(["IPv4"]));
        spec.entry("ipFamilyPolicy").or_insert_with(|| json!("SingleStack"));
    }

    fn refuse(&self, address: Ipv4Addr, all: &Taken) -> Option<String> {
        let usable = self.cidr.contains(&address)
            && address != self.cidr.network()
            && address != self.cidr.broadcast();
        if !usable {
            return Some(format!(
                "the provided network does not match the current range: {}",
                self.cidr
            ));
        }
        all.addresses.contains(&address).then(|| "provided IP is already allocated".to_owned())
    }

    fn free_address(&self, all: &Taken) -> Option<Ipv4Addr> {
        let base = u32::from(self.cidr.network());
        let size = u32::from(self.cidr.broadcast()) - base;
        // KEP-3070: the lower band is for those who choose their address.
        let band = (size / 16).clamp(16, 256).min(size / 2).max(2);
        let at = |offset: u32| Ipv4Addr::from(base + offset);
        let is_free = |address: &Ipv4Addr| !all.addresses.contains(address);
        let mut rng = rand::rng();
        let drawn = (0..DRAWS).map(|_| at(rng.random_range(band..size))).find(is_free);
        // Offset 1 is the `kubernetes` Service's.
        drawn.or_else(|| (band..size).chain(2..band).map(at).find(is_free))
    }

    fn claim_ports(
        &self,
        service: &mut Value,
        had: &Taken,
        all: &Taken,
        new: &mut Taken,
        errors: &mut Errors,
    ) {
        let kind = object::text(service, &["spec", "type"]);
        let automatic = match kind {
            "NodePort" => true,
            "LoadBalancer" => service["spec"]["allocateLoadBalancerNodePorts"] != false,
            _ => return,
        };
        let root = Path::new("spec");
        let list = root.child("ports");
        let ports = service["spec"]["ports"].as_array_mut();
        for (index, port) in ports.into_iter().flatten().enumerate() {
            let item = list.index(index);
            let path = item.child("nodePort");
            match port["nodePort"].as_u64().unwrap_or(0) {
                0 if automatic => match self.free_port(all, new) {
                    Some(free) => {
                        new.ports.insert(free);
                        port["nodePort"] = json!(free);
                    }
                    None => {
                        let detail = "failed to allocate a nodePort: range is full";
                        errors.invalid(&path, 0, detail);
                    }
                },
                0 => {}
                wanted => match self.refuse_port(wanted, had, all) {
                    Ok(wanted) if had.ports.contains(&wanted) => {}
                    Ok(wanted) => _ = new.ports.insert(wanted),
                    Err(why) => errors.invalid(&path, wanted, why),
                },
            }
        }
    }

    fn refuse_port(&self, wanted: u64, had: &Taken, all: &Taken) -> Result<u16, String> {
        let PortRange { first, last } = self.ports;
        let port = u16::try_from(wanted).ok().filter(|port| self.ports.contains(*port));
        let port = port.ok_or_else(|| {
            format!(
                "provided port is not in the valid range. The range of valid ports is {first}-{last}"
            )
        })?;
        if all.ports.contains(&port) && !had.ports.contains(&port) {
            return Err("provided port is already allocated".to_owned());
        }
        Ok(port)
    }

    fn free_port(&self, all: &Taken, new: &Taken) -> Option<u16> {
        let PortRange { first, last } = self.ports;
        let is_free = |port: &u16| !all.ports.contains(port) && !new.ports.contains(port);
        let mut rng = rand::rng();
        let drawn = (0..DRAWS).map(|_| rng.random_range(first..=last)).find(is_free);
        drawn.or_else(|| (first..=last).find(is_free))
    }
}

/// How often to draw before the range is searched from its start.
const DRAWS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn allocators(cidr: &str) -> Allocators {
        let config = Config { service_cidr: cidr.parse().unwrap(), ..Config::default() };
        Allocators::new(&config, &WatchCache::new()).unwrap()
    }

    #[expect(clippy::needless_pass_by_value, reason = "reads better in the tables below")]
    fn service(spec: Value) -> Value {
        json!({ "metadata": { "name": "s" }, "spec": spec })
    }

    #[test]
    fn a_small_range_is_used_up_without_doubles() {
        let allocators = allocators("10.0.0.0/29");
        let mut seen = BTreeSet::new();
        loop {
            let mut service = service(json!({}));
            let Ok(claim) = allocators.claim(&mut service, None) else { break };
            claim.keep();
            assert!(seen.insert(object::text(&service, &["spec", "clusterIP"]).to_owned()));
        }
        // Eight less network, broadcast and the `kubernetes` Service's.
        assert_eq!(seen.len(), 5);
    }

    #[test]
    fn a_dropped_claim_gives_back() {
        let allocators = allocators("10.96.0.0/16");
        let wanted = service(json!({ "clusterIP": "10.96.0.10" }));
        drop(allocators.claim(&mut wanted.clone(), None).unwrap());
        allocators.claim(&mut wanted.clone(), None).unwrap().keep();
        let error = allocators.claim(&mut wanted.clone(), None).err().unwrap();
        assert_eq!(
            error.message(),
            "Service \"s\" is invalid: spec.clusterIPs: Invalid value: [\"10.96.0.10\"]: failed to \
             allocate IP 10.96.0.10: provided IP is already allocated"
        );
        allocators.claim(&mut wanted.clone(), Some(&wanted)).unwrap().keep();
        allocators.release(Kind::Service, &wanted);
        allocators.claim(&mut wanted.clone(), None).unwrap().keep();
    }

    #[test]
    fn node_ports_are_checked_and_chosen() {
        let allocators = allocators("10.96.0.0/16");
        let wanted = |port: u16| {
            service(json!({ "type": "NodePort", "ports": [{ "port": 80, "nodePort": port }] }))
        };
        allocators.claim(&mut wanted(30080), None).unwrap().keep();
        let taken = allocators.claim(&mut wanted(30080), None).err().unwrap();
        assert!(taken.message().contains("spec.ports[0].nodePort: Invalid value: 30080"));
        let outside = allocators.claim(&mut wanted(80), None).err().unwrap();
        assert!(outside.message().contains("range of valid ports is 30000-32767"));
        let mut chosen = wanted(0);
        allocators.claim(&mut chosen, None).unwrap().keep();
        assert!(chosen["spec"]["ports"][0]["nodePort"].as_u64().unwrap() >= 30000);
    }
}
