//! Snapshots: going back to them, and making other sandboxes from them.

use std::thread;

use ampoule::{
    Builder, CallError, ExecutableMemory, KillOutcome, Output, Poison, RestoreError, Sandbox, Setting, Snapshot,
    SnapshotError, Termination,
};
use ampoule_tests::{calls_builder, calls_functions, calls_sandbox, calls_spawn, hostile_image, hostile_sandbox};

#[test]
fn a_sandbox_goes_back_to_any_of_its_snapshots() {
    let mut sandbox = calls_sandbox();
    let mut taken = Vec::new();
    for expected in 101..105 {
        taken.push(sandbox.snapshot().unwrap());
        assert_eq!(increment(&mut sandbox), expected);
    }
    for (index, snapshot) in taken.iter().enumerate().rev().chain(taken.iter().enumerate()) {
        sandbox.restore(snapshot).unwrap();
        assert_eq!(increment(&mut sandbox), 101 + index as u32);
        assert!(sandbox.call::<bool>("exercise_memory", (2u32,)).unwrap());
    }
    sandbox.reset().unwrap();
    assert_eq!(increment(&mut sandbox), 101);
}

#[test]
fn spawned_sandboxes_begin_where_the_snapshot_was_and_go_their_own_ways() {
    let mut original = calls_sandbox();
    increment(&mut original);
    let snapshot = original.snapshot().unwrap();
    let mut siblings: Vec<_> = (0..4).map(|_| spawn(&snapshot)).collect();
    for round in 0..3 {
        for (index, sibling) in siblings.iter_mut().enumerate() {
            assert_eq!(increment(sibling), 102 + round, "sibling {index}");
        }
    }
    assert_eq!(increment(&mut original), 102);
    siblings[0].reset().unwrap();
    assert_eq!(increment(&mut siblings[0]), 102);
    assert_eq!(increment(&mut siblings[1]), 105);
}

#[test]
fn chains_hold_when_their_beginning_is_gone() {
    let mut sandbox = calls_sandbox();
    for generation in 0..40 {
        assert_eq!(increment(&mut sandbox), 101 + generation);
        let snapshot = sandbox.snapshot().unwrap();
        drop(sandbox);
        sandbox = spawn(&snapshot);
        assert!(sandbox.call::<bool>("exercise_memory", (generation,)).unwrap());
    }
}

#[test]
fn a_snapshot_goes_into_another_sandbox_of_the_same_image() {
    let mut one = calls_sandbox();
    increment(&mut one);
    increment(&mut one);
    let snapshot = one.snapshot().unwrap();
    let mut other = Sandbox::builder(one.image());
    other = calls_functions(other);
    let mut other = other.build().unwrap();
    assert!(other.call::<bool>("exercise_memory", (5u32,)).unwrap());
    for _ in 0..2 {
        other.restore(&snapshot).unwrap();
        assert_eq!(increment(&mut other), 103);
    }
    other.reset().unwrap();
    assert_eq!(increment(&mut other), 101);
}

#[test]
fn no_snapshot_is_taken_of_a_poisoned_sandbox() {
    let mut sandbox = hostile_sandbox();
    let before = sandbox.snapshot().unwrap();
    sandbox.call::<()>("write", (0u64, 1u8)).unwrap_err();
    let error = sandbox.snapshot().unwrap_err();
    assert!(matches!(error, SnapshotError::Poisoned { .. }), "{error}");
    assert!(error.to_string().contains("restore a snapshot or reset it"), "{error}");
    sandbox.restore(&before).unwrap();
    assert!(sandbox.call::<bool>("alive", ()).unwrap());
    sandbox.snapshot().unwrap();
}

#[test]
fn foreign_snapshots_are_refused_and_nothing_changes() {
    let mut sandbox = calls_sandbox();
    increment(&mut sandbox);
    let foreign = hostile_sandbox().snapshot().unwrap();
    let separately_loaded = {
        let image = ampoule::Image::embedded(ampoule::include_guest!("calls")).unwrap();
        calls_functions(Sandbox::builder(&image)).build().unwrap().snapshot().unwrap()
    };
    for snapshot in [foreign, separately_loaded] {
        let error = sandbox.restore(&snapshot).unwrap_err();
        assert!(matches!(error, RestoreError::ForeignImage { .. }), "{error}");
        assert!(!error.poisons() && sandbox.poisoned().is_none());
    }
    assert_eq!(increment(&mut sandbox), 102);
}

