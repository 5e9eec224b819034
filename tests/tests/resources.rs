//! What a sandbox costs, in counts; and what happens where the hypervisor fails.

use std::sync::Arc;

use ampoule::{BuildError, CallError, Sandbox, SnapshotError, Termination};
use ampoule_tests::{calls_builder, calls_sandbox, hostile_image, tenant_sandbox, tenant_spawn};
use ampoule_vmm::Hypervisor;
use ampoule_vmm::inject::FailAt;
use ampoule_vmm::kvm::Kvm;

/// How often `call` ran the guest, and how many other calls concerned the vCPU.
fn cost(sandbox: &mut Sandbox, call: impl FnOnce(&mut Sandbox)) -> (u64, u64) {
    let before = sandbox.stats().unwrap();
    call(sandbox);
    let after = sandbox.stats().unwrap();
    (after.exits - before.exits, after.ioctls - before.ioctls)
}

#[test]
fn a_warm_call_is_one_run_and_no_other_ioctl() {
    let mut sandbox = calls_sandbox();
    let empty = sandbox.typed_fn::<(), ()>("empty").unwrap();
    empty.call(&mut sandbox, ()).unwrap();
    assert_eq!(cost(&mut sandbox, |sandbox| empty.call(sandbox, ()).unwrap()), (1, 0));
    assert_eq!(cost(&mut sandbox, |sandbox| sandbox.call("empty", ()).unwrap()), (1, 0));
}

#[test]
fn a_host_call_is_one_run_more() {
    let mut sandbox = calls_sandbox();
    let count = sandbox.typed_fn::<(u32,), u32>("count_on_host").unwrap();
    count.call(&mut sandbox, (1,)).unwrap();
    for host_calls in [0, 1, 10] {
        let cost = cost(&mut sandbox, |sandbox| assert_eq!(count.call(sandbox, (host_calls,)).unwrap(), host_calls));
        assert_eq!(cost, (1 + u64::from(host_calls), 0));
    }
}

#[test]
fn a_payload_costs_nothing_more() {
    let mut sandbox = calls_builder().mailbox_size(2 << 20).build().unwrap();
    let bytes = vec![1u8; 1 << 20];
    sandbox.call::<()>("take_bytes", (&bytes,)).unwrap();
    assert_eq!(cost(&mut sandbox, |sandbox| sandbox.call("take_bytes", (&bytes,)).unwrap()), (1, 0));
}

#[test]
fn statistics_count_what_guest_and_host_have_done() {
    const PAGE: u64 = 4096;
    let mut original = tenant_sandbox();
    original.call::<()>("map_region", (0u8, 100u32, 7u64)).unwrap();
    let snapshot = original.snapshot().unwrap();
    let mut sandbox = tenant_spawn(&snapshot).build().unwrap();
    let fresh = sandbox.stats().unwrap();
    assert_eq!((fresh.exits, fresh.restores, fresh.pages_restored), (0, 0, 0));
    assert!(fresh.dirty_pages <= 1 && fresh.owned_bytes <= PAGE, "the mailbox's lines at most: {fresh:?}");
    assert_eq!(fresh.shared_bytes, snapshot.stored_bytes());

    // Its stack grows once.
    sandbox.call::<()>("write_region", (0u8, 0u32, 8u64)).unwrap();
    let first = sandbox.stats().unwrap();
    for page in 0..50u32 {
        sandbox.call::<()>("write_region", (0u8, page, 8u64)).unwrap();
    }
    let written = sandbox.stats().unwrap();
    assert_eq!((written.exits - first.exits, written.ioctls - first.ioctls), (50, 0));
    assert!((50..100).contains(&written.dirty_pages), "{written:?}");
    assert_eq!(written.owned_bytes, written.dirty_pages * PAGE);

    // A result of a host function takes 235 pages, which the host writes and the guest copies.
    sandbox.call::<u64>("ask_for_words", (120_000u32, 1u64)).unwrap();
    let answered = sandbox.stats().unwrap();
    assert!(answered.dirty_pages > written.dirty_pages + 200, "{written:?} {answered:?}");

    sandbox.restore(&snapshot).unwrap();
    let restored = sandbox.stats().unwrap();
    assert_eq!((restored.restores, restored.pages_restored), (1, answered.dirty_pages));
    assert_eq!((restored.exits, restored.shared_bytes), (answered.exits, fresh.shared_bytes));
}

#[test]
fn every_operation_of_the_hypervisor_may_fail() {
    let kvm: Arc<dyn Hypervisor> = Kvm::shared().unwrap();
    let mut failures = 0;
    loop {
        let hypervisor = Arc::new(FailAt::new(Arc::clone(&kvm), failures));
        let built = Sandbox::builder(&hostile_image()).hypervisor(hypervisor).build();
        match built {
            Err(
                BuildError::Hypervisor(_)
                | BuildError::Start(Termination::Hypervisor(_), ..)
                | BuildError::Initial(SnapshotError::Hypervisor(_)),
            ) => failures += 1,
            Err(error) => panic!("operation {failures} failed as another error: {error}"),
            Ok(mut sandbox) => match sandbox.call::<bool>("alive", ()) {
                Ok(alive) => {
                    assert!(alive);
                    break;
                }
                Err(error) => {
                    let CallError::Terminated { cause: Termination::Hypervisor(_), .. } = &error else {
                        panic!("operation {failures} failed as another error: {error}");
                    };
                    assert!(matches!(sandbox.call::<bool>("alive", ()), Err(CallError::Poisoned { .. })));
                    failures += 1;
                }
            },
        }
    }
    assert!(failures > 5, "only {failures} operations were counted");
}
