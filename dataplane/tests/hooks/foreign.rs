//! Programs of others on the same hooks of sockets: here another instance's, with maps of its own, which
//! knows nothing of the first. (On links: `forward`, `express`.)

use pintle_dataplane::plan::{DesiredPort, DesiredService, Planner, Protocol, ServiceName};
use pintle_dataplane::{Dataplane, Limits};

use crate::backend::Backend;
use crate::fixture::{Fixture, service};

#[test]
#[ignore = "needs root"]
fn programs_on_the_same_hooks_leave_each_other_alone() {
    let (ours, theirs) = (Backend::tcp(), Backend::tcp());
    let mut fixture = Fixture::new(Limits::default());
    fixture.publish(service(1, 80), Protocol::Tcp, &[ours.addr()]);
    let mut foreign = Dataplane::load(fixture.cgroup.path(), Limits::default()).unwrap();
    let mut planner = Planner::new(Limits::default());
    let port = DesiredPort::new(service(2, 80), Protocol::Tcp, &[theirs.addr()]);
    let desired = DesiredService { created_ms: 0, ports: vec![port.into()] };
    let plan = planner.plan(0, [(ServiceName::new("others", "web"), desired)]);
    foreign.apply(&plan.ops).unwrap();

    for (last, backend) in [(1, &ours), (2, &theirs)] {
        let address = service(last, 80);
        let expected = format!("{} peer {address}", backend.name());
        assert_eq!(fixture.agent.ask(format!("tcp {address}")), expected);
    }
    // Whoever leaves takes nothing of the other's along.
    drop(foreign);
    let address = service(1, 80);
    let expected = format!("{} peer {address}", ours.name());
    assert_eq!(fixture.agent.ask(format!("tcp {address}")), expected);
    assert_eq!(fixture.agent.ask(format!("tcp {}", service(2, 80))), "errno 111");
    assert_eq!(fixture.connections(service(1, 80), Protocol::Tcp), 2);
}
