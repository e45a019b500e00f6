//! What the programs cost the verifier: recorded, and noticed when it grows.

use pintle_dataplane::{Dataplane, Limits};

use crate::cgroup::Cgroup;

/// Instructions that the verifier may follow, by program: half as many again as when they were last
/// looked at. `docs/dataplane.md` says how to read them.
const INSTRUCTIONS_MAX: [(&str, u32); 18] = [
    ("pintle_pack", 5_131),
    ("pintle_refuse", 2_179),
    ("pintle_stray", 1_494),
    ("pintle_unpack", 12_427),
    ("pintle_express", 140_627),
    ("pintle_ingress", 193_453),
    ("pintle_egress", 11_536),
    ("pintle_release", 96),
    ("pintle_recvmsg4", 215),
    ("pintle_recvmsg6", 263),
    ("pintle_peer4", 472),
    ("pintle_peer6", 505),
    ("pintle_bind4", 145),
    ("pintle_bind6", 505),
    ("pintle_sendmsg4", 22_909),
    ("pintle_sendmsg6", 42_928),
    ("pintle_connect4", 21_564),
    ("pintle_connect6", 32_377),
];

#[test]
#[ignore = "needs root"]
fn no_program_has_grown_by_half() {
    let cgroup = Cgroup::new();
    let dataplane = Dataplane::load(cgroup.path(), Limits::default()).unwrap();
    for cost in dataplane.programs() {
        println!("{cost:?}");
    }
    for cost in dataplane.programs() {
        let (_, max) = INSTRUCTIONS_MAX.iter().find(|(name, _)| *name == cost.name).unwrap();
        assert!(cost.verified_instructions.unwrap_or(0) <= *max, "{cost:?}");
    }
}
