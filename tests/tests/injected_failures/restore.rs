//! Restores that fail.

use ampoule::{RestoreError, Sandbox, Snapshot};
use ampoule_tests::tenant_builder;

use crate::{Failing, MEMORY, State, assert_refuses_calls, disturb, each_failure, sandbox_that_fails_at, state};

/// A sandbox, what it is to go back to, and what it reports of itself there.
struct Prepared {
    sandbox: Sandbox,
    target: Snapshot,
    expected: State,
}

#[test]
fn after_a_good_call() {
    check_each(2, |number| {
        let (mut prepared, hypervisor) = own_snapshot(number);
        disturb(&mut prepared.sandbox);
        (prepared, hypervisor)
    });
}

#[test]
fn after_a_fault() {
    check_each(3, |number| {
        let (mut prepared, hypervisor) = own_snapshot(number);
        disturb(&mut prepared.sandbox);
        prepared.sandbox.call::<()>("fault", ()).unwrap_err();
        (prepared, hypervisor)
    });
}

#[test]
fn without_a_call() {
    check_each(1, own_snapshot);
}

#[test]
fn to_another_sandboxs_snapshot() {
    check_each(2, |number| {
        let (mut prepared, hypervisor) = own_snapshot(number);
        let mut other = tenant_builder().memory_limit(MEMORY).build().unwrap();
        disturb(&mut other);
        prepared.target = other.snapshot().unwrap();
        prepared.expected = state(&mut other);
        (prepared, hypervisor)
    });
}

#[test]
fn to_a_snapshot_so_far_away_that_memory_is_mapped_anew() {
    check_each(3, |number| {
        let (mut prepared, hypervisor) = own_snapshot(number);
        prepared.sandbox.call::<()>("map_region", (2u8, 1500u32, 5u64)).unwrap();
        prepared.sandbox.snapshot().unwrap();
        (prepared, hypervisor)
    });
}

#[test]
fn while_quiet_pages_are_given_back() {
    let prepare = |number| {
        let (mut prepared, hypervisor) = own_snapshot(number);
        prepared.sandbox.call::<()>("map_region", (2u8, 1500u32, 5u64)).unwrap();
        for _ in 0..8 {
            prepared.sandbox.restore(&prepared.target).unwrap();
            prepared.sandbox.call::<()>("add_to_variable", (1u64,)).unwrap();
        }
        (prepared, hypervisor)
    };
    // Forgetting pages is the second operation. It saves later restores some work, and this one is complete without it.
    let operations = check_each_but(Some(1), 2, prepare);
    assert!(operations >= 2, "no pages were given back: {operations} operations");
}

#[test]
fn to_the_start() {
    let prepare = |number| {
        let (mut prepared, hypervisor) = own_snapshot(number);
        disturb(&mut prepared.sandbox);
        (prepared, hypervisor)
    };
    each_failure(
        prepare,
        |prepared| prepared.sandbox.reset(),
        |number, mut prepared, result| {
            assert_failed(result, number);
            assert_refuses_calls(&mut prepared.sandbox);
            prepared.sandbox.reset().unwrap();
            prepared.sandbox.call::<()>("map_region", (0u8, 10u32, 1u64)).unwrap();
            assert_eq!(state(&mut prepared.sandbox), prepared.expected);
        },
    );
}

/// A sandbox with a snapshot of it.
fn own_snapshot(number: u64) -> (Prepared, Failing) {
    let (mut sandbox, hypervisor) = sandbox_that_fails_at(number);
    let target = sandbox.snapshot().unwrap();
    let expected = state(&mut sandbox);
    (Prepared { sandbox, target, expected }, hypervisor)
}

/// Checks the restore after each of its operations has failed; there are at least `least` of them.
fn check_each(least: u64, prepare: impl Fn(u64) -> (Prepared, Failing)) -> u64 {
    check_each_but(None, least, prepare)
}

/// Like [`check_each`], except for one operation whose failure makes no difference to the restore.
fn check_each_but(needless: Option<u64>, least: u64, prepare: impl Fn(u64) -> (Prepared, Failing)) -> u64 {
    type Cure = fn(&mut Prepared);
    let cures: [Cure; 3] = [
        |prepared| prepared.sandbox.restore(&prepared.target).unwrap(),
        |prepared| {
            prepared.sandbox.reset().unwrap();
            prepared.sandbox.restore(&prepared.target).unwrap();
        },
        |prepared| {
            prepared.sandbox.reset().unwrap();
            disturb(&mut prepared.sandbox);
            let sibling = prepared.sandbox.snapshot().unwrap();
            prepared.sandbox.restore(&prepared.target).unwrap();
            prepared.sandbox.restore(&sibling).unwrap();
            prepared.sandbox.restore(&prepared.target).unwrap();
        },
    ];
    let mut operations = 0;
    for cure in cures {
        operations = each_failure(
            &prepare,
            |prepared| prepared.sandbox.restore(&prepared.target),
            |number, mut prepared, result| {
                if needless == Some(number) {
                    result.unwrap();
                    assert_eq!(state(&mut prepared.sandbox), prepared.expected);
                } else {
                    assert_failed(result, number);
                    assert_refuses_calls(&mut prepared.sandbox);
                }
                cure(&mut prepared);
                assert_eq!(state(&mut prepared.sandbox), prepared.expected, "operation {number}");
            },
        );
        assert!(operations >= least, "{operations} operations");
    }
    operations
}

fn assert_failed(result: Result<(), RestoreError>, number: u64) {
    let error = result.expect_err("the failure is not passed over");
    assert!(error.poisons() && matches!(error, RestoreError::Hypervisor(_)), "operation {number}: {error}");
}
