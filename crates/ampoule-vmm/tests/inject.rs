//! A hypervisor that fails on demand reaches every operation.

use std::collections::HashSet;

use ampoule_vmm::hypervisor::Operation;
use ampoule_vmm::inject::FailAt;
use ampoule_vmm::kvm::Kvm;
use ampoule_vmm::x86_64::registers::Regs;
use ampoule_vmm::x86_64::shim::{SYSTEM_BASE, System, initial_flags};
use ampoule_vmm::{Exit, Hypervisor, HypervisorError, WriteTracking};

/// One of each operation.
fn procedure(hypervisor: &dyn Hypervisor) -> Result<(), HypervisorError> {
    let (system, tables) = System::new(8).unwrap();
    let mut vm = hypervisor.create_vm()?;
    vm.map(0, SYSTEM_BASE, system.region().clone(), WriteTracking::On)?;
    let mut vcpu = vm.create_vcpu(&system.syscall_entry())?;
    let capabilities = hypervisor.capabilities();
    vcpu.set_special_regs(&system.initial_special_regs(capabilities, tables.root()))?;
    vcpu.set_regs(&Regs {
        rip: ampoule_vmm::x86_64::shim::DOORBELL.0,
        rflags: initial_flags(capabilities),
        ..Regs::default()
    });
    assert!(matches!(vcpu.run()?, Exit::IoOut { .. }));
    vcpu.special_regs()?;
    vm.flush_translations(0)?;
    vm.unmap(0)
}

#[test]
fn every_operation_can_fail() {
    let kvm = Kvm::shared().expect("these tests need KVM");
    let mut failed = HashSet::new();
    for number in 0.. {
        let hypervisor = FailAt::new(kvm.clone(), number);
        let result = procedure(&hypervisor);
        if hypervisor.operations() <= number {
            result.unwrap();
            break;
        }
        match result.unwrap_err() {
            HypervisorError::Refused { operation, reason } => {
                assert_eq!(reason.to_string(), "failure injected by a test");
                failed.insert(operation);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(hypervisor.operations(), number + 1, "nothing follows a failure");
    }
    let expected = [
        Operation::CreateVm,
        Operation::MapMemory,
        Operation::CreateVcpu,
        Operation::SetSpecialRegisters,
        Operation::Run,
        Operation::ReadSpecialRegisters,
        Operation::FlushTranslations,
        Operation::UnmapMemory,
    ];
    assert_eq!(failed, HashSet::from(expected));
}
