//! What the suite says of backends that do not pass it.

use std::io;
use std::sync::Arc;

use ampoule_conformance::{Failure, Part, cases, check};
use ampoule_vmm::hypervisor::Operation;
use ampoule_vmm::inject::FailAt;
use ampoule_vmm::kvm::Kvm;
use ampoule_vmm::x86_64::capabilities::{Capabilities, Paging};
use ampoule_vmm::x86_64::registers::SyscallEntry;
use ampoule_vmm::{GuestPhys, Hypervisor, HypervisorError, PageSet, Region, Vcpu, Vm, WriteTracking};

/// A backend that makes no machine.
struct Unfinished {
    capabilities: Capabilities,
    make: fn() -> HypervisorError,
}

impl Hypervisor for Unfinished {
    fn create_vm(&self) -> Result<Box<dyn Vm>, HypervisorError> {
        Err((self.make)())
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }
}

/// A backend that claims to have flushed translations, and has not.
struct WithoutFlush<H>(H);

impl<H: Hypervisor> Hypervisor for WithoutFlush<H> {
    fn create_vm(&self) -> Result<Box<dyn Vm>, HypervisorError> {
        Ok(Box::new(VmWithoutFlush(self.0.create_vm()?)))
    }

    fn capabilities(&self) -> &Capabilities {
        self.0.capabilities()
    }
}

struct VmWithoutFlush(Box<dyn Vm>);

impl Vm for VmWithoutFlush {
    fn map(
        &mut self,
        slot: u32,
        at: GuestPhys,
        region: Arc<Region>,
        tracking: WriteTracking,
    ) -> Result<(), HypervisorError> {
        self.0.map(slot, at, region, tracking)
    }

    fn unmap(&mut self, slot: u32) -> Result<(), HypervisorError> {
        self.0.unmap(slot)
    }

    fn collect_written(&mut self, slot: u32, pages: &mut PageSet) -> Result<(), HypervisorError> {
        self.0.collect_written(slot, pages)
    }

    fn forget_written(&mut self, slot: u32, pages: &PageSet) -> Result<(), HypervisorError> {
        self.0.forget_written(slot, pages)
    }

    fn flush_translations(&mut self, _: u32) -> Result<(), HypervisorError> {
        Ok(())
    }

    fn create_vcpu(&mut self, entry: &SyscallEntry) -> Result<Box<dyn Vcpu>, HypervisorError> {
        self.0.create_vcpu(entry)
    }
}

fn unfinished(make: fn() -> HypervisorError) -> Unfinished {
    let kvm = Kvm::shared().expect("these tests need KVM");
    Unfinished { capabilities: *kvm.capabilities(), make }
}

#[test]
fn a_backend_that_refuses_is_told_what_it_lacks() {
    let backend = unfinished(|| HypervisorError::Refused {
        operation: Operation::CreateVm,
        reason: io::ErrorKind::Unsupported.into(),
    });
    let report = check(&backend);
    assert!(!report.is_passed());
    assert_eq!(report.outcomes().len(), cases().len());
    assert_eq!(report.lacking().len(), 15, "each part is named once");
    let text = report.to_string();
    assert!(text.contains("costs             0 of 4   What a call costs.\n"), "{text}");
    let lack = concat!(
        "  lacks a_warm_run_costs_one_call_into_the_kernel: A run with new registers is one call into the kernel.\n",
        "        an operation was refused: the hypervisor could not create a virtual machine: unsupported\n",
    );
    assert!(text.contains(lack), "{text}");
}

#[test]
fn a_backend_that_panics_fails_the_case_only() {
    let backend = unfinished(|| panic!("not implemented yet"));
    for outcome in check(&backend).outcomes() {
        assert!(matches!(&outcome.result, Err(Failure::Panicked { message }) if message == "not implemented yet"));
    }
}

#[test]
fn one_operation_that_fails_is_a_lack_of_one_case() {
    let kvm = Kvm::shared().expect("these tests need KVM");
    let case = cases().iter().find(|case| case.part == Part::Costs).expect("the part has cases");
    let failure = case.run(&FailAt::new(kvm.clone(), 0)).unwrap_err();
    assert!(failure.is_lack(), "{failure}");
    case.run(&kvm).expect("without the failure it passes");
}

/// Where the processor walks the tables itself, revoking their memory may be enough, and there is nothing to find.
#[test]
fn a_backend_that_flushes_nothing_is_found_where_tables_are_shadowed() {
    let kvm = Kvm::shared().expect("these tests need KVM");
    let failed = |hypervisor: &dyn Hypervisor| {
        let cases = cases().iter().filter(|case| case.part == Part::PageTables);
        cases.filter(|case| case.run(hypervisor).is_err()).map(|case| case.name).collect::<Vec<_>>()
    };
    assert_eq!(failed(&kvm), [""; 0]);
    if kvm.capabilities().paging == Paging::Shadowed {
        let failed = failed(&WithoutFlush(kvm));
        for name in [
            "a_table_that_serves_other_addresses_is_seen_after_a_flush",
            "upper_tables_that_serve_other_addresses_are_seen_after_a_flush",
            "tables_that_are_put_back_are_seen",
            "a_permission_that_was_narrowed_is_gone_after_a_flush",
        ] {
            assert!(failed.contains(&name), "{name} is not among {failed:?}");
        }
    }
}

#[test]
fn every_case_has_a_name_of_its_own_and_a_promise() {
    let mut names: Vec<_> = cases().iter().map(|case| case.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), cases().len());
    assert!(cases().iter().all(|case| case.promise.ends_with('.')));
    assert!(cases().is_sorted_by_key(|case| case.part), "parts are together");
}
