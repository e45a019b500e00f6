//! Whatever happens to a pod, in whatever order: its worker never does the forbidden, always
//! settles, and once deleted always ends.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Happening {
    Delete(u32),
    Exit(usize, i32),
    Pass(i64),
    SandboxFails,
    Unhealthy(usize),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        1 => (0..40u32).prop_map(Happening::Delete),
        6 => (0..4usize, prop_oneof![Just(0), Just(1), Just(137)])
            .prop_map(|(which, code)| Happening::Exit(which, code)),
        4 => (0..700i64).prop_map(Happening::Pass),
        1 => Just(Happening::SandboxFails),
        2 => (0..4usize).prop_map(Happening::Unhealthy),
    ]
}

const NAMES: [&str; 4] = ["init", "side", "a", "b"];

fn world(policy: &str) -> World {
    World::new(json!({
        "restartPolicy": policy,
        "initContainers": [{ "name": "init" }, { "name": "side", "restartPolicy": "Always" }],
        "containers": [{ "name": "a" }, { "name": "b" }],
    }))
}

/// Settle, and check every action against what it needs.
fn settle(world: &mut World) -> Result<Step, TestCaseError> {
    for _ in 0..50 {
        let step = step(&world.pod, world.intent, &world.observed, world.now);
        if step.actions.is_empty() {
            prop_assert!(step.wake_at.is_none_or(|at| at > world.now), "wakes in the past");
            return Ok(step);
        }
        for action in step.actions {
            check(world, &action)?;
            world.carry_out(action);
        }
    }
    Err(TestCaseError::fail(format!("does not settle: {:?}", world.log)))
}

fn check(world: &World, action: &Action) -> Result<(), TestCaseError> {
    let running = |name: &str| {
        let container = &world.observed.containers[name];
        matches!(container.state, State::Running { .. })
    };
    match action {
        Action::CreateSandbox => prop_assert!(world.observed.sandbox != Sandbox::Ready),
        Action::Delete => {
            prop_assert!(world.observed.sandbox != Sandbox::Ready);
            let wanted = matches!(world.intent, Intent::Stop { delete: true, .. });
            prop_assert!(wanted);
        }
        Action::Kill(name) | Action::Terminate { container: name, .. } => {
            prop_assert!(running(name));
        }
        Action::RemoveSandbox => prop_assert!(!world.observed.any_running()),
        Action::Start(name) => {
            prop_assert!(!running(name));
            prop_assert_eq!(&world.observed.sandbox, &Sandbox::Ready);
            prop_assert_eq!(world.intent, Intent::Run);
            let init_done = world.log.iter().any(|it| it.starts_with("start side"));
            prop_assert!(init_done || !["a", "b"].contains(&name.as_str()), "{:?}", world.log);
        }
    }
    Ok(())
}

fn happen(world: &mut World, happening: Happening) {
    match happening {
        Happening::Delete(grace_s) => world.intent = Intent::Stop { grace_s, delete: true },
        Happening::Exit(which, code) => world.exit(NAMES[which], code),
        Happening::Pass(seconds) => world.pass(seconds),
        Happening::SandboxFails if world.observed.sandbox == Sandbox::Absent => {
            let retry_at = world.now + SignedDuration::from_secs(2);
            world.observed.sandbox = Sandbox::Failed { retry_at };
        }
        Happening::SandboxFails => {}
        Happening::Unhealthy(which) => {
            let container = world.container(NAMES[which]);
            if matches!(container.state, State::Running { .. }) {
                container.unhealthy = Some("liveness");
            }
        }
    }
}

proptest! {
    #[test]
    fn a_pod_is_handled_by_the_rules_and_its_deletion_ends(
        policy in prop_oneof![Just("Always"), Just("OnFailure"), Just("Never")],
        happenings in prop::collection::vec(happening(), 0..40),
    ) {
        let mut world = world(policy);
        for happening in happenings {
            happen(&mut world, happening);
            settle(&mut world)?;
            let counts: u32 = world.observed.containers.values().map(|it| it.restart_count).sum();
            let starts = world.log.iter().filter(|it| it.starts_with("start")).count();
            prop_assert!(counts as usize <= starts);
            let _ = world.status();
        }
        if !world.log.contains(&"delete".to_owned()) {
            world.intent = Intent::Stop { grace_s: 5, delete: true };
        }
        settle(&mut world)?;
        world.pass(5);
        settle(&mut world)?;
        for name in NAMES {
            world.exit(name, 137);
        }
        prop_assert!(settle(&mut world)?.done);
        prop_assert_eq!(world.log.last().map(String::as_str), Some("delete"));
    }
}
