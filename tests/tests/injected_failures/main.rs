//! Snapshots, restores and spawns in which one operation fails: none leaves a usable sandbox that is not what it should be,
//! and none leaks.

mod exhaustion;
mod host_memory;
mod limits;
mod page_tables;
mod refusals;
mod restore;
mod seccomp;
mod snapshot;

use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ampoule::{CallError, Sandbox};
use ampoule_tests::tenant_builder;
use ampoule_vmm::inject::FailAt;
use ampoule_vmm::kvm::Kvm;

type Failing = Arc<FailAt<Arc<Kvm>>>;

/// A sandbox whose hypervisor fails once, at the operation with this number.
fn sandbox_that_fails_at(number: u64) -> (Sandbox, Failing) {
    let hypervisor = Arc::new(FailAt::new(Kvm::shared().unwrap(), number));
    let mut sandbox = tenant_builder().memory_limit(MEMORY).hypervisor(hypervisor.clone()).build().unwrap();
    sandbox.call::<()>("map_region", (0u8, 10u32, 1u64)).unwrap();
    (sandbox, hypervisor)
}

/// Prepares a sandbox and does something with it, once for each operation that this takes, with that one failing. `check` is
/// given the number of the operation, what was prepared, and the result.
fn each_failure<P, R>(
    prepare: impl Fn(u64) -> (P, Failing),
    procedure: impl Fn(&mut P) -> R,
    check: impl Fn(u64, P, R),
) -> u64 {
    let _alone = alone();
    let (mut prepared, hypervisor) = prepare(NEVER);
    let first = hypervisor.operations();
    procedure(&mut prepared);
    let end = hypervisor.operations();
    drop(prepared);
    let before = descriptors();
    for number in first..end {
        let (mut prepared, hypervisor) = prepare(number);
        assert_eq!(hypervisor.operations(), first, "preparing takes the same operations each time");
        let result = procedure(&mut prepared);
        check(number - first, prepared, result);
    }
    assert_eq!(descriptors(), before, "descriptors");
    end - first
}

/// What a guest reports of its whole state, part by part.
type State = Vec<(String, u64)>;

fn state(sandbox: &mut Sandbox) -> State {
    sandbox.call("digest", ()).unwrap()
}

fn assert_refuses_calls(sandbox: &mut Sandbox) {
    assert!(sandbox.poisoned().is_some());
    assert!(matches!(sandbox.call::<State>("digest", ()), Err(CallError::Poisoned { .. })));
    assert!(sandbox.snapshot().is_err());
}

/// Fills the guest's memory, so that a restore has everything to do, without ending the guest.
fn disturb(sandbox: &mut Sandbox) {
    sandbox.call::<()>("protect_region", (0u8, false)).unwrap();
    sandbox.call::<()>("map_region", (1u8, 20u32, 2u64)).unwrap();
    sandbox.call::<()>("set_value", (1u8, 5000u32, 3u64)).unwrap();
    sandbox.call::<()>("grow_heap", (4u32, 4u64)).unwrap();
    sandbox.call::<()>("change_process", ()).unwrap();
}

/// The process's descriptors are counted, so nothing else may open any.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

const MEMORY: usize = 16 << 20;
const NEVER: u64 = u64::MAX;
