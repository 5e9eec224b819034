//! A hypervisor that tells how long guests ran, so that the rest of a call's time is the host's share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ampoule_vmm::kvm::Kvm;
use ampoule_vmm::x86_64::capabilities::Capabilities;
use ampoule_vmm::x86_64::registers::{FpuState, Regs, SpecialRegs, SyscallEntry};
use ampoule_vmm::{
    Counters, Exit, GuestPhys, Hypervisor, HypervisorError, Interrupt, PageSet, Region, Vcpu, Vm, WriteTracking,
};

/// KVM, and the time that its vCPUs have spent in runs.
pub(crate) struct Timed {
    kvm: Arc<Kvm>,
    nanoseconds: Arc<AtomicU64>,
}

impl Timed {
    pub(crate) fn new(kvm: Arc<Kvm>) -> Arc<Self> {
        Arc::new(Self { kvm, nanoseconds: Arc::default() })
    }

    /// How long something takes beside the runs in it, and the time of reading the clock for each of them.
    pub(crate) fn share<R>(&self, operation: impl FnOnce() -> R) -> (R, Duration) {
        let before = self.nanoseconds.load(Ordering::Relaxed);
        let start = Instant::now();
        let result = operation();
        let time = start.elapsed();
        let runs = self.nanoseconds.load(Ordering::Relaxed) - before;
        (result, time.saturating_sub(Duration::from_nanos(runs)))
    }
}

impl Hypervisor for Timed {
    fn create_vm(&self) -> Result<Box<dyn Vm>, HypervisorError> {
        Ok(Box::new(TimedVm { inner: self.kvm.create_vm()?, nanoseconds: self.nanoseconds.clone() }))
    }

    fn capabilities(&self) -> &Capabilities {
        self.kvm.capabilities()
    }
}

struct TimedVm {
    inner: Box<dyn Vm>,
    nanoseconds: Arc<AtomicU64>,
}

impl Vm for TimedVm {
    fn map(
        &mut self,
        slot: u32,
        at: GuestPhys,
        region: Arc<Region>,
        tracking: WriteTracking,
    ) -> Result<(), HypervisorError> {
        self.inner.map(slot, at, region, tracking)
    }

    fn unmap(&mut self, slot: u32) -> Result<(), HypervisorError> {
        self.inner.unmap(slot)
    }

    fn collect_written(&mut self, slot: u32, pages: &mut PageSet) -> Result<(), HypervisorError> {
        self.inner.collect_written(slot, pages)
    }

    fn forget_written(&mut self, slot: u32, pages: &PageSet) -> Result<(), HypervisorError> {
        self.inner.forget_written(slot, pages)
    }

    fn flush_translations(&mut self, slot: u32) -> Result<(), HypervisorError> {
        self.inner.flush_translations(slot)
    }

    fn create_vcpu(&mut self, entry: &SyscallEntry) -> Result<Box<dyn Vcpu>, HypervisorError> {
        Ok(Box::new(TimedVcpu { inner: self.inner.create_vcpu(entry)?, nanoseconds: self.nanoseconds.clone() }))
    }
}

struct TimedVcpu {
    inner: Box<dyn Vcpu>,
    nanoseconds: Arc<AtomicU64>,
}

impl Vcpu for TimedVcpu {
    fn run(&mut self) -> Result<Exit<'_>, HypervisorError> {
        let start = Instant::now();
        let exit = self.inner.run();
        self.nanoseconds.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
        exit
    }

    fn regs(&self) -> Regs {
        self.inner.regs()
    }

    fn set_regs(&mut self, regs: &Regs) {
        self.inner.set_regs(regs);
    }

    fn special_regs(&mut self) -> Result<SpecialRegs, HypervisorError> {
        self.inner.special_regs()
    }

    fn set_special_regs(&mut self, regs: &SpecialRegs) -> Result<(), HypervisorError> {
        self.inner.set_special_regs(regs)
    }

    fn settle(&mut self) -> Result<(), HypervisorError> {
        self.inner.settle()
    }

    fn abandon(&mut self) -> Result<(), HypervisorError> {
        self.inner.abandon()
    }

    fn fpu(&mut self) -> Result<FpuState, HypervisorError> {
        self.inner.fpu()
    }

    fn set_fpu(&mut self, state: &FpuState) -> Result<(), HypervisorError> {
        self.inner.set_fpu(state)
    }

    fn interrupter(&self) -> Arc<dyn Interrupt> {
        self.inner.interrupter()
    }

    fn counters(&self) -> Counters {
        self.inner.counters()
    }
}
