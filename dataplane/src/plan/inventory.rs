//! What an earlier process left in the kernel's maps.

use std::collections::BTreeMap;
use std::sync::Arc;

use pintle_ebpf_common::{Address, Endpoint, Frontend, FrontendKey, SlotRun};

use super::desired::SourceCidr;
use super::op::PortName;

/// The maps' contents, as far as they are whole: a frontend whose seal is broken is left out, and so
/// is a table whose slots are not all its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The published addresses.
    pub frontends: Vec<(FrontendKey, Frontend)>,
    /// The tables' ids, each with one run of backends; a table of two sets stands here twice.
    pub tables: Vec<(u64, SlotRun, Arc<[Endpoint]>)>,
    /// The tables' rings: the id, where the run begins that it is of, the ring, and its
    /// [`super::maglev::content`].
    pub rings: Vec<(u64, u32, SlotRun, u64)>,
    /// Whose the numbers are.
    pub services: Vec<(u32, PortName)>,
    /// The sets of source ranges.
    pub ranges: BTreeMap<u32, Vec<SourceCidr>>,
    /// Where node ports answer.
    pub node_addresses: BTreeMap<Address, u32>,
}
