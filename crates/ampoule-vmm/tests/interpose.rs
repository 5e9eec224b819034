//! What stands between a hypervisor and its user reaches every method: it is counted, and can fail.

use std::collections::HashSet;
use std::sync::Arc;

use ampoule_vmm::count::{Counting, Method};
use ampoule_vmm::hypervisor::Operation;
use ampoule_vmm::inject::FailAt;
use ampoule_vmm::kvm::Kvm;
use ampoule_vmm::x86_64::registers::Regs;
use ampoule_vmm::x86_64::shim::{SYSTEM_BASE, System, initial_flags};
use ampoule_vmm::{DOORBELL, Exit, Hypervisor, HypervisorError, PAGE_SIZE, PageSet, WriteTracking};

/// One of each method.
fn procedure(hypervisor: &dyn Hypervisor) -> Result<(), HypervisorError> {
    let (system, tables) = System::new(8).unwrap();
    let mut vm = hypervisor.create_vm()?;
    vm.map(0, SYSTEM_BASE, system.region().clone(), WriteTracking::On)?;
    let mut vcpu = vm.create_vcpu(&system.syscall_entry())?;
    let capabilities = hypervisor.capabilities();
    vcpu.set_special_regs(&system.initial_special_regs(capabilities, tables.root()))?;
    vcpu.set_regs(&Regs { rip: DOORBELL.0, rflags: initial_flags(capabilities), ..Regs::default() });
    assert!(matches!(vcpu.run()?, Exit::IoOut { .. }));
    vcpu.settle()?;
    vcpu.abandon()?;
    assert_ne!(vcpu.regs().rip, 0);
    vcpu.special_regs()?;
    let fpu = vcpu.fpu()?;
    vcpu.set_fpu(&fpu)?;
    vcpu.statistics()?;
    let mut written = PageSet::new(system.region().len() / PAGE_SIZE);
    vm.collect_written(0, &mut written)?;
    vm.forget_written(0, &written)?;
    vm.flush_translations(0)?;
    vm.unmap(0)
}

#[test]
fn every_method_is_counted() {
    let hypervisor = Counting::new(Kvm::shared().expect("these tests need KVM"));
    procedure(&hypervisor).unwrap();
    let counts = hypervisor.counts();
    for method in Method::ALL {
        assert_eq!(counts.of(method), 1, "{method:?}");
    }
}

#[test]
fn every_method_can_fail_but_those_that_only_move_general_registers() {
    let kvm = Kvm::shared().expect("these tests need KVM");
    let mut failed = HashSet::new();
    for number in 0.. {
        let counting = Arc::new(Counting::new(kvm.clone()));
        let hypervisor = FailAt::new(counting.clone(), number);
        let result = procedure(&hypervisor);
        let counts = counting.counts();
        let passed_on = counts.total() - counts.of_any([Method::Regs, Method::SetRegs]);
        if hypervisor.operations() <= number {
            result.unwrap();
            assert_eq!(passed_on, hypervisor.operations());
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
        assert_eq!(passed_on, number, "what fails is not passed on");
    }
    let expected = [
        Operation::CreateVm,
        Operation::MapMemory,
        Operation::CreateVcpu,
        Operation::SetSpecialRegisters,
        Operation::Run,
        Operation::SetEvents,
        Operation::ReadSpecialRegisters,
        Operation::ReadFpu,
        Operation::SetFpu,
        Operation::ReadStatistics,
        Operation::ReadWrittenPages,
        Operation::ForgetWrittenPages,
        Operation::FlushTranslations,
        Operation::UnmapMemory,
    ];
    assert_eq!(failed, HashSet::from(expected));
}
