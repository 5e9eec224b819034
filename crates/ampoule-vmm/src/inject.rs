//! A hypervisor that fails on demand, so that every error path above it can be tested.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::address::GuestPhys;
use crate::hypervisor::{
    Counters, Exit, Hypervisor, HypervisorError, Interrupt, Operation, StatisticsReader, Vcpu, Vm, WriteTracking,
};
use crate::memory::Region;
use crate::page_set::PageSet;
use crate::x86_64::capabilities::Capabilities;
use crate::x86_64::registers::{FpuState, Regs, SpecialRegs, SyscallEntry};

/// Passes everything on to another hypervisor, but lets one operation fail instead.
///
/// Every operation of [`Hypervisor`], [`Vm`] and [`Vcpu`] that can fail counts. A test that reaches all error paths of some
/// procedure repeats it with 0, 1, 2… until the operation of that number did not take place:
///
/// ```no_run
/// # use ampoule_vmm::{inject::FailAt, kvm::Kvm, Hypervisor};
/// # fn procedure(_: &dyn Hypervisor) -> Result<(), ampoule_vmm::HypervisorError> { Ok(()) }
/// let kvm = Kvm::shared()?;
/// for number in 0.. {
///     let hypervisor = FailAt::new(kvm.clone(), number);
///     let result = procedure(&hypervisor);
///     if hypervisor.operations() <= number {
///         result?;
///         break;
///     }
///     assert!(result.is_err());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct FailAt<H> {
    inner: H,
    plan: Arc<Plan>,
}

impl<H: Hypervisor> FailAt<H> {
    /// Lets the operation with this number fail; the first one is number 0.
    pub fn new(inner: H, number: u64) -> FailAt<H> {
        FailAt { inner, plan: Arc::new(Plan { number, operations: AtomicU64::new(0) }) }
    }

    /// How many operations there were, the failed one included.
    pub fn operations(&self) -> u64 {
        self.plan.operations.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct Plan {
    number: u64,
    operations: AtomicU64,
}

impl Plan {
    fn pass(&self, operation: Operation) -> Result<(), HypervisorError> {
        if self.operations.fetch_add(1, Ordering::Relaxed) == self.number {
            return Err(HypervisorError::Refused { operation, reason: io::Error::other("failure injected by a test") });
        }
        Ok(())
    }
}

impl<H: Hypervisor> Hypervisor for FailAt<H> {
    fn create_vm(&self) -> Result<Box<dyn Vm>, HypervisorError> {
        self.plan.pass(Operation::CreateVm)?;
        Ok(Box::new(FailingVm { inner: self.inner.create_vm()?, plan: self.plan.clone() }))
    }

    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }
}

struct FailingVm {
    inner: Box<dyn Vm>,
    plan: Arc<Plan>,
}

impl Vm for FailingVm {
    fn map(
        &mut self,
        slot: u32,
        at: GuestPhys,
        region: Arc<Region>,
        tracking: WriteTracking,
    ) -> Result<(), HypervisorError> {
        self.plan.pass(Operation::MapMemory)?;
        self.inner.map(slot, at, region, tracking)
    }

    fn unmap(&mut self, slot: u32) -> Result<(), HypervisorError> {
        self.plan.pass(Operation::UnmapMemory)?;
        self.inner.unmap(slot)
    }

    fn collect_written(&mut self, slot: u32, pages: &mut PageSet) -> Result<(), HypervisorError> {
        self.plan.pass(Operation::ReadWrittenPages)?;
        self.inner.collect_written(slot, pages)
    }

    fn forget_written(&mut self, slot: u32, pages: &PageSet) -> Result<(), HypervisorError> {
        self.plan.pass(Operation::ForgetWrittenPages)?;
        self.inner.forget_written(slot, pages)
    }

    fn flush_translations(&mut self, slot: u32) -> Result<(), HypervisorError> {
        self.plan.pass(Operation::FlushTranslations)?;
        self.inner.flush_translations(slot)
    }

    fn create_vcpu(&mut self, entry: &SyscallEntry) -> Result<Box<dyn Vcpu>, HypervisorError> {
        self.plan.pass(Operation::CreateVcpu)?;
        Ok(Box::new(FailingVcpu { inner: self.inner.create_vcpu(entry)?, plan: self.plan.clone() }))
    }
}

struct FailingVcpu {
    inner: Box<dyn Vcpu>,
    plan: Arc<Plan>,
}

impl Vcpu for FailingVcpu {
    fn run(&mut self) -> Result<Exit<'_>, HypervisorError> {
        self.plan.pass(Operation::Run)?;
        self.inner.run()
    }

    fn regs(&self) -> Regs {
        self.inner.regs()
    }

    fn set_regs(&mut self, regs: &Regs) {
        self.inner.set_regs(regs);
    }

    fn special_regs(&mut self) -> Result<SpecialRegs, HypervisorError> {
        self.plan.pass(Operation::ReadSpecialRegisters)?;
        self.inner.special_regs()
    }

    fn set_special_regs(&mut self, regs: &SpecialRegs) -> Result<(), HypervisorError> {
        self.plan.pass(Operation::SetSpecialRegisters)?;
        self.inner.set_special_regs(regs)
    }

    fn settle(&mut self) -> Result<(), HypervisorError> {
        self.plan.pass(Operation::Run)?;
        self.inner.settle()
    }

    fn abandon(&mut self) -> Result<(), HypervisorError> {
        self.plan.pass(Operation::SetEvents)?;
        self.inner.abandon()
    }

    fn fpu(&mut self) -> Result<FpuState, HypervisorError> {
        self.plan.pass(Operation::ReadFpu)?;
        self.inner.fpu()
    }

    fn set_fpu(&mut self, state: &FpuState) -> Result<(), HypervisorError> {
        self.plan.pass(Operation::SetFpu)?;
        self.inner.set_fpu(state)
    }

    fn interrupter(&self) -> Arc<dyn Interrupt> {
        self.inner.interrupter()
    }

    fn counters(&self) -> Counters {
        self.inner.counters()
    }

    fn statistics(&self) -> Result<Option<Box<dyn StatisticsReader>>, HypervisorError> {
        self.plan.pass(Operation::ReadStatistics)?;
        self.inner.statistics()
    }
}
