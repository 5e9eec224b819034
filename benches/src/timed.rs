//! A hypervisor that knows when guests ran, so that the rest of a call's time is the host's share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ampoule_vmm::kvm::Kvm;
use ampoule_vmm::x86_64::capabilities::Capabilities;
use ampoule_vmm::x86_64::registers::{FpuState, Regs, SpecialRegs, SyscallEntry};
use ampoule_vmm::{
    Counters, Exit, GuestPhys, Hypervisor, HypervisorError, Interrupt, PageSet, Region, Vcpu, Vm, WriteTracking,
};

/// KVM, and when its vCPUs have run.
pub(crate) struct Timed {
    kvm: Arc<Kvm>,
    runs: Arc<Runs>,
}

impl Timed {
    pub(crate) fn new(kvm: Arc<Kvm>) -> Arc<Self> {
        Arc::new(Self { kvm, runs: Arc::default() })
    }

    /// How long something takes beside the runs in it, and the time of reading the clock for each of them.
    pub(crate) fn share<R>(&self, operation: impl FnOnce() -> R) -> (R, Duration) {
        let before = self.runs.times().total;
        let start = Instant::now();
        let result = operation();
        let time = start.elapsed();
        let runs = self.runs.times().total - before;
        (result, time.saturating_sub(runs))
    }

    /// How long ago a guest was left for the last time.
    pub(crate) fn since_left(&self) -> Option<Duration> {
        let now = Instant::now();
        self.runs.times().left.map(|left| now - left)
    }

    /// Remembers this instant until a guest is entered.
    pub(crate) fn mark(&self) {
        self.runs.times().mark = Some(Instant::now());
    }

    /// How long after the last mark a guest was entered.
    pub(crate) fn entered_after_mark(&self) -> Option<Duration> {
        self.runs.times().entered_after
    }
}

/// What is known of the runs. One thread at a time uses it.
#[derive(Default)]
struct Runs(Mutex<Times>);

#[derive(Default)]
struct Times {
    total: Duration,
    left: Option<Instant>,
    mark: Option<Instant>,
    entered_after: Option<Duration>,
}

impl Runs {
    fn times(&self) -> MutexGuard<'_, Times> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entered(&self) -> Instant {
        let now = Instant::now();
        let mut times = self.times();
        if let Some(mark) = times.mark.take() {
            times.entered_after = Some(now - mark);
        }
        now
    }

    fn left(&self, entered: Instant) {
        let now = Instant::now();
        let mut times = self.times();
        times.total += now - entered;
        times.left = Some(now);
    }
}

impl Hypervisor for Timed {
    fn create_vm(&self) -> Result<Box<dyn Vm>, HypervisorError> {
        Ok(Box::new(TimedVm { inner: self.kvm.create_vm()?, runs: self.runs.clone() }))
    }

    fn capabilities(&self) -> &Capabilities {
        self.kvm.capabilities()
    }
}

struct TimedVm {
    inner: Box<dyn Vm>,
    runs: Arc<Runs>,
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
        Ok(Box::new(TimedVcpu { inner: self.inner.create_vcpu(entry)?, runs: self.runs.clone() }))
    }
}

struct TimedVcpu {
    inner: Box<dyn Vcpu>,
    runs: Arc<Runs>,
}

impl Vcpu for TimedVcpu {
    fn run(&mut self) -> Result<Exit<'_>, HypervisorError> {
        let entered = self.runs.entered();
        let exit = self.inner.run();
        self.runs.left(entered);
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
