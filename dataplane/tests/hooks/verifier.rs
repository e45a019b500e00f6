//! What the programs cost the verifier: recorded, and noticed when it grows.

use pintle_dataplane::{Dataplane, Limits};

use crate::cgroup::Cgroup;

/// Instructions that the verifier may follow, by program: half as many again as when they were last
/// looked at. `docs/dataplane.md` says how to read them.
const INSTRUCTIONS_MAX: [(&str, u32); 14] = [
    ("pintle_express", 131_300),
    ("pintle_ingress", 245_100),
    ("pintle_egress", 11_100),
    ("pintle_release", 27),
    ("pintle_recvmsg4", 245),
    ("pintle_recvmsg6", 287),
    ("pintle_peer4", 128),
    ("pintle_peer6", 158),
    ("pintle_bind4", 144),
    ("pintle_bind6", 504),
    ("pintle_sendmsg4", 36_130),
    ("pintle_sendmsg6", 75_484),
    ("pintle_connect4", 38_055),
    ("pintle_connect6", 49_032),
];

#[test]
#[ignore = "needs root"]
fn no_program_has_grown_by_half() {
    let cgroup = Cgroup::new();
    let dataplane = Dataplane::load(cgroup.path(), Limits::default()).unwrap();
    for cost in dataplane.programs() {
        println!("{cost:?}");
        let (_, max) = INSTRUCTIONS_MAX.iter().find(|(name, _)| *name == cost.name).unwrap();
        assert!(cost.verified_instructions.unwrap_or(0) <= *max, "{cost:?}");
    }
}
