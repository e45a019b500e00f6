//! How much each of a Service's backends is to have of its flows, where that is not the same for all.
//!
//! EndpointSlices tell no weights, and backends come and go, so the Service says it by ranges of their
//! addresses, of which a node's pods are one: the annotation `pintle.dev/weights`.

use std::net::IpAddr;

use ipnet::IpNet;
use pintle_ebpf_common::Endpoint;

use super::desired::SourceCidr;

/// The weights of a Service's backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weights {
    /// The narrowest range first.
    ranges: Box<[(SourceCidr, u32)]>,
}

/// An annotation that says no weights. The message names the part that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// A part is not `RANGE=WEIGHT`.
    #[error("{0:?} is not of the form RANGE=WEIGHT")]
    Form(String),
    /// What stands before the sign is no range.
    #[error("{0:?}: no address and no range of addresses")]
    Range(String),
    /// A range has two weights.
    #[error("{0:?}: the range has a weight already")]
    Twice(String),
    /// There are more than [`Weights::MAX`] parts.
    #[error("more than {} ranges", Weights::MAX)]
    TooMany,
    /// What stands behind the sign is no weight.
    #[error("{0:?}: a weight is a whole number from 1 to {max}", max = Weights::GREATEST)]
    Weight(String),
}

impl Weights {
    /// The greatest weight.
    pub const GREATEST: u32 = 100;
    /// Ranges of a Service: a few times the nodes that one has endpoints on. Each backend is held against
    /// all of them.
    pub const MAX: usize = 256;

    /// Read `RANGE=WEIGHT, ...`: ranges of addresses, or single ones, and the weights of the backends in
    /// them.
    ///
    /// # Errors
    ///
    /// If a part is wrong. Weights count as a whole or not at all.
    pub fn parse(text: &str) -> Result<Self, WeightsError> {
        let mut ranges = Vec::<(SourceCidr, u32)>::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let owned = || part.to_owned();
            let (range, weight) =
                part.split_once('=').ok_or_else(|| WeightsError::Form(owned()))?;
            let range = parse_range(range.trim()).ok_or_else(|| WeightsError::Range(owned()))?;
            let weight = weight.trim().parse().ok().filter(|it| (1..=Self::GREATEST).contains(it));
            let weight = weight.ok_or_else(|| WeightsError::Weight(owned()))?;
            if ranges.iter().any(|(other, _)| *other == range) {
                return Err(WeightsError::Twice(owned()));
            }
            if ranges.len() == Self::MAX {
                return Err(WeightsError::TooMany);
            }
            ranges.push((range, weight));
        }
        ranges.sort_unstable_by_key(|(range, _)| (std::cmp::Reverse(range.bits), *range));
        Ok(Self { ranges: ranges.into() })
    }

    /// The weight of a backend: that of the narrowest range it is in, or 1.
    #[must_use]
    pub fn of(&self, backend: &Endpoint) -> u32 {
        let found = self.ranges.iter().find(|(range, _)| range.contains(backend.address));
        found.map_or(1, |(_, weight)| *weight)
    }
}

fn parse_range(text: &str) -> Option<SourceCidr> {
    let one = || text.parse::<IpAddr>().ok().map(IpNet::from);
    Some(SourceCidr::from(text.parse().ok().or_else(one)?.trunc()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::endpoint;

    fn of(weights: &Weights, ip: &str) -> u32 {
        weights.of(&endpoint((ip.parse::<std::net::IpAddr>().unwrap(), 80).into()))
    }

    #[test]
    fn the_narrowest_range_counts() {
        let text = "10.244.0.0/16=2, 10.244.1.0/24 = 5,10.244.1.7=100, fd00::/16=3,";
        let weights = Weights::parse(text).unwrap();
        let found = ["10.244.9.1", "10.244.1.1", "10.244.1.7", "10.1.1.1", "fd00::9", "fe00::9"];
        assert_eq!(found.map(|ip| of(&weights, ip)), [2, 5, 100, 1, 3, 1]);
        // As it is written does not matter.
        let other = "fd00::/16=3,10.244.1.7/32=100,10.244.1.9/24=5,10.244.0.0/16=2";
        assert_eq!(Weights::parse(other), Ok(weights));
        assert_eq!(of(&Weights::parse("").unwrap(), "10.1.1.1"), 1);
        assert_eq!(of(&Weights::parse("0.0.0.0/0=7").unwrap(), "fd00::1"), 1, "of its family");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, message) in [
            ("10.0.0.0/8", "\"10.0.0.0/8\" is not of the form RANGE=WEIGHT"),
            ("node-1=3", "\"node-1=3\": no address and no range of addresses"),
            ("10.0.0.0/33=3", "\"10.0.0.0/33=3\": no address and no range of addresses"),
            ("10.0.0.1=2,10.0.0.1/32=3", "\"10.0.0.1/32=3\": the range has a weight already"),
            ("10.0.0.1=0", "\"10.0.0.1=0\": a weight is a whole number from 1 to 100"),
            ("10.0.0.1=1.5", "\"10.0.0.1=1.5\": a weight is a whole number from 1 to 100"),
            ("10.0.0.1=101", "\"10.0.0.1=101\": a weight is a whole number from 1 to 100"),
            ("10.0.0.1=-1", "\"10.0.0.1=-1\": a weight is a whole number from 1 to 100"),
        ] {
            assert_eq!(Weights::parse(text).unwrap_err().to_string(), message);
        }
        let many: Vec<String> =
            (0..257).map(|n| format!("10.0.{}.{}=2", n / 256, n % 256)).collect();
        assert_eq!(Weights::parse(&many.join(",")), Err(WeightsError::TooMany));
    }
}
