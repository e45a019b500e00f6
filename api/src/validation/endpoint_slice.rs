//! EndpointSlices.

use std::net::{Ipv4Addr, Ipv6Addr};

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use rustc_hash::FxHashSet;

use super::{one_of, required_one_of};
use crate::field::{Errors, Path};
use crate::syntax;

/// Upstream's limits.
const ENDPOINTS_MAX: usize = 1000;
const PORTS_MAX: usize = 20_000;
const ADDRESSES_MAX: usize = 100;

pub(super) fn endpoint_slice(slice: &EndpointSlice, errors: &mut Errors) {
    let supported = &["FQDN", "IPv4", "IPv6"];
    required_one_of(&Path::new("addressType"), &slice.address_type, supported, errors);
    let list = Path::new("endpoints");
    if slice.endpoints.len() > ENDPOINTS_MAX {
        errors.too_many(&list, slice.endpoints.len(), ENDPOINTS_MAX);
        return;
    }
    for (i, it) in slice.endpoints.iter().enumerate() {
        endpoint(it, &slice.address_type, &list.index(i), errors);
    }
    ports(slice, errors);
}

fn endpoint(it: &Endpoint, address_type: &str, path: &Path<'_>, errors: &mut Errors) {
    let list = path.child("addresses");
    if it.addresses.is_empty() {
        errors.required(&list, "must contain at least 1 address");
    } else if it.addresses.len() > ADDRESSES_MAX {
        errors.too_many(&list, it.addresses.len(), ADDRESSES_MAX);
    }
    for (i, address) in it.addresses.iter().enumerate().take(ADDRESSES_MAX) {
        let path = list.index(i);
        match address_type {
            "IPv4" if address.parse::<Ipv4Addr>().is_err() => {
                errors.invalid(&path, address.as_str(), "must be a valid IPv4 address");
            }
            "IPv6" if address.parse::<Ipv6Addr>().is_err() => {
                errors.invalid(&path, address.as_str(), "must be a valid IPv6 address");
            }
            "FQDN" => errors.each_invalid(&path, address, syntax::dns1123_subdomain(address)),
            _ => {}
        }
    }
    if let Some(name) = &it.node_name {
        errors.each_invalid(&path.child("nodeName"), name, syntax::dns1123_subdomain(name));
    }
    if let Some(name) = &it.hostname {
        errors.each_invalid(&path.child("hostname"), name, syntax::dns1123_label(name));
    }
}

fn ports(slice: &EndpointSlice, errors: &mut Errors) {
    let list = Path::new("ports");
    let ports = slice.ports.as_deref().unwrap_or_default();
    if ports.len() > PORTS_MAX {
        errors.too_many(&list, ports.len(), PORTS_MAX);
        return;
    }
    let mut names = FxHashSet::default();
    for (i, port) in ports.iter().enumerate() {
        let path = list.index(i);
        let name = port.name.as_deref().unwrap_or_default();
        if !name.is_empty() {
            errors.each_invalid(&path.child("name"), name, syntax::dns1123_label(name));
        }
        if !names.insert(name) {
            errors.duplicate(&path.child("name"), name);
        }
        match port.protocol.as_deref() {
            None => errors.required(&path.child("protocol"), ""),
            Some(protocol) => {
                one_of(&path.child("protocol"), protocol, &["SCTP", "TCP", "UDP"], errors);
            }
        }
        if let Some(number) = port.port {
            super::container::number(&path.child("port"), number, errors);
        }
    }
}
