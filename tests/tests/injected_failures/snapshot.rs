//! Snapshots and spawns that fail.

use ampoule::{BuildError, Sandbox, SnapshotError};
use ampoule_tests::tenant_spawn;

use crate::{Failing, disturb, each_failure, sandbox_that_fails_at, state};

#[test]
fn a_sandbox_whose_snapshot_fails_is_as_it_was() {
    type Before = fn(&mut Sandbox);
    let before: [Before; 3] = [
        |_| (),
        disturb,
        |sandbox| {
            disturb(sandbox);
            sandbox.reset().unwrap();
        },
    ];
    for before in before {
        let prepare = |number| {
            let (mut sandbox, hypervisor) = sandbox_that_fails_at(number);
            let first = sandbox.snapshot().unwrap();
            let at_first = state(&mut sandbox);
            before(&mut sandbox);
            ((sandbox, first, at_first), hypervisor)
        };
        let operations = each_failure(
            prepare,
            |(sandbox, ..)| sandbox.snapshot(),
            |number, (mut sandbox, first, at_first), result| {
                let error = result.expect_err("the failure is not passed over");
                assert!(matches!(error, SnapshotError::Hypervisor(_)), "operation {number}: {error}");
                assert!(sandbox.poisoned().is_none());
                let now = state(&mut sandbox);
                let second = sandbox.snapshot().unwrap();
                for _ in 0..2 {
                    sandbox.restore(&first).unwrap();
                    assert_eq!(state(&mut sandbox), at_first, "operation {number}");
                    disturb(&mut sandbox);
                    sandbox.restore(&second).unwrap();
                    assert_eq!(state(&mut sandbox), now, "operation {number}");
                }
                assert_eq!(state(&mut tenant_spawn(&second).build().unwrap()), now, "operation {number}");
            },
        );
        assert!(operations >= 1, "{operations} operations");
    }
}

#[test]
fn going_back_after_a_snapshot_that_failed() {
    let prepare = |number| {
        let (mut sandbox, hypervisor) = sandbox_that_fails_at(number);
        let first = sandbox.snapshot().unwrap();
        let at_first = state(&mut sandbox);
        disturb(&mut sandbox);
        ((sandbox, first, at_first), hypervisor)
    };
    each_failure(
        prepare,
        |(sandbox, ..)| sandbox.snapshot(),
        |number, (mut sandbox, first, at_first), result| {
            assert!(result.is_err());
            sandbox.restore(&first).unwrap();
            assert_eq!(state(&mut sandbox), at_first, "operation {number}");
            sandbox.call::<()>("fault", ()).unwrap_err();
            sandbox.restore(&first).unwrap();
            assert_eq!(state(&mut sandbox), at_first, "operation {number}");
        },
    );
}

#[test]
fn a_snapshot_can_be_spawned_from_after_a_spawn_that_failed() {
    let prepare = |number| -> (_, Failing) {
        let (mut sandbox, hypervisor) = sandbox_that_fails_at(number);
        disturb(&mut sandbox);
        let snapshot = sandbox.snapshot().unwrap();
        let expected = state(&mut sandbox);
        ((sandbox, snapshot, expected), hypervisor)
    };
    let operations = each_failure(
        prepare,
        |(_, snapshot, _)| tenant_spawn(snapshot).build(),
        |number, (mut sandbox, snapshot, expected), result| {
            let error = result.expect_err("the failure is not passed over");
            assert!(matches!(error, BuildError::Hypervisor(_)), "operation {number}: {error}");
            assert_eq!(state(&mut tenant_spawn(&snapshot).build().unwrap()), expected, "operation {number}");
            sandbox.restore(&snapshot).unwrap();
            assert_eq!(state(&mut sandbox), expected, "operation {number}");
        },
    );
    assert!(operations >= 4, "{operations} operations");
}
