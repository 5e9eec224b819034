//! Interrupt handles that an application keeps although their sandboxes are gone. The only test of its process, whose
//! mappings it examines.

use std::fs;

use ampoule::KillOutcome;
use ampoule_tests::calls_sandbox;

#[test]
fn a_handle_does_not_keep_the_virtual_machine() {
    let sandboxes = [calls_sandbox(), calls_sandbox()];
    let handles = sandboxes.each_ref().map(|sandbox| sandbox.interrupt_handle());
    let mapped = mappings_of_processors();
    assert!(mapped > 0);
    let [first, mut second] = sandboxes;
    drop(first);
    assert_eq!(mappings_of_processors(), mapped / 2);
    second.call::<()>("empty", ()).unwrap();
    drop(second);
    assert_eq!(mappings_of_processors(), 0);
    for handle in handles {
        assert_eq!(handle.kill(), KillOutcome::NotRunning);
    }
}

/// The process's mappings of virtual processors. As long as it has one, the kernel keeps the whole virtual machine.
fn mappings_of_processors() -> usize {
    fs::read_to_string("/proc/self/maps").unwrap().lines().filter(|mapping| mapping.contains("kvm-vcpu")).count()
}