#[test]
fn snapshots_of_other_settings_are_refused_and_nothing_changes() {
    let mut sandbox = calls_sandbox();
    increment(&mut sandbox);
    type Change = fn(Builder) -> Builder;
    let settings: [(Setting, Change); 4] = [
        (Setting::MemoryLimit, |builder| builder.memory_limit(32 << 20)),
        (Setting::MailboxSize, |builder| builder.mailbox_size(8192)),
        (Setting::StackSize, |builder| builder.stack_size(1 << 20)),
        (Setting::ExecutableMemory, |builder| builder.executable_memory(ExecutableMemory::WriteXorExecute)),
    ];
    for (expected, change) in settings {
        let snapshot = change(calls_builder()).build().unwrap().snapshot().unwrap();
        let error = sandbox.restore(&snapshot).unwrap_err();
        let RestoreError::Setting { setting, .. } = error else { panic!("{error}") };
        assert_eq!(setting, expected);
        assert!(error.to_string().contains(&format!("Builder::{expected}(")), "{error}");
        let names_the_kind = error.to_string().contains("(ExecutableMemory::WriteXorExecute)`");
        assert_eq!(names_the_kind, expected == Setting::ExecutableMemory, "{error}");
        assert_eq!(sandbox.poisoned().map(ToString::to_string), None);
    }
    assert_eq!(increment(&mut sandbox), 102);
}

#[test]
fn a_spawned_sandbox_has_its_own_host_functions_and_sinks() {
    let snapshot = calls_sandbox().snapshot().unwrap();
    for bias in [0, 7] {
        let mut sandbox = calls_spawn(snapshot.builder());
        sandbox = sandbox.stdout(Output::discard());
        let mut sandbox = sandbox.build().unwrap();
        sandbox.set_stderr(Output::discard());
        assert_eq!(sandbox.call::<u32>("count_on_host", (bias,)).unwrap(), bias);
    }
}

#[test]
fn a_faulted_sandbox_goes_back_to_a_snapshot() {
    let mut sandbox = Sandbox::builder(&hostile_image()).build().unwrap();
    let snapshot = sandbox.snapshot().unwrap();
    for _ in 0..3 {
        let error = sandbox.call::<()>("write", (0u64, 1u8)).unwrap_err();
        assert!(matches!(error, CallError::Terminated { cause: Termination::Fault(_), .. }), "{error}");
        sandbox.restore(&snapshot).unwrap();
        assert!(sandbox.call::<bool>("alive", ()).unwrap());
    }
}

#[test]
fn a_killed_sandbox_goes_back_to_a_snapshot_and_not_only_to_its_start() {
    let mut sandbox = calls_sandbox();
    let first = increment(&mut sandbox);
    let snapshot = sandbox.snapshot().unwrap();
    let handle = sandbox.interrupt_handle();
    for function in ["spin", "read_the_clock_for_ever", "notify_for_ever"] {
        assert_eq!(increment(&mut sandbox), first + 1);
        let error = thread::scope(|scope| {
            let killer = scope.spawn(|| while handle.kill() != KillOutcome::Killed {});
            let error = sandbox.call::<()>(function, ()).unwrap_err();
            killer.join().unwrap();
            error
        });
        assert!(matches!(error, CallError::Terminated { cause: Termination::Killed, .. }), "{error}");
        let refused = sandbox.call::<u32>("increment", ()).unwrap_err();
        assert!(matches!(refused, CallError::Poisoned { cause: Poison::Ended(Termination::Killed) }), "{refused}");
        sandbox.restore(&snapshot).unwrap();
        assert_eq!(increment(&mut sandbox), first + 1);
        sandbox.restore(&snapshot).unwrap();
        // The snapshot is not of the state that the kill left.
        assert_eq!(increment(&mut spawn(&snapshot)), first + 1);
    }
}

fn increment(sandbox: &mut Sandbox) -> u32 {
    sandbox.call("increment", ()).unwrap()
}

fn spawn(snapshot: &Snapshot) -> Sandbox {
    calls_spawn(snapshot.builder()).build().unwrap()
}
