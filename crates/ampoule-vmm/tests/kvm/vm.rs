//! Machines, their memory slots, and opening KVM.

use std::sync::Arc;

use ampoule_vmm::kvm::{Kvm, OpenError};
use ampoule_vmm::x86_64::shim;
use ampoule_vmm::{Exit, Hypervisor, HypervisorError, PAGE_SIZE, Region, WriteTracking};

use crate::guest::{Guest, RING};

#[test]
fn machine_and_vcpu_are_dropped_in_any_order() {
    let Guest { vm, vcpu, .. } = Guest::new(&RING);
    drop(vcpu);
    drop(vm);

    let Guest { vm, mut vcpu, ram, .. } = Guest::new(&RING);
    drop(vm);
    drop(ram);
    let exit = vcpu.run().unwrap();
    assert!(matches!(exit, Exit::IoOut { .. }), "{exit:?}");
}

#[test]
fn a_slot_holds_one_region_until_it_is_unmapped() {
    let kvm = Kvm::shared().unwrap();
    let mut vm = kvm.create_vm().unwrap();
    let region = Region::anonymous(PAGE_SIZE).unwrap();
    let at = shim::SHARED_PHYS;
    vm.map(3, at, region.clone(), WriteTracking::On).unwrap();
    let again = vm.map(3, shim::SYSTEM_BASE, region.clone(), WriteTracking::On);
    assert!(matches!(again, Err(HypervisorError::SlotInUse { slot: 3 })));
    let overlapping = vm.map(4, at, region.clone(), WriteTracking::On);
    assert!(matches!(overlapping, Err(HypervisorError::Refused { .. })));
    vm.unmap(3).unwrap();
    assert!(matches!(vm.unmap(3), Err(HypervisorError::SlotEmpty { slot: 3 })));
    vm.map(4, at, region.clone(), WriteTracking::On).unwrap();
    drop(vm);
    assert_eq!(Arc::strong_count(&region), 1);
}

#[test]
fn opening_something_else_is_explained() {
    let missing = Kvm::open_path("/dev/no-such-device".as_ref()).unwrap_err();
    assert!(matches!(missing, OpenError::Missing { .. }), "{missing}");
    assert!(missing.to_string().starts_with("/dev/no-such-device: no such device"));
    let other = Kvm::open_path("/dev/null".as_ref()).unwrap_err();
    assert!(matches!(other, OpenError::NotKvm { .. }), "{other}");
    let directory = Kvm::open_path("/dev".as_ref()).unwrap_err();
    assert!(matches!(directory, OpenError::Failed { .. }), "{directory}");
}

#[test]
fn the_process_shares_one_kvm() {
    let (one, other) = (Kvm::shared().unwrap(), Kvm::shared().unwrap());
    assert!(Arc::ptr_eq(&one, &other));
}
