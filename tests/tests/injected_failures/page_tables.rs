//! Page tables that change their places while the hypervisor fails.

use std::sync::Arc;

use ampoule::Sandbox;
use ampoule_tests::memory_builder;
use ampoule_vmm::count::{Counting, Method};
use ampoule_vmm::inject::FailAt;
use ampoule_vmm::kvm::Kvm;

use crate::{MEMORY, alone, each_failure};

/// More places than there are page tables.
const PLACES: u64 = 120;
const FAR: u64 = 0x10_0000_0000;

#[test]
fn a_guest_whose_tables_could_not_be_flushed_does_not_run_before_they_are() {
    let failures = each_failure(
        |number| {
            let hypervisor = Arc::new(FailAt::new(Kvm::shared().unwrap(), number));
            let sandbox =
                memory_builder().memory_limit(MEMORY).mapped_limit(0).hypervisor(hypervisor.clone()).build().unwrap();
            (sandbox, hypervisor)
        },
        |sandbox| sandbox.call::<()>("wander", (FAR, PLACES)),
        |number, mut sandbox, result| {
            let error = result.expect_err("an operation failed");
            assert!(error.poisons(), "operation {number}: {error}");
            sandbox.reset().unwrap();
            sandbox.call::<()>("wander", (FAR, PLACES)).unwrap();
            sandbox.call::<()>("wander", (FAR + (1 << 39), PLACES)).unwrap();
        },
    );
    // Each place is two system calls.
    assert!(failures > 2 * PLACES + 1, "the tables were flushed");
}

#[test]
fn tables_change_their_places_seldom() {
    let _alone = alone();
    let hypervisor = Arc::new(Counting::new(Kvm::shared().unwrap()));
    let mut sandbox: Sandbox =
        memory_builder().memory_limit(MEMORY).mapped_limit(0).hypervisor(hypervisor.clone()).build().unwrap();
    let before = hypervisor.counts();
    sandbox.call::<()>("wander", (FAR, 4 * PLACES)).unwrap();
    let flushes = hypervisor.counts().since(&before).of(Method::FlushTranslations);
    assert!((1..=8).contains(&flushes), "{flushes}");
    let before = hypervisor.counts();
    for _ in 0..4 {
        sandbox.call::<()>("wander", (FAR, 16_u64)).unwrap();
    }
    assert!(hypervisor.counts().since(&before).of(Method::FlushTranslations) <= 1, "places that are known are kept");
}
